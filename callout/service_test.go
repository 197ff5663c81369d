package callout

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/gatehouse-nats/gatehouse/internal/setup"
	"github.com/gatehouse-nats/gatehouse/policy"
	"github.com/gatehouse-nats/gatehouse/policy/mint"
)

func TestLogin(t *testing.T) {
	t.Parallel()
	for _, xkey := range []bool{true, false} {
		t.Run(fmt.Sprintf("xkey=%t", xkey), func(t *testing.T) {
			t.Parallel()
			s := startSystem(t, withXKey(xkey))
			nc := s.login(t, nats.Token(secret+"alice"))
			if got := account(t, nc); got != s.App.ID {
				t.Errorf("account %s, want %s", got, s.App.ID)
			}
			cid, err := nc.GetClientID()
			if err != nil {
				t.Fatal(err)
			}
			e := s.records.only(t, policy.Allowed)
			if e.Outcome != "allowed" || e.Name != "corp-alice" || e.Issuer != issuer || e.Subject != "alice" || e.TokenID != "jti-alice" || e.SessionID != "sid-alice" ||
				time.Since(e.Issued) < time.Minute || time.Since(e.Issued) > time.Hour ||
				e.Account != "APP" || e.ServerID != nc.ConnectedServerId() || e.ServerName != nc.ConnectedServerName() || e.CID != cid ||
				!nkeys.IsValidPublicUserKey(e.UserKey) || e.Source != "127.0.0.1" || e.ConnType != "standard" || e.Rules != "v1" || e.Replica != "r1" ||
				strings.Join(e.Bindings, " ") != "developers" || strings.Join(e.Roles, " ") != "app" || !strings.HasPrefix(e.Client, "go ") {
				t.Errorf("entry %+v", e)
			}
			if len(e.Display) != 1 || e.Display["email"] != "alice@example.com" {
				t.Errorf("displayed claims %v", e.Display)
			}
			if life := time.Until(e.Expires); life > time.Hour || life < 53*time.Minute {
				t.Errorf("the credential ends in %s, want an hour less a tenth at most", life)
			}
			if !strings.Contains(s.log.String(), e.ID) {
				t.Error("the wide event lacks the request id")
			}
			// The permissions are those of the role.
			violations := make(chan error, 1)
			nc.SetErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) { violations <- err })
			if err := nc.Publish("other", nil); err != nil {
				t.Fatal(err)
			}
			if err := await(t, violations); !errors.Is(err, nats.ErrPermissionViolation) {
				t.Errorf("publish outside of the role: %v", err)
			}
			if s.ended(policy.Allowed, "corp") != 1 {
				t.Error("the login was not counted")
			}
		})
	}
}

