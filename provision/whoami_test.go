package provision_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/gatehouse-nats/gatehouse/api"
	"github.com/gatehouse-nats/gatehouse/policy"
	"github.com/gatehouse-nats/gatehouse/provision"
	"github.com/gatehouse-nats/gatehouse/store"
)

const whoamiPath = "/v1/whoami"

func TestWhoamiWithoutToken(t *testing.T) {
	t.Parallel()
	h := newBed(t, withTokens(func(context.Context, string) (*policy.Identity, *policy.Refusal) {
		t.Error("the verifier was called")
		return nil, policy.Refuse(policy.TokenMissing, "")
	})).Handler()
	for name, header := range map[string][]string{
		"none":         nil,
		"empty":        {""},
		"no scheme":    {"e30.e30.e30"},
		"basic":        {"Basic YWxpY2U6c2VjcmV0"},
		"no token":     {"Bearer"},
		"blank token":  {"Bearer   "},
		"tab":          {"Bearer\te30.e30.e30"},
		"two headers":  {"Bearer alice", "Bearer root"},
		"the same two": {"Bearer alice", "Bearer alice"},
	} {
		r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, whoamiPath, nil)
		r.Header["Authorization"] = header
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		answer{w}.refused(t, http.StatusUnauthorized, api.ReasonUnauthenticated)
		if w.Header().Get("WWW-Authenticate") != "Bearer" {
			t.Errorf("%s: WWW-Authenticate is %q", name, w.Header().Get("WWW-Authenticate"))
		}
	}
}

func TestWhoamiReadsTheTokenFromTheHeader(t *testing.T) {
	t.Parallel()
	var got string
	h := newBed(t, withTokens(func(_ context.Context, token string) (*policy.Identity, *policy.Refusal) {
		got = token
		return person("alice"), nil
	})).Handler()
	for header, want := range map[string]string{
		"Bearer e30.e30.e30":   "e30.e30.e30",
		"bearer e30":           "e30",
		"BEARER  e30 ":         "e30",
		"Bearer e30, Basic eA": "e30, Basic eA", // one value, which does not verify
	} {
		r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, whoamiPath+"?access_token=other", nil)
		r.Header.Set("Authorization", header)
		r.Header.Set("X-Authorization", "Bearer other")
		r.Header.Set("Cookie", "token=other")
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		if w.Code != http.StatusOK || got != want {
			t.Errorf("%q: %d, token %q, want %q", header, w.Code, got, want)
		}
	}
}

func TestWhoamiOfATokenThatIsNotVerified(t *testing.T) {
	t.Parallel()
	var b *bed
	var reason policy.Reason
	b = newBed(t, withTokens(func(ctx context.Context, token string) (*policy.Identity, *policy.Refusal) {
		return refuse(reason)(ctx, token)
	}))
	h := b.Handler()
	for _, reason = range loginReasons(t) {
		a := call(t, h, http.MethodPost, whoamiPath, "e30.secret.e30", "")
		code := http.StatusUnauthorized
		if reason.Silent() {
			code = http.StatusServiceUnavailable
		}
		e := a.refused(t, code, string(reason))
		known, _ := api.Explain(string(reason))
		if want := known.Meaning + " " + known.Remedy; e.Message != want {
			t.Errorf("%s: message %q, want %q", reason, e.Message, want)
		}
		if got := a.Header().Get("WWW-Authenticate") != ""; got != (code == http.StatusUnauthorized) {
			t.Errorf("%s: WWW-Authenticate is there: %t", reason, got)
		}
		if again := e.RetryAfter > 0 && a.Header().Get("Retry-After") != ""; again != reason.Silent() {
			t.Errorf("%s: invites to try again: %t", reason, again)
		}
		// Nothing else: the sub and iss of such a token are whatever its sender wrote.
		for _, leak := range []string{"detail for operators", "secret", `"subject"`, "last_refusal"} {
			if strings.Contains(a.Body.String(), leak) {
				t.Errorf("%s: the answer holds %q: %s", reason, leak, a.Body)
			}
		}
	}
	if strings.Contains(b.log.String(), "secret") {
		t.Errorf("the token is in the log: %s", b.log.String())
	}
}

