package provision_test

import (
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"

	"github.com/gatehouse-nats/gatehouse/api"
	"github.com/gatehouse-nats/gatehouse/provision"
)

const portal = "https://portal.example.com"

func withWeb(w provision.Web) func(*provision.Options) {
	return func(o *provision.Options) { o.Web = func() provision.Web { return w } }
}

// send sends a request with headers to a handler.
func send(t testing.TB, h http.Handler, method, path, body string, header http.Header) answer {
	t.Helper()
	r := httptest.NewRequestWithContext(t.Context(), method, path, strings.NewReader(body))
	r.Header = header
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return answer{w}
}

// corsHeaders are those by which a browser lets a page do something.
func corsHeaders(h http.Header) (names []string) {
	for name := range h {
		if strings.HasPrefix(name, "Access-Control-") {
			names = append(names, name)
		}
	}
	return names
}

// A page that is not configured learns nothing from a browser, and changes nothing: what it can have a browser send
// without asking first is refused as well.
func TestForeignOrigins(t *testing.T) {
	t.Parallel()
	b := newBed(t, withWeb(provision.Web{Origins: []string{portal}}))
	h := b.Handler()
	revocation := `{"issuer":"corp","subject":"alice","reason":"left"}`
	for _, origins := range [][]string{
		{"https://evil.example.com"}, {"null"}, {""}, {"*"}, {"https://portal.example.com.evil.example"}, {"https://evil-portal.example.com"},
		{"http://portal.example.com"}, {"https://portal.example.com:8443"}, {"https://portal.example.com/"}, {"HTTPS://PORTAL.EXAMPLE.COM"},
		{portal + " "}, {" " + portal}, {portal + ", https://evil.example.com"}, {portal, portal}, {"https://evil.example.com", portal}, {portal, ""},
		{"https://portal.example.com%00"}, {"https://portal.example.com@evil.example"}, {"https://sub.portal.example.com"},
	} {
		for _, method := range []string{http.MethodPost, http.MethodPut, http.MethodDelete, http.MethodPatch, "BREW"} {
			// What a form or a script can send without a preflight, and a token that the page came by somewhere.
			header := http.Header{"Origin": origins, "Content-Type": {"text/plain"}, "Authorization": {"Bearer alice"}}
			for _, path := range []string{whoamiPath, api.Path(api.OpRevoke), api.LogoutPath("corp"), "/"} {
				a := send(t, h, method, path, revocation, header)
				a.refused(t, http.StatusForbidden, api.ReasonOriginRefused)
				if names := corsHeaders(a.Header()); len(names) > 0 || a.Header().Get("Vary") != "Origin" {
					t.Errorf("%s from %q: %v, Vary %q", method, origins, names, a.Header().Get("Vary"))
				}
			}
		}
		a := send(t, h, http.MethodOptions, whoamiPath, "", http.Header{"Origin": origins, "Access-Control-Request-Method": {"POST"}, "Access-Control-Request-Headers": {"authorization"}})
		a.refused(t, http.StatusMethodNotAllowed, api.ReasonMethodNotAllowed)
		if names := corsHeaders(a.Header()); len(names) > 0 {
			t.Errorf("preflight from %q: %v", origins, names)
		}
	}
	if list := b.list(t); len(list) != 0 {
		t.Errorf("something was stored: %+v", list)
	}
}

