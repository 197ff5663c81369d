package resolver

import (
	"context"
	"encoding/json"
	"errors"
	"maps"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/nats-io/nats.go"

	"github.com/gatehouse-nats/gatehouse/api"
	"github.com/gatehouse-nats/gatehouse/internal/devstack/devtest"
	"github.com/gatehouse-nats/gatehouse/policy"
	"github.com/gatehouse-nats/gatehouse/store"
)

// office is what a sweeper works with besides the servers: the store's part, the snapshot, the replicas and
// the claims, in memory and in the hands of the test.
type office struct {
	mu       sync.Mutex
	gate     *gate
	stored   []store.Revocation
	progress map[string]api.Progress
	absent   map[string]map[string]string // servers, by revocation id
	done     map[string]chan struct{}
	leases   map[string]string // holder by name
	missing  []string          // replicas that do not confirm
	claims   map[string]bool   // applied, by revocation id; all of those that are not here
	told     map[string]int    // announcements by revocation id
	failing  error             // of the records
	asked    int               // how often for keys
	maxTTL   time.Duration
}

func newOffice(g *gate) *office {
	return &office{
		gate: g, progress: map[string]api.Progress{}, absent: map[string]map[string]string{}, done: map[string]chan struct{}{}, leases: map[string]string{},
		claims: map[string]bool{}, told: map[string]int{}, maxTTL: time.Hour,
	}
}

func (o *office) Unfinished(context.Context, int) ([]store.Revocation, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(o.stored), func(r store.Revocation) bool { return o.progress[r.ID].Done || !r.LiftedAt.IsZero() }), nil
}

func (o *office) SaveProgress(_ context.Context, id string, progress json.RawMessage, done bool) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	var p saved
	if err := json.Unmarshal(progress, &p); err != nil || p.Done != done {
		return errors.Join(err, errors.New("the progress says something else"))
	}
	o.progress[id], o.absent[id] = p.Progress, p.Absent
	if done {
		close(o.done[id])
	}
	return nil
}

func (o *office) Acquire(_ context.Context, name, holder string, _ time.Duration) (bool, time.Time, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if other, ok := o.leases[name]; ok && other != holder {
		return false, time.Time{}, nil
	}
	o.leases[name] = holder
	return true, time.Time{}, nil
}

func (o *office) Release(_ context.Context, name, holder string) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.leases[name] == holder {
		delete(o.leases, name)
	}
	return nil
}

func (o *office) Announce(_ context.Context, r store.Revocation, _ bool) (confirmed, missing []string, err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.told[r.ID]++
	return []string{"here"}, slices.Clone(o.missing), nil
}

func (o *office) Converged(_ context.Context, r store.Revocation) (bool, string, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if applied, ok := o.claims[r.ID]; ok && !applied {
		return false, "server s1 has not applied them", nil
	}
	return true, "", nil
}

func (o *office) Join(_ context.Context, list []policy.Session) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.failing != nil {
		return o.failing
	}
	o.gate.mu.Lock()
	defer o.gate.mu.Unlock()
	for i, s := range list {
		if login, ok := o.gate.logins[connectionID{s.ServerID, s.CID}]; ok {
			list[i].Login = &login
		}
	}
	return nil
}

func (o *office) Keys(context.Context, policy.Principal) ([]string, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.asked++
	return nil, o.failing
}

func (o *office) State() *policy.Snapshot {
	o.mu.Lock()
	defer o.mu.Unlock()
	var list []policy.Revocation
	for _, r := range o.stored {
		if r.LiftedAt.IsZero() {
			list = append(list, r.Revocation)
		}
	}
	return &policy.Snapshot{
		Rules:       &policy.Rules{Issuers: map[string]string{issuerName: issuer}},
		Revocations: policy.NewRevocations(list),
	}
}

