package resolver

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"

	"github.com/gatehouse-nats/gatehouse/policy"
)

// listed reports whether the server is among those known, without a search.
func listed(r *Resolver, id string) bool {
	for _, s := range r.Servers() {
		if s.ID == id {
			return true
		}
	}
	return false
}

func TestKnowsItsServer(t *testing.T) {
	t.Parallel()
	s := startSystem(t, 1)
	r := s.run(t, Options{Interval: never}, s.need(t))
	ready(t, r)
	server := s.admin.ConnectedServerId()
	list := r.Servers()
	if len(list) != 1 || list[0].ID != server || list[0].Name != s.admin.ConnectedServerName() || list[0].Version == "" || list[0].Seen.IsZero() {
		t.Fatalf("servers %+v, want %s", list, server)
	}
	if ok, pending := r.Known(server); !ok || pending != nil {
		t.Errorf("known %t, pending %v", ok, pending)
	}
	// The clock is the same, so all of the offset is the error of measuring it.
	if r.Offset(server).Abs() > time.Second || r.Skew() != r.Offset(server) {
		t.Errorf("offset %s, skew %s", r.Offset(server), r.Skew())
	}
	if key, refusal := r.SigningKey(server, s.app, "", time.Now()); key != s.app.SigningKeys[0] || refusal != nil {
		t.Errorf("signing key %q, %v", key, refusal)
	}
	for name, ask := range map[string]struct {
		server  string
		account *policy.Account
	}{
		"a server that is not known":        {newServerKey(t), s.app},
		"an account that is not configured": {server, &policy.Account{Name: "LOBBY", ID: s.Lobby.ID, SigningKeys: []string{public(t, s.Lobby.SigningKey)}}},
	} {
		if key, refusal := r.SigningKey(ask.server, ask.account, "", time.Now()); key != "" || refusal == nil || refusal.Reason != policy.AccountUnready {
			t.Errorf("%s: signing key %q, %v", name, key, refusal)
		}
	}
}

// What a resolver says before it has heard of anything.
func TestKnowsNothingAtFirst(t *testing.T) {
	t.Parallel()
	r := New(Options{})
	if err := r.Ready(); err == nil || !strings.Contains(err.Error(), "no server is known") {
		t.Errorf("ready: %v", err)
	}
	if r.Skew() != 0 || r.Offset("N") != 0 || len(r.Servers()) != 0 {
		t.Error("something is known before Run")
	}
}

