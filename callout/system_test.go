package callout

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/gatehouse-nats/gatehouse/internal/devstack/devtest"
	"github.com/gatehouse-nats/gatehouse/internal/setup"
	"github.com/gatehouse-nats/gatehouse/policy"
	"github.com/gatehouse-nats/gatehouse/policy/mint"
	"github.com/gatehouse-nats/gatehouse/resolver"
	"github.com/gatehouse-nats/gatehouse/store"
)

const (
	// soon bounds every wait for what is expected to happen; it is ample, for busy machines.
	soon = 15 * time.Second
	// secret is in every token of these tests, so that one that is shown anywhere is found.
	secret = "t0kenS3cret."
	issuer = "https://login.example.com"
)

// system is a set-up of init with a server and the service, wired as the daemon does but for
// the tokens, the state and the spool, which tests control.
type system struct {
	*setup.Set
	*Service
	server   *devtest.Server
	admin    *nats.Conn // the emergency user of the system account
	tokens   *tokenTable
	records  *recorder
	state    atomic.Pointer[policy.Snapshot]
	clock    *shiftedClock
	log      *logBuffer
	registry *prometheus.Registry
	stop     func() // ends the service and returns when it has ended

	serverConf string // more of the server's configuration
}

// with changes the options of a system before it starts.
type with func(*system, *setup.Options, *Options)

func withXKey(xkey bool) with {
	return func(_ *system, so *setup.Options, _ *Options) { so.NoXKey = !xkey }
}

func withWorkers(n int) with {
	return func(_ *system, _ *setup.Options, o *Options) { o.Workers = n }
}

func withServers(stub *serverTable) with {
	return func(_ *system, _ *setup.Options, o *Options) { o.Servers = stub }
}

// withClock sets the clock of the service, and of its resolver, off.
func withClock(off time.Duration) with {
	return func(s *system, _ *setup.Options, _ *Options) { s.clock.advance(off) }
}

func startSystem(t *testing.T, changes ...with) *system {
	t.Helper()
	ports := devtest.Ports(t, 4)
	so := setup.Options{NoJetStream: true, Ports: []setup.Ports{{Client: ports[0], Cluster: ports[1], Monitor: ports[2], WebSocket: ports[3]}}}
	s := &system{tokens: newTokenTable(), records: &recorder{}, clock: &shiftedClock{}, log: &logBuffer{}}
	s.registry = prometheus.NewRegistry()
	o := Options{
		Tokens: s.tokens, Records: s.records, Metrics: NewMetrics(s.registry), State: s.state.Load,
		MaxToken: 16 << 10, Version: "1.2.3", Replica: "r1", Logger: slog.New(slog.NewJSONHandler(s.log, &slog.HandlerOptions{Level: slog.LevelDebug})),
		Now: s.clock.now,
	}
	for _, change := range changes {
		change(s, &so, &o)
	}
	s.startServer(t, so)
	s.wire(t, &o)
	s.Service = New(o)
	s.run(t)
	s.awaitInterest(t)
	return s
}

func (s *system) startServer(t *testing.T, o setup.Options) {
	t.Helper()
	var err error
	if s.Set, err = setup.New(o); err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(t.TempDir(), "set")
	if err := s.Write(dir); err != nil {
		t.Fatal(err)
	}
	conf := filepath.Join(dir, s.ServerFile(0))
	if err := appendTo(conf, s.serverConf); err != nil {
		t.Fatal(err)
	}
	s.server = devtest.StartServers(t, []string{conf}, devtest.InProcess)[0]
	s.admin = s.direct(t, s.EmergencySystemCreds)
}

func appendTo(file, text string) error {
	data, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	return os.WriteFile(file, append(data, text...), 0o600)
}

// wire fills in what the change has left out.
func (s *system) wire(t *testing.T, o *Options) {
	t.Helper()
	app, lobby := key(t, s.App.SigningKey), key(t, s.Lobby.SigningKey)
	keyring := mint.NewKeyring(app, lobby)
	o.Account, o.Signer = s.Callout.ID, key(t, s.Callout.SigningKey)
	o.Closed = []string{s.Callout.ID, s.Set.System.ID}
	if s.XKey != nil {
		sealer, err := NewSealer([]byte(s.XKey.Reveal()))
		if err != nil {
			t.Fatal(err)
		}
		o.Sealer = sealer
	}
	if o.Keys == nil {
		o.Keys = func() *mint.Keyring { return keyring }
	}
	for range 2 {
		o.Conns = append(o.Conns, s.direct(t, s.CalloutCreds))
	}
	rules := s.rules(t)
	s.state.Store(&policy.Snapshot{Rules: rules})
	real := s.resolve(t, rules)
	if stub, ok := o.Servers.(*serverTable); ok {
		stub.real, stub.id = real, s.admin.ConnectedServerId()
	} else {
		o.Servers = real
	}
}

