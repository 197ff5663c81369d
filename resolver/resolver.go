// Package resolver knows the servers: which there are, what their clocks say, and which
// account claims each of them has applied. It is the sole holder of the system connection.
//
// nats-server answers a callout response that names an account it does not have only after
// it has waited for that account, and stalls every other answer on the same connection
// meanwhile; so nothing is minted for an account before this package has seen it applied.
package resolver

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"golang.org/x/sync/singleflight"
)

// Defaults of [Options].
const (
	DefaultInterval = 10 * time.Second
	requestTimeout  = 400 * time.Millisecond
	// readTimeout bounds the read-back of one account on one server: a server that has to
	// fetch the account first takes up to 1.9 s (nats-server server/const.go, fetchTimeout).
	readTimeout = 3 * time.Second
	// negativeLife is for how long a server id that nobody answered for stays unknown: long
	// enough that forged ids cost nothing, short enough that a restarted server is not locked out.
	negativeLife = 2 * time.Second
	// maxNegative bounds those ids, together with the searches under way.
	maxNegative = 4096
	// forgetAfter is how many rounds without a sign of life make a server unknown again.
	forgetAfter = 6
	// restTime is the least time between rounds that events start: whoever can cause such events
	// must not be able to keep the system account busy.
	restTime = 500 * time.Millisecond
)

// errDisconnected says that nothing can be asked now.
var errDisconnected = errors.New("the system connection is down: is a server running at nats.url, and does it accept nats.system.creds?")

// Options configure a [Resolver].
type Options struct {
	Conn *nats.Conn // to the system account; owned by the caller
	// Blind says that there is no user of the system account, and no Conn, as servers without
	// operator allow: every server is then known, its clock taken as ours, and every account
	// as defined.
	Blind bool
	// Kind is what the servers keep claims in; empty where they have no operator, or as [Full].
	Kind     Kind
	Interval time.Duration
	Logger   *slog.Logger
	Now      func() time.Time
}

// Resolver keeps what the servers of one system account say of themselves.
type Resolver struct {
	nc       *nats.Conn
	blind    bool
	kind     Kind
	interval time.Duration
	log      *slog.Logger
	now      func() time.Time
	made     time.Time // by now, and
	began    time.Time // by the clock that nobody sets
	wake     chan struct{}
	changed  func()                                  // is called when claims may differ from what was read; may be nil
	packed   func(Server, print)                     // is told what a server says of its store; may be nil
	pushed   func(account, token string) (ours bool) // is told of each push; may be nil
	keys     appliedKeys
	readings map[reading]chan struct{} // of accounts, under way; guarded by mu
	flight   singleflight.Group
	searches sync.WaitGroup
	life     context.Context // ends when Run does; bounds the searches
	end      context.CancelFunc

	mu       sync.RWMutex
	servers  map[string]*server
	pending  map[string]chan struct{} // searches for servers under way
	negative map[string]time.Time     // ids that nobody answered for, until when
	accounts map[string]Requirement   // what is read back, by account id
	decoded  map[string]decoded       // what was read last of each account
	active   int                      // servers in the cluster by its own count
	watchers []watcher
	came     time.Time            // when a server last did, or came back
	reborn   map[string]time.Time // ids that servers had before a restart, and when they were seen last
	lost     map[string]Server    // that fell silent and were forgotten, by id: their connections may live on
	census   census
	lastErr  error
	closed   bool
}

// Requirement is what the claims of an account must hold for Gatehouse to work.
type Requirement struct {
	Name string
	// SigningKeys are those that Gatehouse signs with; one of them must be in the claims.
	SigningKeys []string
	// Scoped are the scoped signing keys that roles are signed with; all must be in the claims.
	Scoped []string
	// ByName says that the servers have no operator: they must define an account of that name.
	ByName bool
	// Callout is set for the callout account.
	Callout *CalloutRequirement
}

