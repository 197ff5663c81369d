package replica

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/gatehouse-nats/gatehouse/policy"
	"github.com/gatehouse-nats/gatehouse/store"
)

const (
	// beatEvery is how often a replica says that it is there.
	beatEvery = 300 * time.Millisecond
	// forgetAfter is for how long a peer that is silent is still known.
	forgetAfter = 10 * time.Minute
	// storeTimeout bounds a call of the store.
	storeTimeout = 2 * time.Second
	// echoTimeout is after how long without hearing itself a replica takes it that it may not speak.
	echoTimeout = 5 * time.Second
	// mostWaiting bounds the messages that wait to be read, of each subject.
	mostWaiting = 4096
	// hushed is for how long a replica says nothing once a server has refused it: servers log each refusal.
	hushed = time.Minute
)

// ErrUnheard says that this replica does not hear what it says itself.
var ErrUnheard = errors.New("replicas do not hear each other, so that revocations reach the others by the store alone and a frozen replica is not noticed: " +
	"the callout user has to be allowed to publish and to subscribe to gatehouse.> and _INBOX.>")

// Mirror is the replica's own state.
type Mirror interface {
	Learn(change policy.RevocationChange, at store.Position) bool
	Applied() store.Position
	Age() time.Duration
	Refresh(ctx context.Context) error
}

// Directory is where the store keeps which replicas there are.
type Directory interface {
	Replicas(ctx context.Context) ([]store.Replica, error)
	Leave(ctx context.Context, replica string) error
}

// Options configure a [Group].
type Options struct {
	Conns        []*nats.Conn // to the callout account; listened to on the first, spoken on in turn
	Name         string       // of this replica
	Key          Key
	Mirror       Mirror
	Directory    Directory
	MaxStaleness time.Duration
	// Serving reports whether this replica is in the queue group.
	Serving func() bool
	// Skew returns by how much the servers' clocks are ahead of this host's.
	Skew func() time.Duration
	Now  func() time.Time // this host's clock; nil is [time.Now]
	// Kick closes a connection of a server; nil where that cannot be done.
	Kick func(ctx context.Context, serverID string, cid uint64) error
	// Reach returns nil once a server answers on the way that Kick takes; it is called where Kick is given.
	Reach func(ctx context.Context, serverID string) error
	// OnDropped, OnFenced and OnLate count; they may be nil.
	OnDropped, OnFenced, OnLate func()
	Logger                      *slog.Logger
}

// Group is the replicas of a service, as one of them knows them.
type Group struct {
	Options
	inbox   string
	number  atomic.Uint64
	spoken  atomic.Uint64 // how often a connection was chosen
	refused atomic.Int64  // when a server last did, in nanoseconds since 1970
	looking atomic.Bool   // at the store, since a lift was announced
	tasks   sync.WaitGroup
	life    context.Context // of Run

	mu      sync.Mutex
	ended   bool             // Run has
	peers   map[string]*peer // by name
	own     echo
	pending map[string]*pending // announcements, by what they announce
	listed  listing
	warned  time.Time
	changed chan struct{} // closed, and made anew, when a peer has said something that Announce waits for
}

// peer is another replica.
type peer struct {
	last   beat      // remembered for a while after it has left, so that none from before counts when it is said again
	heard  time.Time // when, by our clock
	spoke  time.Time // when it last did by a beat that was dropped for its time; zero when it never did
	tried  time.Time // when it was last to be fenced
	fenced bool      // since it fell silent
}

// echo is what this replica hears of itself.
type echo struct {
	began time.Time
	sent  map[uint64]time.Time // beats that have not come back
	heard time.Time            // the last that did
	late  time.Time            // when one last came back too late, or after a pause
}

// listing is what the store said last of which replicas there are.
type listing struct {
	began    time.Time // when it was asked
	replicas []store.Replica
}

// New returns a group that hears nobody until [Group.Run] runs.
func New(o Options) *Group {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	for _, f := range []*func(){&o.OnDropped, &o.OnFenced, &o.OnLate} {
		if *f == nil {
			*f = func() {}
		}
	}
	return &Group{
		Options: o, inbox: nats.NewInbox(), peers: map[string]*peer{}, pending: map[string]*pending{},
		changed: make(chan struct{}), own: echo{sent: map[uint64]time.Time{}}, life: context.Background(),
	}
}

