package resolver

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"

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