// CalloutRequirement is what the callout account's claims must hold.
type CalloutRequirement struct {
	XKey            string   // public xkey; empty when requests come unsealed
	AllowedAccounts []string // ids that must be allowed targets
}

// New returns a resolver that knows nothing until [Resolver.Run] has asked.
func New(o Options) *Resolver {
	if o.Interval <= 0 {
		o.Interval = DefaultInterval
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	made := o.Now()
	life, end := context.WithCancel(context.Background())
	return &Resolver{
		life: life, end: end,
		nc: o.Conn, blind: o.Blind, kind: o.Kind, interval: o.Interval, log: o.Logger, now: o.Now, made: made, began: time.Now(),
		wake:     make(chan struct{}, 1),
		servers:  map[string]*server{},
		pending:  map[string]chan struct{}{},
		negative: map[string]time.Time{},
		reborn:   map[string]time.Time{},
		lost:     map[string]Server{},
		accounts: map[string]Requirement{},
		decoded:  map[string]decoded{},
		readings: map[reading]chan struct{}{},
	}
}

// SetAccounts replaces what is read back from the servers, by account id, and wakes a round.
// States of accounts that stay are kept.
func (r *Resolver) SetAccounts(accounts map[string]Requirement) {
	r.mu.Lock()
	r.accounts = accounts
	for _, s := range r.servers {
		for id := range s.accounts {
			if _, ok := accounts[id]; !ok {
				delete(s.accounts, id)
			}
		}
	}
	r.mu.Unlock()
	r.Wake()
}

// Wake starts a round now rather than at the next tick.
func (r *Resolver) Wake() {
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

// Run asks the servers in rounds until ctx ends; it returns nil then. Everything that is
// known stays valid while the system connection is down.
func (r *Resolver) Run(ctx context.Context) error {
	if r.blind {
		<-ctx.Done()
		return nil
	}
	subs, err := r.subscribe()
	if err != nil {
		return fmt.Errorf("resolver: subscribe to server events: %w", err)
	}
	defer func() {
		for _, s := range subs {
			_ = s.Unsubscribe()
		}
		r.mu.Lock()
		r.closed = true
		r.mu.Unlock()
		r.end()
		r.searches.Wait()
	}()
	connected := r.nc.StatusChanged(nats.CONNECTED)
	defer r.nc.RemoveStatusListener(connected)
	timer := time.NewTimer(0)
	defer timer.Stop()
	failing := false
	var ended time.Time // when the last round did
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-connected:
		case <-r.wake:
			if !rest(ctx, restTime-time.Since(ended)) {
				return nil
			}
		case <-timer.C:
		}
		err := r.round(ctx)
		ended = time.Now()
		if err != nil && !failing && ctx.Err() == nil {
			r.log.Warn("the servers cannot be asked; what is known of them stays valid", "error", err)
		}
		failing = err != nil
		next := r.interval
		if r.Ready() != nil {
			next = min(next, time.Second)
		}
		timer.Reset(next)
	}
}

// rest waits for d and reports whether ctx lasted.
func rest(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}

// round asks all servers who they are, then what they have applied.
func (r *Resolver) round(ctx context.Context) error {
	var answers []statsz
	err := errDisconnected
	if r.nc.IsConnected() {
		answers, err = r.pingAll(ctx)
	}
	r.mu.Lock()
	r.lastErr = err
	r.mu.Unlock()
	if err != nil {
		return err
	}
	searches, back := r.observe(answers)
	r.tell(back)
	for _, found := range searches {
		select {
		case <-found:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	r.readAll(ctx)
	r.takeCensus(ctx)
	return nil
}

// stir tells whoever keeps claims that they may differ from what was read.
func (r *Resolver) stir() {
	if r.changed != nil {
		r.changed()
	}
}

// needs reports whether the account is one that is read back from the servers.
func (r *Resolver) needs(account string) bool {
	r.mu.RLock()
	defer r.mu.RUnlock()
	_, ok := r.accounts[account]
	return ok
}
