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
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"
	"golang.org/x/sync/singleflight"

	"github.com/gatehouse-nats/gatehouse/policy"
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

// MaxOffset is how far a server's clock may be from the median before nothing is minted for it: it
// would enforce the end of a credential that much too late, or refuse a short one at once.
const MaxOffset = 20 * time.Second

// errDisconnected says that nothing can be asked now.
var errDisconnected = errors.New("the system connection is down: is a server running at nats.url, and does it accept nats.system.creds?")

// Options configure a [Resolver].
type Options struct {
	Conn *nats.Conn // to the system account; owned by the caller
	// Blind says that there is no user of the system account, and no Conn, as servers without
	// operator allow: every server is then known, its clock taken as ours, and every account
	// as defined.
	Blind    bool
	Interval time.Duration
	Logger   *slog.Logger
	Now      func() time.Time
}

// Resolver keeps what the servers of one system account say of themselves.
type Resolver struct {
	nc       *nats.Conn
	blind    bool
	interval time.Duration
	log      *slog.Logger
	now      func() time.Time
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
	reborn   map[string]time.Time // ids that servers had before a restart, and when they were seen last
	lost     map[string]Server    // that fell silent and were forgotten, by id: their connections may live on
	lastErr  error
	closed   bool
}

// watcher is told which servers join, or come back after a silence, and which say that they shut down. It is
// called without a lock.
type watcher interface {
	joined(Server)
	left(id string)
}

// server is what is known of one server; guarded by Resolver.mu.
type server struct {
	Server
	missed   int // rounds without an answer
	accounts map[string]AccountState
}

// Server is one nats-server of the cluster.
type Server struct {
	ID      string        `json:"id"`
	Name    string        `json:"name"`
	Version string        `json:"version"`
	Cluster string        `json:"cluster,omitempty"`
	Offset  time.Duration `json:"offset"` // its clock less ours
	Seen    time.Time     `json:"seen"`
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
	life, end := context.WithCancel(context.Background())
	return &Resolver{
		life: life, end: end,
		nc: o.Conn, blind: o.Blind, interval: o.Interval, log: o.Logger, now: o.Now,
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
	return nil
}

// observe merges the answers of a round, forgets servers that have been silent for too long,
// and starts a search for each that is new; it returns when those end, and which servers were silent before.
func (r *Resolver) observe(answers []statsz) (searches []<-chan struct{}, back []Server) {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := r.now()
	// Before the searches, which a flood of forged ids must not keep from happening.
	for id, until := range r.negative {
		if now.After(until) {
			delete(r.negative, id)
		}
	}
	maps.DeleteFunc(r.reborn, func(_ string, seen time.Time) bool { return now.Sub(seen) > stillCounted })
	seen := map[string]bool{}
	r.active = 0
	for _, a := range answers {
		seen[a.Server.ID] = true
		r.active = max(r.active, a.Statsz.ActiveServers)
		if s, ok := r.servers[a.Server.ID]; ok {
			if s.meet(a, now) {
				back = append(back, s.Server)
			}
		} else if done := r.search(a.Server.ID); done != nil {
			searches = append(searches, done)
		}
	}
	for id, s := range r.servers {
		if seen[id] {
			continue
		}
		if s.missed++; s.missed > forgetAfter {
			r.log.Info("a server is gone", "server", s.Name, "server_id", id)
			delete(r.servers, id)
			r.lost[id] = s.Server
		}
	}
	return searches, back
}

// watch has the watcher told of servers from now on.
func (r *Resolver) watch(w watcher) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.watchers = append(r.watchers, w)
}

// tell tells the watcher of servers that joined or came back; r.mu is not held.
func (r *Resolver) tell(servers []Server) {
	r.mu.RLock()
	watchers := r.watchers
	r.mu.RUnlock()
	for _, s := range servers {
		for _, w := range watchers {
			w.joined(s)
		}
	}
}

// meet notes a sign of life and reports whether there was none for a while before.
func (s *server) meet(a statsz, now time.Time) (back bool) {
	back = s.missed > 0
	s.missed = 0
	s.Server = Server{ID: a.Server.ID, Name: a.Server.Name, Version: a.Server.Version, Cluster: a.Server.Cluster, Seen: now, Offset: s.Offset}
	if a.measured {
		s.Offset = a.offset
	}
	return back
}

// Known reports whether the server belongs to the cluster. When it is not known yet and
// might be, pending is not nil: it is closed once that is found out, and Known is to be
// asked again. It never blocks.
func (r *Resolver) Known(id string) (known bool, pending <-chan struct{}) {
	if r.blind {
		return true, nil
	}
	r.mu.RLock()
	_, known = r.servers[id]
	wait, searching := r.pending[id]
	until, tried := r.negative[id]
	closed := r.closed
	r.mu.RUnlock()
	switch {
	case known:
		// A search that is under way still reads the server's accounts back.
		if searching {
			return false, wait
		}
		return true, nil
	case searching:
		return false, wait
	case closed, tried && r.now().Before(until), !r.nc.IsConnected():
		return false, nil
	default:
		r.mu.Lock()
		defer r.mu.Unlock()
		return false, r.search(id)
	}
}

