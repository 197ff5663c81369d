package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nkeys"

	"github.com/gatehouse-nats/gatehouse/api"
	"github.com/gatehouse-nats/gatehouse/internal/devstack/devtest"
	"github.com/gatehouse-nats/gatehouse/internal/setup"
	"github.com/gatehouse-nats/gatehouse/seal"
)

// operatorFile writes a new operator signing key into a file, and returns that, the key, and its public half.
func (w *world) operatorFile(name string) (file string, key nkeys.KeyPair, public string) {
	w.Helper()
	key, err := nkeys.CreateOperator()
	if err != nil {
		w.Fatal(err)
	}
	seed, err := key.Seed()
	if err != nil {
		w.Fatal(err)
	}
	if public, err = key.PublicKey(); err != nil {
		w.Fatal(err)
	}
	file = filepath.Join(w.dir, name)
	if err := os.WriteFile(file, append(seed, '\n'), 0o600); err != nil {
		w.Fatal(err)
	}
	return file, key, public
}

// restartWith gives the servers an operator JWT with these signing keys, as whoever holds the operator's identity does, and these
// claims of accounts in place of those in their files, and starts them again.
func (w *world) restartWith(accounts map[string]string, signing ...string) {
	w.Helper()
	claims, err := jwt.DecodeOperatorClaims(w.set.OperatorJWT)
	if err != nil {
		w.Fatal(err)
	}
	identity, err := nkeys.FromSeed([]byte(w.set.OperatorIdentity.Reveal()))
	if err != nil {
		w.Fatal(err)
	}
	claims.SigningKeys = signing
	token, err := claims.Encode(identity)
	if err != nil {
		w.Fatal(err)
	}
	for i, server := range w.servers {
		path := filepath.Join(w.dir, w.set.ServerFile(i))
		text, err := os.ReadFile(path)
		if err != nil {
			w.Fatal(err)
		}
		conf := regexp.MustCompile(`(?m)^(operator: *)\S+$`).ReplaceAllString(string(text), `${1}"`+token+`"`)
		for before, after := range accounts {
			conf = strings.ReplaceAll(conf, before, after)
		}
		if err := os.WriteFile(path, []byte(conf), 0o600); err != nil {
			w.Fatal(err)
		}
		server.Restart()
	}
	devtest.AwaitReady(w, w.servers...)
	eventually(w, func() error {
		if !w.system.IsConnected() {
			return errors.New("the test's own connection is not back")
		}
		return nil
	})
}

// signAnew pushes claims that Gatehouse does not keep signed by another key, as whoever keeps them does.
func (w *world) signAnew(key nkeys.KeyPair, accounts ...setup.Account) map[string]string {
	w.Helper()
	anew := map[string]string{}
	for _, a := range accounts {
		claims, err := jwt.DecodeAccountClaims(a.JWT)
		if err != nil {
			w.Fatal(err)
		}
		token, err := claims.Encode(key)
		if err != nil {
			w.Fatal(err)
		}
		eventually(w, func() error { return w.push(token) })
		anew[a.JWT] = token
	}
	return anew
}

// operatorKey returns how the operator key stands.
func (r *replica) operatorKey() (out api.OperatorKey) {
	r.Helper()
	got := r.command("keys", "operator", "--json")
	if err := json.Unmarshal([]byte(got.out), &out); err != nil {
		r.Fatalf("%v: %s%s", err, got.out, got.err)
	}
	return out
}

