package login

import (
	"context"
	"crypto/rand"
	"errors"
	"io"
	"io/fs"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/oauth2"

	"github.com/gatehouse-nats/gatehouse/internal/devstack"
	"github.com/gatehouse-nats/gatehouse/internal/devstack/devtest"
)

const deviceGrant = "urn:ietf:params:oauth:grant-type:device_code"

// right is a device authorization as it should be.
func right(change map[string]any) map[string]any {
	answer := map[string]any{
		"device_code": "device-secret", "user_code": "WDJB-MJHT", "verification_uri": "https://login.example.com/device",
		"expires_in": 600, "interval": 5,
	}
	maps.Copy(answer, change)
	maps.DeleteFunc(answer, func(_ string, v any) bool { return v == nil })
	return answer
}

// beginDevice answers a device authorization request.
func (i *testIssuer) beginDevice(w http.ResponseWriter, r *http.Request) {
	if r.FormValue("client_id") != "cli" || !strings.HasPrefix(r.FormValue("scope"), "openid ") {
		i.t.Errorf("device authorization request %v", r.Form)
	}
	b := i.now()
	code := "device-" + rand.Text()
	i.mu.Lock()
	i.devices[code] = r.Form
	i.mu.Unlock()
	status, answer := http.StatusOK, any(right(map[string]any{"device_code": code}))
	if b.device != nil {
		answer = b.device
	}
	if b.deviceCode != 0 {
		status = b.deviceCode
	}
	i.answer(w, status, answer)
}

// poll returns the error of a question for a device's tokens. The caller holds the lock.
func (i *testIssuer) poll(r *http.Request) string {
	i.polls = append(i.polls, time.Now())
	if n := len(i.polls); n <= len(i.behaviour.pending) {
		return i.behaviour.pending[n-1]
	}
	begun, ok := i.devices[r.FormValue("device_code")]
	if !ok || begun.Get("code_challenge") != oauth2.S256ChallengeFromVerifier(r.FormValue("code_verifier")) {
		return "invalid_grant"
	}
	delete(i.devices, r.FormValue("device_code"))
	return ""
}

// direct hands requests to a handler without a network, which stops a bubble's clock.
type direct struct {
	handler http.Handler
	fails   func(*http.Request) error // nil: none
}

func (d direct) RoundTrip(r *http.Request) (*http.Response, error) {
	if err := r.Context().Err(); err != nil {
		return nil, err
	}
	if d.fails != nil {
		if err := d.fails(r); err != nil {
			return nil, err
		}
	}
	w := httptest.NewRecorder()
	d.handler.ServeHTTP(w, r)
	answer := w.Result()
	answer.Request = r
	return answer, nil
}

// deviceClient returns a client that reaches the issuer inside a bubble.
func (i *testIssuer) deviceClient(t *testing.T, fails func(*http.Request) error) *Client {
	t.Helper()
	c, err := New(Config{Issuer: i.server.URL, ClientID: "cli", Dir: t.TempDir(), HTTP: &http.Client{Transport: direct{i.handler, fails}}})
	must(t, err)
	return c
}

func ignore(DeviceCode) {}

func TestDeviceLoginAtTheDemoProvider(t *testing.T) {
	provider := devtest.StartProvider(t, devstack.ProviderOptions{})
	client := func() *Client {
		c, err := New(Config{Issuer: provider.Issuer(), ClientID: devstack.ClientID, Dir: t.TempDir()})
		must(t, err)
		return c
	}
	decide := func(decision string) func(DeviceCode) {
		return func(code DeviceCode) { enterCode(t, code, "alice", decision) }
	}
	c := client()
	session, err := c.LoginByDevice(t.Context(), decide("approve"))
	must(t, err)
	if session.Subject != "alice" || session.Display != "alice" || !session.Renewable {
		t.Errorf("session %+v", session)
	}
	old := rewrite(t, c, endsIn(0))
	token, err := c.Token(t.Context())
	must(t, err)
	if token == old.IDToken {
		t.Error("the token was not renewed")
	}
	ctx, cancel := context.WithCancel(t.Context())
	file := filepath.Join(t.TempDir(), "token")
	must(t, c.Watch(ctx, file, "", func(err error) { must(t, err); cancel() }))
	if written, err := os.ReadFile(file); err != nil || string(written) != token {
		t.Errorf("the watched file holds %d bytes, %v", len(written), err)
	}

	_, err = client().LoginByDevice(t.Context(), decide("refuse"))
	if denied, ok := errors.AsType[*DeniedError](err); !ok || denied.Code != "access_denied" {
		t.Errorf("refused by the person: %v", err)
	}
}

