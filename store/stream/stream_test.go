package stream_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"go.uber.org/goleak"

	"github.com/gatehouse-nats/gatehouse/internal/devstack/devtest"
	"github.com/gatehouse-nats/gatehouse/store"
	"github.com/gatehouse-nats/gatehouse/store/sqlite"
	"github.com/gatehouse-nats/gatehouse/store/stream"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const patience = time.Minute

// bed is a store and a server with JetStream.
type bed struct {
	*testing.T
	store  store.Store
	server *devtest.Server
	conn   *nats.Conn
	js     jetstream.JetStream
}

func newBed(t *testing.T) *bed {
	t.Helper()
	dir := t.TempDir()
	s, err := sqlite.Open(t.Context(), sqlite.Options{Path: filepath.Join(dir, "gatehouse.db"), Migrate: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	conf := filepath.Join(dir, "server.conf")
	text := fmt.Sprintf("listen: 127.0.0.1:%d\njetstream { store_dir: %q }\n", devtest.Ports(t, 1)[0], filepath.Join(dir, "js"))
	if err := os.WriteFile(conf, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	b := &bed{T: t, store: s, server: devtest.StartServers(t, []string{conf}, devtest.InProcess)[0]}
	b.conn = b.connect()
	if b.js, err = jetstream.New(b.conn); err != nil {
		t.Fatal(err)
	}
	return b
}

func (b *bed) connect() *nats.Conn {
	b.Helper()
	nc, err := nats.Connect(b.server.ClientURL(), nats.MaxReconnects(-1), nats.ReconnectWait(20*time.Millisecond), nats.ReconnectBufSize(-1))
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(nc.Close)
	return nc
}

// record stores n entries in batches and returns their ids.
func (b *bed) record(n int) (ids []string) {
	b.Helper()
	for n > 0 {
		var list []store.AuditEntry
		for range min(n, 100) {
			e := store.AuditEntry{ID: uuid.Must(uuid.NewV7()).String(), At: time.Now(), Kind: store.LoginEntry, Outcome: "refused", Reason: "no_binding", Subject: "alice"}
			list, ids = append(list, e), append(ids, e.ID)
		}
		if err := b.store.Record(b.Context(), list); err != nil {
			b.Fatal(err)
		}
		n -= len(list)
	}
	return ids
}

// start runs a copier and returns it with what ends it.
func (b *bed) start(change ...func(*stream.Options)) (*stream.Copier, func()) {
	b.Helper()
	o := stream.Options{
		Trail: b.store, Leases: b.store, Conn: b.conn, Stream: "AUDIT", Subject: "gatehouse.audit", Create: true, Replica: "r1", Logger: devtest.Log(b),
	}
	for _, f := range change {
		f(&o)
	}
	c, err := stream.New(o)
	if err != nil {
		b.Fatal(err)
	}
	ctx, cancel := context.WithCancel(b.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		if err := c.Run(ctx); err != nil {
			b.Error(err)
		}
	}()
	stop := func() { cancel(); <-ended }
	b.Cleanup(stop)
	return c, stop
}

// stored returns how often the stream holds each entry.
func (b *bed) stored() map[string]int {
	b.Helper()
	ctx, cancel := context.WithTimeout(b.Context(), patience)
	defer cancel()
	s, err := b.js.Stream(ctx, "AUDIT")
	if err != nil {
		return nil
	}
	count := map[string]int{}
	state := s.CachedInfo().State
	for seq := state.FirstSeq; seq <= state.LastSeq && state.Msgs > 0; seq++ {
		m, err := s.GetMsg(ctx, seq)
		if err != nil {
			b.Fatal(err)
		}
		var e store.AuditEntry
		if err := json.Unmarshal(m.Data, &e); err != nil || m.Header.Get(nats.MsgIdHdr) != e.ID {
			b.Fatalf("message %d: %v, id %q of entry %q", seq, err, m.Header.Get(nats.MsgIdHdr), e.ID)
		}
		if want := "gatehouse.audit." + e.Kind + "." + e.Outcome; m.Subject != want {
			b.Errorf("on %s, want %s", m.Subject, want)
		}
		count[e.ID]++
	}
	return count
}

// messages returns how many the stream holds.
func (b *bed) messages() uint64 {
	ctx, cancel := context.WithTimeout(b.Context(), time.Second)
	defer cancel()
	s, err := b.js.Stream(ctx, "AUDIT")
	if err != nil {
		return 0
	}
	return s.CachedInfo().State.Msgs
}

// mustGet waits until the stream holds as many messages as ids and expects each id in it once.
func (b *bed) mustGet(ids []string) {
	b.Helper()
	b.eventually("all entries are in the stream", func() bool { return b.messages() >= uint64(len(ids)) })
	count := b.stored()
	slices.Sort(ids)
	if got := slices.Sorted(maps.Keys(count)); !slices.Equal(got, ids) {
		b.Errorf("the stream holds %d entries, want %d", len(got), len(ids))
	}
	for id, n := range count {
		if n != 1 {
			b.Errorf("%s is there %d times", id, n)
		}
	}
}

func (b *bed) eventually(what string, done func() bool) {
	b.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(patience); !done(); {
		if time.Now().After(deadline) {
			b.Fatalf("%s: not within %s", what, patience)
		}
		<-tick.C
	}
}

func TestCopy(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	ids := b.record(700) // several batches
	c, stop := b.start()
	b.mustGet(ids)
	b.eventually("it is up to date", func() bool { return !c.Status().Current.IsZero() })
	if s := c.Status(); !s.Copying || s.Copied != 700 || s.Error != "" || s.Stream != "AUDIT" {
		t.Errorf("%+v", s)
	}
	ids = append(ids, b.record(1)...)
	b.mustGet(ids)
	stop()
	// The next process goes on where this one was.
	ids = append(ids, b.record(10)...)
	next, _ := b.start()
	b.mustGet(ids)
	b.eventually("it is up to date", func() bool { return !next.Status().Current.IsZero() })
	if s := next.Status(); s.Copied != 10 {
		t.Errorf("%+v", s)
	}
}

// What is missing is said, and nothing is lost meanwhile.
func TestStreamThatIsMissing(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	ids := b.record(3)
	c, _ := b.start(func(o *stream.Options) { o.Create = false })
	b.eventually("it says what is missing", func() bool {
		return strings.Contains(c.Status().Error, "stream AUDIT is not there: make it with subject gatehouse.audit.>")
	})
	if cursor, err := b.store.CopyCursor(t.Context(), "AUDIT"); cursor != "" || err != nil {
		t.Errorf("it went on to %q, %v", cursor, err)
	}
	if _, err := b.js.CreateStream(t.Context(), jetstream.StreamConfig{Name: "AUDIT", Subjects: []string{"other.>"}}); err != nil {
		t.Fatal(err)
	}
	b.eventually("it says that the stream takes nothing", func() bool { return strings.Contains(c.Status().Error, "stream AUDIT does not take") })
	if _, err := b.js.UpdateStream(t.Context(), jetstream.StreamConfig{Name: "AUDIT", Subjects: []string{"gatehouse.audit.>"}}); err != nil {
		t.Fatal(err)
	}
	b.mustGet(ids)
	b.eventually("it is well", func() bool { return c.Status().Error == "" })
}

func TestServerThatIsGoneForAWhile(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	ids := b.record(5)
	c, _ := b.start()
	b.mustGet(ids)
	b.server.Stop()
	ids = append(ids, b.record(600)...)
	b.eventually("it says that it waits", func() bool { return c.Status().Error != "" })
	b.server.Start()
	b.mustGet(ids)
}

// forgetful does not note how far the copy is, as a process does not that is killed after it has published.
type forgetful struct {
	store.Store
	forgets atomic.Int64
}

func (f *forgetful) SaveCopyCursor(ctx context.Context, name, cursor string) error {
	if f.forgets.Add(-1) >= 0 {
		return errors.New("killed")
	}
	return f.Store.SaveCopyCursor(ctx, name, cursor)
}

func TestPublishedTwiceIsThereOnce(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	trail := &forgetful{Store: b.store}
	trail.forgets.Store(2)
	ids := b.record(300)
	b.start(func(o *stream.Options) { o.Trail = trail })
	b.eventually("it has published again", func() bool { return trail.forgets.Load() < 0 })
	b.mustGet(ids)
}

func TestOneReplicaCopies(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	ids := b.record(10)
	first, stop := b.start()
	b.mustGet(ids)
	second, _ := b.start(func(o *stream.Options) { o.Replica, o.Conn = "r2", b.connect() })
	ids = append(ids, b.record(10)...)
	b.mustGet(ids)
	if a, b := first.Status(), second.Status(); !a.Copying || b.Copying || b.Copied != 0 {
		t.Errorf("%+v, %+v", a, b)
	}
	stop()
	ids = append(ids, b.record(10)...)
	b.mustGet(ids)
	if s := second.Status(); !s.Copying {
		t.Errorf("%+v", s)
	}
}
