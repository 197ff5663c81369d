package provision_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/gatehouse-nats/gatehouse/api"
	"github.com/gatehouse-nats/gatehouse/policy"
	"github.com/gatehouse-nats/gatehouse/provision"
	"github.com/gatehouse-nats/gatehouse/store"
)

// revoke revokes and expects that it works.
func (b *bed) revoke(t testing.TB, req api.RevokeRequest) api.RevokeResult {
	t.Helper()
	if req.Issuer == "" {
		req.Issuer = "corp"
	}
	if req.Reason == "" {
		req.Reason = "left"
	}
	got, err := b.Revoke(t.Context(), admin, req)
	if err != nil {
		t.Fatalf("%+v: %v", req, err)
	}
	return got
}

// list returns all revocations.
func (b *bed) list(t testing.TB) []api.Revocation {
	t.Helper()
	page, err := b.Revocations(t.Context(), admin, api.RevocationsRequest{All: true})
	if err != nil {
		t.Fatal(err)
	}
	return page.Revocations
}

func TestRevokeRefusesBadInput(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	for name, test := range map[string]struct {
		change func(*api.RevokeRequest)
		says   string
	}{
		"no issuer":                {func(r *api.RevokeRequest) { r.Issuer = "" }, "issuer is empty"},
		"unknown issuer name":      {func(r *api.RevokeRequest) { r.Issuer = "acme" }, "not configured"},
		"name in another case":     {func(r *api.RevokeRequest) { r.Issuer = "Corp" }, "not configured"},
		"unknown issuer URL":       {func(r *api.RevokeRequest) { r.Issuer = former }, "not configured"},
		"a slash too many":         {func(r *api.RevokeRequest) { r.Issuer = corp + "/" }, "slash at the end"},
		"a slash too few":          {func(r *api.RevokeRequest) { r.Issuer = strings.TrimSuffix(partner, "/") }, "slash at the end"},
		"issuer of 10 kB":          {func(r *api.RevokeRequest) { r.Issuer = strings.Repeat("x", 10_000) }, "not configured"},
		"no subject":               {func(r *api.RevokeRequest) { r.Subject = "" }, "subject is empty"},
		"subject of 10 kB":         {func(r *api.RevokeRequest) { r.Subject = strings.Repeat("x", 10_000) }, "10000 bytes"},
		"subject a byte too long":  {func(r *api.RevokeRequest) { r.Subject = strings.Repeat("x", provision.MaxSubject+1) }, "1025 bytes"},
		"NUL in the subject":       {func(r *api.RevokeRequest) { r.Subject = "alice\x00" }, "not text"},
		"subject is not UTF-8":     {func(r *api.RevokeRequest) { r.Subject = "alice\xff" }, "not text"},
		"replacement character":    {func(r *api.RevokeRequest) { r.Subject = "alice\ufffd" }, "not text"},
		"no reason":                {func(r *api.RevokeRequest) { r.Reason = "" }, "reason is empty"},
		"reason a byte too long":   {func(r *api.RevokeRequest) { r.Reason = strings.Repeat("x", provision.MaxReason+1) }, "1025 bytes"},
		"unknown kind":             {func(r *api.RevokeRequest) { r.Kind = "ban" }, "use block, logout"},
		"kind of 10 kB":            {func(r *api.RevokeRequest) { r.Kind = strings.Repeat("x", 10_000) }, "use block, logout"},
		"until in the past":        {func(r *api.RevokeRequest) { r.Until = now.Add(-time.Second) }, "in the past"},
		"until now":                {func(r *api.RevokeRequest) { r.Until = now }, "in the past"},
		"until less than a µs off": {func(r *api.RevokeRequest) { r.Until = now.Add(999 * time.Nanosecond) }, "in the past"},
		"logout with an end":       {func(r *api.RevokeRequest) { r.Kind, r.Until = "logout", now.Add(time.Hour) }, "logout has no end"},
		"key a byte too long":      {func(r *api.RevokeRequest) { r.IdempotencyKey = strings.Repeat("k", 129) }, "129 bytes"},
	} {
		req := api.RevokeRequest{Target: api.Target{Issuer: "corp", Subject: "alice"}, Reason: "left"}
		test.change(&req)
		_, err := b.Revoke(t.Context(), admin, req)
		if err == nil {
			t.Errorf("%s: accepted", name)
			continue
		}
		message := wantError(t, err, http.StatusBadRequest, api.ReasonBadRequest)
		if !strings.Contains(message, test.says) {
			t.Errorf("%s: %q does not say %q", name, message, test.says)
		}
		if len(message) > 500 {
			t.Errorf("%s: the message has %d bytes", name, len(message))
		}
	}
	if list := b.list(t); len(list) != 0 {
		t.Errorf("something was stored: %+v", list)
	}
}