// An operator key moves from its file into the store, is replaced there by the documented steps with logins going on, and the service
// finds it after a restart. Without its sealing key the service does not start.
func TestOperatorKeyInTheStore(t *testing.T) {
	t.Parallel()
	w := newWorld(t, worldOptions{policy: worldPolicy + "plans:\n  free: { roles: [developer] }\n"})
	sealing := w.writeSealKey("seal.key")
	w.setSeal("seal:\n  key: file:seal.key")
	s := w.store()
	k := &keeper{TB: t, store: s, ring: seal.NewRing(sealing)}
	k.account("orders")
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	oldKey, err := nkeys.FromSeed([]byte(w.set.OperatorSigningKey.Reveal()))
	if err != nil {
		t.Fatal(err)
	}
	old, err := oldKey.PublicKey()
	if err != nil {
		t.Fatal(err)
	}
	file, next, nextKey := w.operatorFile("next.nk")

	r := w.serve(serveOptions{})
	r.mustGetReady()
	r.mustWrite()
	if got := r.command("keys", "operator", "import", filepath.Join(w.dir, "offline", "operator.nk")); got.code == exitDone || !strings.Contains(got.err, "identity") {
		t.Fatalf("the identity key: %d %s%s", got.code, got.out, got.err)
	}
	if got := r.command("keys", "operator", "import", file); got.code == exitDone || !strings.Contains(got.err, "does not trust "+nextKey) {
		t.Fatalf("a key that the server does not trust: %d %s%s", got.code, got.out, got.err)
	}
	r.must("keys", "operator", "import", filepath.Join(w.dir, "keys", "operator-signing.nk"))
	if got := r.operatorKey(); got.From != "operator.signing_key" || got.Sealed != old || got.SealedWith != sealing.ID() {
		t.Fatalf("beside a file: %+v", got)
	}
	w.edit(func(yaml string) string {
		return regexp.MustCompile(`(?m)^operator:\n  signing_key: .*\n`).ReplaceAllString(yaml, "")
	})
	r.must("reload")
	if got := r.operatorKey(); got.From != "store" || got.Key != old {
		t.Fatalf("without a file: %+v", got)
	}
	user, err := nkeys.CreateUser()
	if err != nil {
		t.Fatal(err)
	}
	gone, err := user.PublicKey()
	if err != nil {
		t.Fatal(err)
	}
	r.must("revoke", "--account", "APP", "--user-key", gone, "--reason", "test", "--wait")

	w.restartWith(nil, old, nextKey)
	eventually(t, func() error {
		if got := r.command("keys", "operator", "import", file); got.code != exitDone {
			return fmt.Errorf("%d %s%s", got.code, got.out, got.err)
		}
		return nil
	})
	left := 0
	eventually(t, func() error {
		out, by := r.operatorKey(), map[string][]string{}
		for _, s := range out.SignedBy {
			by[s.Key] = s.Some
		}
		left = len(by[old])
		if out.Key != nextKey || !slices.Contains(by[nextKey], "orders") || !slices.Contains(by[nextKey], "APP") || left != 3 {
			return fmt.Errorf("signed: %v, %+v", by, out)
		}
		return nil
	})
	if got := r.command("keys", "operator"); got.code != exitPartial {
		t.Errorf("with accounts of the old key: %d %s%s", got.code, got.out, got.err)
	}
	anew := w.signAnew(next, w.set.System, w.set.Callout, w.set.Lobby)
	eventually(t, func() error {
		if got := r.command("keys", "operator"); got.code != exitDone {
			return fmt.Errorf("%d %s%s", got.code, got.out, got.err)
		}
		return nil
	})
	w.restartWith(anew, nextKey)
	eventually(t, r.ready)
	eventually(t, func() error {
		nc, err := w.dial(w.token("alice", map[string]any{"groups": []string{"dev"}}))
		if err == nil {
			nc.Close()
		}
		return err
	})
	eventually(t, func() error {
		if got := r.command("keys", "operator"); got.code != exitDone {
			return fmt.Errorf("%d %s%s", got.code, got.out, got.err)
		}
		return nil
	})
	r.stop()

	again := w.serve(serveOptions{})
	again.mustGetReady()
	if got := again.operatorKey(); got.Key != nextKey || got.From != "store" {
		t.Errorf("after a restart: %+v", got)
	}
	again.must("keys", "operator", "remove", "--reason", "test")
	if got := again.operatorKey(); got.Key != "" {
		t.Errorf("removed: %+v", got)
	}
	if got := again.command("revoke", "--account", "APP", "--user-key", gone, "--reason", "once more"); got.code != exitRefused || !strings.Contains(got.err, "gatehouse keys operator import") {
		t.Errorf("without a key: %d %s%s", got.code, got.out, got.err)
	}
	again.must("keys", "operator", "import", file)
	again.stop()
	seed, err := next.Seed()
	if err != nil {
		t.Fatal(err)
	}
	for _, log := range []string{r.log.String(), again.log.String()} {
		if strings.Contains(log, string(seed)) {
			t.Error("the seed is in the log")
		}
	}
}