// A refused client gets the same error for every reason; who reads the server's log or the
// record learns the reason, and the request id joins them.
func TestRefusal(t *testing.T) {
	t.Parallel()
	s := startSystem(t)
	witness := s.witness(t)
	reports, err := witness.SubscribeSync(rejectionSubject)
	if err != nil {
		t.Fatal(err)
	}
	if err := witness.Flush(); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		opts   []nats.Option
		want   policy.Reason
		issuer string // counted with it, when the signature verified
	}{
		"nothing":           {nil, policy.TokenMissing, ""},
		"not a token":       {[]nats.Option{nats.Token(secret + "unheard of")}, policy.TokenMalformed, ""},
		"not an envelope":   {[]nats.Option{nats.Token(`{"token":"` + secret)}, policy.EnvelopeMalformed, ""},
		"too large":         {[]nats.Option{nats.Token(strings.Repeat(secret, 2000))}, policy.TokenTooLarge, ""},
		"bad signature":     {[]nats.Option{nats.Token(secret + "forged")}, policy.SignatureInvalid, ""},
		"expired":           {[]nats.Option{nats.Token(secret + "expired")}, policy.TokenExpired, "corp"},
		"no binding":        {[]nats.Option{nats.Token(secret + "nobody")}, policy.NoBinding, "corp"},
		"several accounts":  {[]nats.Option{nats.Token(secret + "both")}, policy.AccountAmbiguous, "corp"},
		"another's account": {[]nats.Option{nats.Token(`{"token":"` + secret + `alice","account":"GUESTS"}`)}, policy.AccountNotGranted, "corp"},
		"connection type":   {[]nats.Option{nats.Token(secret + "browser")}, policy.ConnectionTypeRefused, "corp"},
	} {
		started := time.Now()
		if _, err := s.dial(t, c.opts...); !errors.Is(err, nats.ErrAuthorization) || err.Error() != "nats: Authorization Violation" {
			t.Errorf("%s: %v", name, err)
		}
		if d := time.Since(started); d > time.Second {
			t.Errorf("%s: the refusal took %s", name, d)
		}
		msg, err := reports.NextMsg(soon)
		if err != nil {
			t.Fatal(err)
		}
		var report struct{ Reason string }
		if err := json.Unmarshal(msg.Data, &report); err != nil {
			t.Fatal(err)
		}
		e := s.records.only(t, c.want)
		if e.Outcome != "refused" || e.Detail == "" || e.Source != "127.0.0.1" || (e.Name == "") != (c.issuer == "") {
			t.Errorf("%s: entry %+v", name, e)
		}
		if want := "Auth callout service returned an error: refused, see request " + e.ID; report.Reason != want {
			t.Errorf("%s: the server reports %q, want %q", name, report.Reason, want)
		}
		if s.ended(c.want, c.issuer) != 1 {
			t.Errorf("%s: not counted as %s", name, c.want)
		}
	}
	eventually(t, func() error {
		return check(s.rejections(refusedByUs) == 10, "%d refusals are counted as reported by the server, want 10", s.rejections(refusedByUs))
	})
	if n := s.rejections(rejected) + s.rejections(timedOut); n != 0 {
		t.Errorf("%d of them are counted as something else", n)
	}
}

// The ways in which clients can send a token and name an account.
func TestTokenAndAccount(t *testing.T) {
	t.Parallel()
	s := startSystem(t)
	app, guests := s.App.ID, s.Lobby.ID
	envelope := func(account string) string { return fmt.Sprintf(`{"token":"%sboth","account":%q}`, secret, account) }
	for name, c := range map[string]struct {
		opts []nats.Option
		want string
	}{
		"token":                              {[]nats.Option{nats.Token(secret + "alice")}, app},
		"password":                           {[]nats.Option{nats.UserInfo("", secret+"alice")}, app},
		"any user":                           {[]nats.Option{nats.UserInfo("somebody", secret+"alice")}, app},
		"user names an account":              {[]nats.Option{nats.UserInfo("account:GUESTS", secret+"both")}, guests},
		"user names the other":               {[]nats.Option{nats.UserInfo("account:APP", secret+"both")}, app},
		"envelope names an account":          {[]nats.Option{nats.Token(envelope("GUESTS"))}, guests},
		"envelope as password":               {[]nats.Option{nats.UserInfo("x", envelope("GUESTS"))}, guests},
		"envelope wins":                      {[]nats.Option{nats.UserInfo("account:APP", envelope("GUESTS"))}, guests},
		"sentinel of one's own":              {[]nats.Option{nats.UserCredentialBytes([]byte(s.SentinelCreds.Reveal())), nats.Token(secret + "alice")}, app},
		"token before password":              {[]nats.Option{nats.UserInfo("", secret+"both"), nats.Token(secret + "alice")}, app},
		"token before password, the account": {[]nats.Option{nats.UserInfo("account:GUESTS", secret+"alice"), nats.Token(secret + "both")}, guests},
	} {
		nc, err := s.dial(t, c.opts...)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if got := account(t, nc); got != c.want {
			t.Errorf("%s: account %s, want %s", name, got, c.want)
		}
	}
}