// store keeps a revocation, and denies by it as replicas do.
func (o *office) store(kind policy.RevocationKind, target policy.Target) store.Revocation {
	r := store.Revocation{Revocation: policy.Revocation{ID: uuid.NewString(), Kind: kind, Target: target, At: time.Now()}}
	if kind == policy.Block {
		o.gate.deny(target.Subject)
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.stored = append(o.stored, r)
	o.done[r.ID] = make(chan struct{})
	return r
}

func identity(subject string) policy.Target {
	return policy.Target{Principal: policy.Principal{Issuer: issuer, Subject: subject}}
}

// finished waits until the sweep is done and returns what it says.
func (o *office) finished(t *testing.T, r store.Revocation) api.Progress {
	t.Helper()
	o.mu.Lock()
	done := o.done[r.ID]
	o.mu.Unlock()
	select {
	case <-done:
	case <-time.After(soon):
		o.mu.Lock()
		defer o.mu.Unlock()
		t.Fatalf("not done in time: %+v", o.progress[r.ID])
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.progress[r.ID]
}

// sweeper returns a sweeper that runs until the test ends, or stop is called.
func (o *office) sweeper(t *testing.T, r *Resolver, replica string) (s *Sweeper, stop func()) {
	t.Helper()
	s = NewSweeper(SweeperOptions{
		Resolver: r, Records: o, Ledger: o, Replicas: o, Claims: o, State: o.State,
		MaxTTL: func() time.Duration { return o.maxTTL }, Replica: replica, Logger: devtest.Log(t),
	})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := await(t, done); err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	t.Cleanup(stop)
	eventually(t, func() error {
		s.mu.Lock()
		defer s.mu.Unlock()
		return check(s.life != nil, "the sweeper does not run")
	})
	return s, stop
}

// scene is a system with a gate, a resolver and a sweeper.
type scene struct {
	*system
	*gate
	*office
	r *Resolver
	s *Sweeper
}

func newPlace(t *testing.T, servers int, mode devtest.Mode) *scene {
	t.Helper()
	p := &scene{system: startSystemAs(t, servers, mode)}
	p.r = p.run(t, Options{Interval: 200 * time.Millisecond}, p.need(t))
	ready(t, p.r)
	p.gate = p.admit(t)
	p.office = newOffice(p.gate)
	p.s, _ = p.sweeper(t, p.r, "here")
	return p
}

// everywhere logs the subject in on each server.
func (p *scene) everywhere(subject string) (list []*client) {
	for _, server := range p.servers {
		list = append(list, p.login(server.ClientURL(), subject))
	}
	return list
}

// mustStay fails the test when one of the connections was closed.
func mustStay(t *testing.T, list []*client) {
	t.Helper()
	for _, c := range list {
		if err := c.FlushTimeout(soon); err != nil {
			t.Errorf("a connection on %s that was to stay: %v", c.ConnectedServerName(), err)
		}
	}
}

// A blocked identity's connections are closed on every server, and nobody else's.
func TestSweepClosesEverywhere(t *testing.T) {
	t.Parallel()
	p := newPlace(t, 3, devtest.InProcess)
	alice, bob := append(p.everywhere("alice"), p.everywhere("alice")...), p.everywhere("bob")
	r := p.store(policy.Block, identity("alice"))
	p.s.Start(r)
	for _, c := range alice {
		await(t, c.closed)
	}
	got := p.finished(t, r)
	if got.Closed != len(alice) || got.Left != 0 || got.ServersAnswered != 3 || got.ServersKnown != 3 || len(got.ServersMissing) != 0 || got.Replicas != 1 ||
		time.Duration(got.TookMS)*time.Millisecond < authTimeout {
		t.Errorf("progress %+v, want %d closed on 3 servers, no sooner than %s", got, len(alice), authTimeout)
	}
	mustStay(t, bob)
	if len(p.leases) != 0 {
		t.Errorf("leases are left: %v", p.leases)
	}
}

// A login that was allowed before the block, and connects after the first look, is closed when it arrives.
func TestSweepClosesWhoArrivesLate(t *testing.T) {
	t.Parallel()
	p := newPlace(t, 3, devtest.InProcess)
	release := p.hold("alice")
	connected := make(chan *client, 1)
	go func() {
		c := &client{closed: make(chan struct{})}
		var err error
		c.Conn, err = nats.Connect(p.servers[1].ClientURL(), nats.Token("alice"), nats.NoReconnect(), nats.IgnoreDiscoveredServers(), nats.Timeout(soon),
			nats.ClosedHandler(func(*nats.Conn) { close(c.closed) }))
		if err != nil { // it was closed as soon as it was there
			c.Conn = nil
			close(c.closed)
		}
		connected <- c
	}()
	await(t, p.deciding)
	r := p.store(policy.Block, identity("alice"))
	p.s.Start(r)
	eventually(t, func() error {
		p.s.mu.Lock()
		defer p.s.mu.Unlock()
		for _, st := range p.s.sweeps[r.ID].servers {
			if st.looks == 0 {
				return errors.New("a server was not looked at yet")
			}
		}
		return nil
	})
	release()
	c := await(t, connected)
	if c.Conn != nil {
		defer c.Close()
	}
	await(t, c.closed)
	if got := p.finished(t, r); got.ServersAnswered != 3 {
		t.Errorf("progress %+v", got)
	}
}

// The proof waits for every replica, while connections are closed at once.
func TestProofWaitsForReplicas(t *testing.T) {
	t.Parallel()
	p := newPlace(t, 1, devtest.InProcess)
	p.missing = []string{"frozen"}
	alice := p.everywhere("alice")
	r := p.store(policy.Block, identity("alice"))
	p.s.Start(r)
	await(t, alice[0].closed)
	eventually(t, func() error {
		got, _ := p.s.Progress(r.ID)
		return check(slices.Equal(got.ReplicasMissing, []string{"frozen"}) && got.ReplicasKnown == 2 && got.Closed == 1, "%+v", got)
	})
	// It goes on telling them.
	eventually(t, func() error {
		p.office.mu.Lock()
		defer p.office.mu.Unlock()
		return check(p.told[r.ID] > 3, "told %d times", p.told[r.ID])
	})
	if got, _ := p.s.Progress(r.ID); got.Done || got.ServersAnswered != 0 {
		t.Errorf("proven while a replica may admit: %+v", got)
	}
	p.office.mu.Lock()
	p.missing = nil
	p.office.mu.Unlock()
	if got := p.finished(t, r); got.Replicas != 1 || got.ReplicasKnown != 1 {
		t.Errorf("progress %+v", got)
	}
}

// Direct users are known by the records alone, so that nothing is proven while those cannot be read.
func TestProofWaitsForRecords(t *testing.T) {
	t.Parallel()
	p := newPlace(t, 1, devtest.InProcess)
	alice := p.everywhere("alice")
	p.office.mu.Lock()
	p.failing = errors.New("the store does not answer")
	p.office.mu.Unlock()
	r := p.store(policy.Block, identity("alice"))
	p.s.Start(r)
	await(t, alice[0].closed)
	before := -1 // how often keys were asked for when what servers show began to count
	eventually(t, func() error {
		p.s.mu.Lock()
		w := p.s.sweeps[r.ID]
		if w == nil || w.took > 0 {
			p.s.mu.Unlock()
			t.Fatal("proven without the records")
		}
		settled := w.settled
		p.s.mu.Unlock()
		p.office.mu.Lock()
		defer p.office.mu.Unlock()
		if before < 0 && !settled.IsZero() && time.Now().After(settled) {
			before = p.asked
		}
		return check(before >= 0 && p.asked > before+1, "asked %d times, %d before it counted", p.asked, before)
	})
	p.office.mu.Lock()
	p.failing = nil
	p.office.mu.Unlock()
	p.finished(t, r)
}

// Of whom the records do not tell whether a block by claims means them is closed and comes back: not again and again,
// however long another replica takes, or whatever joins.
func TestWhoIsLetInAgainStays(t *testing.T) {
	t.Parallel()
	p := newPlace(t, 1, devtest.InProcess)
	p.missing = []string{"frozen"}
	p.gate.mu.Lock()
	p.gate.replica = "here"
	p.gate.mu.Unlock()
	bob := p.login(p.ClientURL(), "bob")
	r := p.store(policy.Block, policy.Target{Principal: policy.Principal{Issuer: issuer}, Match: `{"groups":["contractors"]}`})
	p.s.Start(r)
	await(t, bob.closed)
	id := p.r.Servers()[0].ID
	stays := func(shown func(since time.Time) error) {
		t.Helper()
		since := time.Now()
		bob = p.login(p.ClientURL(), "bob")
		eventually(t, func() error {
			select {
			case <-bob.closed: // as before a moment ago
				since = time.Now()
				bob = p.login(p.ClientURL(), "bob")
			default:
			}
			return shown(since)
		})
		mustStay(t, []*client{bob})
	}
	stays(func(since time.Time) error {
		p.s.mu.Lock()
		defer p.s.mu.Unlock()
		st := p.s.sweeps[r.ID].servers[id]
		return check(st.clean.After(since), "no look that spares who was let in at %s", since)
	})
	p.office.mu.Lock()
	p.missing = nil
	p.office.mu.Unlock()
	p.finished(t, r)
	p.s.joined(p.r.Servers()[0])
	await(t, bob.closed)
	stays(func(since time.Time) error {
		p.s.mu.Lock()
		defer p.s.mu.Unlock()
		f := p.s.fronts[id]
		return check(f == nil || f.enforce.IsZero(), "everything is still enforced on who was let in at %s", since)
	})
}

// A server that stands still during the revocation is named, and its connections are closed when it goes on.
func TestFrozenServerIsSweptWhenItIsBack(t *testing.T) {
	t.Parallel()
	p := newPlace(t, 3, devtest.AsProcess)
	frozen, name := p.away(t, p.r.nc)
	alice, bob := p.login(frozen.ClientURL(), "alice"), p.login(frozen.ClientURL(), "bob")
	frozen.Freeze()
	r := p.store(policy.Block, identity("alice"))
	p.s.Start(r)
	eventually(t, func() error {
		got, _ := p.s.Progress(r.ID)
		return check(slices.Equal(got.ServersMissing, []string{name}) && got.ServersAnswered == 2, "%+v, want %s missing", got, name)
	})
	if got, _ := p.s.Progress(r.ID); got.Done {
		t.Errorf("proven without %s: %+v", name, got)
	}
	frozen.Thaw()
	await(t, alice.closed)
	if got := p.finished(t, r); got.ServersAnswered != 3 || len(got.ServersMissing) != 0 || got.Closed != 1 {
		t.Errorf("progress %+v", got)
	}
	mustStay(t, []*client{bob})
}

// The server through which the others are asked may be the one that stands still.
func TestFrozenServerOfTheSystemConnection(t *testing.T) {
	t.Parallel()
	p := newPlace(t, 3, devtest.AsProcess)
	elsewhere, _ := p.away(t, p.r.nc)
	frozen, name := p.home(t, p.r.nc)
	alice := p.login(elsewhere.ClientURL(), "alice")
	frozen.Freeze()
	defer frozen.Thaw()
	r := p.store(policy.Block, identity("alice"))
	p.s.Start(r)
	await(t, alice.closed)
	eventually(t, func() error {
		got, _ := p.s.Progress(r.ID)
		return check(slices.Equal(got.ServersMissing, []string{name}) && got.ServersAnswered == 2, "%+v, want %s missing alone", got, name)
	})
}

// A server that was silent while a revocation was carried out without it has it enforced when it is back.
func TestReturningServerIsEnforced(t *testing.T) {
	t.Parallel()
	p := newPlace(t, 3, devtest.AsProcess)
	frozen, _ := p.away(t, p.r.nc)
	alice, bob := p.login(frozen.ClientURL(), "alice"), p.login(frozen.ClientURL(), "bob")
	id := alice.ConnectedServerId()
	frozen.Freeze()
	eventually(t, func() error {
		p.r.mu.RLock()
		defer p.r.mu.RUnlock()
		return check(p.r.servers[id].missed > 0, "the frozen server is not missed")
	})
	p.store(policy.Block, identity("alice")) // that another replica has carried out
	frozen.Thaw()
	await(t, alice.closed)
	mustStay(t, []*client{bob})
}

// A server that joins may lack the claims that all others have applied: they are asked for anew, and until they are
// there nothing is proven and direct users are left alone.
func TestJoiningServerUnsettles(t *testing.T) {
	t.Parallel()
	p := newPlace(t, 1, devtest.InProcess)
	absent := newServerKey(t)
	r := p.store(policy.Block, identity("alice"))
	progress, err := json.Marshal(saved{Absent: map[string]string{absent: "frozen"}})
	if err != nil {
		t.Fatal(err)
	}
	r.Progress = progress
	p.s.Start(r)
	settled := func() bool {
		p.s.mu.Lock()
		defer p.s.mu.Unlock()
		return !p.s.sweeps[r.ID].settled.IsZero()
	}
	eventually(t, func() error { return check(settled(), "not settled") })
	p.office.mu.Lock()
	p.claims[r.ID] = false
	p.office.mu.Unlock()
	p.s.joined(p.r.Servers()[0])
	eventually(t, func() error {
		got, _ := p.s.Progress(r.ID)
		return check(got.Claims != "", "the claims are not asked for again: %+v", got)
	})
	p.s.left(absent)
	if settled() {
		t.Error("settled without the claims")
	}
	p.office.mu.Lock()
	p.claims[r.ID] = true
	p.office.mu.Unlock()
	p.finished(t, r)
}

// A server that was forgotten before the revocation, since it had fallen silent, is waited for as any other: what it
// let in is there still.
func TestLostServerIsWaitedFor(t *testing.T) {
	t.Parallel()
	p := newPlace(t, 1, devtest.InProcess)
	lost, expired := newServerKey(t), newServerKey(t)
	p.r.mu.Lock()
	for id, seen := range map[string]time.Time{lost: time.Now(), expired: time.Now().Add(-2 * p.maxTTL)} {
		p.r.servers[id] = &server{Server: Server{ID: id, Name: "lost", Seen: seen}, missed: forgetAfter, accounts: map[string]AccountState{}}
	}
	p.r.mu.Unlock()
	p.r.Wake()
	eventually(t, func() error { return check(!p.r.knows(lost) && !p.r.knows(expired), "not forgotten yet") })
	r := p.store(policy.Block, identity("alice"))
	p.s.Start(r)
	eventually(t, func() error {
		got, _ := p.s.Progress(r.ID)
		return check(got.ServersKnown == 2 && got.ServersAnswered == 1 && slices.Equal(got.ServersMissing, []string{"lost"}), "%+v", got)
	})
	if p.r.forget(lost) {
		t.Error("known again")
	}
	p.finished(t, r)
	other := p.store(policy.Block, identity("bob")) // it ended: nobody waits for it any more
	p.s.Start(other)
	if got := p.finished(t, other); got.ServersKnown != 1 {
		t.Errorf("progress %+v", got)
	}
}

// However many revocations wait for a server that does not answer, a new one is carried out.
func TestNewRevocationFindsRoom(t *testing.T) {
	t.Parallel()
	p := newPlace(t, 1, devtest.InProcess)
	alice := p.everywhere("alice")
	p.s.mu.Lock()
	now := time.Now()
	for i := range maxSweeps {
		w := &sweep{
			revocation: store.Revocation{Revocation: policy.Revocation{ID: uuid.NewString(), Kind: policy.Suspension, At: now.Add(time.Duration(-i) * time.Minute)}},
			settled:    now, servers: map[string]*standing{"lost": {failed: 1}, "here": {clean: now}},
		}
		if i == maxSweeps-1 {
			w.servers["here"].clean = now.Add(-time.Second) // the oldest still has something to do
		}
		p.s.sweeps[w.revocation.ID] = w
	}
	p.s.mu.Unlock()
	r := p.store(policy.Block, identity("alice"))
	p.s.Start(r)
	await(t, alice[0].closed)
	p.finished(t, r)
	p.s.mu.Lock()
	defer p.s.mu.Unlock()
	oldest := now
	for _, w := range p.s.sweeps {
		if w.idle() && w.revocation.At.Before(oldest) {
			oldest = w.revocation.At
		}
	}
	if want := now.Add((3 - maxSweeps) * time.Minute); !oldest.Equal(want) {
		t.Errorf("the oldest that waits is of %s, want %s: the one before it makes room", oldest, want)
	}
}

// What is given up to make room is taken up again when there is some.
func TestDroppedSweepIsTakenUpAgain(t *testing.T) {
	t.Parallel()
	p := newPlace(t, 1, devtest.InProcess)
	p.missing = []string{"frozen"}
	r := p.store(policy.Block, identity("alice"))
	p.s.Start(r)
	eventually(t, func() error {
		p.office.mu.Lock()
		defer p.office.mu.Unlock()
		return check(p.leases[leaseName(r.ID)] == "here", "no lease")
	})
	p.s.mu.Lock()
	w := p.s.sweeps[r.ID]
	p.s.drop(w)
	w.stir()
	p.s.mu.Unlock()
	await(t, w.ended)
	if w.took > 0 {
		t.Error("it was carried out")
	}
	p.office.mu.Lock()
	p.missing = nil
	p.office.mu.Unlock()
	p.finished(t, r)
}

// While a sweep waits for a server that does not answer, logins elsewhere are none of its business: each would have all
// connections of its server asked for.
func TestSettledSweepLeavesArrivalsAlone(t *testing.T) {
	t.Parallel()
	p := newPlace(t, 1, devtest.InProcess)
	r := p.store(policy.Logout, policy.Target{Principal: policy.Principal{Issuer: issuer}, Session: "phone"})
	progress, err := json.Marshal(saved{Absent: map[string]string{newServerKey(t): "frozen"}})
	if err != nil {
		t.Fatal(err)
	}
	r.Progress = progress
	p.s.Start(r)
	here := p.r.Servers()[0]
	var settled time.Time
	eventually(t, func() error {
		p.s.mu.Lock()
		defer p.s.mu.Unlock()
		w := p.s.sweeps[r.ID]
		settled = w.settled
		return check(w.servers[here.ID].over(settled), "%s has not shown that nothing is left", here.Name)
	})
	// arrives reports whether the server is asked again because of a login at the time by our clock.
	arrives := func(at time.Time) bool {
		event := connectEvent{Server: serverInfo{ID: here.ID, Name: here.Name}}
		event.Client.ID, event.Client.User, event.Client.Start = 1<<40, policy.PrincipalName(issuerName, "bob"), at.Add(p.r.Offset(here.ID))
		data, err := json.Marshal(event)
		if err != nil {
			t.Fatal(err)
		}
		p.s.mu.Lock()
		looks := p.s.sweeps[r.ID].servers[here.ID].looks
		p.s.mu.Unlock()
		p.s.onConnect(&nats.Msg{Data: data})
		p.s.mu.Lock()
		defer p.s.mu.Unlock()
		st := p.s.sweeps[r.ID].servers[here.ID]
		return !st.due.IsZero() || st.looks > looks
	}
	if arrives(settled.Add(time.Minute)) {
		t.Error("asked again for a login that was decided on by replicas that knew")
	}
	if !arrives(settled.Add(-authTimeout)) {
		t.Error("not asked again for a login of before")
	}
}

// A server that shuts down, or is back under another id, is not waited for.
func TestServersThatEndAreNotWaitedFor(t *testing.T) {
	t.Parallel()
	p := newPlace(t, 3, devtest.AsProcess)
	dead, name := p.away(t, p.r.nc)
	dead.Kill()
	r := p.store(policy.Block, identity("alice"))
	p.s.Start(r)
	eventually(t, func() error {
		got, _ := p.s.Progress(r.ID)
		return check(slices.Equal(got.ServersMissing, []string{name}), "%+v, want %s missing", got, name)
	})
	dead.Start()
	if got := p.finished(t, r); got.ServersAnswered != 3 {
		t.Errorf("after a restart: %+v", got)
	}
	other := p.store(policy.Block, identity("bob"))
	dead.Stop()
	p.s.Start(other)
	if got := p.finished(t, other); got.ServersAnswered != 2 || got.ServersKnown != 2 {
		t.Errorf("after a shutdown: %+v", got)
	}
}

// Nothing is waited for once every credential of before has expired.
func TestProofByExpiry(t *testing.T) {
	t.Parallel()
	w := &sweep{servers: map[string]*standing{"N": {failed: 3}}}
	now := time.Now()
	if w.over(now, 0) {
		t.Error("over before any replica has confirmed")
	}
	w.settle(now)
	for after, want := range map[time.Duration]bool{time.Minute: false, time.Hour: false, time.Hour + 1: true} {
		if got := w.over(now.Add(after), time.Hour); got != want {
			t.Errorf("over after %s: %t", after, got)
		}
	}
}

// What the replica that stored a revocation did not finish, another does; two never do it at once.
func TestAnotherReplicaFinishes(t *testing.T) {
	t.Parallel()
	p := newPlace(t, 3, devtest.InProcess)
	alice := p.everywhere("alice")
	r := p.store(policy.Block, identity("alice"))
	p.office.mu.Lock()
	p.stored[0].At = r.At.Add(-writerTime)
	p.leases[leaseName(r.ID)] = "killed"
	p.office.mu.Unlock()
	if err := p.s.takeOver(t.Context()); err != nil || p.s.carries(r.ID) {
		t.Fatalf("took over what another replica carries: %v", err)
	}
	mustStay(t, alice)
	p.office.mu.Lock()
	delete(p.leases, leaseName(r.ID)) // its time is up
	p.office.mu.Unlock()
	for _, c := range alice {
		await(t, c.closed)
	}
	if got := p.finished(t, r); got.Closed != 3 {
		t.Errorf("progress %+v", got)
	}
}

// What the replica before had no answer from is waited for by the next one too, which may never have known it.
func TestSuccessorWaitsForAbsentServers(t *testing.T) {
	t.Parallel()
	p := newPlace(t, 1, devtest.InProcess)
	absent := newServerKey(t)
	r := p.store(policy.Block, identity("alice"))
	progress, err := json.Marshal(saved{Progress: api.Progress{Closed: 4}, Absent: map[string]string{absent: "frozen", "$SYS.>": "forged"}})
	if err != nil {
		t.Fatal(err)
	}
	r.Progress = progress
	p.s.Start(r)
	eventually(t, func() error {
		got, _ := p.s.Progress(r.ID)
		return check(got.ServersKnown == 2 && got.ServersAnswered == 1 && slices.Equal(got.ServersMissing, []string{"frozen"}) && got.Closed == 4, "%+v", got)
	})
	eventually(t, func() error { // and hands it on
		p.office.mu.Lock()
		defer p.office.mu.Unlock()
		return check(maps.Equal(p.absent[r.ID], map[string]string{absent: "frozen"}), "saved as absent: %v", p.absent[r.ID])
	})
	p.s.left(absent)
	p.finished(t, r)
}

// A replica that starts enforces what is in force on every server: nobody may have asked them since long.
func TestStartEnforces(t *testing.T) {
	t.Parallel()
	s := startSystem(t, 1)
	r := s.run(t, Options{Interval: never}, s.need(t))
	ready(t, r)
	g := s.admit(t)
	alice, bob := g.login(s.ClientURL(), "alice"), g.login(s.ClientURL(), "bob")
	o := newOffice(g)
	o.store(policy.Block, identity("alice")) // which counts as carried out
	o.progress[o.stored[0].ID] = api.Progress{Done: true}
	o.sweeper(t, r, "here")
	await(t, alice.closed)
	mustStay(t, []*client{bob})
}

// A replica that ends gives up what it carries.
func TestEndingReplicaLeavesItsSweeps(t *testing.T) {
	t.Parallel()
	p := newPlace(t, 1, devtest.InProcess)
	p.missing = []string{"frozen"}
	other := p.run(t, Options{Interval: never}, p.need(t))
	ready(t, other)
	s, stop := p.sweeper(t, other, "there")
	r := p.store(policy.Block, identity("alice"))
	s.Start(r)
	eventually(t, func() error {
		p.office.mu.Lock()
		defer p.office.mu.Unlock()
		return check(p.leases[leaseName(r.ID)] == "there", "leases %v", maps.Clone(p.leases))
	})
	stop()
	p.office.mu.Lock()
	p.missing = nil
	p.office.mu.Unlock()
	p.finished(t, r)
}

// What only claims can void is not closed before they are applied, and a lift ends the sweep.
func TestSweepWaitsForClaims(t *testing.T) {
	t.Parallel()
	p := newPlace(t, 1, devtest.InProcess)
	alice := p.everywhere("alice")
	r := p.store(policy.SigningKey, policy.Target{Account: p.App.ID, Key: p.app.SigningKeys[0]})
	p.office.mu.Lock()
	p.claims[r.ID] = false
	p.office.mu.Unlock()
	p.s.Start(r)
	eventually(t, func() error {
		got, _ := p.s.Progress(r.ID)
		return check(got.Claims != "" && got.Left == 1, "%+v", got)
	})
	mustStay(t, alice)
	p.office.mu.Lock()
	p.claims[r.ID] = true
	p.office.mu.Unlock()
	await(t, alice[0].closed)
	if got := p.finished(t, r); got.Claims != "" || got.Closed != 1 {
		t.Errorf("progress %+v", got)
	}
}

func TestLiftEndsTheSweep(t *testing.T) {
	t.Parallel()
	p := newPlace(t, 1, devtest.InProcess)
	p.missing = []string{"frozen"}
	r := p.store(policy.Block, identity("alice"))
	p.s.Start(r)
	eventually(t, func() error {
		p.office.mu.Lock()
		defer p.office.mu.Unlock()
		return check(p.leases[leaseName(r.ID)] == "here", "no lease")
	})
	p.office.mu.Lock()
	p.stored[0].LiftedAt = time.Now()
	p.office.mu.Unlock()
	p.gate.permit("alice")
	back := p.login(p.ClientURL(), "alice") // at once, while the sweep is still there
	ctx, cancel := context.WithTimeout(t.Context(), soon)
	defer cancel()
	p.s.Wait(ctx, r.ID)
	mustStay(t, []*client{back})
	if ctx.Err() != nil || p.s.carries(r.ID) || p.progress[r.ID].Done {
		t.Errorf("still carried, or done: %v, %+v", ctx.Err(), p.progress[r.ID])
	}
}

// A logout of a login session spares the identity's other connections, once it is known which they are.
func TestSweepByRecord(t *testing.T) {
	t.Parallel()
	p := newPlace(t, 1, devtest.InProcess)
	phone, laptop := p.login(p.ClientURL(), "alice"), p.login(p.ClientURL(), "alice")
	p.gate.mu.Lock()
	for id, login := range p.gate.logins {
		login.Session = "other"
		if id.cid == phone.cid(t) {
			login.Session = "phone"
		}
		p.gate.logins[id] = login
	}
	p.gate.mu.Unlock()
	r := p.store(policy.Logout, policy.Target{Principal: policy.Principal{Issuer: issuer}, Session: "phone"})
	p.office.mu.Lock()
	p.failing = errors.New("the store does not answer")
	p.office.mu.Unlock()
	p.s.Start(r)
	eventually(t, func() error {
		got, _ := p.s.Progress(r.ID)
		return check(got.Left == 2, "%+v", got)
	})
	p.office.mu.Lock()
	p.failing = nil
	p.office.mu.Unlock()
	await(t, phone.closed)
	if got := p.finished(t, r); got.Closed != 1 {
		t.Errorf("progress %+v", got)
	}
	mustStay(t, []*client{laptop})
}
