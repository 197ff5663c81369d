package interop

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/json"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/go-jose/go-jose/v4"

	"github.com/gatehouse-nats/gatehouse/api"
	"github.com/gatehouse-nats/gatehouse/internal/devstack/devtest"
)

// oidcProvider is the npm package oidc-provider, run by provider.mjs.
type oidcProvider struct {
	testing.TB
	issuer string
	port   int
	logout string // where logout tokens are sent; empty for nowhere
	run    *devtest.Command
}

func newOIDCProvider(t testing.TB) *oidcProvider {
	t.Helper()
	port := devtest.Ports(t, 1)[0]
	return &oidcProvider{TB: t, issuer: fmt.Sprintf("http://127.0.0.1:%d", port), port: port}
}

// start runs the provider with these keys; it signs with the first one.
func (p *oidcProvider) start(keys ...jose.JSONWebKey) {
	p.Helper()
	options, err := json.Marshal(map[string]any{
		"issuer": p.issuer, "port": p.port, "algorithm": keys[0].Algorithm, "jwks": jose.JSONWebKeySet{Keys: keys}, "logout": p.logout,
	})
	must(p, err)
	file := filepath.Join(p.TempDir(), "options.json")
	must(p, os.WriteFile(file, options, 0o600))
	p.run, _ = start(p, exec.Command("node", "provider.mjs", file))
	eventually(p, func() error { _, err := get(p.issuer + "/jwks"); return err })
}

// batch returns a JWT access token by the client credentials grant.
func (p *oidcProvider) batch() string {
	p.Helper()
	return requestToken(p, p.issuer+"/token", "access_token", url.Values{
		"grant_type": {"client_credentials"}, "client_id": {"batch"}, "client_secret": {"batch-secret"},
	})
}

func newKey(t testing.TB, id string, algorithm jose.SignatureAlgorithm) jose.JSONWebKey {
	t.Helper()
	var private crypto.Signer
	var err error
	switch algorithm {
	case jose.RS256:
		private, err = rsa.GenerateKey(rand.Reader, 2048)
	case jose.ES256:
		private, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	default:
		_, private, err = ed25519.GenerateKey(rand.Reader)
	}
	must(t, err)
	return jose.JSONWebKey{Key: private, KeyID: id, Algorithm: string(algorithm), Use: "sig"}
}

func TestOIDCProvider(t *testing.T) {
	t.Parallel()
	p := newOIDCProvider(t)
	rsaKey, ecKey, edKey := newKey(t, "first", jose.RS256), newKey(t, "second", jose.ES256), newKey(t, "third", jose.EdDSA)
	p.start(rsaKey)
	w := newWorld(t, p.issuer, clientID, "nats")

	first := p.batch()
	w.mustAdmit(first)
	file := p.testLogins(w)
	token, err := os.ReadFile(file)
	must(t, err)
	w.mustAdmit(newTerminal(t, w.config()).token(file, string(token))) // renewed, since it ends soon

	p.run.Stop()
	w.mustAdmit(first)
	p.start(ecKey, rsaKey)
	second := p.batch()
	w.eventuallyAdmit(second)
	w.mustAdmit(first)

	p.run.Stop()
	w.mustAdmit(first, second)
	p.start(edKey)
	third := p.batch()
	w.eventuallyAdmit(third)
	w.eventuallyRefuse("key_unknown", first, second)
	for token, key := range map[string]string{first: "first", second: "second", third: "third"} {
		if got := keyID(t, token); got != key {
			t.Errorf("a token was signed with %s, not %s", got, key)
		}
	}
	p.testLogins(w)
}

// testLogins logs people in by browser and by device code, and returns the file of a token that is kept fresh.
func (p *oidcProvider) testLogins(w *world) (file string) {
	w.Helper()
	browser, device, stranger := newTerminal(w, w.config()), newTerminal(w, w.config()), newTerminal(w, w.config())
	session, page := browser.login(person{name: "alice", password: "any"})
	if session.Subject != "alice" || !strings.Contains(page, "You are logged in") {
		w.Errorf("session %+v; the browser shows %s", session, page)
	}
	browser.mustBeRenewable(session)
	file = browser.watch()
	w.eventuallyAdmit(browser.token(file, ""))

	session, _ = device.login(person{name: "alice", password: "any"}, "--device")
	device.mustBeRenewable(session)
	w.mustAdmit(device.token(device.watch(), ""))

	stranger.login(person{name: "carol", password: "any"}, "--device")
	w.eventuallyRefuse("no_binding", stranger.token(stranger.watch(), ""))
	return file
}

// Whoever logs out at the provider is logged out of NATS, with every token of that login session and no other.
func TestOIDCProviderLogout(t *testing.T) {
	t.Parallel()
	p := newOIDCProvider(t)
	key := newKey(t, "first", jose.RS256)
	p.start(key)
	w := newWorld(t, p.issuer, clientID)
	p.run.Stop()
	p.logout = w.http + api.LogoutPath("idp")
	p.start(key)

	leaving, staying := person{name: "alice", password: "any", browser: newBrowser(t)}, person{name: "alice", password: "any"}
	left, stayed := newTerminal(t, w.config()), newTerminal(t, w.config())
	left.login(leaving)
	stayed.login(staying)
	file := stayed.watch()
	token := left.token(left.watch(), "")
	w.eventuallyAdmit(token)
	page := leaving.answer(t, p.issuer+"/session/end?id_token_hint="+token)
	if !strings.Contains(page, "Sign-out Success") {
		t.Errorf("the provider shows %s", page)
	}
	w.eventuallyRefuse("logged_out", token)
	w.eventuallyAdmit(stayed.token(file, ""))
}
