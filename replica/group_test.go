package replica

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"
	"go.uber.org/goleak"

	"github.com/gatehouse-nats/gatehouse/policy"
	"github.com/gatehouse-nats/gatehouse/policy/mint"
	"github.com/gatehouse-nats/gatehouse/store"
	"github.com/gatehouse-nats/gatehouse/store/sqlite"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const issuer = "https://login.example.com"

func newKey(t testing.TB) *mint.Key {
	t.Helper()
	pair, err := nkeys.CreateAccount()
	if err != nil {
		t.Fatal(err)
	}
	seed, err := pair.Seed()
	if err != nil {
		t.Fatal(err)
	}
	key, err := mint.NewKey(seed)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// bed is a server and a store that replicas share.
type bed struct {
	testing.TB
	store *sqlite.Store
	key   *mint.Key
	url   string
}

func newBed(t testing.TB) *bed {
	t.Helper()
	s, err := server.NewServer(&server.Options{Host: "127.0.0.1", Port: -1, NoSigs: true, NoLog: true, NoAuthUser: "all", Users: []*server.User{
		{Username: "all"},
		{Username: "mute", Permissions: &server.Permissions{Publish: &server.SubjectPermission{Deny: []string{"gatehouse.>"}}}},
	}})
	if err != nil {
		t.Fatal(err)
	}
	s.Start()
	t.Cleanup(func() { s.Shutdown(); s.WaitForShutdown() })
	if !s.ReadyForConnections(30 * time.Second) {
		t.Fatal("the server does not start")
	}
	return newBedAt(t, s.ClientURL())
}

func newBedAt(t testing.TB, url string) *bed {
	t.Helper()
	db, err := sqlite.Open(t.Context(), sqlite.Options{Path: filepath.Join(t.TempDir(), "gatehouse.db"), Migrate: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	return &bed{t, db, newKey(t), url}
}

func (b *bed) connect(options ...nats.Option) *nats.Conn {
	b.Helper()
	nc, err := nats.Connect(b.url, options...)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(nc.Close)
	return nc
}

// member is a replica whose mirror reads the store only when it is asked to.
type member struct {
	*Group
	mirror  *store.Mirror
	dropped atomic.Int64
	stop    func()
}

func (b *bed) join(name string, change func(*Options)) *member {
	b.Helper()
	m := &member{mirror: store.NewMirror(b.store, store.MirrorOptions{Replica: name, MaxStaleness: time.Hour})}
	m.mirror.SetRules(&policy.Rules{})
	if err := m.mirror.Refresh(b.Context()); err != nil {
		b.Fatal(err)
	}
	o := Options{
		Conns: []*nats.Conn{b.connect()}, Name: name, Key: b.key, Mirror: m.mirror, Directory: b.store, MaxStaleness: time.Hour,
		Serving: func() bool { return true }, Skew: func() time.Duration { return 0 }, OnDropped: func() { m.dropped.Add(1) },
	}
	if change != nil {
		change(&o)
	}
	m.Group = New(o)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- m.Run(ctx) }()
	m.stop = func() {
		cancel()
		if err, open := <-done; open {
			close(done)
			if err != nil {
				b.Error(err)
			}
		}
	}
	b.Cleanup(m.stop)
	eventually(b, func() error {
		m.mu.Lock()
		defer m.mu.Unlock()
		if m.own.heard.IsZero() {
			return fmt.Errorf("%s does not hear itself", name)
		}
		return nil
	})
	return m
}

func eventually(t testing.TB, check func() error) {
	t.Helper()
	deadline := time.Now().Add(30 * time.Second)
	for {
		err := check()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
		<-time.After(5 * time.Millisecond)
	}
}

func (b *bed) block(subject string) store.Revocation {
	b.Helper()
	r, _, err := b.store.Revoke(b.Context(), store.Revocation{Reason: "a test", Actor: "root", Revocation: policy.Revocation{
		ID: uuid.NewString(), Kind: policy.Block, At: time.Now().UTC(), Target: policy.Target{Principal: policy.Principal{Issuer: issuer, Subject: subject}},
	}}, "")
	if err != nil {
		b.Fatal(err)
	}
	return r
}

func (m *member) denies(subject string) bool {
	_, blocked := m.mirror.Snapshot().Revocations.Blocked(&policy.Identity{IssuerURL: issuer, Subject: subject}, time.Now())
	return blocked
}

// announced calls until the lists are those.
func announced(t testing.TB, g *Group, r store.Revocation, lifted bool, confirmed, missing []string) {
	t.Helper()
	eventually(t, func() error {
		c, m, err := g.Announce(t.Context(), r, lifted)
		if err != nil || !slices.Equal(c, confirmed) || !slices.Equal(m, missing) {
			return fmt.Errorf("confirmed by %q, missing %q, %v; want %q, %q", c, m, err, confirmed, missing)
		}
		return nil
	})
}

// Replicas deny what another one announces before they have read it, and say so; only the store makes them
// admit again.
func TestAnnounce(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	one, two := b.join("r1", nil), b.join("r2", nil)
	r := b.block("alice")
	if one.denies("alice") || two.denies("alice") {
		t.Fatal("a mirror has read the block by itself: the test would show nothing")
	}
	announced(t, one.Group, r, false, []string{"r1", "r2"}, nil)
	if !one.denies("alice") || !two.denies("alice") || two.denies("bob") {
		t.Error("a replica that has confirmed does not deny, or denies somebody else")
	}
	// A lift that is not stored changes nothing, whoever says so.
	one.publish(one.Conns[0], changeSubject, one.inbox+".ack", change{From: "r1", At: time.Now(), Revocation: r.Revocation, Lifted: true, Position: store.Position{Epoch: r.Position.Epoch, Seq: r.Position.Seq + 1}})
	announced(t, one.Group, b.block("bob"), false, []string{"r1", "r2"}, nil) // heard after it
	if !two.denies("alice") {
		t.Error("a replica admits again for a lift that is not stored")
	}
	lifted, err := b.store.Lift(t.Context(), store.Lift{ID: r.ID, At: time.Now(), Actor: "root"})
	if err != nil {
		t.Fatal(err)
	}
	announced(t, two.Group, lifted, true, []string{"r1", "r2"}, nil)
	if one.denies("alice") || two.denies("alice") || !one.denies("bob") {
		t.Error("a lifted block denies, or another one does not any more")
	}
	// A broadcast from before the lift comes to nothing.
	one.publish(one.Conns[0], changeSubject, one.inbox+".ack", change{From: "r1", At: time.Now(), Revocation: r.Revocation, Position: r.Position})
	announced(t, one.Group, b.block("carol"), false, []string{"r1", "r2"}, nil)
	if two.denies("alice") {
		t.Error("a late broadcast blocks again what was lifted")
	}
}

// A replica that has not confirmed is named until its state cannot be in use any more.
func TestAnnounceNamesWhoIsMissing(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	one := b.join("r1", nil)
	gone := store.Heartbeat{Replica: "gone", MaxStaleness: 2 * time.Second}
	if _, err := b.store.Beat(t.Context(), gone); err != nil {
		t.Fatal(err)
	}
	r := b.block("alice")
	if confirmed, missing, err := one.Announce(t.Context(), r, false); err != nil || !slices.Equal(missing, []string{"gone"}) {
		t.Errorf("confirmed by %q, missing %q, %v", confirmed, missing, err)
	}
	announced(t, one.Group, r, false, []string{"r1"}, nil) // once its state is stale
	at := r.Position
	at.Seq--
	for name, h := range map[string]store.Heartbeat{
		"behind": {Replica: "behind", MaxStaleness: time.Hour, Applied: at},
		"other":  {Replica: "other", MaxStaleness: time.Hour, Applied: store.Position{Epoch: "another", Seq: 1 << 40}},
	} {
		if _, err := b.store.Beat(t.Context(), h); err != nil {
			t.Fatal(err)
		}
		announced(t, one.Group, r, false, []string{"r1"}, []string{name})
		h.Applied = r.Position
		if _, err := b.store.Beat(t.Context(), h); err != nil {
			t.Fatal(err)
		}
		announced(t, one.Group, r, false, slices.Sorted(slices.Values([]string{"r1", name})), nil)
		if err := b.store.Leave(t.Context(), name); err != nil {
			t.Fatal(err)
		}
	}
	// One that the store takes for stale, after it has lost its heartbeats, and that says otherwise.
	if _, err := b.store.Beat(t.Context(), store.Heartbeat{Replica: "lost", MaxStaleness: time.Nanosecond}); err != nil {
		t.Fatal(err)
	}
	r = b.block("dave")
	one.mu.Lock()
	one.peers["lost"] = &peer{last: beat{From: "lost", Decides: time.Hour}, heard: time.Now()}
	one.mu.Unlock()
	eventually(t, func() error {
		list, err := b.store.Replicas(t.Context())
		i := slices.IndexFunc(list, func(r store.Replica) bool { return r.Name == "lost" })
		if err != nil || i < 0 || list[i].Age <= clockMargin+time.Nanosecond {
			return fmt.Errorf("%+v, %v", list, err)
		}
		return nil
	})
	announced(t, one.Group, r, false, []string{"r1"}, []string{"lost"})
	one.mu.Lock()
	one.peers["lost"].last.Decides = 0
	one.peers["lost"].heard = time.Now().Add(-2 * clockMargin)
	one.mu.Unlock()
	announced(t, one.Group, r, false, []string{"r1"}, nil)
	// One that the store does not know, but that speaks.
	b.join("r2", func(o *Options) { o.Directory = deaf{} })
	if err := b.store.Leave(t.Context(), "r2"); err != nil {
		t.Fatal(err)
	}
	announced(t, one.Group, b.block("bob"), false, []string{"r1", "r2"}, nil)
}

// deaf is a directory that keeps nothing.
type deaf struct{}

func (deaf) Replicas(context.Context) ([]store.Replica, error) { return nil, nil }
func (deaf) Leave(context.Context, string) error               { return nil }

// Who leaves in good order is not waited for.
func TestLeave(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	one, two := b.join("r1", nil), b.join("r2", nil)
	eventually(t, func() error {
		if len(one.Peers()) != 1 || one.Peers()[0].Name != "r2" || !one.Peers()[0].Serving {
			return fmt.Errorf("peers %+v", one.Peers())
		}
		return nil
	})
	two.stop()
	two.Leave()
	eventually(t, func() error {
		if len(one.Peers()) != 0 {
			return fmt.Errorf("peers %+v", one.Peers())
		}
		return nil
	})
	if _, missing, err := one.Announce(t.Context(), b.block("alice"), false); err != nil || len(missing) > 0 {
		t.Errorf("missing %q, %v", missing, err)
	}
}

// What is said on a connection that is down, or from which nothing gets through, is only a part: the others go on
// to hear the replica, and do not take it for frozen.
func TestSpeaksOnEveryConnection(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	one := b.join("r1", nil)
	down, stuck := b.connect(), b.connect(nats.UserInfo("mute", ""))
	b.join("r2", func(o *Options) { o.Conns = append([]*nats.Conn{stuck}, o.Conns[0], down) })
	heard := func(name string, connections int) {
		t.Helper()
		first := one.last(name).Number
		eventually(t, func() error {
			if last := one.last(name); len(last.Connections) != connections || last.Number < first+6 {
				return fmt.Errorf("after beat %d %s is heard with %+v, want %d connections", first, name, last, connections)
			}
			return nil
		})
	}
	heard("r2", 3)
	down.Close()
	heard("r2", 2)
	r3 := b.join("r3", func(o *Options) { o.Conns = append(o.Conns, b.connect()) })
	r3.Conns[0].Close() // it hears nobody any more, itself neither
	heard("r3", 1)
}

// A replica that may not speak does so no more: servers log each try.
func TestRefused(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	one := b.join("r1", nil)
	refused := make(chan error, 1000)
	mute := b.connect(nats.UserInfo("mute", ""), nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) { refused <- err }))
	if err := mute.Publish("gatehouse.v1.whoami", nil); err != nil {
		t.Fatal(err)
	}
	if err := <-refused; one.Refused(err) {
		t.Errorf("%v is taken for what replicas say", err)
	}
	if err := mute.Publish(beatSubject, nil); err != nil {
		t.Fatal(err)
	}
	if one.speaker() == nil {
		t.Fatal("it does not speak anyway")
	}
	if err := <-refused; !one.Refused(err) {
		t.Errorf("%v is not taken for what replicas say", err)
	}
	if one.speaker() != nil {
		t.Error("it goes on to speak")
	}
	one.refused.Store(time.Now().Add(-hushed).UnixNano())
	if one.speaker() == nil {
		t.Error("it never tries again")
	}
	listening := fmt.Errorf("%w: Permissions Violation for Subscription to %q", nats.ErrPermissionViolation, changeSubject)
	if !one.Refused(listening) || one.speaker() == nil {
		t.Error("a replica that may not listen does not speak, although the others could hear it")
	}
}

