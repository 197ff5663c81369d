package provision_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/gatehouse-nats/gatehouse/api"
	"github.com/gatehouse-nats/gatehouse/policy"
	"github.com/gatehouse-nats/gatehouse/provision"
	"github.com/gatehouse-nats/gatehouse/store"
	"github.com/gatehouse-nats/gatehouse/store/sqlite"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	corp    = "https://login.example.com"
	partner = "https://id.partner.example/" // with the slash
	jobs    = "https://jobs.example.com"
	former  = "https://old.example.com" // not configured any more
)

var (
	now   = time.Date(2030, 5, 6, 7, 8, 9, 123456000, time.UTC)
	admin = provision.Caller{Actor: "local:admin", RequestID: "request"}
)

// tokens verifies tokens for tests.
type tokens func(ctx context.Context, token string) (*policy.Identity, *policy.Refusal)

func (f tokens) VerifyWait(ctx context.Context, token string) (*policy.Identity, *policy.Refusal) {
	name, admin := strings.CutPrefix(token, forAdmin)
	id, r := f(ctx, name)
	if r == nil && admin {
		r = policy.Refuse(policy.AudienceRefused, "detail for operators")
	}
	return id, r
}

// forAdmin begins the tokens for administration of tests.
const forAdmin = "admin:"

func (f tokens) VerifyAdmin(ctx context.Context, token string) (*policy.Identity, *policy.Refusal) {
	name, admin := strings.CutPrefix(token, forAdmin)
	id, r := f(ctx, name)
	if r == nil && !admin {
		r = policy.Refuse(policy.LoginToken, "detail for operators")
	}
	return id, r
}

// issue verifies tokens that name a subject of the issuer corp.
func issue(_ context.Context, token string) (*policy.Identity, *policy.Refusal) {
	return person(token), nil
}

// refuse refuses every token before its signature is verified.
func refuse(r policy.Reason) tokens {
	return func(context.Context, string) (*policy.Identity, *policy.Refusal) {
		return nil, policy.Refuse(r, "detail for operators")
	}
}

func person(subject string) *policy.Identity {
	return &policy.Identity{
		Issuer: "corp", IssuerURL: corp, Subject: subject,
		IssuedAt: now.Add(-time.Minute), Expires: now.Add(time.Hour).Truncate(time.Second),
		Claims: map[string]any{"sub": subject},
	}
}

// rules let everybody of corp into APP, and into OPS from 10.0.0.0/8.
func rules(t testing.TB) *policy.Rules {
	t.Helper()
	template := func(s string) policy.Template {
		tpl, err := policy.ParseSubscription(s)
		if err != nil {
			t.Fatal(err)
		}
		return tpl
	}
	account := &policy.Account{Name: "APP", ID: "AAPP"}
	role := &policy.Role{Name: "app", Respond: policy.Respond{Max: 1, TTL: 2 * time.Minute},
		Publish:   policy.PermissionRules{Allow: []policy.Template{template("app.>")}, Deny: []policy.Template{template("app.secret")}},
		Subscribe: policy.PermissionRules{Allow: []policy.Template{template("app.>"), template("{{inbox}}.>")}, Deny: []policy.Template{template("app.private.>")}},
	}
	ops := &policy.Account{Name: "OPS", ID: "AOPS"}
	return &policy.Rules{
		Version: "v1", Leeway: 10 * time.Second,
		Issuers:  map[string]string{"corp": corp, "partner": partner},
		Accounts: map[string]*policy.Account{"APP": account, "OPS": ops},
		Bindings: map[string][]*policy.Binding{"corp": {
			{Name: "developers", Issuer: "corp", Grant: policy.Grant{Account: account, Role: role}, TTL: 30 * time.Minute},
			{Name: "operators", Issuer: "corp", Grant: policy.Grant{Account: ops, Role: role}, TTL: time.Hour,
				Source: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}},
		}},
	}
}

// journal is a log that tests read.
type journal struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (j *journal) Write(p []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.text.Write(p)
}

func (j *journal) String() string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.text.String()
}

// bed is a service on a SQLite store, at a time that stands still.
type bed struct {
	*provision.Service
	log journal
}