func TestWhoamiDecides(t *testing.T) {
	t.Parallel()
	blocked := policy.Revocation{
		ID: "1", Kind: policy.Block, At: now, Until: now.Add(90 * time.Second),
		Target: policy.Target{Principal: policy.Principal{Issuer: corp, Subject: "mallory"}},
	}
	b := newBed(t, func(o *provision.Options) {
		o.State = func() *policy.Snapshot {
			return &policy.Snapshot{Rules: rules(t), Revocations: policy.NewRevocations([]policy.Revocation{blocked})}
		}
	})
	for _, test := range []struct {
		subject, account, source string
		allowed                  bool
		reason                   policy.Reason
		in                       string
		retry                    int
	}{
		{subject: "alice", source: "192.0.2.1", allowed: true, reason: policy.Allowed, in: "APP"},
		{subject: "alice", allowed: true, reason: policy.Allowed, in: "APP"},
		{subject: "alice", account: "APP", source: "10.1.2.3", allowed: true, reason: policy.Allowed, in: "APP"},
		{subject: "alice", account: "OPS", source: "10.1.2.3", allowed: true, reason: policy.Allowed, in: "OPS"},
		{subject: "alice", source: "10.1.2.3", reason: policy.AccountAmbiguous},
		{subject: "alice", account: "OPS", source: "192.0.2.1", reason: policy.AccountNotGranted},
		{subject: "alice", account: strings.Repeat("A", 5000), reason: policy.AccountNotGranted},
		{subject: "mallory", reason: policy.Blocked, retry: 90},
	} {
		caller := provision.Caller{Token: test.subject, RequestID: "request"}
		if test.source != "" {
			caller.Source = netip.MustParseAddr(test.source)
		}
		got, err := b.Whoami(t.Context(), caller, api.WhoamiRequest{Account: test.account})
		if err != nil {
			t.Fatal(err)
		}
		if got.Allowed != test.allowed || got.Reason != string(test.reason) || got.Account != test.in || got.RetryAfter != test.retry {
			t.Errorf("%.80v: %+v", test, got.Decision)
		}
		if got.Subject != test.subject || got.RequestID != "request" || got.LastRefusal != nil {
			t.Errorf("%.80v: %+v", test, got)
		}
		if !test.allowed && (got.Message == "" || got.Permissions != nil) {
			t.Errorf("%.80v: %+v", test, got.Decision)
		}
	}
}

func TestWhoamiOfAVerifiedTokenThatIsRefused(t *testing.T) {
	t.Parallel()
	b := newBed(t,
		withTokens(func(context.Context, string) (*policy.Identity, *policy.Refusal) {
			return person("alice"), policy.Refuse(policy.TokenExpired, "detail for operators")
		}),
		// What is wrong with the token itself can be said without any state.
		func(o *provision.Options) { o.State = func() *policy.Snapshot { return nil } })
	b.record(t, store.AuditEntry{ID: "0197-a", At: now.Add(-time.Hour), Kind: store.LoginEntry, Outcome: "refused", Reason: "no_binding", Issuer: corp, Subject: "alice"})
	a := call(t, b.Handler(), http.MethodPost, whoamiPath, "alice", "{}")
	var got api.Whoami
	if err := json.Unmarshal(a.Body.Bytes(), &got); err != nil || a.Code != http.StatusOK {
		t.Fatalf("%d %s", a.Code, a.Body)
	}
	if got.Allowed || got.Reason != string(policy.TokenExpired) || got.Name != "corp-alice" {
		t.Errorf("%+v", got)
	}
	if got.LastRefusal == nil || got.LastRefusal.RequestID != "0197-a" {
		t.Errorf("last refusal %+v", got.LastRefusal)
	}
	if strings.Contains(a.Body.String(), "detail for operators") {
		t.Errorf("the detail crosses the wire: %s", a.Body)
	}
}

func TestWhoamiTellsTheLastRefusal(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	login := func(id string, ago time.Duration, issuer, subject, outcome, reason string) store.AuditEntry {
		return store.AuditEntry{
			ID: id, At: now.Add(-ago), Kind: store.LoginEntry, Outcome: outcome, Reason: reason, Detail: "detail for operators",
			Issuer: issuer, Subject: subject, Source: "192.0.2.7", ServerName: "n1",
		}
	}
	b.record(t,
		login("old", 3*time.Hour, corp, "alice", "refused", "blocked"),
		login("silent", 2*time.Hour, corp, "alice", "silent", "snapshot_stale"),
		login("newest", time.Hour, corp, "alice", "refused", "no_binding"),
		login("allowed", time.Minute, corp, "alice", "allowed", "allowed"),
		login("other issuer", time.Second, partner, "alice", "refused", "blocked"),
		login("other subject", time.Second, corp, "alice2", "silent", "internal"),
		login("unknown reason", time.Second, corp, "carol", "refused", "made_up"),
		store.AuditEntry{ID: "admin", At: now, Kind: store.AdminEntry, Outcome: "done", Reason: "left", Issuer: corp, Subject: "alice"},
	)
	last := func(subject string) *api.LastRefusal {
		t.Helper()
		got, err := b.Whoami(t.Context(), provision.Caller{Token: subject}, api.WhoamiRequest{})
		if err != nil || !got.Allowed {
			t.Fatalf("%+v, %v", got, err)
		}
		return got.LastRefusal
	}
	known, _ := api.Explain("no_binding")
	want := &api.LastRefusal{
		At: now.Add(-time.Hour), Reason: "no_binding", Message: known.Meaning + " " + known.Remedy,
		RequestID: "newest", Source: "192.0.2.7", Server: "n1",
	}
	if diff := cmp.Diff(want, last("alice")); diff != "" {
		t.Errorf("alice (-want +got):\n%s", diff)
	}
	// A login that was left unanswered counts as well.
	if got := last("alice2"); got == nil || got.RequestID != "other subject" || got.Reason != "internal" {
		t.Errorf("alice2: %+v", got)
	}
	if got := last("carol"); got == nil || got.Reason != "made_up" || got.Message != "" {
		t.Errorf("carol: %+v", got)
	}
	if got := last("bob"); got != nil {
		t.Errorf("bob was never refused: %+v", got)
	}
}