// enterCode does in the browser of the other device what a person would.
func enterCode(t *testing.T, code DeviceCode, user, decision string) {
	t.Helper()
	t.Cleanup(http.DefaultClient.CloseIdleConnections)
	page, err := http.Get(code.Complete)
	must(t, err)
	body, err := io.ReadAll(page.Body)
	must(t, errors.Join(err, page.Body.Close()))
	if !strings.Contains(string(body), `value="`+code.UserCode+`"`) {
		t.Errorf("the page of %s does not hold the code %s", code.Complete, code.UserCode)
	}
	answer, err := http.PostForm(code.Address, url.Values{
		"user_code": {code.UserCode}, "username": {user}, "password": {user}, "decision": {decision},
	})
	must(t, err)
	must(t, answer.Body.Close())
	if answer.StatusCode != http.StatusOK {
		t.Errorf("%s of the code: %s", decision, answer.Status)
	}
}

func TestDeviceLogin(t *testing.T) {
	i := startIssuer(t)
	i.behave(behaviour{pending: []string{"authorization_pending", "slow_down", "authorization_pending"}})
	synctest.Test(t, func(t *testing.T) {
		c := i.deviceClient(t, nil)
		begun := time.Now()
		var shown DeviceCode
		session, err := c.LoginByDevice(t.Context(), func(code DeviceCode) { shown = code })
		must(t, err)
		if want := (DeviceCode{"https://login.example.com/device", "WDJB-MJHT", "", begun.Add(10 * time.Minute)}); shown != want {
			t.Errorf("shown %+v, want %+v", shown, want)
		}
		var polls []time.Duration
		for _, at := range i.polls {
			polls = append(polls, at.Sub(begun))
		}
		if want := []time.Duration{5 * time.Second, 10 * time.Second, 20 * time.Second, 30 * time.Second}; !slices.Equal(polls, want) {
			t.Errorf("asked after %v, want %v", polls, want)
		}
		if again, err := c.Session(); err != nil || again != session || session.Subject != "u-1" || !session.Renewable {
			t.Errorf("kept %+v, %v; want %+v", again, err, session)
		}
	})
}

