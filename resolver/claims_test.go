package resolver

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nkeys"

	"github.com/gatehouse-nats/gatehouse/internal/devstack"
	"github.com/gatehouse-nats/gatehouse/internal/devstack/devtest"
	"github.com/gatehouse-nats/gatehouse/internal/setup"
	"github.com/gatehouse-nats/gatehouse/policy"
	"github.com/gatehouse-nats/gatehouse/store"
)

// ledger keeps what writers of claims need, as the stores do.
type ledger struct {
	mu          sync.Mutex
	revocations map[string]store.Revocation
	keys        []store.UserKey
	claims      map[string]store.AccountClaims
	holder      string
	until       time.Time
}

func newLedger() *ledger {
	return &ledger{revocations: map[string]store.Revocation{}, claims: map[string]store.AccountClaims{}}
}

func (l *ledger) Acquire(_ context.Context, _, holder string, ttl time.Duration) (bool, time.Time, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.holder != holder && time.Now().Before(l.until) {
		return false, l.until, nil
	}
	l.holder, l.until = holder, time.Now().Add(ttl)
	return true, l.until, nil
}

func (l *ledger) Release(_ context.Context, _, holder string) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.holder == holder {
		l.until = time.Time{}
	}
	return nil
}

func (l *ledger) AccountClaims(context.Context) (all []store.AccountClaims, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, c := range l.claims {
		all = append(all, c)
	}
	return all, nil
}

func (l *ledger) SaveAccountClaims(_ context.Context, c store.AccountClaims) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.claims[c.Account].Revision != c.Revision-1 {
		return store.ErrChanged
	}
	l.claims[c.Account] = c
	return nil
}

func (l *ledger) UserKeys(context.Context, store.UserKeyFilter) ([]store.UserKey, string, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.keys), "", nil
}

func (l *ledger) all(context.Context, []store.UserKey) (all []store.Revocation, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, r := range l.revocations {
		all = append(all, r)
	}
	return all, nil
}

// desk is where revocations are made that a writer carries out.
type desk struct {
	*system
	*ledger
	t      *testing.T
	r      *Resolver
	c      *Claims
	drifts sync.Map // how → *atomic.Int64
	pushes atomic.Int64
	key    atomic.Pointer[nkeys.KeyPair] // that signs
}