// search starts to look for a server that is not known, once at a time for each id, and
// returns what is closed at its end; nil when it cannot. r.mu is held.
func (r *Resolver) search(id string) <-chan struct{} {
	if wait, ok := r.pending[id]; ok {
		return wait
	}
	if r.closed || len(r.negative)+len(r.pending) >= maxNegative || !isServerID(id) {
		return nil
	}
	done := make(chan struct{})
	r.pending[id] = done
	r.searches.Go(func() {
		found := r.find(id)
		r.mu.Lock()
		delete(r.pending, id)
		if !found {
			r.negative[id] = r.now().Add(negativeLife)
		}
		r.mu.Unlock()
		close(done)
	})
	return done
}

// serverIDSize is the length of a public nkey: 35 bytes in base32.
const serverIDSize = 56

// isServerID reports whether id may stand in a subject as the id of a server. nkeys takes
// line breaks within a key, as base32 decoders do.
func isServerID(id string) bool {
	return len(id) == serverIDSize && !strings.ContainsAny(id, "\r\n") && nkeys.IsValidPublicServerKey(id)
}

// find asks for one server by its id, twice at most, and reads the accounts back from it. The
// pending search keeps logins waiting until that is done.
func (r *Resolver) find(id string) bool {
	for range 2 {
		a, err := r.ping(r.life, id)
		if errors.Is(err, nats.ErrNoResponders) {
			return false
		}
		if err != nil {
			continue
		}
		r.mu.Lock()
		s := &server{accounts: map[string]AccountState{}}
		s.meet(a, r.now())
		r.servers[id] = s
		delete(r.lost, id)
		found := s.Server
		r.mu.Unlock()
		r.bury(found)
		r.tell([]Server{found})
		ctx, cancel := context.WithTimeout(r.life, readTimeout)
		r.readServer(ctx, id)
		cancel()
		r.stir()
		r.log.Info("a server is known", "server", a.Server.Name, "server_id", id, "version", a.Server.Version, "clock_offset", found.Offset)
		return true
	}
	return false
}

// stir tells whoever keeps claims that they may differ from what was read.
func (r *Resolver) stir() {
	if r.changed != nil {
		r.changed()
	}
}

// bury forgets a server of the same name that is not there any more: it was restarted, and is known by the
// new id now.
func (r *Resolver) bury(found Server) {
	for _, s := range append(r.Servers(), r.silent(time.Time{})...) {
		if s.Name != found.Name || s.ID == found.ID {
			continue
		}
		if _, err := r.ping(r.life, s.ID); errors.Is(err, nats.ErrNoResponders) {
			r.log.Info("a server was restarted", "server", s.Name, "server_id", s.ID)
			r.mu.Lock()
			r.reborn[s.ID] = s.Seen
			r.mu.Unlock()
			r.forget(s.ID)
		}
	}
}

// forget makes a server unknown whose connections have ended; it reports whether it was known.
func (r *Resolver) forget(id string) bool {
	r.mu.Lock()
	_, known := r.servers[id]
	delete(r.servers, id)
	delete(r.lost, id)
	watchers := r.watchers
	r.mu.Unlock()
	for _, w := range watchers {
		w.left(id)
	}
	return known
}

// Servers returns the servers that are known, by name.
func (r *Resolver) Servers() []Server {
	r.mu.RLock()
	defer r.mu.RUnlock()
	list := make([]Server, 0, len(r.servers))
	for _, s := range r.servers {
		list = append(list, s.Server)
	}
	slices.SortFunc(list, func(a, b Server) int {
		if a.Name != b.Name {
			return strings.Compare(a.Name, b.Name)
		}
		return strings.Compare(a.ID, b.ID)
	})
	return list
}

// silent returns the servers that were forgotten because they fell silent, and forgets for good those that were seen
// last before the time.
func (r *Resolver) silent(since time.Time) []Server {
	r.mu.Lock()
	defer r.mu.Unlock()
	maps.DeleteFunc(r.lost, func(_ string, s Server) bool { return s.Seen.Before(since) })
	return slices.Collect(maps.Values(r.lost))
}

// knows reports whether the server is known, without a search.
func (r *Resolver) knows(id string) bool {
	r.mu.RLock()
	defer r.mu.RUnlock()
	_, ok := r.servers[id]
	return ok
}

// replaced reports whether a server of that name is known under another id.
func (r *Resolver) replaced(id, name string) bool {
	return slices.ContainsFunc(r.Servers(), func(s Server) bool { return s.Name == name && s.ID != id })
}