func TestConnectionTypes(t *testing.T) {
	t.Parallel()
	s := startSystem(t)
	if _, err := dialURL(t, s.server.WebSocketURL(), nats.Token(secret+"browser")); err != nil {
		t.Fatal(err)
	}
	if e := s.records.only(t, policy.Allowed); e.ConnType != string(policy.WebSocket) {
		t.Errorf("connection type %q", e.ConnType)
	}
	for _, c := range []struct {
		kind, via string
		want      policy.ConnectionType
	}{
		{"Client", "nats", policy.Standard}, {"Client", "websocket", policy.WebSocket}, {"Client", "mqtt", policy.MQTT},
		{"Leafnode", "", policy.LeafNode}, {"Leafnode", "websocket", policy.LeafNode},
	} {
		claims := new(request)
		claims.Client.Kind, claims.Client.Type = c.kind, c.via
		if got := connection(claims).Type; got != c.want {
			t.Errorf("%s over %q is %s, want %s", c.kind, c.via, got, c.want)
		}
	}
}

// Nobody is admitted without a record, and everybody is again once there can be one.
func TestRecorderFails(t *testing.T) {
	t.Parallel()
	s, f := member(t, withWorkers(1))
	s.records.breakDown(true)
	f.send(t, f.request(t, secret+"alice", nil))
	s.awaitEnd(t, policy.RecordUnavailable, "corp", 1)
	f.send(t, f.request(t, secret+"nobody", nil)) // not even a refusal
	s.awaitEnd(t, policy.RecordUnavailable, "corp", 2)
	f.send(t, f.request(t, secret+"forged", nil))
	s.awaitEnd(t, policy.RecordUnavailable, "", 1)
	f.silence(t, "no record")
	if !strings.Contains(s.log.String(), errSpool.Error()) {
		t.Error("the log does not say why")
	}
	s.records.breakDown(false)
	if f.answered(t, secret+"alice").Jwt == "" {
		t.Error("not admitted after the spool was mended")
	}
	if n := len(s.records.of(policy.Allowed)); n != 1 {
		t.Errorf("%d entries of admitted logins, want the one that was answered", n)
	}
}

// Without a state, or with one that nothing has confirmed for too long, nobody is answered.
func TestStateMissingOrStale(t *testing.T) {
	t.Parallel()
	s, f := member(t, withWorkers(1))
	fresh := s.state.Load()
	stale := *fresh
	stale.FreshUntil = time.Now().Add(-time.Second)
	for i, state := range []*policy.Snapshot{nil, &stale} {
		s.state.Store(state)
		f.send(t, f.request(t, secret+"alice", nil))
		s.awaitEnd(t, policy.SnapshotStale, "corp", i+1)
		f.silence(t, "no state")
	}
	confirmed := *fresh
	confirmed.FreshUntil = time.Now().Add(time.Hour)
	s.state.Store(&confirmed)
	if f.answered(t, secret+"alice").Jwt == "" {
		t.Error("not admitted with a fresh state")
	}
}

// A block is consulted in every decision.
func TestBlocked(t *testing.T) {
	t.Parallel()
	s, f := member(t, withWorkers(1))
	open := s.state.Load()
	blocked := *open
	blocked.Revocations = policy.NewRevocations([]policy.Revocation{{
		ID: "b1", Kind: policy.Block, Target: policy.Target{Principal: policy.Principal{Issuer: issuer, Subject: "alice"}}, At: time.Now(),
	}})
	s.state.Store(&blocked)
	if got := f.answered(t, secret+"alice"); got.Jwt != "" || !strings.HasPrefix(got.Error, "refused, see request ") {
		t.Errorf("a blocked identity got %+v", got)
	}
	s.state.Store(open)
	if f.answered(t, secret+"alice").Jwt == "" {
		t.Error("not admitted after the block was lifted")
	}
}