// startDesk starts a writer with the operator's key unless another is given.
func startDesk(t *testing.T, s *system, l *ledger, key nkeys.KeyPair) *desk {
	t.Helper()
	d := &desk{system: s, ledger: l, t: t}
	if key == nil {
		var err error
		if key, err = nkeys.FromSeed([]byte(s.OperatorSigningKey.Reveal())); err != nil {
			t.Fatal(err)
		}
	}
	d.key.Store(&key)
	for _, subject := range []string{"$SYS.REQ.CLAIMS.UPDATE", "$SYS.REQ.ACCOUNT.*.CLAIMS.UPDATE"} {
		if _, err := s.admin.Subscribe(subject, func(*nats.Msg) { d.pushes.Add(1) }); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.admin.Flush(); err != nil {
		t.Fatal(err)
	}
	var once sync.Once
	d.r = runWith(t, Options{Interval: 200 * time.Millisecond, Conn: s.connect(t, s.SystemCreds)}, s.need(t), func(r *Resolver) {
		once.Do(func() {
			d.c = NewClaims(ClaimsOptions{
				Resolver: r, Store: l, Revocations: l.all, Holder: t.Name(), Leeway: 10 * time.Second, Interval: 200 * time.Millisecond,
				Signer: func() nkeys.KeyPair { return *d.key.Load() }, Closed: func() Closed { return Closed{s.Callout.ID: nil, s.System.ID: nil} },
				OnDrift: func(_, how string) {
					n, _ := d.drifts.LoadOrStore(how, new(atomic.Int64))
					n.(*atomic.Int64).Add(1)
				},
			})
		})
	})
	ready(t, d.r)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- d.c.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := await(t, done); err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	return d
}

func (d *desk) drifted(how string) int64 {
	n, ok := d.drifts.Load(how)
	if !ok {
		return 0
	}
	return n.(*atomic.Int64).Load()
}

// revoke stores a revocation and returns once it is carried out.
func (d *desk) revoke(kind policy.RevocationKind, target policy.Target) store.Revocation {
	d.t.Helper()
	r := d.store(kind, target)
	d.converged(r)
	return r
}

func (d *desk) store(kind policy.RevocationKind, target policy.Target) store.Revocation {
	r := store.Revocation{Revocation: policy.Revocation{Kind: kind, Target: target, At: time.Now()}}
	d.mu.Lock()
	r.ID = fmt.Sprint(len(d.revocations))
	d.revocations[r.ID] = r
	d.mu.Unlock()
	d.c.Wake()
	return r
}

func (d *desk) converged(r store.Revocation) {
	d.t.Helper()
	eventually(d.t, func() error {
		done, why, err := d.c.Converged(d.t.Context(), r)
		if err != nil {
			return err
		}
		return check(done, "not converged: %s", why)
	})
}

// lift lifts a revocation.
func (d *desk) lift(r store.Revocation) {
	d.mu.Lock()
	delete(d.revocations, r.ID)
	d.mu.Unlock()
	d.c.Wake()
}

// claimsOn returns what each server has applied of the application account.
func (d *desk) claimsOn() ([]*jwt.AccountClaims, error) {
	held, err := d.r.appliedEverywhere(d.t.Context(), d.App.ID)
	if err != nil {
		return nil, err
	}
	var all []*jwt.AccountClaims
	for _, h := range held {
		c, err := jwt.DecodeAccountClaims(h.token)
		if err != nil {
			return nil, err
		}
		all = append(all, c)
	}
	return all, check(len(all) == len(d.servers), "%d of %d servers have the account", len(all), len(d.servers))
}

// everywhere waits until the claims on every server are as wanted.
func (d *desk) everywhere(what string, want func(*jwt.AccountClaims) bool) {
	d.t.Helper()
	eventually(d.t, func() error {
		all, err := d.claimsOn()
		if err != nil {
			return err
		}
		return check(!slices.ContainsFunc(all, func(c *jwt.AccountClaims) bool { return !want(c) }), "not so on every server: %s", what)
	})
}

// direct is a user with a user JWT for its own key.
type direct struct {
	key   string
	token string
	pair  nkeys.KeyPair
}

func newDirect(t *testing.T, account setup.Account, signer string, edit func(*jwt.UserClaims)) direct {
	t.Helper()
	kp, err := nkeys.FromSeed([]byte(signer))
	if err != nil {
		t.Fatal(err)
	}
	user, public := newKey(t, nkeys.PrefixByteUser)
	claims := jwt.NewUserClaims(public)
	claims.IssuerAccount = account.ID
	if edit != nil {
		edit(claims)
	}
	token, err := claims.Encode(kp)
	if err != nil {
		t.Fatal(err)
	}
	return direct{public, token, user}
}

func (u direct) option() nats.Option {
	return nats.UserJWT(func() (string, error) { return u.token, nil }, u.pair.Sign)
}

// dial connects once to one server.
func (u direct) dial(url string) error {
	nc, err := nats.Connect(url, u.option(), nats.NoReconnect(), nats.DontRandomize())
	if err == nil {
		nc.Close()
	}
	return err
}

// follower is a connection that comes back at once, for ever.
type follower struct {
	*nats.Conn
	lost, back chan struct{}
}

func (s *system) follow(t *testing.T, u direct) *follower {
	t.Helper()
	c := &follower{lost: make(chan struct{}, 1000), back: make(chan struct{}, 1000)}
	nc, err := nats.Connect(s.ClientURL(), u.option(), nats.MaxReconnects(-1), nats.ReconnectWait(5*time.Millisecond), nats.ReconnectJitter(0, 0),
		nats.IgnoreAuthErrorAbort(), nats.ErrorHandler(func(*nats.Conn, *nats.Subscription, error) {}), nats.DisconnectErrHandler(func(*nats.Conn, error) { c.lost <- struct{}{} }), nats.ReconnectHandler(func(*nats.Conn) { c.back <- struct{}{} }))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	c.Conn = nc
	return c
}

// keptOut fails unless no server lets the user in.
func (s *system) keptOut(t *testing.T, u direct) {
	t.Helper()
	for _, server := range s.servers {
		if err := u.dial(server.ClientURL()); !errors.Is(err, nats.ErrAuthorization) && !errors.Is(err, nats.ErrAuthRevoked) && !errors.Is(err, nats.ErrMaxAccountConnectionsExceeded) {
			t.Errorf("%s: %v, want a refusal", server.ClientURL(), err)
		}
	}
}

// A direct user whose client comes back at once is closed and kept out by every server, and in again when the
// revocation is lifted; nobody else notices.
func TestUserKeyIsKeptOut(t *testing.T) {
	t.Parallel()
	s := startSystem(t, 3)
	d := startDesk(t, s, newLedger(), nil)
	user, other := newDirect(t, s.App, s.App.SigningKey.Reveal(), nil), newDirect(t, s.App, s.App.SigningKey.Reveal(), nil)
	in, bystander := s.follow(t, user), s.follow(t, other)
	began := time.Now()
	r := d.store(policy.UserKey, policy.Target{Account: s.App.ID, Key: user.key})
	await(t, in.lost)
	t.Logf("closed %s after it was stored", time.Since(began))
	d.converged(r)
	t.Logf("proven %s after it was stored", time.Since(began))
	s.keptOut(t, user)
	if in.IsConnected() {
		t.Error("it came back")
	}
	d.lift(r)
	await(t, in.back)
	if len(bystander.lost) > 0 {
		t.Error("another user of the account was closed")
	}
	eventually(t, func() error { // it is counted after the servers have it
		n := d.pushes.Load()
		return check(n == 2, "%d pushes, want one and one to lift it", n)
	})
	for _, how := range []drift{absent, older, foreign, "stored"} {
		if n := d.drifted(string(how)); n != 0 {
			t.Errorf("%d servers counted as %s", n, how)
		}
	}
}

// The keys that an identity obtained go with it.
func TestBlockReachesOwnKeys(t *testing.T) {
	t.Parallel()
	s := startSystem(t, 1)
	l := newLedger()
	user := newDirect(t, s.App, s.App.SigningKey.Reveal(), nil)
	l.keys = []store.UserKey{{Key: user.key, AccountID: s.App.ID, Issuer: "https://corp", Subject: "alice", Issued: time.Now(), Expires: time.Now().Add(time.Hour)}}
	d := startDesk(t, s, l, nil)
	in := s.follow(t, user)
	d.revoke(policy.Block, policy.Target{Principal: policy.Principal{Issuer: "https://corp", Subject: "alice"}})
	await(t, in.lost)
	s.keptOut(t, user)
	if done, why, err := d.c.Converged(t.Context(), asked(policy.Block, policy.Target{Principal: policy.Principal{Issuer: "https://corp", Subject: "bob"}}, nil)); !done || err != nil {
		t.Errorf("somebody without keys: %s, %v", why, err)
	}
}

// Everybody of an account is logged out; who gets a new user JWT later is in.
func TestAccountLogout(t *testing.T) {
	t.Parallel()
	s := startSystem(t, 3)
	d := startDesk(t, s, newLedger(), nil)
	user := newDirect(t, s.App, s.App.SigningKey.Reveal(), nil)
	in := s.follow(t, user)
	d.revoke(policy.Logout, policy.Target{Account: s.App.ID})
	await(t, in.lost)
	s.keptOut(t, user)
	eventually(t, func() error {
		return newDirect(t, s.App, s.App.SigningKey.Reveal(), nil).dial(s.ClientURL())
	})
}

// A suspended account is closed to everybody, and nothing in it is lost.
func TestSuspension(t *testing.T) {
	t.Parallel()
	s := startSystemOf(t, setup.Options{Servers: 1}, devtest.InProcess)
	d := startDesk(t, s, newLedger(), nil)
	user := newDirect(t, s.App, s.App.SigningKey.Reveal(), nil)
	in := s.follow(t, user)
	js, err := jetstream.New(in.Conn)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := js.CreateStream(t.Context(), jetstream.StreamConfig{Name: "ORDERS", Subjects: []string{"orders"}}); err != nil {
		t.Fatal(err)
	}
	if _, err := js.Publish(t.Context(), "orders", []byte("1")); err != nil {
		t.Fatal(err)
	}
	r := d.revoke(policy.Suspension, policy.Target{Account: s.App.ID})
	await(t, in.lost)
	s.keptOut(t, user)
	d.everywhere("no connections, no leaf nodes", func(c *jwt.AccountClaims) bool { return c.Limits.Conn == 0 && c.Limits.LeafNodeConn == 0 })
	d.lift(r)
	await(t, in.back)
	eventually(t, func() error {
		stream, err := js.Stream(t.Context(), "ORDERS")
		if err != nil {
			return err
		}
		return check(stream.CachedInfo().State.Msgs == 1, "the stream holds %d messages", stream.CachedInfo().State.Msgs)
	})
	d.everywhere("unlimited again", func(c *jwt.AccountClaims) bool { return c.Limits.Conn == -1 && c.Limits.LeafNodeConn == -1 })
}

// A leaf node, which connects a whole account, is closed by a suspension and kept out, though it tries again.
func TestSuspensionKeepsLeafNodesOut(t *testing.T) {
	t.Parallel()
	port := devtest.Ports(t, 1)[0]
	s := startSystemOf(t, setup.Options{Servers: 1, NoJetStream: true}, devtest.InProcess, func(conf string) string {
		return conf + fmt.Sprintf("\nleafnodes { listen: \"127.0.0.1:%d\" }\n", port)
	})
	d := startDesk(t, s, newLedger(), nil)
	dir := t.TempDir()
	creds, conf := filepath.Join(dir, "leaf.creds"), filepath.Join(dir, "leaf.conf")
	for path, content := range map[string]string{
		creds: s.EmergencyAppCreds.Reveal(),
		conf:  fmt.Sprintf("listen: \"127.0.0.1:-1\"\nleafnodes { reconnect: 1, remotes: [{ url: \"nats-leaf://127.0.0.1:%d\", credentials: %q }] }\n", port, creds),
	} {
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	refused := make(chan struct{}, 1000)
	leaf := devstack.NewServer(conf, slog.New(noticing{text: "maximum account", seen: refused}))
	if err := leaf.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	defer leaf.Stop()
	leaves := func() int {
		var answer struct {
			Data struct{ Leafs []any } `json:"data"`
		}
		if err := json.Unmarshal(s.ask(t, "$SYS.REQ.SERVER.PING.LEAFZ", "")[0], &answer); err != nil {
			t.Fatal(err)
		}
		return len(answer.Data.Leafs)
	}
	eventually(t, func() error { return check(leaves() == 1, "the leaf node is not connected") })
	r := d.revoke(policy.Suspension, policy.Target{Account: s.App.ID})
	for range 2 {
		await(t, refused) // once when it is closed, and at each try
	}
	if n := leaves(); n != 0 {
		t.Errorf("%d leaf nodes are connected", n)
	}
	d.lift(r)
	eventually(t, func() error { return check(leaves() == 1, "the leaf node does not come back") })
}

// noticing is a log that tells when it reads a text.
type noticing struct {
	slog.Handler
	text string
	seen chan<- struct{}
}

func (n noticing) Enabled(context.Context, slog.Level) bool { return true }
func (n noticing) WithAttrs([]slog.Attr) slog.Handler       { return n }
func (n noticing) Handle(_ context.Context, r slog.Record) error {
	if strings.Contains(r.Message, n.text) {
		n.seen <- struct{}{}
	}
	return nil
}

// Servers that keep accounts in memory are told one account at a time, and what holds is what they have applied.
func TestMemoryResolver(t *testing.T) {
	t.Parallel()
	s := startSystemOf(t, setup.Options{Servers: 3, NoJetStream: true}, devtest.InProcess, func(conf string) string {
		return regexp.MustCompile(`(?s)resolver \{.*?\n\}`).ReplaceAllString(conf, "resolver: MEMORY")
	})
	d := startDesk(t, s, newLedger(), nil)
	user := newDirect(t, s.App, s.App.SigningKey.Reveal(), nil)
	in := s.follow(t, user)
	r := d.revoke(policy.UserKey, policy.Target{Account: s.App.ID, Key: user.key})
	await(t, in.lost)
	s.keptOut(t, user)
	// It comes up with what its file says, and is told again.
	s.servers[2].Restart()
	eventually(t, func() error { return check(len(d.r.Servers()) == 3, "the server is not back") })
	d.converged(r)
	s.keptOut(t, user)
}

// A signing key that is taken away ends its users and no others; lifting gives it back with its template.
func TestSigningKeyIsTakenAndGivenBack(t *testing.T) {
	t.Parallel()
	s := startSystem(t, 3)
	scoped, public := newKey(t, nkeys.PrefixByteAccount)
	seed, err := scoped.Seed()
	if err != nil {
		t.Fatal(err)
	}
	template := jwt.NewUserScope()
	template.Key, template.Role, template.Template.Subs = public, "worker", 7
	s.push(t, s.App, func(c *jwt.AccountClaims) { c.SigningKeys.AddScopedSigner(template) })
	d := startDesk(t, s, newLedger(), nil)
	user := newDirect(t, s.App, string(seed), func(c *jwt.UserClaims) { c.SetScoped(true) })
	in, bystander := s.follow(t, user), s.follow(t, newDirect(t, s.App, s.App.SigningKey.Reveal(), nil))
	r := d.revoke(policy.SigningKey, policy.Target{Account: s.App.ID, Key: public})
	await(t, in.lost)
	s.keptOut(t, user)
	d.lift(r)
	await(t, in.back)
	d.everywhere("the template", func(c *jwt.AccountClaims) bool {
		scope, ok := c.SigningKeys[public].(*jwt.UserScope)
		return ok && scope.Role == "worker" && scope.Template.Subs == 7
	})
	if len(bystander.lost) > 0 {
		t.Error("a user of another key was closed")
	}
}

// An account that imports by a token stops hearing when the activation is revoked.
func TestActivation(t *testing.T) {
	t.Parallel()
	s := startSystem(t, 1)
	importer, signer := newAccount(t, "IMPORTER"), ""
	kp, public := newKey(t, nkeys.PrefixByteAccount)
	if seed, err := kp.Seed(); err == nil {
		signer = string(seed)
	}
	s.push(t, s.App, func(c *jwt.AccountClaims) {
		c.Exports.Add(&jwt.Export{Subject: "orders", Type: jwt.Service, TokenReq: true})
	})
	token := jwt.NewActivationClaims(importer.ID)
	token.ImportSubject, token.ImportType, token.IssuerAccount = "orders", jwt.Service, s.App.ID
	exporter, err := nkeys.FromSeed([]byte(s.App.SigningKey.Reveal()))
	if err != nil {
		t.Fatal(err)
	}
	encoded, err := token.Encode(exporter)
	if err != nil {
		t.Fatal(err)
	}
	s.push(t, importer, func(c *jwt.AccountClaims) {
		c.SigningKeys.Add(public)
		c.Imports.Add(&jwt.Import{Subject: "orders", Type: jwt.Service, Account: s.App.ID, Token: encoded})
	})
	d := startDesk(t, s, newLedger(), nil)
	service, caller := s.follow(t, newDirect(t, s.App, s.App.SigningKey.Reveal(), nil)), s.follow(t, newDirect(t, importer, signer, nil))
	if _, err := service.Subscribe("orders", func(m *nats.Msg) { _ = m.Respond(nil) }); err != nil {
		t.Fatal(err)
	}
	if err := service.Flush(); err != nil {
		t.Fatal(err)
	}
	call := func() error {
		_, err := caller.Request("orders", nil, time.Second)
		return err
	}
	eventually(t, call)
	r := d.revoke(policy.Activation, policy.Target{Account: s.App.ID, Export: "orders", Key: importer.ID})
	eventually(t, func() error { return check(call() != nil, "the importer is still answered") })
	d.lift(r)
	eventually(t, call)
}

// What others change meanwhile is kept, though they know nothing of ours, and counted; lifting leaves it.
func TestRivalKeepsItsChange(t *testing.T) {
	t.Parallel()
	s := startSystem(t, 3)
	d := startDesk(t, s, newLedger(), nil)
	user := newDirect(t, s.App, s.App.SigningKey.Reveal(), nil)
	r := d.revoke(policy.UserKey, policy.Target{Account: s.App.ID, Key: user.key})
	for range 3 {
		s.push(t, s.App, func(c *jwt.AccountClaims) {
			c.Tags, c.Limits.Subs = jwt.TagList{"theirs"}, 1000
			c.Revocations = jwt.RevocationList{"UOTHER": 5}
		})
		d.everywhere("theirs and ours", func(c *jwt.AccountClaims) bool {
			return c.Tags.Contains("theirs") && c.Limits.Subs == 1000 && c.Revocations[user.key] > 0 && c.Revocations["UOTHER"] == 5
		})
	}
	if n := d.drifted(string(foreign)); n == 0 { // a change is not counted where its servers answered too late
		t.Error("no change of a rival is counted")
	}
	s.keptOut(t, user)
	d.lift(r)
	d.everywhere("theirs alone", func(c *jwt.AccountClaims) bool {
		return c.Tags.Contains("theirs") && len(c.Revocations) == 1 && c.Revocations["UOTHER"] == 5
	})
}

// A server that was down learns at its return what it missed, and the proof waits for it.
func TestServerThatWasDown(t *testing.T) {
	t.Parallel()
	s := startSystem(t, 3)
	d := startDesk(t, s, newLedger(), nil)
	user := newDirect(t, s.App, s.App.SigningKey.Reveal(), nil)
	s.servers[2].Stop()
	eventually(t, func() error { return check(len(d.r.Servers()) == 2, "the server is not gone") })
	r := d.revoke(policy.UserKey, policy.Target{Account: s.App.ID, Key: user.key})
	s.servers[2].Start()
	eventually(t, func() error { return check(len(d.r.Servers()) == 3, "the server is not back") })
	d.converged(r)
	s.keptOut(t, user)
}

// A key that the servers do not trust is found out by what they have applied where they do not say whom they trust: the account
// is left as it was, also on their disks, and nothing more is pushed until there is another key.
func TestUntrustedKey(t *testing.T) {
	t.Parallel()
	s := startSystem(t, 3)
	s.silence(t)
	stranger, public := newKey(t, nkeys.PrefixByteOperator)
	d := startDesk(t, s, newLedger(), stranger)
	before, err := d.r.lookup(t.Context(), s.App.ID)
	if err != nil {
		t.Fatal(err)
	}
	r := d.store(policy.UserKey, policy.Target{Account: s.App.ID, Key: "U"})
	eventually(t, func() error {
		problems := strings.Join(d.c.Status().Problems, "; ")
		return check(strings.Contains(problems, ErrUntrusted.Error()) && strings.Contains(problems, public), "problems: %s", problems)
	})
	eventually(t, func() error {
		after, err := d.r.lookup(t.Context(), s.App.ID)
		if err != nil {
			return err
		}
		return check(len(after) == 3 && !slices.ContainsFunc(after, func(token string) bool { return token != before[0] }), "the servers do not store what they did")
	})
	pushes := d.pushes.Load()
	for range 5 {
		if done, why, err := d.c.Converged(t.Context(), r); done || err != nil || !strings.Contains(why, "not applied") {
			t.Fatalf("converged %t, %s, %v", done, why, err)
		}
		passed(t, d)
	}
	if n := d.pushes.Load(); n != pushes || n != 2 {
		t.Errorf("%d pushes, want one and one that puts back", n)
	}
	right := keyOf(t, s.OperatorSigningKey)
	d.key.Store(&right)
	d.converged(r)
	d.lift(r)
	d.everywhere("the base", func(c *jwt.AccountClaims) bool { return len(c.Revocations) == 0 })
}

// A rival whose key the servers do not trust changes what they store and not what they have applied: the account would
// be gone at their next start. It is counted and repaired.
func TestStoredClaimsAreRepaired(t *testing.T) {
	t.Parallel()
	s := startSystem(t, 3)
	d := startDesk(t, s, newLedger(), nil)
	d.revoke(policy.UserKey, policy.Target{Account: s.App.ID, Key: "U"})
	all, err := d.claimsOn()
	if err != nil {
		t.Fatal(err)
	}
	stranger, public := newKey(t, nkeys.PrefixByteOperator)
	token, err := all[0].Encode(stranger)
	if err != nil {
		t.Fatal(err)
	}
	s.ask(t, "$SYS.REQ.CLAIMS.UPDATE", token)
	eventually(t, func() error {
		stored, err := d.r.lookup(t.Context(), s.App.ID)
		if err != nil {
			return err
		}
		return check(len(stored) == 3 && d.drifted("stored") > 0 && !slices.ContainsFunc(stored, func(token string) bool { return parsed(t, token).issuer() == public }), "%d answers, %d repairs", len(stored), d.drifted("stored"))
	})
}

// A server that stands still keeps nobody in on the others. The proof names it and waits.
func TestFrozenServer(t *testing.T) {
	t.Parallel()
	s := startSystemAs(t, 3, devtest.AsProcess)
	d := startDesk(t, s, newLedger(), nil)
	users := []direct{newDirect(t, s.App, s.App.SigningKey.Reveal(), nil), newDirect(t, s.App, s.App.SigningKey.Reveal(), nil)}
	// One that neither of our own connections is to.
	frozen := s.servers[slices.IndexFunc(s.servers, func(server *devtest.Server) bool {
		return server.ClientURL() != d.r.nc.ConnectedUrl() && server.ClientURL() != s.admin.ConnectedUrl()
	})]
	frozen.Freeze()
	defer frozen.Thaw()
	for _, user := range users { // the second while the first still waits for the server
		r := d.store(policy.UserKey, policy.Target{Account: s.App.ID, Key: user.key})
		eventually(t, func() error {
			for _, server := range s.servers {
				if server != frozen && user.dial(server.ClientURL()) == nil {
					return fmt.Errorf("let in by %s", server.ClientURL())
				}
			}
			return nil
		})
		if done, why, err := d.c.Converged(t.Context(), r); done || err != nil || !strings.Contains(why, "did not say") {
			t.Errorf("converged %t, %s, %v", done, why, err)
		}
	}
	frozen.Thaw()
	d.converged(asked(policy.UserKey, policy.Target{Account: s.App.ID, Key: users[1].key}, nil))
	s.keptOut(t, users[1])
}

// passed waits for a pass of the writer that begins now.
func passed(t *testing.T, d *desk) {
	t.Helper()
	d.mu.Lock()
	before := d.until
	d.mu.Unlock()
	d.c.Wake()
	eventually(t, func() error {
		d.mu.Lock()
		defer d.mu.Unlock()
		return check(d.until.After(before), "no pass")
	})
}

// A writer whose lease another holds pushes nothing, and goes on once that one is silent.
func TestLeaseIsTakenOver(t *testing.T) {
	t.Parallel()
	s := startSystem(t, 1)
	l := newLedger()
	if held, _, _ := l.Acquire(t.Context(), claimsLease, "dead", time.Hour); !held {
		t.Fatal("no lease")
	}
	d := startDesk(t, s, l, nil)
	user := newDirect(t, s.App, s.App.SigningKey.Reveal(), nil)
	r := d.store(policy.UserKey, policy.Target{Account: s.App.ID, Key: user.key})
	for range 3 {
		if done, _, err := d.c.Converged(t.Context(), r); done || err != nil {
			t.Fatalf("converged %t, %v", done, err)
		}
	}
	if n := d.pushes.Load(); n != 0 || d.c.Status().Holder {
		t.Fatalf("%d pushes without the lease", n)
	}
	// That one had kept what it was going to push.
	held, err := d.r.appliedEverywhere(t.Context(), s.App.ID)
	if err != nil {
		t.Fatal(err)
	}
	signed, err := overlay{{part: revocation, name: user.key}: r.At.Unix()}.apply(held[0].found).sign(d.c.Signer(), held[0].found.issued()+1, 1)
	if err != nil {
		t.Fatal(err)
	}
	if err := l.SaveAccountClaims(t.Context(), store.AccountClaims{Account: s.App.ID, Base: held[0].token, Desired: signed, Revision: 1}); err != nil {
		t.Fatal(err)
	}
	l.mu.Lock()
	l.until = time.Now()
	l.mu.Unlock()
	d.converged(r)
	s.keptOut(t, user)
	d.lift(r)
	d.everywhere("the base", func(c *jwt.AccountClaims) bool { return len(c.Revocations) == 0 })
}

// Whoever writes to the store does not get claims of their own signed, nor those of another account.
func TestStoreIsNotBelieved(t *testing.T) {
	t.Parallel()
	s := startSystem(t, 1)
	l := newLedger()
	d := startDesk(t, s, l, nil)
	r := d.revoke(policy.Suspension, policy.Target{Account: s.App.ID})
	l.mu.Lock()
	kept := l.claims[s.App.ID]
	l.mu.Unlock()
	stranger, _ := newKey(t, nkeys.PrefixByteOperator)
	mine := parsed(t, kept.Base)
	mine.entries[place{part: signingKey, name: "AMINE"}] = json.RawMessage(`"AMINE"`)
	foreign, err := mine.sign(stranger, mine.issued(), 1)
	if err != nil {
		t.Fatal(err)
	}
	damaged, err := mine.sign(d.c.Signer(), mine.issued(), 1)
	if err != nil {
		t.Fatal(err)
	}
	damaged = damaged[:strings.LastIndex(damaged, ".")] + kept.Base[strings.LastIndex(kept.Base, "."):]
	pushes := d.pushes.Load()
	for why, base := range map[string]string{"signed it": foreign, "verification failed": damaged, "it is of account": s.Callout.JWT} {
		l.mu.Lock()
		kept.Base, kept.Revision = base, l.claims[s.App.ID].Revision+1
		l.claims[s.App.ID] = kept
		l.mu.Unlock()
		d.lift(r)
		eventually(t, func() error {
			problems := strings.Join(d.c.Status().Problems, "; ")
			return check(strings.Contains(problems, "what the store has") && strings.Contains(problems, why), "want %q, problems: %s", why, problems)
		})
	}
	if n := d.pushes.Load(); n != pushes {
		t.Errorf("%d pushes of what the store was given", n-pushes)
	}
}

// What does not fit is refused and never pushed; logging everybody out makes room.
func TestClaimsThatDoNotFit(t *testing.T) {
	t.Parallel()
	s := startSystem(t, 1)
	l := newLedger()
	fill(t, s, l, 12_000)
	d := startDesk(t, s, l, nil)
	eventually(t, func() error {
		problems := strings.Join(d.c.Status().Problems, "; ")
		return check(strings.Contains(problems, ErrClaimsFull.Error()) && strings.Contains(problems, "12000 entries"), "problems: %s", problems)
	})
	if n := d.pushes.Load(); n != 0 {
		t.Errorf("%d pushes", n)
	}
	r := d.store(policy.Logout, policy.Target{Account: s.App.ID})
	d.converged(r)
	d.everywhere("one entry", func(c *jwt.AccountClaims) bool { return len(c.Revocations) == 1 })
}

// Ten thousand entries are applied by every server.
func TestManyEntries(t *testing.T) {
	t.Parallel()
	s := startSystem(t, 3)
	l := newLedger()
	fill(t, s, l, 10_000)
	began := time.Now()
	d := startDesk(t, s, l, nil)
	// With the race detector the servers need some seconds for each.
	within(t, 8*soon, func() error {
		held, err := d.r.appliedEverywhere(t.Context(), s.App.ID)
		if err != nil {
			return err
		}
		return check(!slices.ContainsFunc(held, func(h serverClaims) bool { return h.found == nil || h.found.revocations() != 10_000 }), "not all entries everywhere")
	})
	t.Logf("10,000 entries applied on 3 servers %s after the start", time.Since(began))
}

// fill stores that many revocations of user keys.
func fill(t *testing.T, s *system, l *ledger, entries int) {
	t.Helper()
	for i := range entries {
		raw := sha256.Sum256(fmt.Append(nil, i))
		key, err := nkeys.Encode(nkeys.PrefixByteUser, raw[:])
		if err != nil {
			t.Fatal(err)
		}
		id := fmt.Sprint("fill", i)
		l.revocations[id] = store.Revocation{Revocation: policy.Revocation{
			ID: id, Kind: policy.UserKey, Target: policy.Target{Account: s.App.ID, Key: string(key)}, At: time.Now(),
		}}
	}
}

// Where nothing is asked nothing is written, nor what would lock Gatehouse out, though it is stored.
func TestClaimsAreLeftAlone(t *testing.T) {
	t.Parallel()
	s := startSystem(t, 1)
	d := startDesk(t, s, newLedger(), nil)
	d.store(policy.Suspension, policy.Target{Account: s.Callout.ID})
	d.store(policy.Logout, policy.Target{Account: s.System.ID})
	d.store(policy.Logout, policy.Target{Principal: policy.Principal{Issuer: "https://corp", Subject: "alice"}})
	for range 3 {
		passed(t, d)
	}
	if n := d.pushes.Load(); n != 0 || len(d.claims) > 0 {
		t.Errorf("%d pushes, %d accounts kept", n, len(d.claims))
	}
}

// Where there are no claims a logout of an account has nothing to wait for; where they cannot be changed, its direct
// users may still be in, and it says so.
func TestConvergedWithoutKey(t *testing.T) {
	t.Parallel()
	s := startSystem(t, 1)
	for absent, want := range map[bool]bool{true: true, false: false} {
		c := NewClaims(ClaimsOptions{
			Absent: absent, Resolver: New(Options{Conn: s.admin}), Store: newLedger(),
			Signer: func() nkeys.KeyPair { return nil }, Closed: func() Closed { return nil },
		})
		done, why, err := c.Converged(t.Context(), asked(policy.Logout, policy.Target{Account: s.App.ID}, nil))
		if err != nil || done != want || (why != "") == want {
			t.Errorf("absent %t: %t, %q, %v", absent, done, why, err)
		}
	}
}