func TestRevokeKeepsWhatItIsGiven(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	for _, subject := range []string{
		"alice", "auth0|5f7c", "a.b.*.>", " ", "\t\r\n\x1b[31m\x7f", "żółć 🜁", `"\x00'; DROP TABLE revocations; --`, "\u2028\u202e",
		strings.Repeat("x", provision.MaxSubject),
	} {
		got := b.revoke(t, api.RevokeRequest{Target: api.Target{Issuer: corp, Subject: subject}, Reason: "żółć\n\x00" + subject[:1]})
		r := got.Revocation
		if r.Subject != subject || r.Issuer != corp || r.Reason != "żółć\n\x00"+subject[:1] || got.Existing {
			t.Errorf("%q: %+v", subject, got)
		}
		if r.Name != policy.PrincipalName("corp", subject) || r.Actor != admin.Actor || !r.At.Equal(now) || !r.InForce || r.Kind != "block" || r.ID == "" {
			t.Errorf("%q: %+v", subject, r)
		}
		page, err := b.Revocations(t.Context(), admin, api.RevocationsRequest{Issuer: "corp", Subject: subject})
		if err != nil || len(page.Revocations) != 1 || !cmp.Equal(page.Revocations[0], r) {
			t.Errorf("%q is listed as %+v, %v", subject, page, err)
		}
	}
	if log := b.log.String(); strings.Contains(log, "\x1b") || strings.Contains(log, "\x00") {
		t.Errorf("control characters reach the log: %q", log)
	}
}

func TestRevokeBounds(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	until := time.Date(2030, 5, 6, 10, 8, 9, 123456789, time.FixedZone("far", 2*3600))
	got := b.revoke(t, api.RevokeRequest{Target: api.Target{Subject: "alice"}, Until: until, Reason: strings.Repeat("r", provision.MaxReason), IdempotencyKey: strings.Repeat("k", 128)})
	if want := until.UTC().Truncate(time.Microsecond); got.Revocation.Until != want {
		t.Errorf("until %v, want %v", got.Revocation.Until, want)
	}
	out := b.revoke(t, api.RevokeRequest{Target: api.Target{Subject: "alice"}, Kind: "logout"})
	if out.Revocation.Kind != "logout" || !out.Revocation.Until.IsZero() || !out.Revocation.InForce {
		t.Errorf("%+v", out)
	}
	far := b.revoke(t, api.RevokeRequest{Target: api.Target{Subject: "alice"}, Until: time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC)})
	if far.Existing || far.Revocation.ID == got.Revocation.ID {
		t.Errorf("%+v", far)
	}
}

func TestRevokeExisting(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	first := b.revoke(t, api.RevokeRequest{Target: api.Target{Subject: "alice"}, Reason: "left"})
	again := b.revoke(t, api.RevokeRequest{Target: api.Target{Subject: "alice"}, Reason: "left for good"})
	if !again.Existing || !cmp.Equal(again.Revocation, first.Revocation) {
		t.Errorf("%+v, want the first one %+v", again, first)
	}
	for name, req := range map[string]api.RevokeRequest{
		"another end":     {Target: api.Target{Subject: "alice"}, Until: now.Add(time.Hour)},
		"another issuer":  {Target: api.Target{Subject: "alice", Issuer: "partner"}},
		"another subject": {Target: api.Target{Subject: "Alice"}},
		"logout":          {Target: api.Target{Subject: "alice"}, Kind: "logout"},
		"logout again":    {Target: api.Target{Subject: "alice"}, Kind: "logout"},
	} {
		if got := b.revoke(t, req); got.Existing {
			t.Errorf("%s: answered by an existing one: %+v", name, got)
		}
	}
	if _, err := b.Lift(t.Context(), admin, api.LiftRequest{ID: first.Revocation.ID, Reason: "back"}); err != nil {
		t.Fatal(err)
	}
	if got := b.revoke(t, api.RevokeRequest{Target: api.Target{Subject: "alice"}}); got.Existing {
		t.Errorf("a block that was lifted stands for a new one: %+v", got)
	}
}

