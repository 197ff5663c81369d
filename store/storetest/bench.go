package storetest

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"log/slog"
	"math"
	"os"
	"runtime"
	"syscall"
	"testing"
	"time"

	"github.com/gatehouse-nats/gatehouse/policy"
	"github.com/gatehouse-nats/gatehouse/store"
)

// BenchmarkRecord measures Record with batches as the spool sends them, of logins such as the callout records:
// everybody for the first time, and a few thousand who come again and again. cpu is what the process took for an
// entry, in which another process that is the database has no part.
func BenchmarkRecord(b *testing.B, open Opener) {
	for _, who := range []struct {
		name   string
		people int
	}{{"new", math.MaxInt}, {"again", 5000}} {
		for _, batch := range []int{10, 100, 1000} {
			b.Run(fmt.Sprintf("%s-%d", who.name, batch), func(b *testing.B) { benchmarkRecord(b, open(b), who.people, batch) })
		}
	}
}

func benchmarkRecord(b *testing.B, s store.Store, people, batch int) {
	entries := make([]store.AuditEntry, batch)
	n := 0
	next := func() {
		for i := range entries {
			entries[i] = recorded(n, n*7919%people)
			n++
		}
	}
	for n < min(people, 20_000) { // the indices have pages to choose from
		next()
		if err := s.Record(b.Context(), entries); err != nil {
			b.Fatal(err)
		}
	}
	var took time.Duration
	b.ReportAllocs()
	b.ResetTimer()
	for range b.N {
		b.StopTimer()
		next()
		b.StartTimer()
		before := cpu()
		if err := s.Record(b.Context(), entries); err != nil {
			b.Fatal(err)
		}
		took += cpu() - before
	}
	b.ReportMetric(float64(took.Microseconds())/float64(b.N*batch), "cpu-µs/entry")
	b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(b.N*batch), "µs/entry")
}

// recorded returns the nth login, as the callout records one.
func recorded(n, person int) store.AuditEntry {
	hash := sha256.Sum256(fmt.Append(nil, person))
	e := login(fmt.Sprintf("00u%x", hash[:9]))
	e.At, e.Name = time.Now().UTC(), "corp-"+e.Subject
	e.Display = map[string]string{"email": e.Subject + "@example.com", "name": "Alice " + e.Subject}
	e.TokenID, e.Issued = fmt.Sprintf("AT.%x", hash[9:25]), e.At
	e.Claims = json.RawMessage(`{"groups":["developers","everybody"]}`)
	e.Account, e.Roles, e.Bindings, e.Expires = "APP", []string{"app"}, []string{"developers"}, e.At.Add(time.Hour)
	e.ServerID, e.ServerName, e.CID = "NBIT3GDRJ7DJ6UM57NXQBCDQWHCUULL3WMGUPCNYZ7AFJ4XCL7PHN4CK", "n1", uint64(n)
	e.UserKey = "UAAT3GDRJ7DJ6UM57NXQBCDQWHCUULL3WMGUPCNYZ7AFJ4XCL7PHN4CK"
	e.Source, e.ConnType, e.Client = "10.0.0.1", "standard", "go 1.55.0"
	e.Replica, e.Rules = "gatehouse-0-17-abcdef", "1f2e3d4c5b6a"
	return e
}

// cpu returns how much processor time this process has taken.
func cpu() time.Duration {
	var u syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u) // it fails for no address but a bad one
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// ManyBlocks returns with how many blocks [ProveManyBlocks] is to be run.
func ManyBlocks() []int {
	if os.Getenv("GATEHOUSE_PROVE") == "1" {
		return []int{100_000, 1_000_000}
	}
	return []int{1000}
}

// ProveManyBlocks tells how long a replica takes to be ready to decide, and how much memory that takes, when many
// are blocked. fill makes n blocks in a new store by SQL, reopen opens that store as a process does that starts.
func ProveManyBlocks(t *testing.T, n int, fill func(n int), reopen func() store.Store) {
	t.Helper()
	fill(n)
	before := heap()
	began := time.Now()
	s := reopen()
	m := store.NewMirror(s, store.MirrorOptions{Replica: "r1", Logger: slog.New(slog.DiscardHandler)})
	m.SetRules(&policy.Rules{})
	if err := m.Refresh(t.Context()); err != nil {
		t.Fatal(err)
	}
	took := time.Since(began)
	memory := heap() - before
	t.Logf("%d blocks: ready after %v; memory %.1f MB, %d bytes a block", n, took.Round(time.Millisecond), float64(memory)/1e6, memory/int64(n))
	if n == 100_000 && took > 2*time.Second {
		t.Error("that is more than 2 s")
	}
	if got := m.Snapshot().Revocations.Len(); got != n {
		t.Errorf("%d are in force", got)
	}
	runtime.KeepAlive(m)
}

// BenchmarkLoad measures Load with 100,000 blocks, which fill makes.
func BenchmarkLoad(b *testing.B, s store.Store, fill func(n int)) {
	fill(100_000)
	for b.Loop() {
		if state, err := s.Load(b.Context()); err != nil || len(state.Revocations) != 100_000 {
			b.Fatal(len(state.Revocations), err)
		}
	}
}

// heap returns the bytes that are in use.
func heap() int64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}
