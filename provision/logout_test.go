package provision_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/gatehouse-nats/gatehouse/api"
	"github.com/gatehouse-nats/gatehouse/policy"
	"github.com/gatehouse-nats/gatehouse/provision"
	"github.com/gatehouse-nats/gatehouse/store"
)

// logouts verifies logout tokens for tests.
type logouts func(issuer, token string) (*policy.LogoutToken, *policy.Refusal, <-chan struct{})

func (f logouts) VerifyLogout(issuer, token string) (*policy.LogoutToken, *policy.Refusal, <-chan struct{}) {
	return f(issuer, token)
}

// end verifies logout tokens of the issuer corp of the form subject/session/jti.
func end(issuer, token string) (*policy.LogoutToken, *policy.Refusal, <-chan struct{}) {
	parts := strings.Split(token, "/")
	if issuer != "corp" || len(parts) != 3 {
		return nil, policy.Refuse(policy.TokenMalformed, "detail for operators"), nil
	}
	return &policy.LogoutToken{
		Issuer: "corp", Principal: policy.Principal{Issuer: corp, Subject: parts[0]}, Session: parts[1], TokenID: parts[2],
		IssuedAt: now.Add(-time.Second), Until: now.Add(48 * time.Hour),
	}, nil, nil
}

func withLogouts(f logouts) func(*provision.Options) {
	return func(o *provision.Options) { o.Logouts = f }
}

// logOut sends a logout token as an issuer does.
func logOut(t testing.TB, h http.Handler, issuer, token string) answer {
	t.Helper()
	return form(t, h, issuer, url.Values{"logout_token": {token}, "other": {"x"}}.Encode())
}

func form(t testing.TB, h http.Handler, issuer, body string) answer {
	t.Helper()
	r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, api.LogoutPath(issuer), strings.NewReader(body))
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded; charset=utf-8")
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return answer{w}
}

const (
	invalid = `{"error":"invalid_request"}` + "\n"
	later   = `{"error":"temporarily_unavailable"}` + "\n"
)

func (a answer) want(t testing.TB, code int, body string) {
	t.Helper()
	if a.Code != code || a.Body.String() != body {
		t.Errorf("answered %d %q, want %d %q", a.Code, a.Body, code, body)
	}
	if got := a.Header().Get("Cache-Control"); got != "no-store" {
		t.Errorf("Cache-Control: %q", got)
	}
	if code == http.StatusServiceUnavailable && a.Header().Get("Retry-After") == "" {
		t.Error("it does not say when to try again")
	}
}

func TestLogoutByIssuer(t *testing.T) {
	t.Parallel()
	refreshed, enforced := 0, 0
	b := newBed(t, withLogouts(end), func(o *provision.Options) {
		o.Refresh = func(context.Context) error { refreshed++; return nil }
		o.Enforce = func(store.Revocation) { enforced++ }
	})
	h := b.Handler()
	logOut(t, h, "corp", "alice//j1").want(t, http.StatusOK, "")
	if refreshed != 1 || enforced != 1 {
		t.Error("this replica was not made to deny by it, or its connections are left")
	}
	list, _, err := b.Store.Revocations(t.Context(), store.RevocationFilter{})
	if err != nil || len(list) != 1 {
		t.Fatalf("%+v, %v", list, err)
	}
	got := list[0]
	got.ID = ""
	want := store.Revocation{Actor: "issuer:corp", Reason: "logged out at the provider", Revocation: policy.Revocation{
		Kind: policy.Logout, At: now.Add(-time.Second), Until: now.Add(48 * time.Hour),
		Target: policy.Target{Principal: policy.Principal{Issuer: corp, Subject: "alice"}},
	}}
	if diff := cmp.Diff(want.Revocation, got.Revocation); diff != "" || got.Actor != want.Actor || got.Reason != want.Reason {
		t.Errorf("stored %+v\n%s", got, diff)
	}
	page, err := b.Audit(t.Context(), admin, api.AuditRequest{Actor: "issuer:corp"})
	if err != nil || len(page.Entries) != 1 || page.Entries[0].Subject != "alice" || page.Entries[0].Op != api.OpRevoke {
		t.Errorf("recorded %+v, %v", page.Entries, err)
	}
}