func TestRevokeIdempotency(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	req := api.RevokeRequest{Target: api.Target{Issuer: "corp", Subject: "alice"}, Reason: "left", Kind: "logout", IdempotencyKey: "k"}
	first := b.revoke(t, req)
	b.at(now.Add(time.Minute)) // a repeated call makes its time anew
	if again := b.revoke(t, req); !cmp.Equal(again, first) {
		t.Errorf("the same call was answered %+v, at first %+v", again, first)
	}
	req.Issuer = corp // the same issuer, by its other name
	if again := b.revoke(t, req); !cmp.Equal(again, first) {
		t.Errorf("the same call was answered %+v, at first %+v", again, first)
	}
	for name, change := range map[string]func(*api.RevokeRequest){
		"issuer":  func(r *api.RevokeRequest) { r.Issuer = "partner" },
		"subject": func(r *api.RevokeRequest) { r.Subject = "bob" },
		"kind":    func(r *api.RevokeRequest) { r.Kind = "block" },
		"reason":  func(r *api.RevokeRequest) { r.Reason = "other" },
		"until":   func(r *api.RevokeRequest) { r.Kind, r.Until = "block", now.Add(time.Hour) },
	} {
		other := req
		change(&other)
		_, err := b.Revoke(t.Context(), admin, other)
		wantError(t, err, http.StatusConflict, api.ReasonConflict)
		if list := b.list(t); len(list) != 1 {
			t.Errorf("another %s: %d revocations are stored", name, len(list))
		}
	}
	// Another's key is another one: who chose the same text keeps nobody from revoking.
	mine, err := b.Revoke(t.Context(), provision.Caller{Actor: "local:other"}, req)
	if err != nil || mine.Revocation.ID == first.Revocation.ID {
		t.Errorf("of another caller: %+v, %v", mine, err)
	}
	req.IdempotencyKey = "k2"
	if other := b.revoke(t, req); other.Revocation.ID == first.Revocation.ID {
		t.Error("another key gave the first answer")
	}
}

