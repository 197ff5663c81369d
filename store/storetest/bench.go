package storetest

import (
	"testing"

	"github.com/gatehouse-nats/gatehouse/store"
)

// BenchmarkRecord measures Record with the batches that the spool sends.
func BenchmarkRecord(b *testing.B, open Opener) {
	const batch = 500
	s := open(b)
	entries := make([]store.AuditEntry, batch)
	for b.Loop() {
		for i := range entries {
			e := login("alice")
			e.Name, e.Account, e.ServerID, e.UserKey, e.Source = "corp-alice", "APP", "NSERVER", "UKEY", "10.0.0.1"
			e.Roles, e.Bindings = []string{"app"}, []string{"developers"}
			e.Display = map[string]string{"email": "alice@example.com"}
			entries[i] = e
		}
		if err := s.Record(b.Context(), entries); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.N)*batch/b.Elapsed().Seconds(), "entries/s")
}
