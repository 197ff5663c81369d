package login

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-nats/gatehouse/internal/devstack"
	"github.com/gatehouse-nats/gatehouse/internal/devstack/devtest"
	"github.com/gatehouse-nats/gatehouse/policy"
)

func TestLoginAtTheDemoProvider(t *testing.T) {
	provider := devtest.StartProvider(t, devstack.ProviderOptions{})
	c, err := New(Config{Issuer: provider.Issuer(), ClientID: devstack.ClientID, Dir: t.TempDir()})
	must(t, err)
	b := newBrowser(t)
	b.visit = func(address string) (*http.Response, error) { return logInAs(address, "alice") }
	session, err := c.Login(t.Context(), b.prompt())
	must(t, err)
	if session.Subject != "alice" || session.Display != "alice" || !session.Renewable {
		t.Errorf("session %+v", session)
	}
	if session.InboxPrefix() != policy.InboxPrefix(provider.Issuer(), "alice") {
		t.Errorf("inbox prefix %q", session.InboxPrefix())
	}
	if page := <-b.page; !strings.Contains(page, "You are logged in") {
		t.Errorf("the browser shows %s", page)
	}
	first, err := c.Token(t.Context())
	must(t, err)
	old := rewrite(t, c, endsIn(0))
	renewed, err := c.Token(t.Context())
	must(t, err)
	if now, err := c.cache.read(); err != nil || renewed == first || now.RefreshToken == old.RefreshToken || !now.Renewable {
		t.Errorf("renewed %v, rotated %v, %v", renewed != first, now.RefreshToken != old.RefreshToken, err)
	}
}

var hiddenID = regexp.MustCompile(`name="id" value="([^"]+)"`)

// logInAs fills in the demo provider's form and returns the page that the browser ends on.
func logInAs(address, user string) (*http.Response, error) {
	jar, err := cookiejar.New(nil)
	if err != nil {
		return nil, err
	}
	client := &http.Client{Jar: jar, Timeout: 20 * time.Second}
	defer client.CloseIdleConnections()
	form, err := client.Get(address)
	if err != nil {
		return nil, err
	}
	defer form.Body.Close()
	body, err := io.ReadAll(form.Body)
	if err != nil {
		return nil, err
	}
	id := hiddenID.FindSubmatch(body)
	if id == nil {
		return nil, fmt.Errorf("no form: %s", body)
	}
	values := url.Values{"id": {string(id[1])}, "username": {user}, "password": {user}}
	return client.PostForm(form.Request.URL.ResolveReference(&url.URL{Path: "/login"}).String(), values)
}

func TestLogin(t *testing.T) {
	i := startIssuer(t)
	c := i.client()
	if _, err := c.Session(); !errors.Is(err, ErrLoginNeeded) {
		t.Errorf("before: %v", err)
	}
	b := newBrowser(t)
	session, err := c.Login(t.Context(), b.prompt())
	must(t, err)
	if page := <-b.page; !strings.Contains(page, "You are logged in") {
		t.Errorf("the browser shows %s", page)
	}
	if again, err := c.Session(); err != nil || again != session {
		t.Errorf("kept %+v, %v; want %+v", again, err, session)
	}
	if session.Display != "alice" || session.Subject != "u-1" || session.Issuer != i.server.URL {
		t.Errorf("session %+v", session)
	}
	if token, err := c.Token(t.Context()); err != nil || strings.Count(token, ".") != 2 {
		t.Errorf("token of %d bytes, %v", len(token), err)
	}
	info, err := os.Stat(c.cache.path)
	must(t, err)
	if info.Mode() != 0o600 {
		t.Errorf("the login's file has mode %v", info.Mode())
	}
	must(t, c.Logout(t.Context()))
	must(t, c.Logout(t.Context()))
	if _, err := c.Token(t.Context()); !errors.Is(err, ErrLoginNeeded) {
		t.Errorf("after logout: %v", err)
	}
}