// Run speaks and listens until ctx ends, then says that it leaves, and returns nil.
func (g *Group) Run(ctx context.Context) error {
	nc := g.Conns[0]
	g.life = ctx
	var subs []*nats.Subscription
	defer func() {
		for _, s := range subs {
			_ = s.Unsubscribe()
		}
		g.mu.Lock()
		g.ended = true // what is still being heard begins nothing any more
		g.mu.Unlock()
		g.tasks.Wait()
	}()
	for subject, handle := range map[string]nats.MsgHandler{
		beatSubject: g.hearBeat, changeSubject: g.hearChange, g.inbox + ".*": g.hearAck,
	} {
		sub, err := nc.Subscribe(subject, handle)
		if err != nil {
			return fmt.Errorf("replica: subscribe to %s: %w", subject, err)
		}
		if err := sub.SetPendingLimits(mostWaiting, mostWaiting*(maxMessage>>4)); err != nil {
			return fmt.Errorf("replica: bound what waits of %s: %w", subject, err)
		}
		subs = append(subs, sub)
	}
	g.mu.Lock()
	g.own.began = time.Now()
	g.mu.Unlock()
	beats, looks := time.NewTicker(beatEvery), time.NewTicker(lookEvery)
	defer beats.Stop()
	defer looks.Stop()
	g.say(false)
	for {
		select {
		case <-ctx.Done():
			g.say(true)
			return nil
		case <-beats.C:
			g.say(false)
		case <-looks.C:
			g.fence(ctx)
		}
	}
}

// Leave takes this replica from the store's list, once it decides no more and its mirror has ended: nobody has to
// wait for its confirmations then.
func (g *Group) Leave() {
	ctx, cancel := context.WithTimeout(context.Background(), storeTimeout)
	defer cancel()
	if err := g.Directory.Leave(ctx, g.Name); err != nil {
		g.Logger.Warn("this replica could not leave the store's list: others wait for its confirmations until it is stale", "error", err)
	}
}

// now returns the time by the servers' clocks, which all replicas can agree on.
func (g *Group) now() time.Time { return g.Now().Add(g.Skew()) }

// say tells the others that this replica is there, or that it leaves.
func (g *Group) say(leaving bool) {
	nc := g.speaker()
	if nc == nil {
		return
	}
	b := beat{
		From: g.Name, At: g.now(), Number: g.number.Add(1), Serving: !leaving && g.Serving(), Leaving: leaving,
		Decides: max(0, g.MaxStaleness-g.Mirror.Age()), Applied: g.Mirror.Applied(), Connections: g.connections(),
	}
	if leaving {
		b.Decides = 0
	}
	g.mu.Lock()
	now := time.Now()
	g.own.sent[b.Number] = now
	for n, at := range g.own.sent {
		if now.Sub(at) > forgetAfter {
			delete(g.own.sent, n)
		}
	}
	g.mu.Unlock()
	g.publish(nc, beatSubject, "", b)
	if leaving {
		_ = nc.FlushTimeout(storeTimeout) // who does not hear it notices by the silence
	}
}

// speaker returns the connections that are up in turn, so that one to a server that hangs takes only its share of
// what this replica says with it; nil while none is up, or a server has just refused what was said.
func (g *Group) speaker() *nats.Conn {
	if time.Since(time.Unix(0, g.refused.Load())) < hushed {
		return nil
	}
	for range g.Conns {
		if nc := g.Conns[g.spoken.Add(1)%uint64(len(g.Conns))]; nc.IsConnected() {
			return nc
		}
	}
	return nil
}

// Refused reports whether an error of a connection is that its user may not take part in what replicas tell
// each other. One that may not speak then keeps quiet for a minute; [Group.Heard] says what to do.
func (g *Group) Refused(err error) bool {
	if !errors.Is(err, nats.ErrPermissionViolation) || !strings.Contains(err.Error(), `"`+subjects) {
		return false
	}
	if strings.Contains(err.Error(), "Publish") {
		g.refused.Store(time.Now().UnixNano())
	}
	return true
}

func (g *Group) connections() []Connection {
	list := make([]Connection, 0, len(g.Conns))
	for _, nc := range g.Conns {
		cid, err := nc.GetClientID()
		if err == nil && nc.IsConnected() {
			list = append(list, Connection{nc.ConnectedServerId(), cid})
		}
	}
	return list
}