func TestLift(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	lift := func(req api.LiftRequest) ([]api.Revocation, error) {
		req.Reason = "back"
		got, err := b.Lift(t.Context(), admin, req)
		return got.Lifted, err
	}
	forever := b.revoke(t, api.RevokeRequest{Target: api.Target{Subject: "alice"}}).Revocation
	short := b.revoke(t, api.RevokeRequest{Target: api.Target{Subject: "alice"}, Until: now.Add(time.Minute)}).Revocation
	long := b.revoke(t, api.RevokeRequest{Target: api.Target{Subject: "alice"}, Until: now.Add(time.Hour)}).Revocation
	logout := b.revoke(t, api.RevokeRequest{Target: api.Target{Subject: "alice"}, Kind: "logout"}).Revocation
	bob := b.revoke(t, api.RevokeRequest{Target: api.Target{Subject: "bob"}}).Revocation
	partners := b.revoke(t, api.RevokeRequest{Target: api.Target{Subject: "alice", Issuer: "partner"}}).Revocation

	b.at(now.Add(2 * time.Minute)) // short has ended by itself
	got, err := lift(api.LiftRequest{Issuer: corp, Subject: "alice"})
	if err != nil || len(got) != 2 {
		t.Fatalf("%+v, %v", got, err)
	}
	for _, r := range got {
		if r.ID != forever.ID && r.ID != long.ID {
			t.Errorf("lifted %+v", r)
		}
		if r.InForce || r.LiftedBy != admin.Actor || r.LiftCause != "back" || !r.LiftedAt.Equal(now.Add(2*time.Minute)) {
			t.Errorf("%+v", r)
		}
	}
	for _, r := range b.list(t) {
		if over := r.ID == forever.ID || r.ID == long.ID || r.ID == short.ID; r.InForce == over {
			t.Errorf("%+v", r)
		}
	}
	_, err = lift(api.LiftRequest{Issuer: "corp", Subject: "alice"})
	wantError(t, err, http.StatusNotFound, api.ReasonNotFound)

	for _, id := range []string{logout.ID, bob.ID, partners.ID, short.ID} {
		if got, err = lift(api.LiftRequest{ID: id}); err != nil || len(got) != 1 || got[0].ID != id || got[0].InForce {
			t.Errorf("%+v, %v", got, err)
		}
	}
	// The second time changes nothing: who lifted it first stays on record.
	b.at(now.Add(3 * time.Minute))
	again, err := b.Lift(t.Context(), provision.Caller{Actor: "local:other"}, api.LiftRequest{ID: bob.ID, Reason: "me too"})
	if err != nil || len(again.Lifted) != 1 || again.Lifted[0].LiftedBy != admin.Actor || again.Lifted[0].LiftCause != "back" {
		t.Errorf("%+v, %v", again, err)
	}
	if log := b.log.String(); strings.Contains(log, "me too") || !strings.Contains(log, "existing=true") {
		t.Errorf("the log says that it was lifted twice:\n%s", log)
	}
}

func TestLiftRefusesBadInput(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	held := b.revoke(t, api.RevokeRequest{Target: api.Target{Subject: "alice"}}).Revocation
	for name, test := range map[string]struct {
		req    api.LiftRequest
		code   int
		reason string
	}{
		"nothing":           {api.LiftRequest{Reason: "back"}, http.StatusBadRequest, api.ReasonBadRequest},
		"both":              {api.LiftRequest{ID: held.ID, Issuer: "corp", Subject: "alice", Reason: "back"}, http.StatusBadRequest, api.ReasonBadRequest},
		"id and subject":    {api.LiftRequest{ID: held.ID, Subject: "alice", Reason: "back"}, http.StatusBadRequest, api.ReasonBadRequest},
		"no issuer":         {api.LiftRequest{Subject: "alice", Reason: "back"}, http.StatusBadRequest, api.ReasonBadRequest},
		"unknown issuer":    {api.LiftRequest{Issuer: "acme", Subject: "alice", Reason: "back"}, http.StatusBadRequest, api.ReasonBadRequest},
		"no subject":        {api.LiftRequest{Issuer: "corp", Reason: "back"}, http.StatusBadRequest, api.ReasonBadRequest},
		"no reason":         {api.LiftRequest{ID: held.ID}, http.StatusBadRequest, api.ReasonBadRequest},
		"long reason":       {api.LiftRequest{ID: held.ID, Reason: strings.Repeat("x", provision.MaxReason+1)}, http.StatusBadRequest, api.ReasonBadRequest},
		"unknown id":        {api.LiftRequest{ID: "nope", Reason: "back"}, http.StatusNotFound, api.ReasonNotFound},
		"id of 10 kB":       {api.LiftRequest{ID: strings.Repeat("x", 10_000), Reason: "back"}, http.StatusNotFound, api.ReasonNotFound},
		"odd id":            {api.LiftRequest{ID: "\x00%'", Reason: "back"}, http.StatusNotFound, api.ReasonNotFound},
		"nobody blocked":    {api.LiftRequest{Issuer: "corp", Subject: "bob", Reason: "back"}, http.StatusNotFound, api.ReasonNotFound},
		"off by a slash":    {api.LiftRequest{Issuer: corp + "/", Subject: "alice", Reason: "back"}, http.StatusNotFound, api.ReasonNotFound},
		"wildcard in a sub": {api.LiftRequest{Issuer: "corp", Subject: "%", Reason: "back"}, http.StatusNotFound, api.ReasonNotFound},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := b.Lift(t.Context(), admin, test.req)
			wantError(t, err, test.code, test.reason)
		})
	}
	if list := b.list(t); len(list) != 1 || !list[0].InForce {
		t.Errorf("%+v", list)
	}
}