func TestLoginFailures(t *testing.T) {
	i := startIssuer(t)
	for name, tc := range map[string]struct {
		behaviour behaviour
		want      string
	}{
		"declined":             {behaviour{authorize: url.Values{"code": nil, "error": {"access_denied"}, "error_description": {"<b>no\x1b[2J</b>"}}}, "access_denied (<b>no [2J</b>): log in again and agree"},
		"neither":              {behaviour{authorize: url.Values{"code": nil}}, "neither a code nor an error"},
		"another issuer":       {behaviour{authorize: url.Values{"iss": {"https://evil.example.com"}}}, `the answer came from "https://evil.example.com"`},
		"code refused":         {behaviour{authorize: url.Values{"code": {"forged"}}}, "refused the login: invalid_grant"},
		"client refused":       {behaviour{tokenError: "invalid_client"}, "invalid_client (on [31m demand): check the client id"},
		"no ID token":          {behaviour{noIDToken: true}, "returned no ID token"},
		"nonce of another":     {behaviour{claims: map[string]any{"nonce": "x"}}, "made for another login (nonce)"},
		"no nonce":             {behaviour{claims: map[string]any{"nonce": nil}}, "made for another login (nonce)"},
		"another audience":     {behaviour{claims: map[string]any{"aud": "web"}}, "expected audience"},
		"another party":        {behaviour{claims: map[string]any{"aud": []string{"web", "cli"}, "azp": "web"}}, `made for the client "web"`},
		"another iss":          {behaviour{claims: map[string]any{"iss": "https://evil.example.com"}}, "issued by a different provider"},
		"expired":              {behaviour{life: -time.Minute}, "compare this machine's clock"},
		"signature":            {behaviour{wrongKey: true}, "its ID token: failed to verify signature"},
		"no sub":               {behaviour{claims: map[string]any{"sub": nil}}, "has no sub"},
		"keys not available":   {behaviour{jwksDown: true}, "its ID token"},
		"discovery elsewhere":  {behaviour{discovery: map[string]any{"issuer": "https://evil.example.com"}}, `calls itself "https://evil.example.com"`},
		"endpoint without TLS": {behaviour{discovery: map[string]any{"token_endpoint": "http://evil.example.com/"}}, "does not use TLS"},
		"code sent elsewhere":  {behaviour{redirect: i.server.URL + "/token"}, "exchange of the code: 307 Temporary Redirect"},
		"endless discovery":    {behaviour{discovery: map[string]any{"x": strings.Repeat("x", 2<<20)}}, "too large"},
		"no endpoint":          {behaviour{discovery: map[string]any{"authorization_endpoint": ""}}, "is not an address"},
	} {
		t.Run(name, func(t *testing.T) {
			i.behave(tc.behaviour)
			c, b := i.client(), newBrowser(t)
			_, err := c.Login(t.Context(), b.prompt())
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("got %v, want %q", err, tc.want)
			}
			if _, err := os.Stat(c.cache.path); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("something was kept: %v", err)
			}
			if b.shown == "" {
				return // it did not come to a browser
			}
			page := <-b.page
			if !strings.Contains(page, "You are not logged in") || strings.Contains(page, "<b>") {
				t.Errorf("the browser shows %s", page)
			}
		})
	}
}

