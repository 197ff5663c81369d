package resolver

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/gatehouse-nats/gatehouse/api"
	"github.com/gatehouse-nats/gatehouse/policy"
	"github.com/gatehouse-nats/gatehouse/store"
)

const (
	// maxSweeps bounds the sweeps that a replica carries at once. The oldest that only wait for servers which do not
	// answer make room for new ones, and stay in the store meanwhile.
	maxSweeps = 4096
	// takeOverEvery is how often a replica looks for sweeps that nobody carries.
	takeOverEvery = 2 * time.Second
	// writerTime is how long a revocation is left to the replica that stored it.
	writerTime = 3 * time.Second
	// linger is for how long after the last sweep the servers' events are still listened to.
	linger = time.Minute
	// storeCalls bounds the calls to the store of all sweeps at once.
	storeCalls = 4
)

// Records is what is recorded of how sessions began.
type Records interface {
	// Join sets the Login of each session of which one is recorded.
	Join(ctx context.Context, list []policy.Session) error
	// Keys returns the public keys for which the identity was given user JWTs.
	Keys(ctx context.Context, p policy.Principal) ([]string, error)
}

// Ledger is where the store keeps how far sweeps are, and who carries them.
type Ledger interface {
	Unfinished(ctx context.Context, limit int) ([]store.Revocation, error)
	SaveProgress(ctx context.Context, id string, progress json.RawMessage, done bool) error
	Acquire(ctx context.Context, name, holder string, ttl time.Duration) (held bool, until time.Time, err error)
	Release(ctx context.Context, name, holder string) error
}

// Replicas tells all replicas of a revocation, or that it was lifted. It returns those that have confirmed and
// deny by it, and those that may still admit; it may be called again and again.
type Replicas interface {
	Announce(ctx context.Context, r store.Revocation, lifted bool) (confirmed, missing []string, err error)
}

// Settled says whether what the revocation asks of account claims is applied on every server, and what it
// waits for when it is not; true when it asks for nothing.
type Settled interface {
	Converged(ctx context.Context, r store.Revocation) (done bool, why string, err error)
}

// SweeperOptions configure a [Sweeper]. Claims may be nil where no claims are kept.
type SweeperOptions struct {
	Resolver *Resolver
	Records  Records
	Ledger   Ledger
	Replicas Replicas
	Claims   Settled
	State    func() *policy.Snapshot // may return nil: not loaded yet
	// MaxTTL returns the life of the longest credential that may exist.
	MaxTTL  func() time.Duration
	Replica string
	Logger  *slog.Logger
}

// Sweeper carries revocations out: it tells the replicas, closes the connections that a revocation ends on
// every server, closes those that arrive later by a decision of before, and goes on until every server has
// shown, after every replica denied, that nothing is left. A sweep is carried by one replica at a time; when
// that ends, another takes it over.
type Sweeper struct {
	SweeperOptions
	r     *Resolver
	calls chan struct{} // holds one for each call to the store under way

	mu      sync.Mutex
	sweeps  map[string]*sweep // by revocation id
	fronts  map[string]*front // by server id
	events  *search           // of the aims of all sweeps; nil when it must be made anew
	aimed   []*sweep          // whose aims those are
	life    context.Context   // of Run; nil before it
	carried sync.WaitGroup    // carriers and fronts
	busy    chan struct{}     // holds one when there is something to listen for
}

// NewSweeper returns a sweeper for the resolver's servers; [Sweeper.Run] makes it work. A resolver has one.
func NewSweeper(o SweeperOptions) *Sweeper {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	s := &Sweeper{
		SweeperOptions: o, r: o.Resolver, calls: make(chan struct{}, storeCalls),
		sweeps: map[string]*sweep{}, fronts: map[string]*front{}, busy: make(chan struct{}, 1),
	}
	s.r.watch(s)
	return s
}

// Start begins to carry out a revocation that this replica has just stored. It does not wait. What it cannot
// take on is taken from the store later, by this replica or another.
func (s *Sweeper) Start(r store.Revocation) {
	now := s.r.now()
	oldest := now.Add(-s.MaxTTL())
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.life == nil || s.life.Err() != nil || s.sweeps[r.ID] != nil || !s.makeRoom() {
		return
	}
	w := &sweep{
		revocation: r, began: now, wake: make(chan struct{}, 1), ended: make(chan struct{}),
		aim: aimAt(r.Revocation, s.rules()), servers: map[string]*standing{}, follows: map[string]time.Time{}, applied: s.Claims == nil,
	}
	s.sweeps[r.ID] = w
	s.events = nil
	s.restore(w, now)
	if s.r.blind {
		w.on("", "all: there is no system user", now).failed = 1
	}
	for _, server := range s.r.Servers() {
		w.on(server.ID, server.Name, now)
		s.front(server.ID, server.Name).stir()
	}
	// What was let in on servers that fell silent before the revocation is still there, as far as anybody knows.
	for _, server := range s.r.silent(oldest) {
		w.on(server.ID, server.Name, now).failed = 1
		s.front(server.ID, server.Name).stir()
	}
	select {
	case s.busy <- struct{}{}:
	default:
	}
	life := s.life
	s.carried.Go(func() { s.carry(life, w) })
}

