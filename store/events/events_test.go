package events_test

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"go.uber.org/goleak"

	"github.com/gatehouse-nats/gatehouse/account"
	"github.com/gatehouse-nats/gatehouse/policy"
	"github.com/gatehouse-nats/gatehouse/store"
	"github.com/gatehouse-nats/gatehouse/store/events"
	"github.com/gatehouse-nats/gatehouse/store/sqlite"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const patience = time.Minute

func newStore(t *testing.T) store.Store {
	t.Helper()
	s, err := sqlite.Open(t.Context(), sqlite.Options{Path: filepath.Join(t.TempDir(), "gatehouse.db"), Migrate: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func newID() string { return uuid.Must(uuid.NewV7()).String() }

// change stores the account's next revision, whose entry is of the operation, and returns the entry's id.
func change(t *testing.T, s store.Store, name, op string, state account.State) string {
	t.Helper()
	id := accountID(name)
	list, _, err := s.Accounts(t.Context(), store.AccountFilter{IDs: []string{id}, Deleted: true})
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now().UTC().Truncate(time.Microsecond)
	a := account.Account{ID: id, Name: name, Plan: "free", Created: now, Owner: account.Person{Principal: policy.Principal{Issuer: "i", Subject: name}}}
	if len(list) == 1 {
		a = list[0]
	}
	a.Revision, a.State, a.Updated = a.Revision+1, state, now
	e := store.AuditEntry{ID: newID(), At: now, Kind: store.AdminEntry, Outcome: "done", Reason: "because", Actor: "corp-alice", Op: op, Account: name, Target: id, Revision: a.Revision, State: string(state)}
	if _, err := s.SaveAccount(t.Context(), store.AccountChange{Account: a, Entry: e}); err != nil {
		t.Fatal(err)
	}
	return e.ID
}

func accountID(name string) string { return "A" + strings.ToUpper(name) }

// receiver is a web server that is told of accounts.
type receiver struct {
	*httptest.Server
	answer func(n int, r *http.Request) int // status of its nth request

	mu   sync.Mutex
	n    int
	got  []events.Event // that it answered 2xx to
	bad  []string       // what is wrong with requests
	seen []*http.Request
}

const secretText = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"

func secret(t *testing.T, text string) events.Secret {
	t.Helper()
	s, err := events.ParseSecret(text)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func newReceiver(t *testing.T, answer func(n int, r *http.Request) int) *receiver {
	r := &receiver{answer: answer}
	r.Server = httptest.NewServer(http.HandlerFunc(r.serve))
	t.Cleanup(r.Close)
	return r
}

func (r *receiver) serve(w http.ResponseWriter, req *http.Request) {
	body, err := io.ReadAll(req.Body)
	var e events.Event
	if err == nil {
		err = json.Unmarshal(body, &e)
	}
	r.mu.Lock()
	r.n++
	n := r.n
	r.seen = append(r.seen, req)
	if err != nil || req.Header.Get("webhook-id") != e.ID || req.Method != http.MethodPost || !strings.HasPrefix(req.Header.Get("webhook-signature"), "v1,") {
		r.bad = append(r.bad, fmt.Sprintf("%s %s %v: %v", req.Method, body, req.Header, err))
	}
	r.mu.Unlock()
	code := http.StatusNoContent
	if r.answer != nil {
		code = r.answer(n, req)
	}
	if code/100 == 2 {
		r.mu.Lock()
		r.got = append(r.got, e)
		r.mu.Unlock()
	}
	if code/100 == 3 {
		w.Header().Set("Location", "/elsewhere")
	}
	w.WriteHeader(code)
}

func (r *receiver) received() []events.Event {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.got)
}

func (r *receiver) check(t *testing.T) {
	t.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, b := range r.bad {
		t.Error(b)
	}
}

// follow runs a follower until the test ends or stop is called.
func follow(t *testing.T, s store.Store, to events.Receiver, replica string) (f *events.Follower, stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	f = events.New(events.Options{Source: s, Leases: s, Receiver: to, Replica: replica})
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := f.Run(ctx); err != nil {
			t.Error(err)
		}
	}()
	stop = func() { cancel(); <-done }
	t.Cleanup(stop)
	return f, stop
}

// begun waits until the receiver has its place in the trail.
func begun(t *testing.T, s store.Store, to events.Receiver) {
	t.Helper()
	eventually(t, func() error {
		if c, err := s.CopyCursor(t.Context(), to.Key()); err != nil || c == "" {
			return fmt.Errorf("no cursor: %w", err)
		}
		return nil
	})
}

func eventually(t *testing.T, try func() error) {
	t.Helper()
	var err error
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		if err = try(); err == nil {
			return
		}
	}
	t.Fatal(err)
}

func hook(t *testing.T, url string, names ...string) *events.Webhook {
	w := events.NewWebhook(events.WebhookOptions{URL: url, Secrets: []events.Secret{secret(t, secretText)}, Events: names})
	t.Cleanup(w.Close)
	return w
}

// A life of an account is told in order, whole, and with its revisions.
func TestLife(t *testing.T) {
	s, r := newStore(t), newReceiver(t, nil)
	w := hook(t, r.URL)
	change(t, s, "before", "account.signup", account.Creating) // is not told of: nobody was to be told then
	follow(t, s, w, "one")
	begun(t, s, w)
	for _, step := range []struct {
		op    string
		state account.State
	}{
		{"account.signup", account.Requested}, {"account.approve", account.Creating}, {"account.update", account.Creating}, {"member.add", account.Creating},
		{"member.invite", account.Creating}, {"member.accept", account.Creating}, {"member.remove", account.Creating},
	} {
		change(t, s, "orders", step.op, step.state)
	}
	id := accountID("orders")
	if err := s.MarkApplied(t.Context(), []store.Applied{{ID: id, Revision: 7, Issued: 1}}); err != nil {
		t.Fatal(err)
	}
	for _, target := range []string{id, "ACONFIGURED"} {
		block := store.Revocation{Revocation: policy.Revocation{ID: newID(), Kind: policy.Suspension, Target: policy.Target{Account: target}, At: time.Now()}, Reason: "unpaid", Actor: "local:root"}
		if _, _, err := s.Revoke(t.Context(), block, ""); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Lift(t.Context(), store.Lift{ID: block.ID, At: time.Now(), Actor: "local:root", Note: "paid"}); err != nil {
			t.Fatal(err)
		}
	}
	other := store.Revocation{Revocation: policy.Revocation{ID: newID(), Kind: policy.Block, Target: policy.Target{Principal: policy.Principal{Issuer: "i", Subject: "account " + id}}, At: time.Now()}, Reason: "suspension x", Actor: "a"}
	if _, _, err := s.Revoke(t.Context(), other, ""); err != nil {
		t.Fatal(err)
	}
	drift := store.AuditEntry{ID: newID(), At: time.Now(), Kind: store.AdminEntry, Outcome: "done", Reason: "foreign", Op: events.OpDrift, Account: "orders", Target: id}
	refused := store.AuditEntry{ID: newID(), At: time.Now(), Kind: store.AdminEntry, Outcome: "refused", Reason: "forbidden", Op: "account.delete", Account: "orders", Target: id, Revision: 1}
	if err := s.Record(t.Context(), []store.AuditEntry{drift, refused}); err != nil {
		t.Fatal(err)
	}
	change(t, s, "orders", "account.delete", account.Deleting)
	change(t, s, "orders", "account.resume", account.Deleting)
	change(t, s, "orders", "account.undelete", account.Creating)
	change(t, s, "orders", "account.delete", account.Deleted)
	want := []string{
		"created 1 requested", "approved 2 creating", "changed 3 creating", "member_added 4 creating", "member_invited 5 creating", "member_joined 6 creating", "member_removed 7 creating",
		"active 7 active", "suspended 11 deleted", "resumed 11 deleted", "drift 11 deleted", "deleting 8 deleting", "restored 10 creating", "deleted 11 deleted",
	}
	eventually(t, func() error {
		if n := len(r.received()); n < len(want) {
			return fmt.Errorf("%d events came", n)
		}
		return nil
	})
	var got []string
	for _, e := range r.received() {
		if e.Account != id || e.Name != "orders" || e.Time.IsZero() {
			t.Errorf("got %+v", e)
		}
		line := fmt.Sprintf("%s %d %s", e.Short(), e.Revision, e.Data.State)
		if e.Short() == events.Suspended || e.Short() == events.Resumed || e.Short() == events.Drift {
			line = e.Short() // its revision is that of the moment it is sent
		}
		got = append(got, line)
	}
	for i := range want {
		if word, _, _ := strings.Cut(want[i], " "); word == events.Suspended || word == events.Resumed || word == events.Drift {
			want[i] = word
		}
	}
	if !slices.Equal(got, want) {
		t.Errorf("got  %q\nwant %q", got, want)
	}
	r.check(t)
}

// A receiver that fails, redirects, hangs up and is down for a while gets every event in the end, those of an account in order.
func TestReceiverFails(t *testing.T) {
	s := newStore(t)
	r := newReceiver(t, func(n int, req *http.Request) int {
		if req.URL.Path != "/" {
			t.Errorf("a redirect was followed to %s", req.URL)
		}
		switch n {
		case 2:
			return http.StatusInternalServerError
		case 5:
			return http.StatusTemporaryRedirect
		case 7:
			panic(http.ErrAbortHandler)
		}
		return http.StatusOK
	})
	r.Config.ErrorLog = nil
	w := hook(t, r.URL+"/", "created", "changed")
	f, _ := follow(t, s, w, "one")
	begun(t, s, w)
	var want []string
	for _, name := range []string{"a", "b", "c"} {
		want = append(want, change(t, s, name, "account.signup", account.Creating))
		for range 4 {
			want = append(want, change(t, s, name, "account.update", account.Creating))
		}
		change(t, s, name, "member.add", account.Creating) // is not asked for
	}
	eventually(t, func() error { return all(r.received(), want) })
	inOrder(t, r.received())
	r.check(t)
	eventually(t, func() error {
		if st := f.Status(); st.Error != "" || !st.Sending {
			return fmt.Errorf("status %+v", st)
		}
		return nil
	})
}

func all(got []events.Event, want []string) error {
	have := map[string]bool{}
	for _, e := range got {
		have[e.ID] = true
	}
	for _, id := range want {
		if !have[id] {
			return fmt.Errorf("event %s of %d did not come", id, len(want))
		}
	}
	return nil
}

// inOrder checks that the first time that an event came was after those before it of its account.
func inOrder(t *testing.T, got []events.Event) {
	t.Helper()
	seen, last := map[string]bool{}, map[string]int64{}
	for _, e := range got {
		if seen[e.ID] {
			continue
		}
		if seen[e.ID] = true; e.Revision <= last[e.Account] {
			t.Errorf("revision %d of %s came after %d", e.Revision, e.Account, last[e.Account])
		}
		last[e.Account] = e.Revision
	}
}

// One replica sends at a time; another goes on where it ended, and what was done while none ran is told too.
func TestReplicas(t *testing.T) {
	s, r := newStore(t), newReceiver(t, nil)
	w := hook(t, r.URL)
	f, stop := follow(t, s, w, "one")
	begun(t, s, w)
	want := []string{change(t, s, "a", "account.signup", account.Creating)}
	eventually(t, func() error { return all(r.received(), want) })
	second, _ := follow(t, s, hook(t, r.URL), "two")
	if f.Status().Sending == second.Status().Sending {
		t.Error("both send, or none")
	}
	stop()
	want = append(want, change(t, s, "a", "account.update", account.Creating))
	eventually(t, func() error { return all(r.received(), want) })
	inOrder(t, r.received()) // the one that ended may not have noted its last one as sent
	eventually(t, func() error {
		if !second.Status().Sending {
			return fmt.Errorf("status %+v", second.Status())
		}
		return nil
	})
}

// A receiver that takes too long is asked again; one whose answer does not end is not read to the end.
func TestReceiverIsSlow(t *testing.T) {
	s := newStore(t)
	r := newReceiver(t, func(n int, req *http.Request) int {
		if n <= 2 {
			<-req.Context().Done()
		}
		return http.StatusOK
	})
	serve := r.Config.Handler
	r.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		serve.ServeHTTP(w, req)
		for chunk := make([]byte, 64<<10); ; {
			if _, err := w.Write(chunk); err != nil {
				return
			}
		}
	})
	w := events.NewWebhook(events.WebhookOptions{URL: r.URL, Secrets: []events.Secret{secret(t, secretText)}, Timeout: time.Second})
	t.Cleanup(w.Close)
	follow(t, s, w, "one")
	begun(t, s, w)
	want := []string{change(t, s, "a", "account.signup", account.Creating), change(t, s, "a", "account.update", account.Creating)}
	eventually(t, func() error { return all(r.received(), want) })
	inOrder(t, r.received())
}

