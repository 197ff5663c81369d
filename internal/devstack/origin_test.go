package devstack

import (
	"net/http"
	"net/http/httptest"
	"testing"
)

// Only pages of this machine may read what the provider answers, and none may read the login form.
func TestPagesMayRead(t *testing.T) {
	t.Parallel()
	p, err := StartProvider(ProviderOptions{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.Close() })
	for _, c := range []struct {
		method, path, origin, want string
	}{
		{http.MethodGet, "/.well-known/openid-configuration", "http://127.0.0.1:8080", "http://127.0.0.1:8080"},
		{http.MethodGet, "/.well-known/openid-configuration", "http://localhost:5173", "http://localhost:5173"},
		{http.MethodGet, "/.well-known/openid-configuration", "https://evil.example.com", ""},
		{http.MethodGet, "/.well-known/openid-configuration", "http://127.0.0.1.evil.example.com", ""},
		{http.MethodGet, "/.well-known/openid-configuration", "null", ""},
		{http.MethodGet, "/.well-known/openid-configuration", "", ""},
		{http.MethodPost, "/oauth/token", "http://127.0.0.1:8080", "http://127.0.0.1:8080"},
		{http.MethodPost, "/oauth/token", "https://evil.example.com", ""},
		{http.MethodOptions, "/userinfo", "http://127.0.0.1:8080", "http://127.0.0.1:8080"},
		{http.MethodOptions, "/userinfo", "https://evil.example.com", ""},
		{http.MethodGet, "/login", "http://127.0.0.1:8080", ""},
	} {
		r := httptest.NewRequest(c.method, p.Issuer()+c.path, nil)
		if c.origin != "" {
			r.Header.Set("Origin", c.origin)
		}
		w := httptest.NewRecorder()
		p.server.Handler.ServeHTTP(w, r)
		h := w.Result().Header
		if got := h.Get("Access-Control-Allow-Origin"); got != c.want {
			t.Errorf("%s %s from %q: allows %q, want %q", c.method, c.path, c.origin, got, c.want)
		}
		if h.Get("Access-Control-Allow-Credentials") != "" {
			t.Errorf("%s %s from %q: allows credentials", c.method, c.path, c.origin)
		}
		if allowed := h.Get("Access-Control-Allow-Headers") != ""; allowed != (c.method == http.MethodOptions && c.want != "") {
			t.Errorf("%s %s from %q: allows headers %v", c.method, c.path, c.origin, allowed)
		}
	}
}