// Logouts stay in force for ever; more of them than a page holds must not hide a block.
func TestLiftFindsABlockBehindManyLogouts(t *testing.T) {
	t.Parallel()
	b := newBed(t, func(o *provision.Options) { o.Store = shortPages{o.Store} })
	block := b.revoke(t, api.RevokeRequest{Target: api.Target{Subject: "alice"}}).Revocation
	for i := range 5 {
		b.at(now.Add(time.Duration(i+1) * time.Second))
		b.revoke(t, api.RevokeRequest{Target: api.Target{Subject: "alice"}, Kind: "logout"})
	}
	got, err := b.Lift(t.Context(), admin, api.LiftRequest{Issuer: "corp", Subject: "alice", Reason: "back"})
	if err != nil || len(got.Lifted) != 1 || got.Lifted[0].ID != block.ID {
		t.Errorf("%+v, %v", got, err)
	}
}

// shortPages is a store whose pages have two entries.
type shortPages struct{ store.Store }

func (s shortPages) Revocations(ctx context.Context, f store.RevocationFilter) ([]store.Revocation, string, error) {
	f.Limit = 2
	return s.Store.Revocations(ctx, f)
}

// What an issuer that was removed has left behind can be found and lifted, by its URL.
func TestRevocationsOfARemovedIssuer(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	before := b.Issuers
	b.Issuers = func() map[string]string { return map[string]string{"old": former} }
	b.revoke(t, api.RevokeRequest{Target: api.Target{Issuer: "old", Subject: "alice"}})
	b.Issuers = before
	page, err := b.Revocations(t.Context(), admin, api.RevocationsRequest{Issuer: former})
	if err != nil || len(page.Revocations) != 1 || page.Revocations[0].Name != "" {
		t.Errorf("%+v, %v", page, err)
	}
	_, err = b.Revocations(t.Context(), admin, api.RevocationsRequest{Issuer: "old"})
	wantError(t, err, http.StatusBadRequest, api.ReasonBadRequest)
	trail, err := b.Audit(t.Context(), admin, api.AuditRequest{Issuer: former})
	if err != nil || len(trail.Entries) != 1 {
		t.Errorf("%+v, %v", trail, err)
	}
	if _, err := b.Lift(t.Context(), admin, api.LiftRequest{Issuer: former, Subject: "alice", Reason: "back"}); err != nil {
		t.Error(err)
	}
}