// What nobody takes for three days is given up, so that the rest comes.
func TestGiveUp(t *testing.T) {
	s := newStore(t)
	var old string
	r := newReceiver(t, func(_ int, req *http.Request) int {
		if req.Header.Get("webhook-id") == old {
			return http.StatusBadRequest
		}
		return http.StatusOK
	})
	w := hook(t, r.URL)
	old = newID()
	e := store.AuditEntry{ID: old, At: time.Now().Add(-73 * time.Hour), Kind: store.AdminEntry, Outcome: "done", Op: "account.update", Account: "a", Target: "AA", Revision: 1, State: "active"}
	follow(t, s, w, "one")
	begun(t, s, w)
	if err := s.Record(t.Context(), []store.AuditEntry{e}); err != nil {
		t.Fatal(err)
	}
	want := []string{change(t, s, "b", "account.signup", account.Creating)}
	eventually(t, func() error { return all(r.received(), want) })
	if w.Lost() != 1 {
		t.Errorf("%d are given up", w.Lost())
	}
}

// The vector is that of the specification's own libraries.
func TestSignature(t *testing.T) {
	got := events.Sign([]events.Secret{secret(t, secretText)}, "msg_p5jXN8AQM9LWM0D4loKWxJek", time.Unix(1614265330, 0), []byte(`{"test": 2432232314}`))
	if want := "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	two := events.Sign([]events.Secret{secret(t, secretText), secret(t, "whsec_"+strings.Repeat("QUJD", 10))}, "msg", time.Unix(1, 0), nil)
	if first, second, ok := strings.Cut(two, " "); !ok || first == second || !strings.HasPrefix(second, "v1,") {
		t.Errorf("two secrets sign %q", two)
	}
	for _, bad := range []string{"", "whsec_", "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "whsec_c2hvcnQ=", "whsec_" + base64.StdEncoding.EncodeToString(make([]byte, 65)), "whsec_!"} {
		if _, err := events.ParseSecret(bad); err == nil || bad != "" && strings.Contains(err.Error(), bad) && len(bad) > 10 {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

// Every event has a way to be told.
func TestNames(t *testing.T) {
	s, r := newStore(t), newReceiver(t, nil)
	w := hook(t, r.URL)
	follow(t, s, w, "one")
	begun(t, s, w)
	told := map[string]bool{}
	for op, state := range map[string]account.State{
		"account.signup": account.Creating, "account.approve": account.Creating, "account.reject": account.Deleted, "account.rename": account.Active,
		"account.key.rotate": account.Active, "account.delete": account.Deleting, "account.undelete": account.Creating,
		"member.add": account.Active, "member.invite": account.Active, "member.accept": account.Active, "member.remove": account.Active, "unheard.of": account.Active,
	} {
		change(t, s, strings.ReplaceAll(op, ".", "-"), op, state)
	}
	eventually(t, func() error {
		if n := len(r.received()); n < 11 {
			return fmt.Errorf("%d came", n)
		}
		return nil
	})
	for _, e := range r.received() {
		told[e.Short()] = true
		if !slices.Contains(events.Names(), e.Short()) {
			t.Errorf("event %q is not listed", e.Type)
		}
	}
	if len(told) != 10 {
		t.Errorf("told of %v", slices.Sorted(maps.Keys(told)))
	}
}
