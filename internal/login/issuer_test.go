package login

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/json"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
	"go.uber.org/goleak"
	"golang.org/x/oauth2"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// testIssuer is an OIDC issuer that logs everybody in as alice and misbehaves on demand. It
// accepts a refresh token once and ends the login when one is used again.
type testIssuer struct {
	t      *testing.T
	server *httptest.Server
	key    *ecdsa.PrivateKey

	mu        sync.Mutex
	requests  map[string]url.Values // of authorizations, by code
	refresh   map[string]bool       // by refresh token: not used yet
	renewals  int
	behaviour behaviour
	polls     []time.Time           // for a device code
	devices   map[string]url.Values // device authorizations, by code
	handler   http.Handler
}

// behaviour is how a testIssuer answers; the zero value is right.
type behaviour struct {
	discovery  map[string]any // replaces entries
	authorize  url.Values     // replaces the answer's parameters
	claims     map[string]any // replaces claims; nil removes one
	life       time.Duration  // of ID tokens; default one hour
	tokenError string
	redirect   string // of the token endpoint
	noIDToken  bool
	noRefresh  bool
	wrongKey   bool
	jwksDown   bool
	device     any      // replaces the device authorization
	deviceCode int      // status of that; default 200
	pending    []string // errors of the polls that come first
}

func startIssuer(t *testing.T) *testIssuer {
	t.Helper()
	i := &testIssuer{t: t, requests: map[string]url.Values{}, refresh: map[string]bool{}, devices: map[string]url.Values{}}
	i.key = newECKey(t)
	mux := http.NewServeMux()
	mux.HandleFunc("GET /.well-known/openid-configuration", i.discovery)
	mux.HandleFunc("GET /jwks", i.jwks)
	mux.HandleFunc("GET /authorize", i.authorize)
	mux.HandleFunc("POST /token", i.token)
	mux.HandleFunc("POST /device", i.beginDevice)
	i.handler = mux
	i.server = httptest.NewServer(mux)
	t.Cleanup(func() { i.server.Close(); http.DefaultClient.CloseIdleConnections() })
	return i
}

func newECKey(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	return key
}

func (i *testIssuer) behave(b behaviour) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.behaviour = b
}

func (i *testIssuer) now() behaviour {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.behaviour
}

// renewed returns how many refresh tokens were used.
func (i *testIssuer) renewed() int {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.renewals
}

func (i *testIssuer) discovery(w http.ResponseWriter, _ *http.Request) {
	document := map[string]any{
		"issuer": i.server.URL, "jwks_uri": i.server.URL + "/jwks", "device_authorization_endpoint": i.server.URL + "/device",
		"authorization_endpoint": i.server.URL + "/authorize", "token_endpoint": i.server.URL + "/token",
		"id_token_signing_alg_values_supported": []string{"ES256"},
	}
	maps.Copy(document, i.now().discovery)
	i.answer(w, http.StatusOK, document)
}

func (i *testIssuer) jwks(w http.ResponseWriter, _ *http.Request) {
	if i.now().jwksDown {
		http.Error(w, "down", http.StatusServiceUnavailable)
		return
	}
	i.answer(w, http.StatusOK, jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: i.key.Public(), KeyID: "k", Algorithm: "ES256", Use: "sig"}}})
}

func (i *testIssuer) authorize(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	if q.Get("client_id") != "cli" || q.Get("response_type") != "code" || q.Get("code_challenge_method") != "S256" || len(q.Get("state")) < 40 || len(q.Get("nonce")) < 40 {
		i.t.Errorf("authorization request %v", q)
	}
	code := rand.Text()
	i.mu.Lock()
	i.requests[code] = q
	i.mu.Unlock()
	answer := url.Values{"code": {code}, "state": {q.Get("state")}}
	maps.Copy(answer, i.now().authorize)
	http.Redirect(w, r, q.Get("redirect_uri")+"?"+answer.Encode(), http.StatusFound)
}

