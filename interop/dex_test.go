package interop

import (
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/gatehouse-nats/gatehouse/internal/devstack/devtest"
)

// dex is a Dex with the configuration of dex.yaml at a port of its own.
type dex struct {
	testing.TB
	issuer string
	config string
	run    *devtest.Command
}

func startDex(t testing.TB) *dex {
	t.Helper()
	text, err := os.ReadFile("dex.yaml")
	must(t, err)
	address := fmt.Sprintf("127.0.0.1:%d", devtest.Ports(t, 1)[0])
	d := &dex{TB: t, issuer: "http://" + address + "/dex", config: filepath.Join(t.TempDir(), "dex.yaml")}
	must(t, os.WriteFile(d.config, []byte(strings.ReplaceAll(string(text), "127.0.0.1:5557", address)), 0o600))
	d.start()
	return d
}

func (d *dex) start() {
	d.Helper()
	d.run, _ = start(d, exec.Command(program("dex"), "serve", d.config))
	eventually(d, func() error { _, err := get(d.issuer + "/healthz"); return err })
}

// password returns an ID token by the password grant.
func (d *dex) password(name string) string {
	d.Helper()
	return requestToken(d, d.issuer+"/token", "id_token", url.Values{
		"grant_type": {"password"}, "client_id": {clientID}, "scope": {"openid email"},
		"username": {name + "@example.com"}, "password": {name},
	})
}

// awaitNewKey waits until Dex publishes another key besides that one.
func (d *dex) awaitNewKey(old string) {
	d.Helper()
	eventually(d, func() error {
		if ids := published(d, d.issuer+"/keys"); len(ids) < 2 || !slices.Contains(ids, old) {
			return fmt.Errorf("it publishes %v", ids)
		}
		return nil
	})
}

func TestDex(t *testing.T) {
	t.Parallel()
	d := startDex(t)
	w := newWorld(t, d.issuer, clientID)

	first := d.password("alice")
	w.mustAdmit(first)
	w.eventuallyRefuse("no_binding", d.password("root"))
	kilgore, alice := newTerminal(t, w.config()), newTerminal(t, w.config())
	session, page := kilgore.login(person{connector: "mock"})
	if !strings.Contains(page, "You are logged in") {
		t.Errorf("the browser shows %s", page)
	}
	kilgore.mustBeRenewable(session)
	session, _ = alice.login(person{name: "alice@example.com", password: "alice", connector: "local"}, "--device")
	alice.mustBeRenewable(session)
	watched := kilgore.token(kilgore.watch(), "")
	var claims struct{ Groups []string }
	if decodePart(t, watched, 1, &claims); !slices.Contains(claims.Groups, "authors") {
		t.Errorf("the token of the mock connector has groups %v", claims.Groups)
	}
	byCode := alice.token(alice.watch(), "")
	w.mustAdmit(watched, byCode)

	d.awaitNewKey(keyID(t, first))
	second := d.password("alice")
	if keyID(t, second) == keyID(t, first) {
		t.Fatal("the key is the same after a rotation")
	}
	w.eventuallyAdmit(second)
	w.mustAdmit(first)

	d.run.Stop()
	if _, err := get(d.issuer + "/healthz"); err == nil {
		t.Fatal(errors.New("Dex still answers"))
	}
	w.mustAdmit(first, second, watched)
	d.start() // with new keys: the old ones were in memory
	third := d.password("alice")
	w.eventuallyAdmit(third)
	w.eventuallyRefuse("key_unknown", first, second)
	w.mustAdmit(third)
}
