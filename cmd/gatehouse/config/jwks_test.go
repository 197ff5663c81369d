package config

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/go-jose/go-jose/v4"
)

// jwksOf returns a JWKS of the keys.
func jwksOf(t testing.TB, keys ...jose.JSONWebKey) string {
	t.Helper()
	data, err := json.Marshal(jose.JSONWebKeySet{Keys: keys})
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// writeKeys writes the key sets that testdata/refused/jwks.yaml names.
func (f *fixture) writeKeys() {
	f.Helper()
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		f.Fatal(err)
	}
	other, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		f.Fatal(err)
	}
	key := func(id string) jose.JSONWebKey { return jose.JSONWebKey{KeyID: id, Key: public} }
	for name, content := range map[string]string{
		"document":   `{"issuer":"https://c.example.com","jwks_uri":"https://c.example.com/keys"}`,
		"private":    jwksOf(f, jose.JSONWebKey{KeyID: "good", Key: other.Public()}, jose.JSONWebKey{KeyID: "private", Key: private}),
		"symmetric":  jwksOf(f, jose.JSONWebKey{KeyID: "shared", Key: []byte(strings.Repeat("s", 32))}),
		"empty":      `{"keys":[]}`,
		"encryption": jwksOf(f, jose.JSONWebKey{KeyID: "e", Key: other.Public(), Use: "wrap"}),
		"twice":      jwksOf(f, key("one"), key("two"), key("one")),
		"nameless":   jwksOf(f, key("one"), key("")),
		"good":       jwksOf(f, key("one")),
		"open":       jwksOf(f, key("one")),
	} {
		f.write("jwks/"+name+".json", content)
	}
	f.write("jwks/token", "a.b.c\n")
	if err := os.Chmod(filepath.Join(f.dir, "jwks/open.json"), 0o646); err != nil {
		f.Fatal(err)
	}
}

const withKeys = connected + `
issuers:
  - { name: corp, url: "http://login.internal", audiences: [nats], jwks: file:keys.json }
`

func TestJWKSFile(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	good, err := os.ReadFile(filepath.Join(f.dir, "jwks/good.json"))
	if err != nil {
		t.Fatal(err)
	}
	path := f.write("keys.json", string(good))
	if err := os.Chmod(path, 0o644); err != nil { // public keys may be read by everybody
		t.Fatal(err)
	}
	c := f.mustLoad(withKeys)
	is := c.TokenIssuers()[0]
	if is.Keys == nil || is.KeysURL != "" || is.Credential != nil || strings.Join(is.Keys.Algorithms(), " ") != "EdDSA" {
		t.Errorf("issuer %+v", is)
	}
	before := c.Rules().Version
	f.write("keys.json", string(good)+"\n")
	if f.mustLoad(withKeys).Rules().Version == before {
		t.Error("other keys do not show in the version of the rules")
	}
}

func TestJWKSURL(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	token := f.write("token", "first\n")
	c := f.mustLoad(connected + `
issuers:
  - { name: corp, url: "https://login.example.com", audiences: [nats], jwks: "https://keys.example.com/set?v=2", token_file: token, tls: { ca: ca.pem } }
`)
	is := c.TokenIssuers()[0]
	if is.Keys != nil || is.KeysURL != "https://keys.example.com/set?v=2" || is.Client == nil {
		t.Errorf("issuer %+v", is)
	}
	for _, want := range []string{"first", "second"} {
		if got, err := is.Credential(); err != nil || got != want {
			t.Errorf("the credential is %q, %v, want %q", got, err, want)
		}
		f.write("token", "second")
	}
	if err := os.Remove(token); err != nil {
		t.Fatal(err)
	}
	if got, err := is.Credential(); err == nil || !strings.Contains(err.Error(), "there is no file") {
		t.Errorf("without the file the credential is %q, %v", got, err)
	}
}

func TestWatchFollowsJWKS(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	replace := func(from string) {
		t.Helper()
		content, err := os.ReadFile(filepath.Join(f.dir, "jwks", from))
		if err != nil {
			t.Fatal(err)
		}
		f.write("keys.json", string(content))
	}
	replace("good.json")
	w, err := NewWatcher(f.mustLoad(withKeys), nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.Close)

	replace("private.json")
	if u := next(t, w); u.Config != nil || u.Err == nil || !strings.Contains(u.Err.Error(), "issuers[0].jwks: "+f.dir+"/keys.json: the JWKS cannot be used") {
		t.Fatalf("update %+v, want a refusal that names the file", u)
	}
	f.write("keys.json", jwksOf(t, jose.JSONWebKey{KeyID: "new", Key: ed25519.NewKeyFromSeed(make([]byte, 32)).Public()}))
	if u := next(t, w); u.Err != nil || !strings.Contains(string(u.Config.Issuers[0].JWKS.content), `"new"`) {
		t.Fatalf("update %+v, want the new keys", u)
	}
}