// makeRoom has a sweep given up where there are too many, and reports whether there is room for another; s.mu is held.
func (s *Sweeper) makeRoom() bool {
	if len(s.sweeps) < maxSweeps {
		return true
	}
	var oldest *sweep
	for _, w := range s.sweeps {
		if w.idle() && (oldest == nil || w.revocation.At.Before(oldest.revocation.At)) {
			oldest = w
		}
	}
	if oldest == nil {
		s.Logger.Error("too many revocations are carried out at once: another is put off", "sweeps", len(s.sweeps))
		return false
	}
	s.drop(oldest)
	oldest.stir()
	return true
}

// drop forgets a sweep; s.mu is held.
func (s *Sweeper) drop(w *sweep) {
	if s.sweeps[w.revocation.ID] == w {
		delete(s.sweeps, w.revocation.ID)
		s.events = nil
	}
}

// saved is the progress as the store keeps it, with what another replica needs to go on.
type saved struct {
	api.Progress
	Absent map[string]string `json:"absent,omitempty"` // servers that do not answer, name by id
}

// restore takes over what the replica before has left: which servers it had no answer from, since this one may
// never have known them, and how many connections were closed.
func (s *Sweeper) restore(w *sweep, now time.Time) {
	var before saved
	if progress := w.revocation.Progress; len(progress) == 0 || json.Unmarshal(progress, &before) != nil {
		return
	}
	w.closed = before.Closed
	for id, name := range before.Absent {
		if !isServerID(id) || s.r.replaced(id, name) {
			continue
		}
		w.on(id, name, now).failed = 1
		s.front(id, name).stir()
	}
}

// Progress returns how far a sweep is that this replica carries, or has just ended; false when it does not.
func (s *Sweeper) Progress(id string) (api.Progress, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	w, ok := s.sweeps[id]
	if !ok {
		return api.Progress{}, false
	}
	return w.progress(s.r.now()), true
}

// Wait returns when this replica does not carry the sweep, or not any more, or when ctx ends.
func (s *Sweeper) Wait(ctx context.Context, id string) {
	s.mu.Lock()
	w, ok := s.sweeps[id]
	s.mu.Unlock()
	if !ok {
		return
	}
	select {
	case <-ctx.Done():
	case <-w.ended:
	}
}

// Run carries sweeps until ctx ends, and returns nil then; what is unfinished is left for another replica.
func (s *Sweeper) Run(ctx context.Context) error {
	s.mu.Lock()
	s.life = ctx
	s.mu.Unlock()
	defer s.carried.Wait()
	// Nobody may have asked them since long: what was revoked meanwhile is enforced.
	for _, server := range s.r.Servers() {
		s.joined(server)
	}
	s.carried.Go(func() { s.listen(ctx) })
	timer := time.NewTimer(rand.N(takeOverEvery))
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-timer.C:
		}
		if err := s.takeOver(ctx); err != nil && ctx.Err() == nil {
			s.Logger.Warn("unfinished revocations could not be looked for", "error", err)
		}
		timer.Reset(takeOverEvery/2 + rand.N(takeOverEvery))
	}
}

// takeOver starts what is stored as unfinished and nobody carries.
func (s *Sweeper) takeOver(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	list, err := s.Ledger.Unfinished(ctx, maxSweeps)
	if err != nil {
		return err
	}
	for _, r := range list {
		if s.carries(r.ID) || s.r.now().Sub(r.At).Abs() < writerTime {
			continue
		}
		held, _, err := s.Ledger.Acquire(ctx, leaseName(r.ID), s.Replica, leaseLife)
		if err != nil {
			return err
		}
		if held {
			s.Logger.Info("a revocation that nobody carried out any more is taken over", "revocation", r.ID)
			s.Start(r)
			if !s.carries(r.ID) {
				return s.Ledger.Release(ctx, leaseName(r.ID), s.Replica)
			}
		}
	}
	return nil
}

func (s *Sweeper) carries(id string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.sweeps[id] != nil
}

// rules returns those in force; nil before any are.
func (s *Sweeper) rules() *policy.Rules {
	if state := s.State(); state != nil {
		return state.Rules
	}
	return nil
}