// A beat that is said again brings nobody back who has left.
func TestReplayedBeat(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	one, two := b.join("r1", nil), b.join("r2", nil)
	attacker := b.connect()
	beats, err := attacker.SubscribeSync(beatSubject)
	if err != nil {
		t.Fatal(err)
	}
	var said beat
	var recorded *nats.Msg
	for said.From != "r2" || one.last("r2").Number < said.Number {
		if recorded, err = beats.NextMsg(30 * time.Second); err != nil {
			t.Fatal(err)
		}
		if err := open(b.key, recorded, &said); err != nil {
			t.Fatal(err)
		}
	}
	two.stop()
	eventually(t, func() error {
		if !one.last("r2").Leaving {
			return fmt.Errorf("peers %+v", one.Peers())
		}
		return nil
	})
	if err := attacker.PublishMsg(recorded); err != nil {
		t.Fatal(err)
	}
	b.join("r3", func(o *Options) { o.Conns = []*nats.Conn{attacker} })
	eventually(t, func() error { // heard after what was said again
		if one.last("r3").From == "" {
			return fmt.Errorf("r3 is not heard")
		}
		return nil
	})
	if last := one.last("r2"); !last.Leaving || len(one.Peers()) != 1 {
		t.Errorf("r2 is back: %+v", last)
	}
}

