package resolver

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"
	"go.uber.org/goleak"

	"github.com/gatehouse-nats/gatehouse/internal/devstack/devtest"
	"github.com/gatehouse-nats/gatehouse/internal/setup"
	"github.com/gatehouse-nats/gatehouse/policy"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	// soon bounds every wait for what is expected to happen; it is ample, for busy machines.
	soon = 15 * time.Second
	// never is an interval so long that a test sees only the rounds that something woke.
	never = time.Hour
)

// system is a set-up of init with its servers running in this process.
type system struct {
	*setup.Set
	servers []*devtest.Server
	confs   []string   // their files
	admin   *nats.Conn // the emergency user of the system account, who may do everything
	app     *policy.Account
}

func startSystem(t *testing.T, servers int) *system {
	t.Helper()
	return startSystemAs(t, servers, devtest.InProcess)
}

func startSystemAs(t *testing.T, servers int, mode devtest.Mode) *system {
	t.Helper()
	return startSystemOf(t, setup.Options{Servers: servers, NoJetStream: true}, mode)
}

// startSystemOf starts a set-up whose ports it chooses, after edits of the servers' files.
func startSystemOf(t *testing.T, o setup.Options, mode devtest.Mode, edits ...func(string) string) *system {
	t.Helper()
	free := devtest.Ports(t, 4*o.Servers)
	var ports []setup.Ports
	for ; len(free) > 0; free = free[4:] {
		ports = append(ports, setup.Ports{Client: free[0], Cluster: free[1], Monitor: free[2], WebSocket: free[3]})
	}
	o.Ports = ports
	set, err := setup.New(o)
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(t.TempDir(), "set")
	if err := set.Write(dir); err != nil {
		t.Fatal(err)
	}
	var confs []string
	for i := range o.Servers {
		confs = append(confs, filepath.Join(dir, set.ServerFile(i)))
		for _, edit := range edits {
			rewrite(t, confs[i], edit)
		}
	}
	s := &system{Set: set, servers: devtest.StartServers(t, confs, mode), confs: confs}
	s.admin = s.connect(t, set.EmergencySystemCreds)
	s.app = &policy.Account{Name: set.App.Name, ID: set.App.ID, SigningKeys: []string{public(t, set.App.SigningKey)}}
	return s
}

// rewrite edits a file.
func rewrite(t *testing.T, path string, edit func(string) string) {
	t.Helper()
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(edit(string(content))), 0o600); err != nil {
		t.Fatal(err)
	}
}

// connect opens a connection to all servers that comes back by itself and never buffers, as
// the service's own does.
func (s *system) connect(t *testing.T, creds setup.Secret, opts ...nats.Option) *nats.Conn {
	t.Helper()
	nc, err := nats.Connect(s.ClientURL(), append(opts, nats.UserCredentialBytes([]byte(creds.Reveal())),
		nats.MaxReconnects(-1), nats.ReconnectWait(20*time.Millisecond), nats.ReconnectJitter(0, 0),
		nats.ReconnectBufSize(-1), nats.IgnoreAuthErrorAbort())...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	return nc
}

// run returns a resolver that runs until the test ends, with the system user of the set-up.
func (s *system) run(t *testing.T, o Options, need map[string]Requirement, opts ...nats.Option) *Resolver {
	t.Helper()
	o.Conn = s.connect(t, s.SystemCreds, opts...)
	return run(t, o, need)
}

// run returns a resolver that runs until the test ends.
func run(t *testing.T, o Options, need map[string]Requirement) *Resolver {
	t.Helper()
	return runWith(t, o, need, func(*Resolver) {})
}

// runWith is run with something that is to be done before.
func runWith(t *testing.T, o Options, need map[string]Requirement, before func(*Resolver)) *Resolver {
	t.Helper()
	o.Logger = devtest.Log(t)
	r := New(o)
	before(r)
	r.SetAccounts(need)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- r.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := await(t, done); err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	return r
}

// need is what Gatehouse needs of the accounts of the set-up.
func (s *system) need(t *testing.T) map[string]Requirement {
	t.Helper()
	return map[string]Requirement{
		s.App.ID: {Name: s.App.Name, SigningKeys: s.app.SigningKeys},
		s.Callout.ID: {Name: "the callout account", SigningKeys: []string{public(t, s.Callout.SigningKey)}, Callout: &CalloutRequirement{
			XKey: public(t, s.XKey), AllowedAccounts: []string{s.App.ID},
		}},
	}
}

// push gives every server the account's original claims after an edit.
func (s *system) push(t *testing.T, account setup.Account, edit func(*jwt.AccountClaims)) {
	t.Helper()
	claims, err := jwt.DecodeAccountClaims(account.JWT)
	if err != nil {
		t.Fatal(err)
	}
	if edit != nil {
		edit(claims)
	}
	operator, err := nkeys.FromSeed([]byte(s.OperatorSigningKey.Reveal()))
	if err != nil {
		t.Fatal(err)
	}
	token, err := claims.Encode(operator)
	if err != nil {
		t.Fatal(err)
	}
	for _, answer := range s.ask(t, "$SYS.REQ.CLAIMS.UPDATE", token) {
		var result struct{ Data struct{ Code int } }
		if err := json.Unmarshal(answer, &result); err != nil || result.Data.Code != 200 {
			t.Fatalf("push of %s: %s", account.Name, answer)
		}
	}
}

// ask returns the answers of all servers that run.
func (s *system) ask(t *testing.T, subject, body string) [][]byte {
	t.Helper()
	sub, err := s.admin.SubscribeSync(s.admin.NewInbox())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = sub.Unsubscribe() }()
	if err := s.admin.PublishRequest(subject, sub.Subject, []byte(body)); err != nil {
		t.Fatal(err)
	}
	var answers [][]byte
	for len(answers) < len(s.servers) {
		msg, err := sub.NextMsg(soon)
		if err != nil {
			t.Fatalf("%s: %d of %d servers answered: %v", subject, len(answers), len(s.servers), err)
		}
		answers = append(answers, msg.Data)
	}
	return answers
}