// A bug in one login ends that login only.
func TestPanic(t *testing.T) {
	t.Parallel()
	s, f := member(t, withWorkers(1))
	for i := range 3 {
		f.send(t, f.request(t, secret+"panic", nil))
		s.awaitEnd(t, policy.Internal, "", i+1)
		f.silence(t, "panic")
		if f.answered(t, secret+"alice").Jwt == "" {
			t.Error("not admitted after a panic")
		}
	}
	if !strings.Contains(s.log.String(), "made the service panic") {
		t.Error("the log does not tell")
	}
	if n := s.inFlight.Load(); n != 0 {
		t.Errorf("%d logins are in flight", n)
	}
}

// A replica whose clock is off leaves the queue group and comes back.
// A role that is limited to a queue group must not narrow what another role gives.
func TestQueueGroupsOfSeveralRoles(t *testing.T) {
	t.Parallel()
	s := startSystem(t)
	rules := s.rules(t)
	workers, err := policy.ParseSubscription("app.> workers")
	if err != nil {
		t.Fatal(err)
	}
	first := rules.Bindings["corp"][0]
	second := *first
	second.Name, second.Grant.Role = "workers", &policy.Role{Name: "worker", Subscribe: policy.PermissionRules{Allow: []policy.Template{workers}}}
	for name, c := range map[string]struct {
		bindings []*policy.Binding
		queues   map[string]bool // whether the group may be joined
	}{
		"both":    {[]*policy.Binding{first, &second}, map[string]bool{"": true, "workers": true, "others": true}},
		"workers": {[]*policy.Binding{&second}, map[string]bool{"": false, "workers": true, "others": false}},
	} {
		changed := *rules
		changed.Bindings = map[string][]*policy.Binding{"corp": c.bindings}
		s.state.Store(&policy.Snapshot{Rules: &changed})
		for queue, want := range c.queues {
			nc := s.login(t, nats.Token(secret+"alice"), nats.ErrorHandler(func(*nats.Conn, *nats.Subscription, error) {}))
			if _, err := nc.QueueSubscribeSync("app.jobs", queue); err != nil {
				t.Fatal(err)
			}
			// A violation arrives before the answer to the flush.
			if err := nc.Flush(); err != nil {
				t.Fatal(err)
			}
			if refused := errors.Is(nc.LastError(), nats.ErrPermissionViolation); refused == want {
				t.Errorf("%s: group %q: refused %t: %v", name, queue, refused, nc.LastError())
			}
			nc.Close()
		}
	}
}

// Configurations that lead there are refused when they are loaded; this is the second lock.
func TestNobodyIsPlacedInProtectedAccounts(t *testing.T) {
	t.Parallel()
	s := startSystem(t)
	for _, id := range []string{s.Callout.ID, s.Set.System.ID} {
		rules := s.rules(t)
		rules.Accounts["APP"].ID = id
		s.state.Store(&policy.Snapshot{Rules: rules})
		if _, err := s.dial(t, nats.Token(secret+"alice")); !errors.Is(err, nats.ErrAuthorization) {
			t.Errorf("account %s: %v", id, err)
		}
	}
	for _, e := range s.records.all() {
		if e.Reason != string(policy.AccountNotGranted) || !strings.Contains(e.Detail, "nobody is placed") {
			t.Errorf("entry %+v", e)
		}
	}
}

func TestServe(t *testing.T) {
	t.Parallel()
	s, f := member(t, withWorkers(1))
	flush := func() {
		for _, nc := range s.Conns {
			if err := nc.Flush(); err != nil {
				t.Fatal(err)
			}
		}
	}
	for range 3 {
		if f.answered(t, secret+"alice").Jwt == "" {
			t.Fatal("not admitted")
		}
		for range 2 { // twice is once
			if err := s.Serve(false); err != nil {
				t.Fatal(err)
			}
		}
		if s.Serving() {
			t.Error("still serving")
		}
		flush()
		if _, err := f.nc.RequestMsg(f.request(t, secret+"alice", nil), soon); !errors.Is(err, nats.ErrNoResponders) {
			t.Errorf("a request to nobody: %v, want no responders", err)
		}
		for range 2 {
			if err := s.Serve(true); err != nil {
				t.Fatal(err)
			}
		}
		flush()
	}
	s.stop()
	if err := s.Serve(true); err != nil || s.Serving() {
		t.Errorf("after the end: serving %t, %v", s.Serving(), err)
	}
}