func TestConfiguredOrigins(t *testing.T) {
	t.Parallel()
	origins := []string{portal, "http://localhost:3000"}
	h := newBed(t, withWeb(provision.Web{Origins: origins})).Handler()
	for _, origin := range origins {
		a := send(t, h, http.MethodOptions, whoamiPath, "", http.Header{"Origin": {origin}, "Access-Control-Request-Method": {"POST"}, "Access-Control-Request-Headers": {"authorization,content-type"}})
		for name, want := range map[string]string{
			"Access-Control-Allow-Origin": origin, "Access-Control-Allow-Methods": "GET, POST",
			"Access-Control-Allow-Headers": "Authorization, Content-Type", "Access-Control-Allow-Credentials": "", "Vary": "Origin",
		} {
			if got := a.Header().Get(name); got != want {
				t.Errorf("preflight from %s: %s is %q, want %q", origin, name, got, want)
			}
		}
		if a.Code != http.StatusNoContent || a.Body.Len() > 0 {
			t.Errorf("preflight from %s: %d %s", origin, a.Code, a.Body)
		}
		for token, code := range map[string]int{"alice": http.StatusOK, "": http.StatusUnauthorized} {
			header := http.Header{"Origin": {origin}}
			if token != "" {
				header.Set("Authorization", "Bearer "+token)
			}
			a = send(t, h, http.MethodPost, whoamiPath, "", header)
			if a.Code != code || a.Header().Get("Access-Control-Allow-Origin") != origin || a.Header().Get("Access-Control-Allow-Credentials") != "" || a.Header().Get("Vary") != "Origin" {
				t.Errorf("from %s with token %q: %d %s, %v", origin, token, a.Code, a.Body, a.Header())
			}
		}
	}
	// Programs send no Origin, and a cache must not give a page what they got.
	if a := send(t, h, http.MethodPost, whoamiPath, "", http.Header{"Authorization": {"Bearer alice"}}); a.Code != http.StatusOK || a.Header().Get("Vary") != "Origin" || len(corsHeaders(a.Header())) > 0 {
		t.Errorf("without an origin: %d, %v", a.Code, a.Header())
	}
}

// Where a call comes from decides on rights and accounts, so that only proxies can say it.
func TestSourceBehindProxies(t *testing.T) {
	t.Parallel()
	proxies := []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24"), netip.MustParsePrefix("2001:db8:ffff::/48")}
	h := newBed(t, withWeb(provision.Web{Proxies: proxies})).Handler()
	inside := "10.1.2.3" // may have account OPS
	for name, test := range map[string]struct {
		from    string
		headers []string
		allowed bool
	}{
		"no proxy":                        {inside + ":1", nil, true},
		"somebody's own header":           {"198.51.100.7:1", []string{inside}, false},
		"somebody inside names another":   {inside + ":1", []string{"198.51.100.7"}, true},
		"through a proxy":                 {"192.0.2.1:1", []string{inside}, true},
		"through a proxy, IPv4 in IPv6":   {"[::ffff:192.0.2.1]:1", []string{"::ffff:" + inside}, true},
		"through two":                     {"192.0.2.1:1", []string{inside + ", 192.0.2.2"}, true},
		"through two, in two headers":     {"192.0.2.1:1", []string{inside, "192.0.2.2"}, true},
		"through one of IPv6":             {"[2001:db8:ffff::1]:1", []string{inside}, true},
		"claimed before a proxy":          {"192.0.2.1:1", []string{inside + ", 198.51.100.7"}, false},
		"claimed in a header of its own":  {"192.0.2.1:1", []string{inside, "198.51.100.7"}, false},
		"claimed, with a proxy behind":    {"192.0.2.1:1", []string{inside + ",198.51.100.7,192.0.2.2"}, false},
		"nothing but proxies":             {"192.0.2.1:1", []string{"192.0.2.3"}, false},
		"a proxy that adds nothing":       {"192.0.2.1:1", nil, false},
		"no address":                      {"192.0.2.1:1", []string{inside + ", unknown"}, false},
		"an address with a port":          {"192.0.2.1:1", []string{inside + ":443"}, false},
		"an empty end":                    {"192.0.2.1:1", []string{inside + ","}, false},
		"no address further than counted": {"192.0.2.1:1", []string{"unknown, " + inside}, true},
	} {
		r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, whoamiPath, strings.NewReader(`{"account":"OPS"}`))
		r.RemoteAddr = test.from
		r.Header = http.Header{"Authorization": {"Bearer alice"}, "X-Forwarded-For": test.headers, "Forwarded": {"for=" + inside}, "X-Real-Ip": {inside}}
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		if allowed := strings.Contains(w.Body.String(), `"allowed":true`); w.Code != http.StatusOK || allowed != test.allowed {
			t.Errorf("%s: %d %s", name, w.Code, w.Body)
		}
	}
}