func TestDeviceLoginFailures(t *testing.T) {
	for name, tc := range map[string]struct {
		behaviour behaviour
		want      string
	}{
		"refused by the person":   {behaviour{pending: []string{"access_denied"}}, "access_denied: log in again and agree"},
		"too late":                {behaviour{pending: []string{"expired_token"}}, "expired_token: run the command again, and enter the code"},
		"grant not for client":    {behaviour{pending: []string{"unauthorized_client"}}, "the device code grant"},
		"grant unknown":           {behaviour{pending: []string{"unsupported_grant_type"}}, "the device code grant"},
		"code refused":            {behaviour{pending: []string{"invalid_grant"}}, "refused the login: invalid_grant"},
		"slow down for ever":      {behaviour{pending: slices.Repeat([]string{"slow_down"}, 1000)}, "nobody entered the code in time: run the command again"},
		"nobody decides":          {behaviour{pending: slices.Repeat([]string{"authorization_pending"}, 1000)}, "nobody entered the code in time"},
		"no ID token":             {behaviour{noIDToken: true}, "returned no ID token"},
		"nonce that nobody sent":  {behaviour{claims: map[string]any{"nonce": "x"}}, "made for another login (nonce)"},
		"another audience":        {behaviour{claims: map[string]any{"aud": "web"}}, "expected audience"},
		"another party":           {behaviour{claims: map[string]any{"aud": []string{"web", "cli"}, "azp": "web"}}, `made for the client "web"`},
		"another iss":             {behaviour{claims: map[string]any{"iss": "https://evil.example.com"}}, "issued by a different provider"},
		"signature":               {behaviour{wrongKey: true}, "failed to verify signature"},
		"not offered":             {behaviour{discovery: map[string]any{"device_authorization_endpoint": nil}}, "log in with the browser"},
		"endpoint without TLS":    {behaviour{discovery: map[string]any{"device_authorization_endpoint": "http://evil.example.com/"}}, "does not use TLS"},
		"client not allowed":      {behaviour{deviceCode: 400, device: map[string]any{"error": "unauthorized_client", "error_description": "no\x1b[2J"}}, "unauthorized_client (no [2J): check the client id"},
		"error with status 200":   {behaviour{device: map[string]any{"error": "invalid_client"}}, "invalid_client: check the client id"},
		"endpoint not there":      {behaviour{deviceCode: 404, device: "not found"}, "device authorization: 404 Not Found"},
		"redirect":                {behaviour{deviceCode: 307, device: "elsewhere"}, "device authorization: 307 Temporary Redirect"},
		"null":                    {behaviour{device: (*int)(nil)}, "no device_code"},
		"a text":                  {behaviour{device: "yes"}, "no device authorization"},
		"endless":                 {behaviour{device: right(map[string]any{"x": strings.Repeat("x", 2<<20)})}, "too large"},
		"no device code":          {behaviour{device: right(map[string]any{"device_code": nil})}, "no device_code"},
		"no user code":            {behaviour{device: right(map[string]any{"user_code": nil})}, "user_code"},
		"user code moves cursor":  {behaviour{device: right(map[string]any{"user_code": "AB\x1b[2JCD"})}, `user_code "AB [2JCD" cannot be shown`},
		"user code of two lines":  {behaviour{device: right(map[string]any{"user_code": "AB\nCD"})}, "cannot be shown"},
		"user code turned around": {behaviour{device: right(map[string]any{"user_code": "AB\u202eCD"})}, "cannot be shown"},
		"user code without end":   {behaviour{device: right(map[string]any{"user_code": strings.Repeat("A", 65)})}, "cannot be shown"},
		"user code, a number":     {behaviour{device: right(map[string]any{"user_code": 1234})}, "no device authorization"},
		"no address":              {behaviour{device: right(map[string]any{"verification_uri": nil})}, "verification_uri"},
		"script as address":       {behaviour{device: right(map[string]any{"verification_uri": "javascript:alert(1)"})}, "verification_uri: \"javascript:alert(1)\" is not an address"},
		"address without TLS":     {behaviour{device: right(map[string]any{"verification_uri": "http://login.example.com/device"})}, "does not use TLS"},
		"address moves cursor":    {behaviour{device: right(map[string]any{"verification_uri": "https://login.example.com/\x1b[2J"})}, "not an address that can be shown"},
		"address turned around":   {behaviour{device: right(map[string]any{"verification_uri": "https://login.example.com/?\u202emoc.live"})}, "not an address that can be shown"},
		"address without end":     {behaviour{device: right(map[string]any{"verification_uri": "https://login.example.com/" + strings.Repeat("a", 2048)})}, "not an address that can be shown"},
		"script as complete one":  {behaviour{device: right(map[string]any{"verification_uri_complete": "javascript:alert(1)"})}, "verification_uri_complete"},
		"file as complete one":    {behaviour{device: right(map[string]any{"verification_uri_complete": "file://localhost/etc/passwd"})}, "verification_uri_complete"},
		"no life":                 {behaviour{device: right(map[string]any{"expires_in": nil})}, "has ended already"},
		"ended before it began":   {behaviour{device: right(map[string]any{"expires_in": -1})}, "has ended already"},
		"interval without end":    {behaviour{device: right(map[string]any{"interval": int64(1) << 62})}, "wants to be asked every 4611686018427387904 s for a code that is good for 600 s"},
		"interval below zero":     {behaviour{device: right(map[string]any{"interval": -5})}, "wants to be asked every -5 s"},
		"interval of the life":    {behaviour{device: right(map[string]any{"interval": 600})}, "wants to be asked"},
		"life shorter than usual": {behaviour{device: right(map[string]any{"expires_in": 5, "interval": nil})}, "for a code that is good for 5 s"},
		"discovery elsewhere":     {behaviour{discovery: map[string]any{"issuer": "x"}}, "calls itself"},
	} {
		t.Run(name, func(t *testing.T) {
			i := startIssuer(t)
			i.behave(tc.behaviour)
			synctest.Test(t, func(t *testing.T) {
				c := i.deviceClient(t, nil)
				_, err := c.LoginByDevice(t.Context(), ignore)
				if err == nil || !strings.Contains(err.Error(), tc.want) {
					t.Fatalf("got %v, want %q", err, tc.want)
				}
				if strings.ContainsAny(err.Error(), "\x1b\n\u202e") || strings.Contains(err.Error(), "device-") {
					t.Errorf("the error is not fit to be shown: %q", err)
				}
				if _, err := os.Stat(c.cache.path); !errors.Is(err, fs.ErrNotExist) {
					t.Errorf("something was kept: %v", err)
				}
			})
		})
	}
}