// An account that is not ready on the server is not a reason to refuse anybody for good.
func TestAccountNotReady(t *testing.T) {
	t.Parallel()
	stub := &serverTable{}
	_, stub.extra = pair(t, nkeys.PrefixByteServer)
	var answer struct {
		key string
		r   *policy.Refusal
	}
	stub.signingKey = func(*policy.Account) (string, *policy.Refusal) { return answer.key, answer.r }
	s := startSystem(t, withServers(stub), withWorkers(1))
	f := newForger(t, s)
	f.identity, f.id = pair(t, nkeys.PrefixByteServer)
	stub.extra = f.id
	answer.r = policy.Refuse(policy.AccountUnready, "not applied")
	f.send(t, f.request(t, secret+"alice", nil))
	s.awaitEnd(t, policy.AccountUnready, "corp", 1)
	f.silence(t, "account not ready")
	answer.key, answer.r = otherAccount, nil // confirmed, but nobody gave us the seed
	f.send(t, f.request(t, secret+"alice", nil))
	s.awaitEnd(t, policy.AccountUnready, "corp", 2)
	f.silence(t, "key not in the keyring")
	answer.r = policy.Refuse(policy.AccountExpired, "expired")
	if got := f.answered(t, secret+"alice"); got.Error == "" {
		t.Errorf("an expired account: %+v, want a refusal", got)
	}
}

// When a server does not accept an answer, only its report tells: it is counted, logged, and
// the resolver is told to look again.
func TestServerRejectsAnswer(t *testing.T) {
	t.Parallel()
	stray, seed := strayKey(t)
	stub := &serverTable{signingKey: func(*policy.Account) (string, *policy.Refusal) { return stray.Public(), nil }}
	told := make(chan struct{}, 1)
	s := startSystem(t, withServers(stub), func(_ *system, _ *setup.Options, o *Options) {
		o.Keys = func() *mint.Keyring { return mint.NewKeyring(stray) }
		o.OnRejected = func() { told <- struct{}{} }
	})
	if _, err := s.dial(t, nats.Token(secret+"alice")); !errors.Is(err, nats.ErrAuthorization) {
		t.Errorf("a user of a key that the account does not have: %v", err)
	}
	await(t, told)
	eventually(t, func() error {
		return check(strings.Contains(s.log.String(), "is not known"), "the log does not give the server's reason:\n%s", s.log)
	})
	if s.rejections(rejected) != 1 || s.rejections(refusedByUs) != 0 {
		t.Errorf("%d rejections, %d refusals", s.rejections(rejected), s.rejections(refusedByUs))
	}
	if strings.Contains(s.log.String(), string(seed)) {
		t.Error("a seed was logged")
	}
}

// strayKey returns a key that no account has.
func strayKey(t *testing.T) (*mint.Key, []byte) {
	t.Helper()
	identity, _ := pair(t, nkeys.PrefixByteAccount)
	seed, err := identity.Seed()
	if err != nil {
		t.Fatal(err)
	}
	k, err := mint.NewKey(seed)
	if err != nil {
		t.Fatal(err)
	}
	return k, seed
}