func TestRevocationsPagesAndFilters(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	for i := range 7 {
		b.at(now.Add(time.Duration(i) * time.Second))
		b.revoke(t, api.RevokeRequest{Target: api.Target{Subject: fmt.Sprint("s", i)}})
	}
	b.revoke(t, api.RevokeRequest{Target: api.Target{Subject: "s0", Issuer: "partner"}, Until: now.Add(time.Hour)})
	for name, test := range map[string]struct {
		req  api.RevocationsRequest
		at   time.Time
		want int
	}{
		"all":             {api.RevocationsRequest{}, now, 8},
		"by name":         {api.RevocationsRequest{Issuer: "corp"}, now, 7},
		"by URL":          {api.RevocationsRequest{Issuer: partner}, now, 1},
		"by subject":      {api.RevocationsRequest{Subject: "s0"}, now, 2},
		"by both":         {api.RevocationsRequest{Issuer: "corp", Subject: "s0"}, now, 1},
		"no such":         {api.RevocationsRequest{Subject: "%"}, now, 0},
		"in force":        {api.RevocationsRequest{}, now.Add(2 * time.Hour), 7},
		"ended too":       {api.RevocationsRequest{All: true}, now.Add(2 * time.Hour), 8},
		"negative limit":  {api.RevocationsRequest{Limit: -1}, now, 8},
		"excessive limit": {api.RevocationsRequest{Limit: 1 << 40}, now, 8},
	} {
		b.at(test.at)
		page, err := b.Revocations(t.Context(), admin, test.req)
		if err != nil || len(page.Revocations) != test.want || page.Cursor != "" || page.Revocations == nil {
			t.Errorf("%s: %d, cursor %q, %v, want %d", name, len(page.Revocations), page.Cursor, err, test.want)
		}
	}

	b.at(now)
	req := api.RevocationsRequest{Issuer: "corp", Limit: 3}
	var subjects []string
	for pages := 1; ; pages++ {
		page, err := b.Revocations(t.Context(), admin, req)
		if err != nil || len(page.Revocations) > 3 {
			t.Fatalf("%+v, %v", page, err)
		}
		for _, r := range page.Revocations {
			subjects = append(subjects, r.Subject)
		}
		if req.Cursor = page.Cursor; req.Cursor == "" {
			if pages != 3 {
				t.Errorf("%d pages, want 3", pages)
			}
			break
		}
		b.revoke(t, api.RevokeRequest{Target: api.Target{Subject: "s0"}, Kind: "logout"}) // does not shift the next page
	}
	if got := strings.Join(subjects, " "); got != "s6 s5 s4 s3 s2 s1 s0" && got != "s6 s5 s4 s3 s2 s1 s0 s0 s0" {
		t.Errorf("listed %s", got)
	}
	for _, cursor := range []string{"x", "=", "eC54", strings.Repeat("A", 10_000), "\x00"} {
		_, err := b.Revocations(t.Context(), admin, api.RevocationsRequest{Cursor: cursor})
		wantError(t, err, http.StatusBadRequest, api.ReasonBadRequest)
	}
}

// Once a revocation is answered this replica denies, and says so when it could not.
func TestRevokeRefreshesThisReplica(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	b.Now = time.Now // as the mirror's
	mirror := store.NewMirror(b.Store, store.MirrorOptions{Replica: "r1"})
	mirror.SetRules(rules(t))
	if err := mirror.Refresh(t.Context()); err != nil {
		t.Fatal(err)
	}
	b.State, b.Refresh = mirror.Snapshot, mirror.Refresh
	reason := func() string {
		t.Helper()
		got, err := b.Whoami(t.Context(), provision.Caller{Token: "alice"}, api.WhoamiRequest{})
		if err != nil {
			t.Fatal(err)
		}
		return got.Reason
	}
	b.Tokens = tokens(func(context.Context, string) (*policy.Identity, *policy.Refusal) {
		id := person("alice")
		id.IssuedAt, id.Expires = time.Now(), time.Now().Add(time.Hour)
		return id, nil
	})
	if got := reason(); got != "allowed" {
		t.Fatal(got)
	}
	b.revoke(t, api.RevokeRequest{Target: api.Target{Subject: "alice"}})
	if got := reason(); got != "blocked" {
		t.Errorf("after the block: %s", got)
	}
	if _, err := b.Lift(t.Context(), admin, api.LiftRequest{Issuer: "corp", Subject: "alice", Reason: "back"}); err != nil {
		t.Fatal(err)
	}
	if got := reason(); got != "allowed" {
		t.Errorf("after it was lifted: %s", got)
	}

	b.Refresh = func(context.Context) error { return errors.New("host=db.internal") }
	_, err := b.Revoke(t.Context(), admin, api.RevokeRequest{Target: api.Target{Issuer: "corp", Subject: "bob"}, Reason: "left"})
	message := wantError(t, err, http.StatusServiceUnavailable, api.ReasonUnavailable)
	if !strings.Contains(message, "the change is stored") || strings.Contains(message, "db.internal") {
		t.Errorf("message %q", message)
	}
	// The command line works on the store itself, with nothing to refresh.
	b.Refresh = nil
	b.revoke(t, api.RevokeRequest{Target: api.Target{Subject: "carol"}})
	if list := b.list(t); len(list) != 3 {
		t.Errorf("%d revocations are stored, want 3", len(list))
	}
}