// stillCounted is for how long servers may count one that ended without saying so (nats-server server/events.go,
// orphMax and chkOrph: 150 s and 90 s). One that says so is not counted any more.
const stillCounted = 4 * time.Minute

// unknown returns how many servers the others count that are neither known nor were restarted; r.mu is held.
func (r *Resolver) unknown() int {
	n := r.active - len(r.servers)
	for _, seen := range r.reborn {
		if r.now().Sub(seen) <= stillCounted {
			n--
		}
	}
	return max(n, 0)
}

// complete reports whether as many servers are known as the servers say there are.
func (r *Resolver) complete() bool {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.blind || r.unknown() == 0
}

// needs reports whether the account is one that is read back from the servers.
func (r *Resolver) needs(account string) bool {
	r.mu.RLock()
	defer r.mu.RUnlock()
	_, ok := r.accounts[account]
	return ok
}

// Offset returns by how much the server's clock is ahead of ours; 0 when it is not known.
func (r *Resolver) Offset(id string) time.Duration {
	r.mu.RLock()
	defer r.mu.RUnlock()
	if s, ok := r.servers[id]; ok {
		return s.Offset
	}
	return 0
}

// Skew returns the median of the servers' clocks less ours, of two middle ones the smaller, so
// that one wrong clock of two does not decide; 0 when no server is known.
func (r *Resolver) Skew() time.Duration {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.skew()
}

// skew is [Resolver.Skew] with r.mu held.
func (r *Resolver) skew() time.Duration {
	if len(r.servers) == 0 {
		return 0
	}
	offsets := make([]time.Duration, 0, len(r.servers))
	for _, s := range r.servers {
		offsets = append(offsets, s.Offset)
	}
	slices.Sort(offsets)
	above, below := offsets[len(offsets)/2], offsets[(len(offsets)-1)/2]
	if above.Abs() < below.Abs() {
		return above
	}
	return below
}

// SigningKey returns the first of the account's signing keys that the server has applied in its
// claims, or the scoped one when scoped is not empty, if the server has applied that with a
// template. Otherwise it says why a login must wait or be refused: [policy.AccountUnready] or
// [policy.AccountExpired].
func (r *Resolver) SigningKey(server string, account *policy.Account, scoped string, now time.Time) (string, *policy.Refusal) {
	if r.blind {
		return account.SigningKeys[0], nil
	}
	r.mu.RLock()
	defer r.mu.RUnlock()
	s, ok := r.servers[server]
	if !ok {
		return "", policy.Refuse(policy.AccountUnready, "server %s is not known any more", server)
	}
	// Ours may be the one that is off: the replica leaves the queue group then.
	if off := s.Offset; off.Abs() > MaxOffset && (off-r.skew()).Abs() > MaxOffset {
		return "", policy.Refuse(policy.AccountUnready, "the clock of server %s is %s off the others'", s.Name, (off - r.skew()).Round(time.Millisecond))
	}
	state, ok := s.accounts[account.ID]
	if !ok {
		state, ok = r.keys.get(server, account.ID, time.Now())
	}
	if !ok {
		return "", policy.Refuse(policy.AccountUnready, "account %s has not been read back from server %s yet", account.Name, s.Name)
	}
	return state.signingKey(account, scoped, s.Name, now.Add(s.Offset))
}

// Ready returns nil when every known server has applied what Gatehouse needs, or an error
// that names what is missing where.
func (r *Resolver) Ready() error {
	if r.blind {
		return nil
	}
	r.mu.RLock()
	defer r.mu.RUnlock()
	var errs []error
	if r.lastErr != nil {
		errs = append(errs, fmt.Errorf("the system account does not answer: %w", r.lastErr))
	}
	if len(r.servers) == 0 {
		return errors.Join(append(errs, errors.New("no server is known"))...)
	}
	if n := r.unknown(); n > 0 {
		errs = append(errs, fmt.Errorf("%d of %d servers have answered", len(r.servers), len(r.servers)+n))
	}
	for _, s := range r.servers {
		if off := s.Offset - r.skew(); off.Abs() > MaxOffset {
			errs = append(errs, fmt.Errorf("server %s: its clock is %s off the others': set it right; its logins stay unanswered meanwhile", s.Name, off.Round(time.Millisecond)))
		}
		for id, need := range r.accounts {
			state, ok := s.accounts[id]
			if !ok {
				errs = append(errs, fmt.Errorf("server %s: account %s has not been read back yet", s.Name, need.Name))
				continue
			}
			if err := state.lacks(need, r.now().Add(s.Offset)); err != nil {
				errs = append(errs, fmt.Errorf("server %s: account %s: %w", s.Name, need.Name, err))
			}
		}
	}
	slices.SortFunc(errs, func(a, b error) int { return strings.Compare(a.Error(), b.Error()) })
	return errors.Join(errs...)
}
