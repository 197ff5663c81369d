package resolver

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

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
