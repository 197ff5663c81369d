package storetest

import (
	"fmt"
	"log/slog"
	"os"
	"runtime"
	"testing"
	"time"

	"github.com/gatehouse-nats/gatehouse/policy"
	"github.com/gatehouse-nats/gatehouse/store"
)

// BenchmarkRecord measures Record with the batches that the spool sends, each entry of another identity.
func BenchmarkRecord(b *testing.B, open Opener) {
	const batch = 500
	s := open(b)
	entries := make([]store.AuditEntry, batch)
	for b.Loop() {
		for i := range entries {
			e := login(fmt.Sprint("subject-", i))
			e.Name, e.Account, e.ServerID, e.UserKey, e.Source = "corp-alice", "APP", "NSERVER", "UKEY", "10.0.0.1"
			e.Roles, e.Bindings = []string{"app"}, []string{"developers"}
			e.Display = map[string]string{"email": e.Subject + "@example.com"}
			entries[i] = e
		}
		if err := s.Record(b.Context(), entries); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.N)*batch/b.Elapsed().Seconds(), "entries/s")
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