func (s *Sweeper) leeway() time.Duration {
	if rules := s.rules(); rules != nil {
		return rules.Leeway
	}
	return 0
}

// listen hears of connections that are made while there are sweeps, and for a while after.
func (s *Sweeper) listen(ctx context.Context) {
	if s.r.blind {
		return
	}
	for {
		select {
		case <-ctx.Done():
			return
		case <-s.busy:
		}
		sub, err := s.r.nc.Subscribe("$SYS.ACCOUNT.*.CONNECT", s.onConnect)
		if err != nil {
			s.Logger.Error("the servers' events cannot be listened to; connections of before a revocation are found by asking alone", "error", err)
			return
		}
		for s.sweeping(ctx) {
		}
		_ = sub.Unsubscribe()
	}
}

// sweeping waits and reports whether there is, or just was, a sweep.
func (s *Sweeper) sweeping(ctx context.Context) bool {
	timer := time.NewTimer(linger)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-s.busy:
		return true
	case <-timer.C:
		s.mu.Lock()
		defer s.mu.Unlock()
		return len(s.sweeps) > 0
	}
}

// connectEvent is the part of nats-server's ConnectEventMsg that is needed (server/events.go).
type connectEvent struct {
	Server serverInfo `json:"server"`
	Client struct {
		ID        uint64    `json:"id"`
		Start     time.Time `json:"start"`
		Host      string    `json:"host"`
		Account   string    `json:"acc"`
		User      string    `json:"user"`
		IssuerKey string    `json:"issuer_key"`
		JWT       string    `json:"jwt"`
		Kind      string    `json:"kind"`
		Type      string    `json:"client_type"`
	} `json:"client"`
}

// onConnect has a connection closed that a sweep ends, and the server asked again where that cannot be told yet.
func (s *Sweeper) onConnect(msg *nats.Msg) {
	var event connectEvent
	if json.Unmarshal(msg.Data, &event) != nil || event.Server.ID == "" || event.Client.ID == 0 {
		return
	}
	c := event.Client
	session := connInfo{
		CID: c.ID, Kind: c.Kind, Type: c.Type, IP: c.Host, Start: c.Start, User: c.User, Account: c.Account, IssuerKey: c.IssuerKey, JWT: c.JWT,
	}.session(event.Server, s.r.Offset(event.Server.ID))
	now, leeway := s.r.now(), s.leeway()
	s.mu.Lock()
	defer s.mu.Unlock()
	kick, met := false, false
	s.search().candidates(&session, func(i int) {
		w := s.aimed[i]
		if s.finished(w) {
			return
		}
		verdict := w.aim.judge(&session, leeway, now, false)
		if verdict == spared || w.spares(&session) {
			return
		}
		met = true
		kick = kick || verdict == ended && !w.heldBack(&session)
		w.on(event.Server.ID, event.Server.Name, now).soon(now.Add(secondLook))
	})
	if !met {
		return
	}
	f := s.front(event.Server.ID, event.Server.Name)
	if kick {
		f.arrivals = append(f.arrivals, c.ID)
	}
	f.stir()
}

// search returns the aims of all sweeps; s.mu is held.
func (s *Sweeper) search() *search {
	if s.events == nil {
		aims := make([]aim, 0, len(s.sweeps))
		s.aimed = s.aimed[:0]
		for _, w := range s.sweeps {
			aims = append(aims, w.aim)
			s.aimed = append(s.aimed, w)
		}
		s.events = newSearch(aims)
	}
	return s.events
}

// joined has everything that is in force enforced on a server that joined, or came back from where it could not
// be asked, and the sweeps under way include it; it may not have the claims that all others have applied. Servers of
// the same name are asked at once: it may be one of them under another id.
func (s *Sweeper) joined(server Server) {
	now := s.r.now()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.life == nil || s.life.Err() != nil {
		return
	}
	for _, w := range s.sweeps {
		w.on(server.ID, server.Name, now)
		if s.Claims != nil {
			w.unsettle()
		}
		for id, st := range w.servers {
			if st.name == server.Name {
				st.soon(now)
				s.front(id, st.name).stir()
			}
		}
	}
	f := s.front(server.ID, server.Name)
	f.enforce, f.since = now, now
	f.stir()
}

// left forgets a server that said that it shuts down: its connections are closed.
func (s *Sweeper) left(id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, w := range s.sweeps {
		delete(w.servers, id)
		w.stir()
	}
	if f := s.fronts[id]; f != nil {
		f.enforce = time.Time{}
	}
}

// errNoReplicas says that it is not known who else admits.
var errNoReplicas = errors.New("no replica has confirmed")

// leaseName names the lease of a sweep.
func leaseName(id string) string { return fmt.Sprintf("sweep/%s", id) }
