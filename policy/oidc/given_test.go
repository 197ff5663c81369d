package oidc_test

import (
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/gatehouse-nats/gatehouse/policy"
	"github.com/gatehouse-nats/gatehouse/policy/oidc"
)

// given returns the keys of a JWKS.
func given(t testing.TB, keys ...jose.JSONWebKey) *oidc.Keys {
	t.Helper()
	parsed, err := oidc.ParseKeys(must(json.Marshal(jose.JSONWebKeySet{Keys: keys})))
	if err != nil {
		t.Fatal(err)
	}
	return parsed
}

func TestParseKeysRefuses(t *testing.T) {
	t.Parallel()
	key := func(id string) jose.JSONWebKey { return public(id, edKey()) }
	private := jose.JSONWebKey{Key: edKey(), KeyID: "private"}
	for name, c := range map[string]struct {
		keys []any
		want string
	}{
		"no key":                        {[]any{}, "no key to verify"},
		"a private key among others":    {[]any{key("a"), private}, `key 1 (kid "private"): it is a secret`},
		"a private key for encryption":  {[]any{key("a"), jose.JSONWebKey{Key: rsaKey(), KeyID: "x", Use: "enc"}}, `key 1 (kid "x"): it is a secret`},
		"a private key that is damaged": {[]any{key("a"), map[string]any{"kty": "OKP", "crv": "Ed25519", "kid": "x", "x": "AA", "d": "AA"}}, `key 1 (kid "x"): it is a secret`},
		"a private key of a new kind":   {[]any{key("a"), map[string]any{"kty": "AKP", "kid": "x", "D": "AA"}}, `key 1 (kid "x"): it is a secret`},
		"a symmetric key":               {[]any{key("a"), jose.JSONWebKey{Key: make([]byte, 32), KeyID: "shared"}}, `key 1 (kid "shared"): it is a secret`},
		"only keys for encryption":      {[]any{jose.JSONWebKey{Key: rsaKey().Public(), Use: "enc"}}, "no key to verify"},
		"only keys that are too short":  {[]any{map[string]any{"kty": "RSA", "n": "AQAB", "e": "AQAB"}}, "no key to verify signatures with: key 0"},
		"one kid twice":                 {[]any{key("a"), key("a")}, `key 1 (kid "a"): another key has the same kid`},
		"no kid twice":                  {[]any{key(""), key("")}, "key 0 has no kid"},
		"no kid beside one":             {[]any{key("a"), key("")}, "key 1 has no kid"},
	} {
		data := must(json.Marshal(map[string]any{"keys": c.keys}))
		keys, err := oidc.ParseKeys(data)
		if keys != nil || !errors.Is(err, oidc.ErrKeys) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
	for _, text := range []string{"", "null", "[]", `{"keys":{}}`, `{"keys":null}`, `{"issuer":"x"}`, `{"keys":[]}x`} {
		if _, err := oidc.ParseKeys([]byte(text)); !errors.Is(err, oidc.ErrKeys) {
			t.Errorf("%q: %v", text, err)
		}
	}
}

func TestGivenKeysName(t *testing.T) {
	t.Parallel()
	withAlg := func(a jose.SignatureAlgorithm) jose.JSONWebKey {
		return jose.JSONWebKey{Key: rsaKey().Public(), KeyID: string(a), Algorithm: string(a)}
	}
	for want, keys := range map[string]*oidc.Keys{
		"RS256":             given(t, public("r", rsaKey())),
		"PS512":             given(t, withAlg(jose.PS512)),
		"PS256 RS384":       given(t, withAlg(jose.PS256), withAlg(jose.RS384)),
		"ES256 ES384 EdDSA": given(t, public("a", ecKey()), public("b", ec384()), public("", edKey())),
	} {
		if got := strings.Join(keys.Algorithms(), " "); got != want {
			t.Errorf("accepted with them are %s, want %s", got, want)
		}
	}
	keys := given(t, withAlg(jose.PS512), public("e", ecKey()))
	if !keys.Fit([]string{"RS256", "ES256"}) || keys.Fit([]string{"RS256", "EdDSA"}) {
		t.Error("keys that may sign with PS512 and ES256 fit the wrong algorithms")
	}
}

// TestGivenKeys shows that an issuer whose keys are given is never asked for anything.
func TestGivenKeys(t *testing.T) {
	inBubble(t, func(t *testing.T, i *issuer) {
		config := i.config()
		config.Keys = given(t, public("rsa", rsaKey()), public("ed", edKey()))
		v := start(t, oidc.Config{}, config)
		fresh := sign(jose.EdDSA, "new", otherKey(), i.claims(nil))
		check := func(want map[string]policy.Reason) {
			t.Helper()
			for name, raw := range map[string]string{
				"the key":          i.token(nil),
				"RS256":            sign(jose.RS256, "rsa", rsaKey(), i.claims(nil)),
				"RS384":            sign(jose.RS384, "rsa", rsaKey(), i.claims(nil)),
				"no kid":           sign(jose.EdDSA, "", edKey(), i.claims(nil)),
				"another key":      fresh,
				"a forged old key": sign(jose.EdDSA, "ed", otherKey(), i.claims(nil)),
			} {
				if got := now(t, v, raw); got != want[name] {
					t.Errorf("%s: %s, want %s", name, got, want[name])
				}
			}
		}
		for range 2 {
			check(map[string]policy.Reason{
				"the key": policy.Allowed, "RS256": policy.Allowed, "RS384": policy.AlgorithmRefused, "no kid": policy.Allowed,
				"another key": policy.KeysUnavailable, "a forged old key": policy.SignatureInvalid,
			})
			time.Sleep(time.Hour) // keys that are fetched would have been fetched anew
		}

		config.Keys = given(t, public("new", otherKey()))
		if err := v.SetIssuers([]oidc.Issuer{config}); err != nil {
			t.Fatal(err)
		}
		fresh = sign(jose.EdDSA, "new", otherKey(), i.claims(nil))
		check(map[string]policy.Reason{
			"the key": policy.KeysUnavailable, "RS256": policy.AlgorithmRefused, "RS384": policy.AlgorithmRefused, "no kid": policy.SignatureInvalid,
			"another key": policy.Allowed, "a forged old key": policy.KeysUnavailable,
		})
		if s := v.Status()[0]; s.Keys != 1 || s.LastError != "" || !s.LastSuccess.Equal(time.Now()) || !s.NextRefresh.IsZero() {
			t.Errorf("status %+v", s)
		}
		if asked := i.discovered.Load() + i.fetched.Load(); asked != 0 {
			t.Errorf("the issuer was asked %d times", asked)
		}
	})
}

// TestKeysURL expects of keys at a URL what holds for discovered ones, without discovery.
func TestKeysURL(t *testing.T) {
	inBubble(t, func(t *testing.T, i *issuer) {
		config := i.config()
		config.URL, config.KeysURL = "http://elsewhere.test", i.url+"/keys" // nothing is fetched from the former
		v := start(t, oidc.Config{}, config)
		claims := func() map[string]any { return i.claims(map[string]any{"iss": config.URL}) }
		admit(t, v, sign(jose.EdDSA, "ed", edKey(), claims()))
		for algorithm, want := range map[jose.SignatureAlgorithm]policy.Reason{jose.RS256: policy.Allowed, jose.PS256: policy.AlgorithmRefused} {
			if got := now(t, v, sign(algorithm, "rsa", rsaKey(), claims())); got != want {
				t.Errorf("%s: %s, want %s", algorithm, got, want)
			}
		}

		i.set(func() { i.down = true })
		time.Sleep(6 * time.Minute) // a fetch has failed
		if got := now(t, v, sign(jose.EdDSA, "ed", edKey(), claims())); got != policy.Allowed {
			t.Errorf("while the URL is down: %s", got)
		}
		if s := v.Status()[0]; !strings.Contains(s.LastError, "503") {
			t.Errorf("status %+v", s)
		}
		i.set(func() { i.down, i.keys = false, []jose.JSONWebKey{public("new", otherKey())} })
		time.Sleep(interval)
		if got := outlast(t, v, sign(jose.EdDSA, "new", otherKey(), claims())); got != policy.Allowed {
			t.Errorf("after a rotation: %s", got)
		}
		// The keys may have been fetched on schedule just before: an unknown one begins the interval.
		outlast(t, v, sign(jose.EdDSA, "random", otherKey(), claims()))
		before := i.fetched.Load()
		for range 100 {
			now(t, v, sign(jose.EdDSA, "random", otherKey(), claims()))
		}
		if got := i.fetched.Load() - before; got != 0 {
			t.Errorf("unknown keys within an interval led to %d fetches", got)
		}
		if got := i.discovered.Load(); got != 0 {
			t.Errorf("%d discovery requests", got)
		}
	})
}

// TestKeysOfAnotherSourceAreDropped moves an issuer's keys to another place: who does that may
// have lost trust in the place before.
func TestKeysOfAnotherSourceAreDropped(t *testing.T) {
	inBubble(t, func(t *testing.T, i *issuer) {
		v := startLoaded(t, oidc.Config{}, i)
		old := i.token(nil)
		discovered := i.config()
		keysAt, keysGiven := discovered, discovered
		keysAt.KeysURL = i.url + "/moved"
		keysGiven.Keys = given(t, public("new", otherKey()))
		for name, step := range map[string]struct {
			to   oidc.Issuer
			want policy.Reason
		}{
			"at a URL that fails": {keysAt, policy.KeysUnavailable},
			"given":               {keysGiven, policy.KeysUnavailable},
		} {
			if err := v.SetIssuers([]oidc.Issuer{step.to}); err != nil {
				t.Fatal(err)
			}
			if got := wait(t, v, old); got != step.want {
				t.Errorf("%s: %s, want %s", name, got, step.want)
			}
			if err := v.SetIssuers([]oidc.Issuer{discovered}); err != nil {
				t.Fatal(err)
			}
			if got := wait(t, v, old); got != policy.Allowed {
				t.Errorf("%s and then discovered again: %s", name, got)
			}
		}
	})
}

// TestSameKeyID has two issuers use one kid: each one's keys speak for itself alone.
func TestSameKeyID(t *testing.T) {
	t.Parallel()
	for name, configure := range map[string]func(*issuer, *oidc.Issuer){
		"discovered": func(*issuer, *oidc.Issuer) {},
		"given":      func(i *issuer, c *oidc.Issuer) { c.Keys = given(t, i.keys...) },
		"at a URL":   func(i *issuer, c *oidc.Issuer) { c.KeysURL = i.url + "/keys" },
	} {
		a, b := newIssuer(), newIssuer()
		b.keys = []jose.JSONWebKey{public("ed", otherKey())}
		a.listen(t)
		b.listen(t)
		configA, configB := a.config(), b.config()
		configB.Name = "other"
		configure(a, &configA)
		configure(b, &configB)
		v := start(t, oidc.Config{}, configA, configB)
		ofB := sign(jose.EdDSA, "ed", otherKey(), b.claims(nil))
		if got := admit(t, v, a.token(nil)); got.Issuer != "corp" {
			t.Errorf("%s: A's token is of %s", name, got.Issuer)
		}
		if got := admit(t, v, ofB); got.Issuer != "other" {
			t.Errorf("%s: B's token is of %s", name, got.Issuer)
		}
		for claims, key := range map[string]struct {
			key    ed25519.PrivateKey
			claims map[string]any
		}{
			"B's key and A's iss": {otherKey(), a.claims(nil)},
			"A's key and B's iss": {edKey(), b.claims(nil)},
		} {
			if got := now(t, v, sign(jose.EdDSA, "ed", key.key, key.claims)); got != policy.SignatureInvalid {
				t.Errorf("%s, %s: %s", name, claims, got)
			}
		}
	}
}

func TestGivenAndFetchedExcludeEachOther(t *testing.T) {
	t.Parallel()
	good := newIssuer().config()
	for want, change := range map[string]func(*oidc.Issuer){
		"choose one": func(c *oidc.Issuer) {
			c.Keys, c.KeysURL = given(t, public("ed", edKey())), "https://issuer.test/keys"
		},
		"none of its keys is for RS256": func(c *oidc.Issuer) {
			c.Keys, c.Algorithms = given(t, public("ed", edKey())), []string{"RS256"}
		},
		"is not https":              func(c *oidc.Issuer) { c.KeysURL = "http://issuer.test/keys" },
		"is not an absolute https":  func(c *oidc.Issuer) { c.KeysURL = "/keys" },
		"keys url holds a user nam": func(c *oidc.Issuer) { c.KeysURL = "https://u:p@issuer.test/keys" },
	} {
		config := good
		change(&config)
		if _, err := oidc.New(oidc.Config{}, []oidc.Issuer{config}); !errors.Is(err, oidc.ErrIssuer) || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
}

// TestCredential follows an issuer's credential.
func TestCredential(t *testing.T) {
	inBubble(t, func(t *testing.T, i *issuer) {
		var sent []string
		note := func(w http.ResponseWriter, r *http.Request) {
			sent = append(sent, r.Header.Get("Authorization"))
			http.Error(w, "not you, "+r.Header.Get("Authorization"), http.StatusUnauthorized)
		}
		i.answers = map[string]http.HandlerFunc{"/keys": note}
		config := i.config()
		credential, failed := "first", error(nil)
		config.Credential = func() (now string, err error) {
			i.set(func() { now, err = credential, failed })
			return now, err
		}
		v := start(t, oidc.Config{}, config)
		raw := i.token(nil)
		if got := wait(t, v, raw); got != policy.KeysUnavailable {
			t.Errorf("without keys: %s", got)
		}
		status := func() string { return v.Status()[0].LastError }
		if got := status(); !strings.Contains(got, "token_file") || strings.Contains(got, "first") {
			t.Errorf("status after 401: %s", got)
		}
		i.set(func() { credential = "second" })
		time.Sleep(interval)
		i.set(func() { delete(i.answers, "/keys") })
		time.Sleep(interval)
		admit(t, v, raw)
		var got string
		i.set(func() { got = strings.Join(sent, " ") })
		if !strings.HasPrefix(got, "Bearer first Bearer second") {
			t.Errorf("sent were %s", got)
		}

		asked := i.discovered.Load()
		i.set(func() { failed = errors.New("the file is gone") })
		time.Sleep(6 * time.Minute)
		if got := status(); !strings.Contains(got, "the file is gone") || i.discovered.Load() != asked {
			t.Errorf("without the credential: %s, asked %d times", got, i.discovered.Load()-asked)
		}
	})
}

// TestCredentialStaysEncrypted expects that a credential goes neither over plain HTTP nor along
// a redirect.
func TestCredentialStaysEncrypted(t *testing.T) {
	inBubble(t, func(t *testing.T, i *issuer) {
		config := i.config()
		config.KeysURL, config.AllowHTTP = "http://issuer.test/keys", true
		config.Credential = func() (string, error) { return "secret", nil }
		v := start(t, oidc.Config{}, config)
		if got := wait(t, v, i.token(nil)); got != policy.KeysUnavailable || i.fetched.Load() != 0 {
			t.Errorf("over plain HTTP: %s, %d fetches", got, i.fetched.Load())
		}
		if got := v.Status()[0].LastError; !strings.Contains(got, "unencrypted") {
			t.Errorf("status: %s", got)
		}
		i.answers = map[string]http.HandlerFunc{"/keys": func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "https://elsewhere.test/keys", http.StatusFound)
		}}
		config.KeysURL = i.url + "/keys"
		if err := v.SetIssuers([]oidc.Issuer{config}); err != nil {
			t.Fatal(err)
		}
		wait(t, v, i.token(nil))
		if got := v.Status()[0].LastError; !strings.Contains(got, "redirected to another host") || i.fetched.Load() != 1 {
			t.Errorf("redirected elsewhere: %s, %d fetches", got, i.fetched.Load())
		}
	})
}