// An id that no server has is searched for once, and not again for a while: whoever sends
// forged requests must not be able to make every server work.
func TestForgedServer(t *testing.T) {
	t.Parallel()
	s := startSystem(t, 1)
	var clock shiftedClock
	r := s.run(t, Options{Interval: never, Now: clock.now}, nil)
	ready(t, r)
	forged := newServerKey(t)
	var asked atomic.Int64
	_, err := s.admin.Subscribe("$SYS.REQ.SERVER."+forged+".STATSZ", func(msg *nats.Msg) {
		asked.Add(1)
		// Somebody who answers for another server does not make this one known.
		_ = msg.Respond(fmt.Appendf(nil, `{"server":{"id":%q}}`, s.admin.ConnectedServerId()))
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.admin.Flush(); err != nil {
		t.Fatal(err)
	}
	ok, pending := r.Known(forged)
	if ok || pending == nil {
		t.Fatalf("known %t, pending %v: want a search", ok, pending)
	}
	if again, same := r.Known(forged); again || same != pending {
		t.Error("a second caller waits for another search")
	}
	await(t, pending)
	for range 100 {
		if ok, pending := r.Known(forged); ok || pending != nil {
			t.Fatalf("known %t, pending %v within the negative life", ok, pending)
		}
	}
	if n := asked.Load(); n != 2 {
		t.Errorf("%d requests, want one and one retry", n)
	}
	clock.advance(negativeLife + time.Millisecond)
	if known(t, r, forged) {
		t.Error("a forged id became known")
	}
	if n := asked.Load(); n != 4 {
		t.Errorf("%d requests after the negative life, want a second search", n)
	}
}

// With nobody who would answer for it, an unknown id is over at once: the server says so.
func TestAbsentServerIsQuick(t *testing.T) {
	t.Parallel()
	s := startSystem(t, 1)
	r := s.run(t, Options{Interval: never}, nil)
	ready(t, r)
	started := time.Now()
	for range 20 {
		if known(t, r, newServerKey(t)) {
			t.Fatal("a forged id is known")
		}
	}
	if d := time.Since(started); d > requestTimeout*10 {
		t.Errorf("20 searches took %s: they waited for answers", d)
	}
}

// What is not an id of a server never gets into a subject.
func TestKnownTakesIdsOnly(t *testing.T) {
	t.Parallel()
	s := startSystem(t, 1)
	r := s.run(t, Options{Interval: never}, nil)
	ready(t, r)
	key := newServerKey(t)
	for _, id := range []string{"", "*", ">", "PING", "N", key + ".STATSZ", key + "." + key, "*." + key, key + " ", key + "\r\n", strings.ToLower(key), s.App.ID, strings.Repeat("N", 1<<20)} {
		if ok, pending := r.Known(id); ok || pending != nil {
			t.Errorf("%.40q: known %t, pending %v", id, ok, pending)
		}
	}
}

// A flood of forged ids is bounded, and what the servers themselves say is heard all the while.
func TestFloodOfForgedServers(t *testing.T) {
	t.Parallel()
	s := startSystem(t, 1)
	var clock shiftedClock
	r := New(Options{Conn: s.connect(t, s.SystemCreds), Now: clock.now})
	r.mu.Lock()
	for i := range maxNegative {
		r.negative[fmt.Sprint(i)] = r.now().Add(negativeLife)
	}
	r.mu.Unlock()
	if ok, pending := r.Known(newServerKey(t)); ok || pending != nil {
		t.Errorf("known %t, pending %v: the searches are not bounded", ok, pending)
	}
	clock.advance(negativeLife + time.Millisecond)
	if err := r.round(t.Context()); err != nil {
		t.Fatal(err)
	}
	if !listed(r, s.admin.ConnectedServerId()) {
		t.Error("the server that answered was not noted")
	}
	if len(r.negative) != 0 {
		t.Errorf("%d ids are remembered past their life", len(r.negative))
	}
	r.end()
	r.searches.Wait()
}

// Searches under way count too.
func TestSearchesUnderWayAreBounded(t *testing.T) {
	t.Parallel()
	s := startSystem(t, 1)
	r := New(Options{Conn: s.connect(t, s.SystemCreds)})
	for i := range maxNegative {
		r.pending[fmt.Sprint(i)] = make(chan struct{})
	}
	if ok, pending := r.Known(newServerKey(t)); ok || pending != nil {
		t.Errorf("known %t, pending %v", ok, pending)
	}
}

// A server that restarts has a new id. The first login that it sends finds it, and by the
// time that it is known its accounts have been read back.
func TestRestartedServerIsFound(t *testing.T) {
	t.Parallel()
	s := startSystem(t, 1)
	r := s.run(t, Options{Interval: never}, s.need(t))
	ready(t, r)
	before := s.admin.ConnectedServerId()
	s.servers[0].Restart()
	after := id(t, s.servers[0], s.EmergencySystemCreds)
	if after == before {
		t.Fatal("the server kept its id")
	}
	eventually(t, func() error { return check(r.nc.IsConnected(), "the resolver's connection does not come back") })
	if !known(t, r, after) {
		t.Fatal("the server is not found by its new id")
	}
	if key, refusal := r.SigningKey(after, s.app, "", time.Now()); key == "" {
		t.Errorf("known before its accounts were read back: %v", refusal)
	}
}

// While its accounts are still being read back, a server that was found is not known yet.
func TestServerIsPendingUntilReadBack(t *testing.T) {
	t.Parallel()
	r := New(Options{})
	key, wait := newServerKey(t), make(chan struct{})
	r.servers[key], r.pending[key] = &server{}, wait
	if ok, pending := r.Known(key); ok || pending != wait {
		t.Errorf("known %t, pending %v while it is read", ok, pending)
	}
	delete(r.pending, key)
	if ok, pending := r.Known(key); !ok || pending != nil {
		t.Errorf("known %t, pending %v after that", ok, pending)
	}
}

func TestSilentServerIsForgotten(t *testing.T) {
	t.Parallel()
	r := New(Options{})
	var a statsz
	a.Server.ID, a.Server.Name = newServerKey(t), "s1"
	r.servers[a.Server.ID] = &server{Server: Server{ID: a.Server.ID}, accounts: map[string]AccountState{}}
	for range forgetAfter {
		r.observe(nil)
	}
	if !listed(r, a.Server.ID) {
		t.Fatal("forgotten too early")
	}
	r.observe([]statsz{a}) // a sign of life counts for all the silence before
	for range forgetAfter {
		r.observe(nil)
	}
	if !listed(r, a.Server.ID) {
		t.Fatal("forgotten although it answered")
	}
	r.observe(nil)
	if listed(r, a.Server.ID) {
		t.Error("never forgotten")
	}
}

// A server loads an account only when something needs it, and Gatehouse needs it before
// the first login.
func TestStoredAccountIsLoaded(t *testing.T) {
	t.Parallel()
	s := startSystem(t, 1)
	fresh := newAccount(t, "FRESH")
	s.push(t, fresh, nil)
	if answer := s.ask(t, "$SYS.REQ.ACCOUNT."+fresh.ID+".INFO", "")[0]; !strings.Contains(string(answer), "does not exist") {
		t.Fatalf("the account is loaded already, so that this test shows nothing: %s", answer)
	}
	r := s.run(t, Options{Interval: never}, map[string]Requirement{fresh.ID: {Name: fresh.Name}})
	ready(t, r)
	if answer := s.ask(t, "$SYS.REQ.ACCOUNT."+fresh.ID+".INFO", "")[0]; strings.Contains(string(answer), "does not exist") {
		t.Errorf("ready without the account: %s", answer)
	}
}

func TestMissingAccountIsNamed(t *testing.T) {
	t.Parallel()
	s := startSystem(t, 1)
	absent := newAccount(t, "ABSENT")
	need := maps.Clone(s.need(t))
	need[absent.ID] = Requirement{Name: absent.Name}
	r := s.run(t, Options{Interval: never}, need)
	eventually(t, func() error {
		err := r.Ready()
		ok := err != nil && strings.Contains(err.Error(), "account ABSENT: no server has its claims: push them") &&
			strings.Contains(err.Error(), "server "+s.admin.ConnectedServerName())
		return check(ok, "ready: %v", err)
	})
	server := s.admin.ConnectedServerId()
	if !known(t, r, server) {
		t.Fatal("the server is not known")
	}
	if strings.Contains(r.Ready().Error(), s.App.Name) {
		t.Errorf("accounts that are there are named too: %v", r.Ready())
	}
	if key, refusal := r.SigningKey(server, s.app, "", time.Now()); key == "" {
		t.Errorf("logins into other accounts suffer: %v", refusal)
	}
	if _, refusal := r.SigningKey(server, &policy.Account{Name: "ABSENT", ID: absent.ID, SigningKeys: []string{absent.ID}}, "", time.Now()); refusal == nil || refusal.Reason != policy.AccountUnready {
		t.Errorf("login into the absent account: %v", refusal)
	}
	s.push(t, absent, nil)
	ready(t, r)
	// What is not needed any more is forgotten.
	r.SetAccounts(s.need(t))
	if _, refusal := r.SigningKey(server, &policy.Account{Name: "ABSENT", ID: absent.ID, SigningKeys: []string{absent.ID}}, "", time.Now()); refusal == nil {
		t.Error("the state of an account that is not configured any more was kept")
	}
}

// Accounts that are stored nowhere do not keep the first logins into the others waiting.
func TestMissingAccountsDelayNobody(t *testing.T) {
	t.Parallel()
	s := startSystem(t, 1)
	need := s.need(t)
	for i := range 100 {
		absent := newAccount(t, fmt.Sprint("ABSENT", i))
		need[absent.ID] = Requirement{Name: absent.Name}
	}
	started := time.Now()
	r := s.run(t, Options{Interval: never}, need)
	server := s.admin.ConnectedServerId()
	eventually(t, func() error { return check(listed(r, server), "the server is not found") })
	if !known(t, r, server) {
		t.Fatal("the server is not known")
	}
	if key, refusal := r.SigningKey(server, s.app, "", time.Now()); key == "" {
		t.Errorf("known before its accounts were read back: %v", refusal)
	}
	if d := time.Since(started); d > readTimeout {
		t.Errorf("the read-back took %s", d)
	}
}

// Whoever pushes claims that Gatehouse cannot work with, it is noticed without waiting for a
// round, and so is the remedy.
func TestPushedClaimsAreSeen(t *testing.T) {
	t.Parallel()
	s := startSystem(t, 1)
	r := s.run(t, Options{Interval: never}, s.need(t))
	ready(t, r)
	server := s.admin.ConnectedServerId()
	for _, c := range []struct {
		name    string
		callout bool
		edit    func(*jwt.AccountClaims)
		want    string
		login   policy.Reason // into the application account
	}{
		{name: "signing key removed", edit: func(c *jwt.AccountClaims) { clear(c.SigningKeys) }, want: "none of the configured signing keys", login: policy.AccountUnready},
		{name: "signing key scoped", edit: func(c *jwt.AccountClaims) {
			c.SigningKeys.AddScopedSigner(&jwt.UserScope{Kind: jwt.UserScopeType, Key: s.app.SigningKeys[0], Role: "r"})
		}, want: "none of the configured signing keys", login: policy.AccountUnready},
		{name: "expired", edit: func(c *jwt.AccountClaims) { c.Expires = time.Now().Add(2 * time.Second).Unix() }, want: "expired", login: policy.AccountExpired},
		{name: "xkey removed", callout: true, edit: func(c *jwt.AccountClaims) { c.Authorization.XKey = "" }, want: "not the configured xkey"},
		{name: "another xkey", callout: true, edit: func(c *jwt.AccountClaims) { c.Authorization.XKey = newXKey(t) }, want: "not the configured xkey"},
		{name: "target not allowed", callout: true, edit: func(c *jwt.AccountClaims) { c.Authorization.AllowedAccounts = jwt.StringList{s.Lobby.ID} }, want: "allowed_accounts do not hold " + s.App.ID},
		{name: "no callout", callout: true, edit: func(c *jwt.AccountClaims) { c.Authorization = jwt.ExternalAuthorization{} }, want: "no auth_users"},
	} {
		account, name := s.App, s.App.Name
		if c.callout {
			account, name = s.Callout, "the callout account"
		}
		s.push(t, account, c.edit)
		eventually(t, func() error {
			err := r.Ready()
			ok := err != nil && strings.Contains(err.Error(), c.want) && strings.Contains(err.Error(), "account "+name)
			return check(ok, "%s: ready: %v", c.name, err)
		})
		if _, refusal := r.SigningKey(server, s.app, "", time.Now()); c.login != "" && (refusal == nil || refusal.Reason != c.login) {
			t.Errorf("%s: %v, want %s", c.name, refusal, c.login)
		}
		s.push(t, account, nil)
		ready(t, r)
	}
}

func newXKey(t *testing.T) string {
	t.Helper()
	kp, err := nkeys.CreateCurveKeys()
	if err != nil {
		t.Fatal(err)
	}
	key, err := kp.PublicKey()
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// With the system connection down everything that is known stays valid, and nothing new is.
func TestSystemConnectionDown(t *testing.T) {
	t.Parallel()
	s := startSystem(t, 1)
	var line cuttable
	r := s.run(t, Options{Interval: never}, s.need(t), nats.SetCustomDialer(&line))
	ready(t, r)
	server := s.admin.ConnectedServerId()
	line.cut()
	eventually(t, func() error { return check(!r.nc.IsConnected(), "the connection is still there") })
	r.Wake()
	eventually(t, func() error {
		err := r.Ready()
		return check(err != nil && strings.Contains(err.Error(), "the system account does not answer"), "ready: %v", err)
	})
	if ok, pending := r.Known(server); !ok || pending != nil {
		t.Errorf("the known server: known %t, pending %v", ok, pending)
	}
	if key, refusal := r.SigningKey(server, s.app, "", time.Now()); key == "" {
		t.Errorf("the account that was read back: %v", refusal)
	}
	if ok, pending := r.Known(newServerKey(t)); ok || pending != nil {
		t.Errorf("an unknown id: known %t, pending %v", ok, pending)
	}
	for range 2 * forgetAfter { // however often it is tried
		_ = r.round(t.Context())
	}
	if !listed(r, server) {
		t.Error("the server is forgotten because we cannot ask it")
	}
	line.mend()
	ready(t, r)
}

// The offset is measured with the clock that decisions use.
func TestSkew(t *testing.T) {
	t.Parallel()
	s := startSystem(t, 1)
	var clock shiftedClock
	clock.advance(-90 * time.Second)
	r := s.run(t, Options{Interval: never, Now: clock.now}, s.need(t))
	ready(t, r)
	server := s.admin.ConnectedServerId()
	near := func(want time.Duration) error {
		off := r.Offset(server) - want
		return check(off.Abs() < 2*time.Second && r.Skew() == r.Offset(server), "offset %s, skew %s, want about %s", r.Offset(server), r.Skew(), want)
	}
	if err := near(90 * time.Second); err != nil {
		t.Error(err)
	}
	// Claims end by the server's clock, not by the one here.
	s.push(t, s.App, func(c *jwt.AccountClaims) { c.Expires = time.Now().Add(time.Minute).Unix() })
	eventually(t, func() error {
		_, refusal := r.SigningKey(server, s.app, "", clock.now().Add(time.Minute))
		return check(refusal != nil && refusal.Reason == policy.AccountExpired, "claims that end in a minute: %v", refusal)
	})
	if key, refusal := r.SigningKey(server, s.app, "", clock.now()); key == "" {
		t.Errorf("claims that have not ended: %v", refusal)
	}
	// Our clock is set right.
	clock.advance(90 * time.Second)
	r.Wake()
	eventually(t, func() error { return near(0) })
}

// Events that are not what they should be change nothing and do no harm.
func TestMalformedEvents(t *testing.T) {
	t.Parallel()
	r := New(Options{})
	key := newServerKey(t)
	r.servers[key] = &server{Server: Server{ID: key}}
	for _, data := range []string{"", "{", "null", "[]", `{"server":1}`, `{"server":{"id":7}}`, `{"server":{}}`, `{"server":{"id":">"}}`} {
		r.onStatsz(&nats.Msg{Data: []byte(data)})
	}
	for _, subject := range []string{"", "$SYS.SERVER", "$SYS.SERVER..SHUTDOWN", "$SYS.SERVER." + key + ".x.SHUTDOWN", "$SYS.SERVER." + newServerKey(t) + ".SHUTDOWN"} {
		r.onShutdown(&nats.Msg{Subject: subject})
	}
	if !listed(r, key) || len(r.servers) != 1 || len(r.pending) != 0 {
		t.Errorf("servers %v, searches %v", r.servers, r.pending)
	}
}

// The end of Run ends searches and rounds that wait for answers.
func TestRunEndsPromptly(t *testing.T) {
	t.Parallel()
	s := startSystem(t, 1)
	nc := s.connect(t, s.SystemCreds)
	r := New(Options{Conn: nc, Interval: 10 * time.Millisecond})
	r.SetAccounts(s.need(t))
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- r.Run(ctx) }()
	ready(t, r)
	// Somebody hears the search for this id and never answers.
	silent := newServerKey(t)
	heard, err := s.admin.SubscribeSync("$SYS.REQ.SERVER." + silent + ".STATSZ")
	if err != nil {
		t.Fatal(err)
	}
	if err := s.admin.Flush(); err != nil {
		t.Fatal(err)
	}
	_, pending := r.Known(silent)
	if _, err := heard.NextMsg(soon); err != nil {
		t.Fatal(err)
	}
	started := time.Now()
	cancel()
	if err := await(t, done); err != nil {
		t.Errorf("Run: %v", err)
	}
	if d := time.Since(started); d > requestTimeout/2 {
		t.Errorf("Run took %s to end", d)
	}
	select {
	case <-pending:
	default:
		t.Error("a search outlived Run: who waits for it waits for ever")
	}
	if ok, pending := r.Known(newServerKey(t)); ok || pending != nil {
		t.Errorf("a search after the end: known %t, pending %v", ok, pending)
	}
	if nc.IsClosed() || nc.NumSubscriptions() > 1 { // the client library's own, for requests
		t.Errorf("closed %t, %d subscriptions are left", nc.IsClosed(), nc.NumSubscriptions())
	}
}

// Everything that needs several servers, on one cluster.
func TestCluster(t *testing.T) {
	t.Parallel()
	s := startSystem(t, 3)
	r := s.run(t, Options{Interval: never}, s.need(t))
	// Right after a start a server may not have heard of the others yet.
	eventually(t, func() error { return check(len(r.Servers()) == 3, "%d servers are known", len(r.Servers())) })
	ready(t, r)
	var ids []string
	for _, server := range s.servers {
		key := id(t, server, s.EmergencySystemCreds)
		ids = append(ids, key)
		if ok, _ := r.Known(key); !ok {
			t.Errorf("server %s is not known", key)
		}
		if signing, refusal := r.SigningKey(key, s.app, "", time.Now()); signing == "" {
			t.Errorf("server %s: %v", key, refusal)
		}
	}
	t.Run("stored account is loaded everywhere", func(t *testing.T) {
		fresh := newAccount(t, "FRESH")
		s.push(t, fresh, nil)
		need := s.need(t)
		need[fresh.ID] = Requirement{Name: fresh.Name}
		r.SetAccounts(need)
		ready(t, r)
		for _, answer := range s.ask(t, "$SYS.REQ.ACCOUNT."+fresh.ID+".INFO", "") {
			if strings.Contains(string(answer), "does not exist") {
				t.Errorf("ready without the account: %s", answer)
			}
		}
	})
	t.Run("account missing everywhere", func(t *testing.T) {
		absent := newAccount(t, "ABSENT")
		need := s.need(t)
		need[absent.ID] = Requirement{Name: absent.Name}
		r.SetAccounts(need)
		eventually(t, func() error {
			err := r.Ready()
			return check(err != nil && strings.Count(err.Error(), "account ABSENT: no server has its claims") == 3, "ready: %v", err)
		})
		r.SetAccounts(s.need(t))
		ready(t, r)
	})
	t.Run("claims pushed are seen on every server", func(t *testing.T) {
		s.push(t, s.App, func(c *jwt.AccountClaims) { clear(c.SigningKeys) })
		eventually(t, func() error {
			err := r.Ready()
			return check(err != nil && strings.Count(err.Error(), "none of the configured signing keys") == 3, "ready: %v", err)
		})
		s.push(t, s.App, nil)
		ready(t, r)
	})
	// Since v2.15.3 a server closes its clients before it says that it goes: the resolver would not
	// hear that from the server that it is connected to, and learn it in a later round.
	leaving := slices.IndexFunc(ids, func(id string) bool { return id != r.nc.ConnectedServerId() })
	t.Run("shutdown", func(t *testing.T) {
		s.servers[leaving].Stop()
		eventually(t, func() error { return check(!listed(r, ids[leaving]), "the server that was shut down is known still") })
		if known(t, r, ids[leaving]) {
			t.Error("the server that was shut down is known still")
		}
		ready(t, r) // the ones that are left are all there are
		if n := len(r.Servers()); n != 2 {
			t.Errorf("%d servers", n)
		}
	})
	t.Run("join", func(t *testing.T) {
		s.servers[leaving].Start()
		key := id(t, s.servers[leaving], s.EmergencySystemCreds)
		// Until routes are up nobody can find it.
		eventually(t, func() error { return check(known(t, r, key), "the server that joined is not found") })
		if signing, refusal := r.SigningKey(key, s.app, "", time.Now()); signing == "" {
			t.Errorf("known before its accounts were read back: %v", refusal)
		}
		ready(t, r)
	})
}

// The offset of a server is of the moment between question and answer.
func TestMeasure(t *testing.T) {
	t.Parallel()
	sent := now
	for _, c := range []struct {
		server string
		want   time.Duration
	}{
		{`{"server":{"time":"` + sent.Add(50*time.Millisecond).UTC().Format(time.RFC3339Nano) + `"}}`, 0},
		{`{"server":{"time":"` + sent.Add(90*time.Second).UTC().Format(time.RFC3339Nano) + `"}}`, 90*time.Second - 50*time.Millisecond},
		{`{"server":{}}`, 0},
	} {
		var a statsz
		if err := json.Unmarshal([]byte(c.server), &a); err != nil {
			t.Fatal(err)
		}
		a.measure(sent, sent.Add(100*time.Millisecond))
		if a.offset != c.want || a.measured == a.Server.Time.IsZero() {
			t.Errorf("%s: offset %s, measured %t", c.server, a.offset, a.measured)
		}
	}
}

// A deleted account is shown with its last claims. A login into it would stall every other one.
func TestDeletedAccount(t *testing.T) {
	t.Parallel()
	s := startSystem(t, 1)
	r := s.run(t, Options{Interval: time.Hour}, s.need(t))
	eventually(t, r.Ready)
	server := r.Servers()[0].ID
	if _, refusal := r.SigningKey(server, s.app, "", time.Now()); refusal != nil {
		t.Fatal(refusal)
	}
	operator, err := nkeys.FromSeed([]byte(s.OperatorSigningKey.Reveal()))
	if err != nil {
		t.Fatal(err)
	}
	public, err := operator.PublicKey()
	if err != nil {
		t.Fatal(err)
	}
	claims := jwt.NewGenericClaims(public)
	claims.Data["accounts"] = []string{s.App.ID}
	token, err := claims.Encode(operator)
	if err != nil {
		t.Fatal(err)
	}
	s.ask(t, "$SYS.REQ.CLAIMS.DELETE", token) // which also wakes a round
	eventually(t, func() error {
		if _, refusal := r.SigningKey(server, s.app, "", time.Now()); refusal == nil || refusal.Reason != policy.AccountUnready {
			return fmt.Errorf("the deleted account is %v", refusal)
		}
		if err := r.Ready(); err == nil || !strings.Contains(err.Error(), "it was deleted there") {
			return fmt.Errorf("ready: %v", err)
		}
		return nil
	})
}

func TestSkewIsTheMedian(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		offsets []time.Duration
		want    time.Duration
	}{
		{nil, 0},
		{[]time.Duration{25}, 25},
		{[]time.Duration{0, 25}, 0}, // one wrong clock of two does not decide
		{[]time.Duration{0, -25}, 0},
		{[]time.Duration{24, 25}, 24},
		{[]time.Duration{1, -3600, 2}, 1},
		{[]time.Duration{25, 25, 0}, 25},
	} {
		r := New(Options{})
		for i, o := range c.offsets {
			r.servers[fmt.Sprint(i)] = &server{Server: Server{Offset: o * time.Second}}
		}
		if got := r.Skew(); got != c.want*time.Second {
			t.Errorf("skew of %d is %s, want %ds", c.offsets, got, c.want)
		}
	}
}

// Nothing is minted for a server whose clock alone is off: it would enforce another end.
func TestServerWithAWrongClock(t *testing.T) {
	t.Parallel()
	r := New(Options{})
	account := &policy.Account{Name: "APP", ID: "A", SigningKeys: []string{"A"}}
	for id, offset := range map[string]time.Duration{"right": 0, "also right": time.Second, "wrong": time.Hour} {
		claims := jwt.NewAccountClaims("A")
		r.servers[id] = &server{Server: Server{ID: id, Name: id, Offset: offset}, accounts: map[string]AccountState{"A": {Applied: true, Claims: claims}}}
	}
	if _, refusal := r.SigningKey("right", account, "", time.Now()); refusal != nil {
		t.Error(refusal)
	}
	if _, refusal := r.SigningKey("wrong", account, "", time.Now()); refusal == nil || refusal.Reason != policy.AccountUnready {
		t.Errorf("for the server with the wrong clock: %v", refusal)
	}
	if err := r.Ready(); err == nil || !strings.Contains(err.Error(), "server wrong: its clock is 59m59s off the others'") {
		t.Errorf("ready: %v", err)
	}
}

// A server that was restarted without a word is counted by the others for a while: nobody waits for it.
func TestRestartedServerIsNotWaitedFor(t *testing.T) {
	t.Parallel()
	now := time.Now()
	for name, c := range map[string]struct {
		active int
		reborn []time.Time // seen last
		want   int
	}{
		"all are known":                 {3, nil, 0},
		"one is not known":              {4, nil, 1},
		"one was restarted":             {4, []time.Time{now}, 0},
		"one is not counted any more":   {3, []time.Time{now}, 0},
		"one was restarted long ago":    {4, []time.Time{now.Add(-stillCounted - time.Second)}, 1},
		"one of two was restarted":      {5, []time.Time{now}, 1},
		"one was restarted twice, soon": {5, []time.Time{now, now.Add(-time.Minute)}, 0},
	} {
		r := New(Options{})
		r.now = func() time.Time { return now }
		r.active = c.active
		for _, id := range []string{"a", "b", "c"} {
			r.servers[id] = &server{}
		}
		for i, seen := range c.reborn {
			r.reborn[fmt.Sprint(i)] = seen
		}
		if got := r.unknown(); got != c.want || r.complete() != (got == 0) {
			t.Errorf("%s: %d servers are unknown, want %d", name, got, c.want)
		}
	}
}