func TestWhoamiWithoutState(t *testing.T) {
	t.Parallel()
	b := newBed(t, func(o *provision.Options) { o.State = func() *policy.Snapshot { return nil } })
	e := call(t, b.Handler(), http.MethodPost, whoamiPath, "alice", "").refused(t, http.StatusServiceUnavailable, api.ReasonUnavailable)
	if e.RetryAfter == 0 {
		t.Error("says that trying again never helps")
	}
}

func TestWhoamiAnswersWhenTheStoreFails(t *testing.T) {
	t.Parallel()
	b := newBed(t, failWith(down))
	got, err := b.Whoami(t.Context(), provision.Caller{Token: "alice", RequestID: "request"}, api.WhoamiRequest{})
	if err != nil || !got.Allowed || got.LastRefusal != nil {
		t.Errorf("%+v, %v", got, err)
	}
	if !strings.Contains(b.log.String(), "request_id=request") {
		t.Errorf("the log does not tell: %s", b.log.String())
	}
}

// A client library that was refused waits about five seconds for whoami.
func TestWhoamiAnswersInTime(t *testing.T) {
	t.Parallel()
	hang := func(ctx context.Context) error { <-ctx.Done(); return context.Cause(ctx) }
	o := newBed(t, failWith(hang)).Options
	synctest.Test(t, func(t *testing.T) {
		s := provision.New(o) // in the bubble, as its channels must be
		start := time.Now()
		const calls = 5 // more than may read at once
		done := make(chan error, calls)
		for range calls {
			go func() {
				got, err := s.Whoami(t.Context(), provision.Caller{Token: "alice"}, api.WhoamiRequest{})
				if err == nil && !got.Allowed {
					err = fmt.Errorf("got %+v", got)
				}
				done <- err
			}()
		}
		for range calls {
			if err := <-done; err != nil {
				t.Error(err)
			}
		}
		if took := time.Since(start); took > 2*time.Second {
			t.Errorf("a store that hangs holds the answer for %s", took)
		}
	})
}

func TestWhoamiWaitsForKeysABoundedTime(t *testing.T) {
	t.Parallel()
	b := newBed(t, withTokens(func(ctx context.Context, token string) (*policy.Identity, *policy.Refusal) {
		<-ctx.Done()
		return refuse(policy.KeysUnavailable)(ctx, token)
	}))
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		_, err := b.Whoami(t.Context(), provision.Caller{Token: "alice"}, api.WhoamiRequest{})
		wantError(t, err, http.StatusServiceUnavailable, string(policy.KeysUnavailable))
		if took := time.Since(start); took > 4*time.Second {
			t.Errorf("took %s", took)
		}
	})
}

// The client's address is that of its connection, whatever it writes into headers.
func TestWhoamiSourceIsThePeer(t *testing.T) {
	t.Parallel()
	h := newBed(t).Handler()
	for peer, allowed := range map[string]bool{
		"10.1.2.3:4711":          true,
		"[::ffff:10.1.2.3]:4711": true,
		"192.0.2.1:4711":         false,
		"[2001:db8::1]:4711":     false,
		"@":                      false, // not a network address
		"":                       false,
	} {
		r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, whoamiPath, strings.NewReader(`{"account":"OPS"}`))
		r.RemoteAddr = peer
		r.Header.Set("Authorization", "Bearer alice")
		for _, name := range []string{"X-Forwarded-For", "X-Real-IP", "True-Client-IP", "CF-Connecting-IP"} {
			r.Header.Set(name, "10.9.9.9")
		}
		r.Header.Set("Forwarded", "for=10.9.9.9")
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		var got api.Whoami
		if err := json.Unmarshal(w.Body.Bytes(), &got); err != nil || w.Code != http.StatusOK {
			t.Fatalf("%d %s", w.Code, w.Body)
		}
		if got.Allowed != allowed {
			t.Errorf("from %q: %s", peer, got.Reason)
		}
	}
}
