package oidc_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"maps"
	"math/big"
	"net/http"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"go.uber.org/goleak"

	"github.com/gatehouse-nats/gatehouse/policy"
	"github.com/gatehouse-nats/gatehouse/policy/oidc"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// Keys are made once: RSA ones take long.
var (
	rsaKey   = sync.OnceValue(func() *rsa.PrivateKey { return must(rsa.GenerateKey(rand.Reader, 2048)) })
	ecKey    = sync.OnceValue(func() *ecdsa.PrivateKey { return must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader)) })
	edKey    = sync.OnceValue(newEdKey)
	otherKey = sync.OnceValue(newEdKey)
)

func newEdKey() ed25519.PrivateKey {
	_, key, err := ed25519.GenerateKey(rand.Reader)
	return must(key, err)
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// public returns the JWK that an issuer publishes of a key.
func public(id string, key crypto.Signer) jose.JSONWebKey {
	return jose.JSONWebKey{Key: key.Public(), KeyID: id, Use: "sig"}
}

// issuer is an OIDC issuer as far as verifiers see it. It serves HTTP, and answers without
// network as an http.RoundTripper where time must be under control.
type issuer struct {
	url        string
	discovered atomic.Int64
	fetched    atomic.Int64 // how often the JWKS was

	mu         sync.Mutex
	keys       []jose.JSONWebKey
	algorithms []string
	down       bool
	delay      time.Duration               // of each answer, without network
	answers    map[string]http.HandlerFunc // by path, instead of the usual ones
}

// newIssuer returns an issuer with one key of each of the usual kinds.
func newIssuer() *issuer {
	return &issuer{
		url:        "https://issuer.test",
		keys:       []jose.JSONWebKey{public("rsa", rsaKey()), public("ec", ecKey()), public("ed", edKey())},
		algorithms: []string{"HS256", "none", "RS256", "PS256", "ES256", "EdDSA"},
	}
}

// listen serves the issuer on a local port.
func (i *issuer) listen(t testing.TB) *issuer {
	server := httptest.NewServer(i)
	t.Cleanup(server.Close)
	i.url = server.URL
	return i
}

// set changes the issuer.
func (i *issuer) set(change func()) {
	i.mu.Lock()
	defer i.mu.Unlock()
	change()
}

func (i *issuer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	i.mu.Lock()
	defer i.mu.Unlock()
	switch r.URL.Path {
	case "/.well-known/openid-configuration":
		i.discovered.Add(1)
	case "/keys":
		i.fetched.Add(1)
	}
	if answer := i.answers[r.URL.Path]; answer != nil {
		answer(w, r)
		return
	}
	if i.down {
		http.Error(w, "down", http.StatusServiceUnavailable)
		return
	}
	switch r.URL.Path {
	case "/.well-known/openid-configuration":
		json.NewEncoder(w).Encode(map[string]any{
			"issuer": i.url, "jwks_uri": i.url + "/keys", "id_token_signing_alg_values_supported": i.algorithms,
		})
	case "/keys":
		json.NewEncoder(w).Encode(jose.JSONWebKeySet{Keys: i.keys})
	default:
		http.NotFound(w, r)
	}
}

func (i *issuer) RoundTrip(req *http.Request) (*http.Response, error) {
	i.mu.Lock()
	delay := i.delay
	i.mu.Unlock()
	select {
	case <-time.After(delay):
	case <-req.Context().Done():
		return nil, req.Context().Err()
	}
	recorder := httptest.NewRecorder()
	i.ServeHTTP(recorder, req)
	return recorder.Result(), nil
}

// config returns what a verifier is told of the issuer, to be reached without network.
func (i *issuer) config() oidc.Issuer {
	return oidc.Issuer{Name: "corp", URL: i.url, Audiences: []string{"nats"}, Client: &http.Client{Transport: i}}
}

// claims returns good claims with changes; nil takes a claim away.
func (i *issuer) claims(changes map[string]any) map[string]any {
	now := time.Now().Unix()
	claims := map[string]any{"iss": i.url, "sub": "alice", "aud": "nats", "iat": now, "exp": now + 3600}
	maps.Copy(claims, changes)
	maps.DeleteFunc(claims, func(_ string, v any) bool { return v == nil })
	return claims
}

// token returns a good token but for the changes to its claims, signed by the issuer's Ed25519 key.
func (i *issuer) token(changes map[string]any) string {
	return sign(jose.EdDSA, "ed", edKey(), i.claims(changes))
}

// sign returns a token as go-jose makes it.
func sign(algorithm jose.SignatureAlgorithm, id string, key any, claims map[string]any) string {
	options := new(jose.SignerOptions).WithType("JWT")
	if id != "" {
		options.WithHeader("kid", id)
	}
	signer := must(jose.NewSigner(jose.SigningKey{Algorithm: algorithm, Key: key}, options))
	return must(must(signer.Sign(must(json.Marshal(claims)))).CompactSerialize())
}

// craft returns a token of any header and payload, signed by the issuer's Ed25519 key.
func craft(header, payload string) string {
	input := encode(header) + "." + encode(payload)
	return input + "." + encode(string(ed25519.Sign(edKey(), []byte(input))))
}

func encode(s string) string { return base64.RawURLEncoding.EncodeToString([]byte(s)) }

// start returns a verifier that runs until the test ends.
func start(t testing.TB, cfg oidc.Config, issuers ...oidc.Issuer) *oidc.Verifier {
	t.Helper()
	v, err := oidc.New(cfg, issuers)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := v.Run(t.Context()); err != nil {
			t.Error(err)
		}
	}()
	t.Cleanup(func() { <-done }) // the test's context has ended by then
	return v
}

// startLoaded returns a running verifier that has the issuer's keys.
func startLoaded(t testing.TB, cfg oidc.Config, i *issuer) *oidc.Verifier {
	t.Helper()
	v := start(t, cfg, i.config())
	admit(t, v, i.token(nil))
	return v
}

// admit waits for the keys and expects that the token is accepted.
func admit(t testing.TB, v *oidc.Verifier, raw string) *policy.Identity {
	t.Helper()
	id, refusal := v.VerifyWait(t.Context(), raw)
	if refusal != nil {
		t.Fatalf("refused: %v", refusal)
	}
	if id == nil {
		t.Fatal("neither an identity nor a refusal")
	}
	return id
}

// now expects an answer of Verify that needs no waiting, and returns its reason.
func now(t testing.TB, v *oidc.Verifier, raw string) policy.Reason {
	t.Helper()
	id, refusal, pending := v.Verify(raw)
	switch {
	case pending != nil:
		t.Fatal("the answer must not wait for a fetch")
	case refusal != nil:
		return refusal.Reason
	case id == nil:
		t.Fatal("neither an identity nor a refusal")
	}
	return policy.Allowed
}

// wait waits for the keys and returns the reason of the answer.
func wait(t testing.TB, v *oidc.Verifier, raw string) policy.Reason {
	t.Helper()
	if _, refusal := v.VerifyWait(t.Context(), raw); refusal != nil {
		return refusal.Reason
	}
	return policy.Allowed
}

// certificate returns a certificate of the key in the form of x5c (RFC 7515 section 4.1.6).
func certificate(t testing.TB, key crypto.Signer) string {
	t.Helper()
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
	return base64.StdEncoding.EncodeToString(must(x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)))
}