func TestDeviceLoginIsBounded(t *testing.T) {
	for name, tc := range map[string]struct {
		expiresIn any
		want      time.Duration
	}{
		"by the code":            {60, time.Minute},
		"by us":                  {86400, 15 * time.Minute},
		"with a life that wraps": {int64(1)<<62 + 1, 15 * time.Minute},
	} {
		t.Run(name, func(t *testing.T) {
			i := startIssuer(t)
			i.behave(behaviour{
				device:  right(map[string]any{"expires_in": tc.expiresIn}),
				pending: slices.Repeat([]string{"authorization_pending"}, 1000),
			})
			synctest.Test(t, func(t *testing.T) {
				c := i.deviceClient(t, nil)
				begun := time.Now()
				var shown DeviceCode
				_, err := c.LoginByDevice(t.Context(), func(code DeviceCode) { shown = code })
				if took := time.Since(begun); err == nil || took != tc.want || !shown.Expires.Equal(begun.Add(tc.want)) {
					t.Errorf("ended after %v with %v, shown until %v; want %v", took, err, shown.Expires, tc.want)
				}
			})
		})
	}
}

func TestDeviceLoginOutlivesAnOutage(t *testing.T) {
	i := startIssuer(t)
	synctest.Test(t, func(t *testing.T) {
		asked := 0
		c := i.deviceClient(t, func(r *http.Request) error {
			if r.URL.Path != "/token" {
				return nil
			}
			if asked++; asked <= 2 {
				return errors.New("connection reset")
			}
			return nil
		})
		begun := time.Now()
		_, err := c.LoginByDevice(t.Context(), ignore)
		must(t, err)
		if took := time.Since(begun); took != 35*time.Second { // 5 s, and twice as long each time
			t.Errorf("logged in after %v", took)
		}
	})
}

func TestDeviceLoginEndsWithItsContext(t *testing.T) {
	i := startIssuer(t)
	i.behave(behaviour{pending: slices.Repeat([]string{"authorization_pending"}, 1000)})
	synctest.Test(t, func(t *testing.T) {
		c := i.deviceClient(t, nil)
		ctx, cancel := context.WithCancel(t.Context())
		begun := time.Now()
		if _, err := c.LoginByDevice(ctx, func(DeviceCode) { cancel() }); !errors.Is(err, context.Canceled) || time.Since(begun) != 0 {
			t.Errorf("got %v after %v", err, time.Since(begun))
		}
	})
}

func TestPassing(t *testing.T) {
	refusal := func(code string, status int) error {
		return &oauth2.RetrieveError{ErrorCode: code, Response: &http.Response{StatusCode: status}}
	}
	for name, tc := range map[string]struct {
		err  error
		want bool
	}{
		"unreachable":      {&url.Error{Op: "Post", Err: errors.New("reset")}, true},
		"gateway":          {refusal("", 502), true},
		"refusal":          {refusal("access_denied", 400), false},
		"error of its own": {refusal("server_error", 500), false},
		"page":             {refusal("", 404), false},
		"nonsense":         {errors.New("missing access_token"), false},
	} {
		if got := passing(tc.err); got != tc.want {
			t.Errorf("%s: %t", name, got)
		}
	}
}

func TestDeviceIsSuggestedWithoutABrowser(t *testing.T) {
	i := startIssuer(t)
	for name, tc := range map[string]struct {
		offered any
		browser bool
		want    bool
	}{
		"no browser":            {i.server.URL + "/device", false, true},
		"browser":               {i.server.URL + "/device", true, false},
		"no browser, no device": {nil, false, false},
	} {
		t.Run(name, func(t *testing.T) {
			i.behave(behaviour{discovery: map[string]any{"device_authorization_endpoint": tc.offered}})
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			suggested := false
			p := Prompt{Show: func(string) {}, Device: func() { suggested = true; cancel() }}
			if tc.browser {
				p.Browser = func(string) error { cancel(); return nil }
			} else if !tc.want {
				p.Show = func(string) { cancel() }
			}
			if _, err := i.client().Login(ctx, p); !errors.Is(err, context.Canceled) || suggested != tc.want {
				t.Errorf("suggested %t, want %t, %v", suggested, tc.want, err)
			}
		})
	}
}