// last returns what a peer has said last.
func (m *member) last(name string) beat {
	m.mu.Lock()
	defer m.mu.Unlock()
	if p := m.peers[name]; p != nil {
		return p.last
	}
	return beat{}
}

// Whoever can publish in the callout account makes no replica deny, and no peer.
func TestForgedMessages(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	one := b.join("r1", nil)
	attacker := b.connect()
	r := policy.Revocation{ID: "forged", Kind: policy.Block, At: time.Now(), Target: policy.Target{Principal: policy.Principal{Issuer: issuer, Subject: "alice"}}}
	honest := change{From: "r9", At: time.Now(), Revocation: r, Position: store.Position{Epoch: "e", Seq: 1}}
	message := func(key Key, subject string, value any) *nats.Msg {
		msg, err := seal(key, subject, value)
		if err != nil {
			t.Fatal(err)
		}
		msg.Subject, msg.Reply = changeSubject, "_INBOX.x"
		return msg
	}
	old, senseless := honest, honest
	old.At = time.Now().Add(-2 * maxAge)
	senseless.Revocation.Issuer, senseless.Revocation.Subject = "", ""
	large := honest
	large.Revocation.Match = strings.Repeat("x", maxMessage)
	changed := message(b.key, changeSubject, honest)
	changed.Data = []byte(strings.Replace(string(changed.Data), "alice", "carol", 1))
	unsigned := message(b.key, changeSubject, honest)
	unsigned.Header = nil
	reflected, unasked := message(b.key, changeSubject, honest), message(b.key, changeSubject, honest)
	reflected.Reply, unasked.Reply = beatSubject, "" // replies are not signed
	for i, msg := range []*nats.Msg{
		message(newKey(t), changeSubject, honest), message(b.key, beatSubject, honest), message(b.key, changeSubject, old),
		message(b.key, changeSubject, senseless), message(b.key, changeSubject, large), message(b.key, changeSubject, "text"),
		changed, unsigned, reflected, unasked, {Subject: changeSubject, Data: []byte("{}")}, {Subject: beatSubject, Data: []byte("{}")},
	} {
		if err := attacker.PublishMsg(msg); err != nil {
			t.Fatal(err)
		}
		eventually(t, func() error {
			if n := one.dropped.Load(); n != int64(i+1) {
				return fmt.Errorf("message %d: %d were dropped", i, n)
			}
			return nil
		})
	}
	if one.denies("alice") || one.denies("carol") || len(one.Peers()) > 0 {
		t.Error("a forged message counts")
	}
	if err := attacker.PublishMsg(message(b.key, changeSubject, honest)); err != nil {
		t.Fatal(err)
	}
	eventually(t, func() error {
		if !one.denies("alice") {
			return fmt.Errorf("an honest one does not: the cases show nothing")
		}
		return nil
	})
}