// Run ends when the logins that have arrived are answered: one that waits for keys, one in a
// worker's hands, and one that no worker has taken yet.
func TestShutdownFinishesLogins(t *testing.T) {
	t.Parallel()
	s, f := member(t, withWorkers(1))
	keys, entered, release := make(chan struct{}), make(chan struct{}), make(chan struct{})
	s.tokens.set(secret+"waiting", func() (*policy.Identity, *policy.Refusal, <-chan struct{}) {
		select {
		case <-keys:
			return valid("alice", "dev")()
		default:
			return nil, nil, keys
		}
	})
	s.tokens.set(secret+"slow", func() (*policy.Identity, *policy.Refusal, <-chan struct{}) {
		close(entered)
		<-release
		return valid("alice", "dev")()
	})
	f.send(t, f.request(t, secret+"waiting", nil))
	eventually(t, func() error { return check(s.forKeys.Load() == 1, "the login does not wait") })
	f.send(t, f.request(t, secret+"slow", nil))
	await(t, entered)
	f.send(t, f.request(t, secret+"alice", nil))
	eventually(t, func() error { return check(s.inFlight.Load() == 3, "%d logins are in flight", s.inFlight.Load()) })
	stopped := make(chan struct{})
	go func() {
		s.stop()
		close(stopped)
	}()
	eventually(t, func() error { return check(!s.Serving(), "the service serves on") })
	close(release)
	for range 2 {
		if got := f.next(t); got.Jwt == "" {
			t.Errorf("a login that had arrived got %+v", got)
		}
	}
	select {
	case <-s.Service.ended:
		t.Error("the service gave up a login that waits and whose client does too")
	case <-time.After(50 * time.Millisecond):
	}
	close(keys)
	if got := f.next(t); got.Jwt == "" {
		t.Errorf("the login that waited got %+v", got)
	}
	await(t, stopped)
	if n := len(s.records.of(policy.Allowed)); n != 3 {
		t.Errorf("%d entries, want 3", n)
	}
}

// Logins that nothing can finish do not keep Run from ending.
func TestShutdownDoesNotWaitForEver(t *testing.T) {
	t.Parallel()
	s, f := member(t, withWorkers(1))
	s.tokens.set(secret+"waiting", func() (*policy.Identity, *policy.Refusal, <-chan struct{}) { return nil, nil, make(chan struct{}) })
	f.send(t, f.request(t, secret+"waiting", nil))
	eventually(t, func() error { return check(s.forKeys.Load() == 1, "the login does not wait") })
	started := time.Now()
	s.stop()
	if d := time.Since(started); d > 2*patience {
		t.Errorf("Run took %s to end", d)
	}
	f.silence(t, "shutdown")
	if n := s.inFlight.Load(); n != 0 {
		t.Errorf("%d logins are in flight after the end", n)
	}
	if n := len(s.records.of(policy.KeysUnavailable)) + len(s.records.of(policy.Overloaded)); n != 1 {
		t.Errorf("%d entries of the login that waited", n)
	}
}

// Requests of a storm are spread over the connections, and all are answered.
func TestManyLogins(t *testing.T) {
	t.Parallel()
	s, f := member(t)
	const n = 200
	for range n {
		f.send(t, f.request(t, secret+"alice", nil))
	}
	for range n {
		if f.next(t).Jwt == "" {
			t.Fatal("refused")
		}
	}
	if got := len(s.records.of(policy.Allowed)); got != n {
		t.Errorf("%d entries for %d logins", got, n)
	}
	for i, nc := range s.Conns {
		if nc.Stats().InMsgs == 0 {
			t.Errorf("connection %d got no request", i)
		}
	}
}

// Run says why it cannot serve, and leaves nothing behind.
func TestRunWithoutConnection(t *testing.T) {
	t.Parallel()
	s := startSystem(t)
	s.stop()
	for _, nc := range s.Conns {
		nc.Close()
	}
	o := s.Options
	o.Metrics = NewMetrics(prometheus.NewRegistry())
	if err := New(o).Run(t.Context()); !errors.Is(err, nats.ErrConnectionClosed) {
		t.Errorf("Run on closed connections: %v", err)
	}
}
