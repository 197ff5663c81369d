package oidc_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-nats/gatehouse/policy"
	"github.com/gatehouse-nats/gatehouse/policy/oidc"
)

const discoveryPath = "/.well-known/openid-configuration"

func TestFetchOverTLS(t *testing.T) {
	t.Parallel()
	i := newIssuer()
	server := httptest.NewTLSServer(i)
	defer server.Close()
	i.url = server.URL
	config := i.config()
	config.Client = server.Client()
	admit(t, start(t, oidc.Config{}, config), i.token(nil))
}

func TestFetchRefusesAnUnknownCertificate(t *testing.T) {
	t.Parallel()
	i := newIssuer()
	server := httptest.NewUnstartedServer(i)
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	server.StartTLS()
	defer server.Close()
	i.url = server.URL
	config := i.config()
	config.Client = nil
	v := start(t, oidc.Config{}, config)
	if got := wait(t, v, i.token(nil)); got != policy.KeysUnavailable {
		t.Errorf("answered %s", got)
	}
	if s := v.Status()[0]; !strings.Contains(s.LastError, "certificate") {
		t.Errorf("last error: %s", s.LastError)
	}
}

func TestFetchOfAnIssuerWithASlash(t *testing.T) {
	t.Parallel()
	i := newIssuer()
	server := httptest.NewServer(i)
	defer server.Close()
	i.url = server.URL + "/"
	i.answers = map[string]http.HandlerFunc{
		"//keys": func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/keys", http.StatusFound) },
	}
	config := i.config()
	config.Client = nil
	v := start(t, oidc.Config{}, config)
	admit(t, v, i.token(nil))
	if got := now(t, v, i.token(map[string]any{"iss": server.URL})); got != policy.IssuerUnknown {
		t.Errorf("the iss without its slash: %s", got)
	}
}

func TestRunClosesItsConnections(t *testing.T) {
	t.Parallel()
	i := newIssuer()
	server := httptest.NewUnstartedServer(i)
	closed := make(chan struct{}, 1)
	server.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateClosed {
			closed <- struct{}{}
		}
	}
	server.Start()
	defer server.Close()
	i.url = server.URL
	config := i.config()
	config.Client = nil
	v, err := oidc.New(oidc.Config{}, []oidc.Issuer{config})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() { ended <- v.Run(ctx) }()
	admit(t, v, i.token(nil))
	cancel()
	if err := <-ended; err != nil {
		t.Errorf("Run: %v", err)
	}
	select {
	case <-closed:
	case <-time.After(5 * time.Second): // half of what the client keeps an idle connection for
		t.Error("the connection to the issuer is left open")
	}
}

// TestFetchFails shows what an operator reads when an issuer's documents cannot be used.
func TestFetchFails(t *testing.T) {
	t.Parallel()
	elsewhere := newIssuer()
	elsewhereServer := httptest.NewServer(elsewhere)
	defer elsewhereServer.Close()
	elsewhere.url = elsewhereServer.URL

	text := func(body string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, body) }
	}
	document := func(i *issuer, changes map[string]any) http.HandlerFunc {
		doc := map[string]any{"issuer": i.url, "jwks_uri": i.url + "/keys"}
		for name, v := range changes {
			doc[name] = v
		}
		return text(string(must(json.Marshal(doc))))
	}
	for name, test := range map[string]struct {
		path   string
		answer func(i *issuer) http.HandlerFunc
		want   string
	}{
		"no discovery document": {discoveryPath, func(*issuer) http.HandlerFunc { return http.NotFound }, "answered 404"},
		"a web page":            {discoveryPath, func(*issuer) http.HandlerFunc { return text("<html>") }, "not a discovery document"},
		"of another issuer": {discoveryPath, func(i *issuer) http.HandlerFunc {
			return document(i, map[string]any{"issuer": i.url + "/"})
		}, `is of issuer "http`},
		"without jwks_uri": {discoveryPath, func(i *issuer) http.HandlerFunc {
			return document(i, map[string]any{"jwks_uri": nil})
		}, "jwks_uri"},
		"with keys on an unencrypted host": {discoveryPath, func(i *issuer) http.HandlerFunc {
			return document(i, map[string]any{"jwks_uri": "http://keys.test/"})
		}, "not https"},
		"with symmetric algorithms only": {discoveryPath, func(i *issuer) http.HandlerFunc {
			return document(i, map[string]any{"id_token_signing_alg_values_supported": []string{"HS256", "none"}})
		}, "no asymmetric algorithm"},
		"redirected to another host": {discoveryPath, func(*issuer) http.HandlerFunc {
			return http.RedirectHandler(elsewhere.url+discoveryPath, http.StatusFound).ServeHTTP
		}, "another host"},
		"redirected in circles": {discoveryPath, func(*issuer) http.HandlerFunc {
			return http.RedirectHandler(discoveryPath, http.StatusFound).ServeHTTP
		}, "redirects"},
		"too long": {discoveryPath, func(*issuer) http.HandlerFunc {
			return text(strings.Repeat(" ", 1<<20+1))
		}, "longer than 1048576 bytes"},
		"no JWKS":                  {"/keys", func(*issuer) http.HandlerFunc { return http.NotFound }, "/keys: answered 404"},
		"a JWKS that is not JSON":  {"/keys", func(*issuer) http.HandlerFunc { return text("hello") }, "not a JWKS"},
		"a JWKS without keys":      {"/keys", func(*issuer) http.HandlerFunc { return text("{}") }, "it has no keys"},
		"a JWKS of no key":         {"/keys", func(*issuer) http.HandlerFunc { return text(`{"keys":[]}`) }, "holds no key"},
		"a JWKS of a bad key":      {"/keys", func(*issuer) http.HandlerFunc { return text(`{"keys":[{"kty":"RSA","kid":"bad"}]}`) }, "holds no key"},
		"a JWKS of too many keys":  {"/keys", func(*issuer) http.HandlerFunc { return text(`{"keys":[` + strings.Repeat("{},", 128) + `{}]}`) }, "holds 129 keys"},
		"a JWKS that is cut short": {"/keys", func(*issuer) http.HandlerFunc { return cutShort }, "unexpected EOF"},
		"a JWKS behind another host": {"/keys", func(*issuer) http.HandlerFunc {
			return http.RedirectHandler(elsewhere.url+"/keys", http.StatusFound).ServeHTTP
		}, "another host"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			i := newIssuer().listen(t)
			i.answers = map[string]http.HandlerFunc{test.path: test.answer(i)}
			config := i.config()
			config.Client = nil
			v := start(t, oidc.Config{}, config)
			_, refusal := v.VerifyWait(t.Context(), i.token(nil))
			if refusal == nil || refusal.Reason != policy.KeysUnavailable {
				t.Fatalf("answered %v", refusal)
			}
			if got := v.Status()[0].LastError; !strings.Contains(got, test.want) || strings.ContainsAny(got, "\r\n") {
				t.Errorf("last error %q, want it to hold %q", got, test.want)
			}
		})
	}
}