// id returns the id of the server behind a connection.
func id(t *testing.T, s *devtest.Server, creds setup.Secret) string {
	t.Helper()
	nc, err := nats.Connect(s.ClientURL(), nats.UserCredentialBytes([]byte(creds.Reveal())))
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	return nc.ConnectedServerId()
}

// away returns a server that the connection does not go to, and its name.
func (s *system) away(t *testing.T, nc *nats.Conn) (*devtest.Server, string) {
	t.Helper()
	home := nc.ConnectedServerName()
	return s.find(t, func(name string) bool { return name != home })
}

// home returns the server that the connection goes to, and its name.
func (s *system) home(t *testing.T, nc *nats.Conn) (*devtest.Server, string) {
	t.Helper()
	home := nc.ConnectedServerName()
	return s.find(t, func(name string) bool { return name == home })
}

// find returns a server by its name.
func (s *system) find(t *testing.T, wanted func(name string) bool) (*devtest.Server, string) {
	t.Helper()
	for _, server := range s.servers {
		nc, err := nats.Connect(server.ClientURL(), nats.UserCredentialBytes([]byte(s.EmergencySystemCreds.Reveal())), nats.IgnoreDiscoveredServers())
		if err != nil {
			t.Fatal(err)
		}
		name := nc.ConnectedServerName()
		nc.Close()
		if wanted(name) {
			return server, name
		}
	}
	t.Fatal("there is no such server")
	return nil, ""
}

// newServerKey returns an id as a server that does not exist might have it.
func newServerKey(t *testing.T) string {
	t.Helper()
	kp, err := nkeys.CreateServer()
	if err != nil {
		t.Fatal(err)
	}
	key, err := kp.PublicKey()
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func newAccount(t *testing.T, name string) setup.Account {
	t.Helper()
	identity, err := nkeys.CreateAccount()
	if err != nil {
		t.Fatal(err)
	}
	key, err := identity.PublicKey()
	if err != nil {
		t.Fatal(err)
	}
	claims := jwt.NewAccountClaims(key)
	claims.Name = name
	token, err := claims.Encode(identity) // push signs it again
	if err != nil {
		t.Fatal(err)
	}
	return setup.Account{Name: name, ID: key, JWT: token}
}

// public returns the public key of a seed.
func public(t *testing.T, seed setup.Secret) string {
	t.Helper()
	kp, err := nkeys.FromSeed([]byte(seed.Reveal()))
	if err != nil {
		t.Fatal(err)
	}
	key, err := kp.PublicKey()
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// shiftedClock is a clock that tests move.
type shiftedClock struct{ shift atomic.Int64 }

func (c *shiftedClock) now() time.Time          { return time.Now().Add(time.Duration(c.shift.Load())) }
func (c *shiftedClock) advance(d time.Duration) { c.shift.Add(int64(d)) }

// cuttable is a line to the servers that a test cuts and mends.
type cuttable struct {
	mu   sync.Mutex
	down bool
	conn net.Conn
}

// Dial implements nats.CustomDialer.
func (c *cuttable) Dial(network, address string) (net.Conn, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.down {
		return nil, errors.New("the line is cut")
	}
	conn, err := net.Dial(network, address)
	c.conn = conn
	return conn, err
}

func (c *cuttable) cut() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.down = true
	_ = c.conn.Close()
}

func (c *cuttable) mend() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.down = false
}

// eventually repeats f until it returns nil.
func eventually(t *testing.T, f func() error) {
	t.Helper()
	within(t, soon, f)
}

// within is eventually with another limit.
func within(t *testing.T, limit time.Duration, f func() error) {
	t.Helper()
	deadline := time.Now().Add(limit)
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

// ready waits until the resolver is.
func ready(t *testing.T, r *Resolver) {
	t.Helper()
	eventually(t, r.Ready)
}

// known asks as the callout does: it waits once for a search that is under way.
func known(t *testing.T, r *Resolver, id string) bool {
	t.Helper()
	ok, pending := r.Known(id)
	if pending == nil {
		return ok
	}
	if ok {
		t.Fatal("known and pending at the same time")
	}
	await(t, pending)
	if ok, pending = r.Known(id); pending != nil {
		t.Fatalf("still pending after a search (known: %t)", ok)
	}
	return ok
}

// check returns an error unless ok, for [eventually].
func check(ok bool, format string, args ...any) error {
	if ok {
		return nil
	}
	return fmt.Errorf(format, args...)
}