func (g *Group) publish(nc *nats.Conn, subject, reply string, value any) {
	if nc == nil {
		return
	}
	msg, err := seal(g.Key, subject, value)
	if err == nil {
		msg.Reply = reply
		err = nc.PublishMsg(msg)
	}
	if err != nil {
		g.Logger.Debug("a message to the other replicas could not be sent", "subject", subject, "error", err)
	}
}

// read opens a message of a replica; false when it is none, or too old.
func (g *Group) read(msg *nats.Msg, into any, at func() time.Time) bool {
	err := open(g.Key, msg, into)
	if err == nil {
		if age := g.now().Sub(at()); age.Abs() > maxAge {
			err = fmt.Errorf("%w: it was made %s ago", errMessage, age.Round(time.Second))
		}
	}
	if err == nil {
		return true
	}
	g.OnDropped()
	g.mu.Lock()
	quiet := time.Since(g.warned) < time.Minute
	if !quiet {
		g.warned = time.Now()
	}
	g.mu.Unlock()
	if !quiet {
		g.Logger.Warn("a message between replicas was dropped: do all replicas have the same nats.callout.signing_key, and right clocks?", "subject", msg.Subject, "error", err)
	}
	return false
}

func (g *Group) hearBeat(msg *nats.Msg) {
	var b beat
	if !g.read(msg, &b, func() time.Time { return b.At }) {
		g.alive(b)
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	now := time.Now()
	if b.From == g.Name {
		if late := g.own.hear(b.Number, now); late {
			g.OnLate()
		}
		return
	}
	p := g.peers[b.From]
	switch {
	case p == nil:
		g.Logger.Info("another replica is there", "replica", b.From)
		p = &peer{}
		g.peers[b.From] = p
	case b.Number <= p.last.Number || p.last.Leaving:
		return // said before
	}
	if b.Leaving {
		g.Logger.Info("another replica has left", "replica", b.From)
	}
	p.last, p.heard, p.tried, p.fenced = b, now, time.Time{}, false
	g.tell()
}

// alive notes that a peer speaks whose beat was dropped, the zero one when it was nobody's. Of two clocks that differ ours may be
// the wrong one, after a pause of this host for example: that is no reason to close the connections of all others.
func (g *Group) alive(b beat) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if p := g.peers[b.From]; p != nil && b.Number > p.last.Number && !p.last.Leaving {
		p.spoke, p.tried, p.fenced = time.Now(), time.Time{}, false
	}
}

// silent returns for how long nothing was heard of the peer.
func (p *peer) silent(now time.Time) time.Duration { return min(now.Sub(p.heard), now.Sub(p.spoke)) }

// hear notes that a beat of this replica has come back, and reports whether it came late or after a pause.
func (e *echo) hear(n uint64, now time.Time) (late bool) {
	sent, ok := e.sent[n]
	if !ok {
		return false
	}
	late = !e.heard.IsZero() && (now.Sub(sent) > lateEcho || now.Sub(e.heard) > lateEcho+beatEvery)
	if late || e.heard.IsZero() {
		e.late = now
	}
	e.heard = now
	for m := range e.sent {
		if m <= n {
			delete(e.sent, m)
		}
	}
	return late
}

// tell wakes whoever waits for something that a peer says; the caller holds mu.
func (g *Group) tell() {
	close(g.changed)
	g.changed = make(chan struct{})
}

// Heard returns nil when this replica hears what it says, and so others do; otherwise [ErrUnheard].
func (g *Group) Heard() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.own.began.IsZero() || !g.Conns[0].IsConnected() || time.Since(g.own.began) < echoTimeout || time.Since(g.own.heard) < echoTimeout {
		return nil
	}
	return ErrUnheard
}

// Peer is another replica, for people.
type Peer struct {
	Name    string
	Serving bool
	Silent  time.Duration // since it was heard last
	Applied store.Position
}

// Peers returns the other replicas that were heard lately, in no order.
func (g *Group) Peers() []Peer {
	g.mu.Lock()
	defer g.mu.Unlock()
	list := make([]Peer, 0, len(g.peers))
	for name, p := range g.peers {
		if !p.last.Leaving {
			list = append(list, Peer{name, p.last.Serving, time.Since(p.heard), p.last.Applied})
		}
	}
	return list
}