func TestLogoutOfSession(t *testing.T) {
	t.Parallel()
	b := newBed(t, withLogouts(end))
	for _, token := range []string{"alice/s1/j1", "/s2/j2", "alice/s1/j3"} { // ended twice, by two tokens
		logOut(t, b.Handler(), "corp", token).want(t, http.StatusOK, "")
	}
	state, err := b.Store.Load(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	index := policy.NewRevocations(state.Revocations)
	for session, want := range map[string]bool{"s1": true, "s2": true, "s3": false, "": false} {
		id := person("alice")
		id.SessionID, id.IssuedAt = session, now.Add(time.Hour) // a token of an ended session is void whenever it was issued
		if _, got := index.LoggedOut(id, now); got != want {
			t.Errorf("session %q is ended: %v", session, got)
		}
		if _, got := index.LoggedOut(id, now.Add(49*time.Hour)); got {
			t.Errorf("session %q is known for ever", session)
		}
	}
}

// A logout stays for as long as a user JWT can that was got before it, or that would be good again.
func TestLogoutOutlivesUserJWTs(t *testing.T) {
	t.Parallel()
	b := newSignupBed(t, withLogouts(end))
	const week = 7 * 24 * time.Hour
	b.state.Rules.Bindings["corp"][0].Direct.TTL = week
	for _, token := range []string{"alice//j1", "alice/s1/j2"} {
		logOut(t, b.Handler(), "corp", token).want(t, http.StatusOK, "")
	}
	list, _, err := b.Store.Revocations(t.Context(), store.RevocationFilter{})
	if err != nil || len(list) != 2 {
		t.Fatalf("%+v, %v", list, err)
	}
	for _, r := range list {
		if r.Until.Before(now.Add(week).Truncate(time.Microsecond)) {
			t.Errorf("%s ends at %s", r.Target, r.Until)
		}
	}
}

// Whoever caught a logout token must not be able to log somebody out again and again.
func TestLogoutReplay(t *testing.T) {
	t.Parallel()
	b := newBed(t, withLogouts(end))
	logOut(t, b.Handler(), "corp", "alice//j1").want(t, http.StatusOK, "")
	// Another replica, or this one after a restart, has nothing but the store.
	other := newBed(t, withLogouts(end), func(o *provision.Options) { o.Store = b.Store })
	for name, token := range map[string]string{"the same": "alice//j1", "its jti on another": "bob//j1"} {
		other.at(now.Add(time.Minute))
		logOut(t, other.Handler(), "corp", token).want(t, http.StatusBadRequest, invalid)
		if list, _, err := b.Store.Revocations(t.Context(), store.RevocationFilter{}); err != nil || len(list) != 1 {
			t.Errorf("%s: %+v, %v", name, list, err)
		}
	}
	logOut(t, other.Handler(), "corp", "alice//j2").want(t, http.StatusOK, "")
}

// What is refused is told nothing, recorded with why, and changes nothing.
func TestRefusedLogouts(t *testing.T) {
	t.Parallel()
	records := new(spooled)
	b := newBed(t, withLogouts(end), func(o *provision.Options) { o.Records = records })
	h := b.Handler()
	good := url.Values{"logout_token": {"alice//j1"}}.Encode()
	for name, got := range map[string]answer{
		"another issuer":    form(t, h, "partner", good),
		"an unknown issuer": form(t, h, "%2e%2e%2fcorp", good),
		"a token of none":   logOut(t, h, "corp", "alice"),
		"no token":          form(t, h, "corp", "token=alice//j1"),
		"two tokens":        form(t, h, "corp", good+"&"+good),
		"not a form":        form(t, h, "corp", "logout_token=%zz"),
		"too large":         form(t, h, "corp", good+"&x="+strings.Repeat("x", 64<<10)),
		"JSON":              call(t, h, http.MethodPost, api.LogoutPath("corp"), "", `{"logout_token":"alice//j1"}`),
		"GET":               call(t, h, http.MethodGet, api.LogoutPath("corp")+"?"+good, "", ""),
		"by the URL":        form(t, h, "corp?"+good, ""),
	} {
		t.Run(name, func(t *testing.T) { got.want(t, http.StatusBadRequest, invalid) })
	}
	if list, _, err := b.Store.Revocations(t.Context(), store.RevocationFilter{}); err != nil || len(list) != 0 {
		t.Errorf("%+v, %v", list, err)
	}
	entries := records.taken()
	if len(entries) == 0 || entries[0].Op != "backchannel-logout" || entries[0].Outcome != "refused" || entries[0].Source == "" || entries[0].Reason == "" {
		t.Errorf("recorded %+v", entries)
	}
	if call(t, newBed(t).Handler(), http.MethodPost, api.LogoutPath("corp"), "", "").Code != http.StatusNotFound {
		t.Error("there is a place for logout tokens where nothing verifies them")
	}
}

func TestLogoutThatIsToBeTriedAgain(t *testing.T) {
	t.Parallel()
	noKeys := func(string, string) (*policy.LogoutToken, *policy.Refusal, <-chan struct{}) {
		return nil, policy.Refuse(policy.KeysUnavailable, "the issuer is down"), nil
	}
	logOut(t, newBed(t, withLogouts(noKeys)).Handler(), "corp", "alice//j1").want(t, http.StatusServiceUnavailable, later)
	b := newBed(t, withLogouts(end), failWith(down))
	logOut(t, b.Handler(), "corp", "alice//j1").want(t, http.StatusServiceUnavailable, later)
}

// A logout that is stored is done, even if this replica hears of it by the feed alone.
func TestLogoutIsDoneWhenStored(t *testing.T) {
	t.Parallel()
	b := newBed(t, withLogouts(end), func(o *provision.Options) { o.Refresh = down })
	logOut(t, b.Handler(), "corp", "alice//j1").want(t, http.StatusOK, "")
}

// Tokens with made-up keys have the issuer asked; however many wait for that, those with a known key pass.
func TestLogoutFlood(t *testing.T) {
	t.Parallel()
	keys, waiting := make(chan struct{}), make(chan struct{})
	b := newBed(t, withLogouts(func(issuer, token string) (*policy.LogoutToken, *policy.Refusal, <-chan struct{}) {
		if token != "made up" {
			return end(issuer, token)
		}
		select {
		case <-keys:
			return nil, policy.Refuse(policy.KeyUnknown, "detail for operators"), nil
		case waiting <- struct{}{}:
			return nil, nil, keys
		}
	}))
	h := b.Handler()
	const most = 32 // wait at once
	var wg sync.WaitGroup
	answers := make(chan answer, most+8)
	for range cap(answers) {
		wg.Go(func() { answers <- logOut(t, h, "corp", "made up") })
		<-waiting
	}
	for range cap(answers) - most {
		(<-answers).want(t, http.StatusServiceUnavailable, later)
	}
	logOut(t, h, "corp", "alice//j1").want(t, http.StatusOK, "")
	close(keys)
	wg.Wait()
}