func (i *testIssuer) token(w http.ResponseWriter, r *http.Request) {
	b := i.now()
	if b.redirect != "" {
		http.Redirect(w, r, b.redirect, http.StatusTemporaryRedirect)
		return
	}
	if b.tokenError != "" {
		i.answer(w, http.StatusBadRequest, map[string]string{"error": b.tokenError, "error_description": "on\x1b[31m demand"})
		return
	}
	if r.FormValue("client_id") != "cli" {
		i.t.Errorf("token request of %q", r.FormValue("client_id"))
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	nonce := ""
	switch r.FormValue("grant_type") {
	case "authorization_code":
		q, ok := i.requests[r.FormValue("code")]
		delete(i.requests, r.FormValue("code"))
		if !ok || q.Get("redirect_uri") != r.FormValue("redirect_uri") || q.Get("code_challenge") != oauth2.S256ChallengeFromVerifier(r.FormValue("code_verifier")) {
			i.answer(w, http.StatusBadRequest, map[string]string{"error": "invalid_grant"})
			return
		}
		nonce = q.Get("nonce")
	case deviceGrant:
		if problem := i.poll(r); problem != "" {
			i.answer(w, http.StatusBadRequest, map[string]string{"error": problem})
			return
		}
	case "refresh_token":
		if !i.refresh[r.FormValue("refresh_token")] {
			clear(i.refresh)
			i.answer(w, http.StatusBadRequest, map[string]string{"error": "invalid_grant"})
			return
		}
		i.refresh[r.FormValue("refresh_token")] = false
		i.renewals++
	}
	answer := map[string]any{"access_token": "access", "token_type": "Bearer", "expires_in": 60}
	if !b.noRefresh {
		refresh := "refresh-" + rand.Text()
		i.refresh[refresh] = true
		answer["refresh_token"] = refresh
	}
	if !b.noIDToken {
		answer["id_token"] = i.idToken(b, nonce)
	}
	i.answer(w, http.StatusOK, answer)
}

func (i *testIssuer) idToken(b behaviour, nonce string) string {
	life := b.life
	if life == 0 {
		life = time.Hour
	}
	claims := map[string]any{
		"iss": i.server.URL, "sub": "u-1", "aud": "cli", "preferred_username": "alice", "jti": rand.Text(),
		"iat": time.Now().Unix(), "exp": time.Now().Add(life).Unix(),
	}
	if nonce != "" {
		claims["nonce"] = nonce
	}
	maps.Copy(claims, b.claims)
	maps.DeleteFunc(claims, func(_ string, v any) bool { return v == nil })
	key := i.key
	if b.wrongKey {
		key = newECKey(i.t)
	}
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: jose.JSONWebKey{Key: key, KeyID: "k"}}, nil)
	if err != nil {
		i.t.Error(err)
	}
	token, err := jwt.Signed(signer).Claims(claims).Serialize()
	if err != nil {
		i.t.Error(err)
	}
	return token
}

func (i *testIssuer) answer(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	if err := json.NewEncoder(w).Encode(v); err != nil {
		i.t.Error(err)
	}
}

// client returns a client of the issuer that keeps its logins in a folder of the test.
func (i *testIssuer) client() *Client {
	i.t.Helper()
	return i.clientIn(i.t.TempDir())
}

func (i *testIssuer) clientIn(dir string) *Client {
	i.t.Helper()
	c, err := New(Config{Issuer: i.server.URL, ClientID: "cli", Dir: dir})
	must(i.t, err)
	return c
}

// loggedIn returns a client after a login.
func (i *testIssuer) loggedIn() *Client {
	i.t.Helper()
	c := i.client()
	if _, err := c.Login(i.t.Context(), newBrowser(i.t).prompt()); err != nil {
		i.t.Fatal(err)
	}
	return c
}

// browser follows an address as a person's browser would, and keeps the last page.
type browser struct {
	t     *testing.T
	visit func(address string) (*http.Response, error)
	shown string
	page  chan string
}

func newBrowser(t *testing.T) *browser {
	return &browser{t: t, visit: http.Get, page: make(chan string, 1)}
}

func (b *browser) prompt() Prompt {
	return Prompt{
		Show: func(address string) { b.shown = address },
		Browser: func(address string) error {
			go b.open(address)
			return nil
		},
		Wait: 20 * time.Second,
	}
}

func (b *browser) open(address string) {
	resp, err := b.visit(address)
	if err != nil {
		b.t.Error(err)
		b.page <- ""
		return
	}
	defer resp.Body.Close()
	page, err := io.ReadAll(resp.Body)
	if err != nil {
		b.t.Error(err)
	}
	b.page <- string(page)
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