func TestFetchRefusesUnencryptedKeysOfAnEncryptedIssuer(t *testing.T) {
	inBubble(t, func(t *testing.T, i *issuer) {
		i.answers = map[string]http.HandlerFunc{discoveryPath: func(w http.ResponseWriter, _ *http.Request) {
			fmt.Fprintf(w, `{"issuer":%q,"jwks_uri":"http://127.0.0.1/keys"}`, i.url)
		}}
		v := start(t, oidc.Config{}, i.config())
		if got := wait(t, v, sign("RS256", "rsa", rsaKey(), i.claims(nil))); got != policy.KeysUnavailable {
			t.Errorf("answered %s", got)
		}
		if got := v.Status()[0].LastError; !strings.Contains(got, "not https as the issuer is") {
			t.Errorf("last error: %s", got)
		}
	})
}

// cutShort breaks the connection before the answer is whole.
func cutShort(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Length", "1000")
	fmt.Fprint(w, `{"keys":[`)
}

func TestAlgorithmsDefaultToRS256(t *testing.T) {
	t.Parallel()
	i := newIssuer().listen(t)
	i.algorithms = nil
	v := start(t, oidc.Config{}, i.config())
	admit(t, v, sign("RS256", "rsa", rsaKey(), i.claims(nil)))
	if got := now(t, v, i.token(nil)); got != policy.AlgorithmRefused {
		t.Errorf("EdDSA: %s", got)
	}
}

// TestHangingIssuerOverHTTP has an issuer that accepts requests and never answers, while
// logins come with known keys, keys that nobody has, and keys that cannot be asked for.
func TestHangingIssuerOverHTTP(t *testing.T) {
	t.Parallel()
	quick := newIssuer().listen(t)
	hanging := newIssuer()
	asked, release := make(chan struct{}, 10), make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		asked <- struct{}{}
		<-release
	}))
	defer server.Close()
	defer close(release)
	hanging.url = server.URL
	hung := hanging.config()
	hung.Name, hung.Client = "hung", nil
	v := start(t, oidc.Config{RefreshInterval: time.Hour, FetchTimeout: time.Hour}, hung, quick.config())
	admit(t, v, quick.token(nil))
	<-asked

	known := quick.token(nil)
	payload := map[string]string{}
	for _, i := range []*issuer{quick, hanging} {
		payload[i.url] = string(must(json.Marshal(i.claims(nil))))
	}
	for n := range 10_000 {
		header := fmt.Sprintf(`{"alg":"EdDSA","kid":"random-%d"}`, n)
		if got := now(t, v, craft(header, payload[quick.url])); got != policy.KeysUnavailable {
			t.Fatalf("a key that the quick issuer does not have: %s", got)
		}
		if id, refusal, _ := v.Verify(craft(header, payload[hanging.url])); id != nil || refusal != nil && refusal.Reason != policy.KeysUnavailable {
			t.Fatalf("a key of the hanging issuer: %v", refusal)
		}
		if n%1000 == 0 && now(t, v, known) != policy.Allowed {
			t.Fatal("a known key is not accepted")
		}
	}
	if got := quick.fetched.Load(); got != 1 {
		t.Errorf("the quick issuer's JWKS was fetched %d times", got)
	}
	if len(asked) > 0 {
		t.Errorf("the hanging issuer was asked %d times more", len(asked))
	}
}
