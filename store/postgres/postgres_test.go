package postgres_test

import (
	"testing"

	"go.uber.org/goleak"

	"github.com/gatehouse-nats/gatehouse/store"
	"github.com/gatehouse-nats/gatehouse/store/postgres"
	"github.com/gatehouse-nats/gatehouse/store/storetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func open(t testing.TB) store.Store {
	t.Helper()
	// Enough connections that the writers of a test are really at it together.
	dsn := storetest.Postgres(t, postgres.Migrate) + "&pool_max_conns=20"
	s, err := postgres.Open(t.Context(), postgres.Options{DSN: dsn})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func TestConformance(t *testing.T) { storetest.Run(t, open) }

func BenchmarkRecord(b *testing.B) { storetest.BenchmarkRecord(b, open) }