func TestLoginKeepsTheOneBeforeWhenItFails(t *testing.T) {
	i := startIssuer(t)
	c := i.loggedIn()
	i.behave(behaviour{tokenError: "server_error"})
	_, err := c.Login(t.Context(), newBrowser(t).prompt())
	if denied, ok := errors.AsType[*DeniedError](err); !ok || denied.Code != "server_error" {
		t.Errorf("got %v", err)
	}
	if _, err := c.Token(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestLoginWaitsForTheRightAnswer(t *testing.T) {
	i := startIssuer(t)
	c, b := i.client(), newBrowser(t)
	b.visit = func(address string) (*http.Response, error) {
		u, err := url.Parse(address)
		if err != nil {
			return nil, err
		}
		callback := u.Query().Get("redirect_uri")
		for path, want := range map[string]int{
			"?code=x&state=guessed": http.StatusBadRequest,
			"?error=access_denied":  http.StatusBadRequest,
			"/../favicon.ico":       http.StatusNotFound,
		} {
			resp, err := http.Get(callback + path)
			if err != nil {
				return nil, err
			}
			resp.Body.Close()
			if resp.StatusCode != want {
				t.Errorf("%s: %s, want %d", path, resp.Status, want)
			}
		}
		resp, err := http.Post(callback+"?"+url.Values{"code": {"x"}, "state": {u.Query().Get("state")}}.Encode(), "", nil)
		if err != nil {
			return nil, err
		}
		resp.Body.Close()
		if resp.StatusCode != http.StatusMethodNotAllowed {
			t.Errorf("POST: %s", resp.Status)
		}
		return http.Get(address)
	}
	_, err := c.Login(t.Context(), b.prompt())
	must(t, err)
	<-b.page
}

func TestCallbackTakesOneAnswer(t *testing.T) {
	t.Cleanup(http.DefaultClient.CloseIdleConnections)
	c, err := listen(0, "state")
	must(t, err)
	defer c.close()
	address := c.redirectURI() + "?state=state&code="
	first := newBrowser(t)
	go first.open(address + "first")
	got, err := c.wait(t.Context())
	must(t, err)
	second := newBrowser(t)
	second.open(address + "second") // while the first waits for its page
	if page := <-second.page; !strings.Contains(page, "has been answered") {
		t.Errorf("the second browser shows %s", page)
	}
	c.finish(nil)
	if page := <-first.page; !strings.Contains(page, "You are logged in") {
		t.Errorf("the first browser shows %s", page)
	}
	if code, err := got.code("https://login.example.com"); code != "first" || err != nil {
		t.Errorf("code %q, %v", code, err)
	}
}

func TestCallbackOnATakenPort(t *testing.T) {
	c, err := listen(0, "state")
	must(t, err)
	defer c.close()
	if _, err := listen(c.listener.Addr().(*net.TCPAddr).Port, "state"); err == nil || !strings.Contains(err.Error(), "in use") {
		t.Errorf("got %v", err)
	}
}

func TestLoginEndsWithoutABrowser(t *testing.T) {
	i := startIssuer(t)
	c := i.client()
	silent := Prompt{Show: func(string) {}, Browser: func(string) error { return errors.New("no desktop") }, Wait: 20 * time.Millisecond}
	if _, err := c.Login(t.Context(), silent); err == nil || !strings.Contains(err.Error(), "no answer from the browser within 20ms") {
		t.Errorf("got %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	if _, err := c.Login(ctx, Prompt{Show: func(string) { cancel() }}); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

func TestLoginAtAnIssuerThatIsDown(t *testing.T) {
	i := startIssuer(t)
	c := i.client()
	i.server.Close()
	_, err := c.Login(t.Context(), newBrowser(t).prompt())
	if !errors.Is(err, ErrIssuer) || !strings.Contains(err.Error(), "connection refused") || !strings.Contains(err.Error(), "check the address") {
		t.Errorf("got %v", err)
	}
}

func TestNewChecksTheConfiguration(t *testing.T) {
	for issuer, want := range map[string]string{
		"": "not an address", "login.example.com": "not an address", "http://login.example.com": "write https",
		"ftp://127.0.0.1": "write https", "https://login.example.com": "no client id",
	} {
		if _, err := New(Config{Issuer: issuer}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: got %v, want %q", issuer, err, want)
		}
	}
}

func TestDir(t *testing.T) {
	t.Setenv("GATEHOUSE_HOME", "/srv/logins")
	c, err := New(Config{Issuer: "https://login.example.com", ClientID: "cli"})
	must(t, err)
	if !strings.HasPrefix(c.cache.path, "/srv/logins/logins/") {
		t.Errorf("kept in %s", c.cache.path)
	}
	if other := newCache("/srv/logins", "https://login.example.com/", "cli"); other.path == c.cache.path {
		t.Error("two issuers share a file")
	}
	t.Setenv("GATEHOUSE_HOME", "")
	t.Setenv("HOME", "/home/alice")
	t.Setenv("XDG_CONFIG_HOME", "/home/alice/config")
	dir, err := Dir()
	must(t, err)
	if !strings.HasPrefix(dir, "/home/alice/") || !strings.HasSuffix(dir, "/gatehouse") {
		t.Errorf("kept in %s", dir)
	}
}

func TestScopes(t *testing.T) {
	for name, tc := range map[string]struct{ wanted, offered, want string }{
		"nothing known":        {"", "", "openid profile email offline_access"},
		"all offered":          {"", "openid profile email groups offline_access phone", "openid profile email groups offline_access"},
		"no refresh tokens":    {"", "openid email", "openid email"},
		"wanted":               {"nats", "openid", "openid nats"},
		"wanted with openid":   {"nats openid", "", "nats openid"},
		"wanted, not in order": {"email openid", "email", "email openid"},
	} {
		t.Run(name, func(t *testing.T) {
			if got := strings.Join(scopes(strings.Fields(tc.wanted), strings.Fields(tc.offered)), " "); got != tc.want {
				t.Errorf("got %q, want %q", got, tc.want)
			}
		})
	}
}

func TestBrowserCommand(t *testing.T) {
	for name, tc := range map[string]struct {
		goos, env string
		want      string
	}{
		"macOS":               {"darwin", "", "open"},
		"Linux desktop":       {"linux", "DISPLAY", "xdg-open"},
		"Wayland":             {"linux", "WAYLAND_DISPLAY", "xdg-open"},
		"Linux without":       {"linux", "", ""},
		"over SSH":            {"linux", "DISPLAY SSH_CONNECTION", ""},
		"over SSH to a Mac":   {"darwin", "SSH_CONNECTION", ""},
		"FreeBSD with a desk": {"freebsd", "DISPLAY", "xdg-open"},
	} {
		t.Run(name, func(t *testing.T) {
			env := func(k string) string {
				if k != "" && strings.Contains(" "+tc.env+" ", " "+k+" ") {
					return "set"
				}
				return ""
			}
			if got := strings.Join(browserCommand(tc.goos, env), " "); got != tc.want {
				t.Errorf("got %q, want %q", got, tc.want)
			}
		})
	}
}

// Nothing that is printed or logged of a session may hold a token.
func TestSessionHoldsNoToken(t *testing.T) {
	c := startIssuer(t).loggedIn()
	session, err := c.Session()
	must(t, err)
	token, err := c.Token(t.Context())
	must(t, err)
	data, err := json.Marshal(session)
	must(t, err)
	if printed := fmt.Sprintf("%+v %s", session, data); strings.Contains(printed, token) || strings.Contains(printed, "refresh-") {
		t.Error(printed)
	}
}

func FuzzPlain(f *testing.F) {
	f.Add("a\x1b[31m\r\n\u202eb")
	f.Fuzz(func(t *testing.T, s string) {
		got := plain(s)
		if len([]rune(got)) > 301 || strings.ContainsAny(got, "\x1b\r\n\x00\u202e\u0085") {
			t.Fatalf("%q became %q", s, got)
		}
	})
}