// resolve runs a real resolver and returns when it has read the accounts back.
func (s *system) resolve(t *testing.T, rules *policy.Rules) *resolver.Resolver {
	t.Helper()
	need := map[string]resolver.Requirement{}
	for name, account := range rules.Accounts {
		need[account.ID] = resolver.Requirement{Name: name, SigningKeys: account.SigningKeys}
	}
	r := resolver.New(resolver.Options{Conn: s.direct(t, s.SystemCreds), Interval: time.Hour, Now: s.clock.now})
	r.SetAccounts(need)
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { _ = r.Run(ctx) })
	t.Cleanup(func() { cancel(); wg.Wait() })
	eventually(t, r.Ready)
	return r
}

// run runs the service until the test ends, and looks through what it has shown then.
func (s *system) run(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Service.Run(ctx) }()
	s.stop = sync.OnceFunc(func() {
		cancel()
		select {
		case err := <-done:
			if err != nil {
				t.Errorf("Run: %v", err)
			}
		case <-time.After(soon):
			t.Error("Run does not end")
		}
	})
	t.Cleanup(func() {
		s.stop()
		s.checkSecrets(t)
	})
}

// awaitInterest returns when the server sends requests here.
func (s *system) awaitInterest(t *testing.T) {
	t.Helper()
	eventually(t, func() error { return check(s.Serving(), "the service does not serve") })
	for _, nc := range s.Conns {
		if err := nc.Flush(); err != nil {
			t.Fatal(err)
		}
	}
}

// checkSecrets looks for secrets in everything that was logged or recorded.
func (s *system) checkSecrets(t *testing.T) {
	t.Helper()
	recorded, err := json.Marshal(s.records.all())
	if err != nil {
		t.Fatal(err)
	}
	shown := s.log.String() + string(recorded)
	for what, text := range map[string]string{
		"a token": secret, "a JWT": "eyJ", "creds": "-----BEGIN",
		"the callout's seed": s.Callout.SigningKey.Reveal(), "an account's seed": s.App.SigningKey.Reveal(), "the other account's seed": s.Lobby.SigningKey.Reveal(),
	} {
		if i := strings.Index(shown, text); i >= 0 {
			t.Errorf("%s was logged or recorded: …%s…", what, shown[max(0, i-200):min(len(shown), i+200)])
		}
	}
	if s.XKey != nil && strings.Contains(shown, s.XKey.Reveal()) {
		t.Error("the xkey's seed was logged or recorded")
	}
}

// rules are of two accounts: developers come into one, guests into the other, and some into both.
func (s *system) rules(t *testing.T) *policy.Rules {
	t.Helper()
	app := &policy.Account{Name: "APP", ID: s.App.ID, SigningKeys: []string{key(t, s.App.SigningKey).Public()}}
	guests := &policy.Account{Name: "GUESTS", ID: s.Lobby.ID, SigningKeys: []string{key(t, s.Lobby.SigningKey).Public()}}
	role := &policy.Role{
		Name:      "app",
		Publish:   policy.PermissionRules{Allow: []policy.Template{template(t, "app.>"), template(t, "$SYS.REQ.USER.INFO")}},
		Subscribe: policy.PermissionRules{Allow: []policy.Template{template(t, "app.>"), template(t, "_INBOX.>")}},
	}
	email := path(t, "email")
	binding := func(name, group string, account *policy.Account, types ...policy.ConnectionType) *policy.Binding {
		glob, err := policy.ParseGlob(group)
		if err != nil {
			t.Fatal(err)
		}
		return &policy.Binding{
			Name: name, Issuer: "corp", Match: []policy.Condition{{Claim: path(t, "groups"), Values: []policy.Value{{Text: &glob}}}},
			ConnectionTypes: types, Grant: policy.Grant{Account: account, Role: role}, TTL: time.Hour,
		}
	}
	return &policy.Rules{
		Version: "v1", Leeway: 10 * time.Second,
		Accounts: map[string]*policy.Account{"APP": app, "GUESTS": guests},
		Display:  map[string][]policy.ClaimPath{"corp": {email}},
		Bindings: map[string][]*policy.Binding{"corp": {
			binding("developers", "dev", app), binding("guests", "guest", guests), binding("browsers", "web", app, policy.WebSocket),
		}},
	}
}

