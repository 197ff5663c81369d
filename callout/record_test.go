package callout

import (
	"io"
	"log/slog"
	"testing"
	"time"

	"github.com/gatehouse-nats/gatehouse/store"
)

func TestRejectionKind(t *testing.T) {
	for reason, want := range map[string]string{
		"": timedOut,
		"Auth callout service returned an error: refused, see request 1":                    refusedByUs,
		"Could not register auth callout user: maximum account active connections exceeded": overLimit,
		`User JWT issuer "A" is not known`:                                                  rejected,
	} {
		if got := rejectionKind(reason); got != want {
			t.Errorf("%q is %s, want %s", reason, got, want)
		}
	}
}

// nowhere is where benchmarks record.
type nowhere struct{}

// Append implements Recorder.
func (nowhere) Append(store.AuditEntry) error { return nil }

func BenchmarkEvent(b *testing.B) {
	s := &Service{Options: Options{Records: nowhere{}, Logger: slog.New(slog.NewJSONHandler(io.Discard, nil))}}
	e := store.AuditEntry{
		ID: newID(), Outcome: "allowed", Reason: "allowed", Name: "corp-alice", Issuer: "https://issuer.example", Subject: "alice", Account: "APP",
		Bindings: []string{"a", "b"}, Roles: []string{"r"}, Expires: time.Unix(1_800_000_000, 0), ServerName: "n1", ServerID: otherServer, CID: 7,
		Source: "192.0.2.7", ConnType: "standard", Client: "go 1.55.0", Rules: "v1",
	}
	b.ReportAllocs()
	for b.Loop() {
		if err := s.keep(e); err != nil {
			b.Fatal(err)
		}
	}
}