func newBed(t testing.TB, change ...func(*provision.Options)) *bed {
	t.Helper()
	s, err := sqlite.Open(t.Context(), sqlite.Options{Path: filepath.Join(t.TempDir(), "gatehouse.db"), Migrate: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	snapshot := &policy.Snapshot{Rules: rules(t)}
	b := new(bed)
	o := provision.Options{
		Store: s, Tokens: tokens(issue),
		State:   func() *policy.Snapshot { return snapshot },
		Issuers: func() map[string]string { return map[string]string{"corp": corp, "partner": partner} },
		Refresh: func(context.Context) error { return nil },
		Reload:  func(context.Context) (api.Reloaded, error) { return api.Reloaded{}, nil },
		Status:  func() api.Status { return api.Status{} },
		Logger:  slog.New(slog.NewTextHandler(&b.log, nil)),
		Now:     func() time.Time { return now },
	}
	for _, f := range change {
		f(&o)
	}
	b.Service = provision.New(o)
	return b
}

func withTokens(f tokens) func(*provision.Options) {
	return func(o *provision.Options) { o.Tokens = f }
}

// at sets the service's clock.
func (b *bed) at(at time.Time) { b.Now = func() time.Time { return at } }

// record stores audit entries.
func (b *bed) record(t testing.TB, entries ...store.AuditEntry) {
	t.Helper()
	if err := b.Store.Record(t.Context(), entries); err != nil {
		t.Fatal(err)
	}
}

// answer is what a handler answered.
type answer struct {
	*httptest.ResponseRecorder
}

// call sends a request to a handler. It has no bearer token when token is empty.
func call(t testing.TB, h http.Handler, method, path, token, body string) answer {
	t.Helper()
	r := httptest.NewRequestWithContext(t.Context(), method, path, strings.NewReader(body))
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return answer{w}
}

// refused returns the error of the answer, which must be one with this status and reason, and
// have the form of every error.
func (a answer) refused(t testing.TB, code int, reason string) api.Error {
	t.Helper()
	var e api.Error
	if err := json.Unmarshal(a.Body.Bytes(), &e); err != nil {
		t.Fatalf("answered %d %q: %v", a.Code, a.Body, err)
	}
	if a.Code != code || e.Reason != reason {
		t.Fatalf("answered %d %s: %s, want %d %s", a.Code, e.Reason, e.Message, code, reason)
	}
	if e.Message == "" || e.RequestID == "" {
		t.Errorf("message or request id is missing: %s", a.Body)
	}
	a.checkHeader(t)
	return e
}

func (a answer) checkHeader(t testing.TB) {
	t.Helper()
	for name, want := range map[string]string{
		"Content-Type": "application/json", "Cache-Control": "no-store", "X-Content-Type-Options": "nosniff",
	} {
		if got := a.Header().Get(name); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
}

// wantError checks that err is the error for callers with this status and reason, and returns
// its message.
func wantError(t testing.TB, err error, code int, reason string) string {
	t.Helper()
	e, ok := errors.AsType[*api.Error](err)
	if !ok || e.Code != code || e.Reason != reason {
		t.Fatalf("error %v, want %d %s", err, code, reason)
	}
	return e.Message
}

// failing is a store whose lists fail.
type failing struct {
	store.Store
	list func(context.Context) error // what Revocations, Audit and Lift fail with
}

func (f failing) Audit(ctx context.Context, _ store.AuditFilter) ([]store.AuditEntry, string, error) {
	return nil, "", f.list(ctx)
}

func (f failing) Revocations(ctx context.Context, _ store.RevocationFilter) ([]store.Revocation, string, error) {
	return nil, "", f.list(ctx)
}

func (f failing) Revoke(ctx context.Context, _ store.Revocation, _ string) (store.Revocation, bool, error) {
	return store.Revocation{}, false, f.list(ctx)
}

func (f failing) Lift(ctx context.Context, _ store.Lift) (store.Revocation, error) {
	return store.Revocation{}, f.list(ctx)
}

// failWith makes the service's store fail.
func failWith(list func(context.Context) error) func(*provision.Options) {
	return func(o *provision.Options) { o.Store = failing{o.Store, list} }
}

func down(context.Context) error {
	return errors.Join(store.ErrUnavailable, errors.New("host=db.internal user=gatehouse"))
}

func TestStoreThatFails(t *testing.T) {
	t.Parallel()
	b := newBed(t, failWith(down))
	for op, do := range map[string]func() error{
		api.OpRevoke: func() error {
			_, err := b.Revoke(t.Context(), admin, api.RevokeRequest{Target: api.Target{Issuer: "corp", Subject: "alice"}, Reason: "left"})
			return err
		},
		"lift by id": func() error {
			_, err := b.Lift(t.Context(), admin, api.LiftRequest{ID: "1", Reason: "back"})
			return err
		},
		"lift by identity": func() error {
			_, err := b.Lift(t.Context(), admin, api.LiftRequest{Issuer: "corp", Subject: "alice", Reason: "back"})
			return err
		},
		api.OpRevocations: func() error {
			_, err := b.Revocations(t.Context(), admin, api.RevocationsRequest{})
			return err
		},
		api.OpAudit: func() error {
			_, err := b.Audit(t.Context(), admin, api.AuditRequest{})
			return err
		},
	} {
		err := do()
		message := wantError(t, err, http.StatusServiceUnavailable, api.ReasonUnavailable)
		if strings.Contains(message, "db.internal") {
			t.Errorf("%s: the store's own error crosses the wire: %s", op, message)
		}
		if e, _ := errors.AsType[*api.Error](err); e.RetryAfter == 0 {
			t.Errorf("%s: says that trying again never helps", op)
		}
	}
	if n := strings.Count(b.log.String(), "db.internal"); n != 5 {
		t.Errorf("the store's error is in the log %d times, want 5:\n%s", n, b.log.String())
	}
}