// direct opens a connection that does not go through the callout.
func (s *system) direct(t *testing.T, creds setup.Secret) *nats.Conn {
	t.Helper()
	nc, err := nats.Connect(s.server.ClientURL(), nats.UserCredentialBytes([]byte(creds.Reveal())), nats.ReconnectBufSize(-1))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	return nc
}

// dial connects as a client does that has nothing but what opts say.
func (s *system) dial(t *testing.T, opts ...nats.Option) (*nats.Conn, error) {
	t.Helper()
	return dialURL(t, s.server.ClientURL(), opts...)
}

func dialURL(t *testing.T, url string, opts ...nats.Option) (*nats.Conn, error) {
	t.Helper()
	nc, err := nats.Connect(url, append([]nats.Option{nats.NoReconnect(), nats.Timeout(soon)}, opts...)...)
	if err == nil {
		t.Cleanup(nc.Close)
	}
	return nc, err
}

// login is a dial that has to succeed.
func (s *system) login(t *testing.T, opts ...nats.Option) *nats.Conn {
	t.Helper()
	nc, err := s.dial(t, opts...)
	if err != nil {
		t.Fatal(err)
	}
	return nc
}

// injectSubject is where [system.attacker] sends requests.
const injectSubject = "inject"

// attacker connects as a user whose messages reach the service. Servers let no client of the
// callout account publish requests; here the account exports the subject to another account,
// as a mistake or whoever holds the operator's key could have it.
func (s *system) attacker(t *testing.T) *nats.Conn {
	t.Helper()
	s.push(t, s.Callout, func(c *jwt.AccountClaims) {
		c.Exports.Add(&jwt.Export{Name: "mistake", Subject: requestSubject, Type: jwt.Service})
	})
	s.push(t, s.Lobby, func(c *jwt.AccountClaims) {
		c.Imports.Add(&jwt.Import{Name: "mistake", Account: s.Callout.ID, Subject: requestSubject, LocalSubject: injectSubject, Type: jwt.Service})
	})
	return s.user(t, s.Lobby, func(c *jwt.UserClaims) { c.Pub.Allow.Add(">"); c.Sub.Allow.Add(">") })
}

// witness connects as a user of the callout account that is not sent through the callout.
func (s *system) witness(t *testing.T) *nats.Conn {
	t.Helper()
	return s.user(t, s.Callout, func(u *jwt.UserClaims) {
		s.push(t, s.Callout, func(c *jwt.AccountClaims) { c.Authorization.AuthUsers.Add(u.Subject) })
	})
}

// user connects as a direct user of an account.
func (s *system) user(t *testing.T, of setup.Account, shape func(*jwt.UserClaims)) *nats.Conn {
	t.Helper()
	identity, public := pair(t, nkeys.PrefixByteUser)
	claims := jwt.NewUserClaims(public)
	claims.IssuerAccount = of.ID
	shape(claims)
	token, err := claims.Encode(key(t, of.SigningKey))
	if err != nil {
		t.Fatal(err)
	}
	nc, err := nats.Connect(s.server.ClientURL(), nats.UserJWT(func() (string, error) { return token, nil }, identity.Sign))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	return nc
}

// push gives the server an account's claims after an edit.
func (s *system) push(t *testing.T, account setup.Account, edit func(*jwt.AccountClaims)) {
	t.Helper()
	claims, err := jwt.DecodeAccountClaims(account.JWT)
	if err != nil {
		t.Fatal(err)
	}
	edit(claims)
	operator, err := nkeys.FromSeed([]byte(s.OperatorSigningKey.Reveal()))
	if err != nil {
		t.Fatal(err)
	}
	token, err := claims.Encode(operator)
	if err != nil {
		t.Fatal(err)
	}
	msg, err := s.admin.Request("$SYS.REQ.CLAIMS.UPDATE", []byte(token), soon)
	if err != nil || !strings.Contains(string(msg.Data), `"code":200`) {
		t.Fatalf("push of %s: %v %s", account.Name, err, msg.Data)
	}
}

// ended returns how many logins have ended for the reason.
func (s *system) ended(r policy.Reason, issuer string) int {
	return s.counted("gatehouse_logins_total", map[string]string{"outcome": string(r.Outcome()), "reason": string(r), "issuer": issuer})
}

// rejections returns how many logins servers have reported as not admitted.
func (s *system) rejections(kind string) int {
	return s.counted("gatehouse_server_rejections_total", map[string]string{"kind": kind})
}

// counted returns the value of a counter, 0 when there is none.
func (s *system) counted(name string, labels map[string]string) int {
	families, err := s.registry.Gather()
	if err != nil {
		panic(err)
	}
	for _, f := range families {
		if f.GetName() != name {
			continue
		}
		for _, m := range f.GetMetric() {
			same := len(m.GetLabel()) == len(labels)
			for _, l := range m.GetLabel() {
				same = same && labels[l.GetName()] == l.GetValue()
			}
			if same {
				return int(m.GetCounter().GetValue())
			}
		}
	}
	return 0
}

// awaitEnd returns when n logins have ended for the reason.
func (s *system) awaitEnd(t *testing.T, r policy.Reason, issuer string, n int) {
	t.Helper()
	eventually(t, func() error {
		return check(s.ended(r, issuer) == n, "%d logins have ended for %s, want %d; log:\n%s", s.ended(r, issuer), r, n, s.log)
	})
}

// recorder is a spool in memory that tests break and mend.
type recorder struct {
	mu      sync.Mutex
	broken  bool
	during  func() // called while an entry is taken, when not nil
	entries []store.AuditEntry
}

var errSpool = errors.New("no space left on device")

// Append implements Recorder.
func (r *recorder) Append(e store.AuditEntry) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.broken {
		return errSpool
	}
	if r.during != nil {
		r.during()
	}
	r.entries = append(r.entries, e)
	return nil
}

func (r *recorder) breakDown(broken bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.broken = broken
}

func (r *recorder) all() []store.AuditEntry {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]store.AuditEntry(nil), r.entries...)
}

// of returns the entries with that reason.
func (r *recorder) of(reason policy.Reason) []store.AuditEntry {
	var list []store.AuditEntry
	for _, e := range r.all() {
		if e.Reason == string(reason) {
			list = append(list, e)
		}
	}
	return list
}

// only returns the one entry with that reason.
func (r *recorder) only(t *testing.T, reason policy.Reason) store.AuditEntry {
	t.Helper()
	list := r.of(reason)
	if len(list) != 1 {
		t.Fatalf("%d entries for %s, want one: %+v", len(list), reason, r.all())
	}
	return list[0]
}

// count returns how many logins the entries stand for.
func count(entries []store.AuditEntry) int {
	n := 0
	for _, e := range entries {
		n += max(1, e.Count)
	}
	return n
}

// logBuffer keeps what is logged.
type logBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

// Write implements io.Writer.
func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// shiftedClock is a clock that tests move.
type shiftedClock struct{ shift atomic.Int64 }

func (c *shiftedClock) now() time.Time          { return time.Now().Add(time.Duration(c.shift.Load())) }
func (c *shiftedClock) advance(d time.Duration) { c.shift.Add(int64(d)) }

func key(t *testing.T, seed setup.Secret) *mint.Key {
	t.Helper()
	k, err := mint.NewKey([]byte(seed.Reveal()))
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func template(t *testing.T, subject string) policy.Template {
	t.Helper()
	tpl, err := policy.ParseTemplate(subject)
	if err != nil {
		t.Fatal(err)
	}
	return tpl
}

func path(t *testing.T, claim string) policy.ClaimPath {
	t.Helper()
	p, err := policy.ParseClaimPath(claim)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// account returns the account that a connection is in.
func account(t *testing.T, nc *nats.Conn) string {
	t.Helper()
	msg, err := nc.Request("$SYS.REQ.USER.INFO", nil, soon)
	if err != nil {
		t.Fatal(err)
	}
	var info struct{ Data struct{ Account string } }
	if err := json.Unmarshal(msg.Data, &info); err != nil {
		t.Fatal(err)
	}
	return info.Data.Account
}

// eventually repeats f until it returns nil.
func eventually(t *testing.T, f func() error) {
	t.Helper()
	deadline := time.Now().Add(soon)
	for {
		err := f()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// check returns an error unless ok, for [eventually].
func check(ok bool, format string, args ...any) error {
	if ok {
		return nil
	}
	return fmt.Errorf(format, args...)
}

// await returns the next value of the channel, which has to come.
func await[T any](t *testing.T, values <-chan T) (v T) {
	t.Helper()
	select {
	case v = <-values:
	case <-time.After(soon):
		t.Fatal("nothing came in time")
	}
	return v
}
