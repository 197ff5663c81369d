package postgres

import (
	"testing"

	"github.com/gatehouse-nats/gatehouse/store"
	"github.com/gatehouse-nats/gatehouse/store/storetest"
)

// fill makes n blocks.
func fill(t testing.TB, s *Store) func(int) {
	return func(n int) {
		t.Helper()
		_, err := s.pool.Exec(t.Context(), `INSERT INTO revocations (id, kind, target, issuer, subject, at, reason, actor)
			SELECT '0198f2c4-0000-7000-8000-' || lpad(i::text, 12, '0'), 'block', sha256(i::text::bytea), 'https://login.example.com',
				'00u' || lpad(i::text, 17, '0'), to_timestamp(1800000000 + i), 'left', 'root' FROM generate_series(0, $1 - 1) AS i`, n)
		if err != nil {
			t.Fatal(err)
		}
	}
}

func TestManyBlocksProve(t *testing.T) {
	for _, n := range storetest.ManyBlocks() {
		dsn := storetest.Postgres(t, Migrate)
		s := openAt(t, dsn)
		storetest.ProveManyBlocks(t, n, fill(t, s), func() store.Store { return openAt(t, dsn) })
	}
}

func BenchmarkLoad(b *testing.B) {
	s := openAt(b, storetest.Postgres(b, Migrate))
	storetest.BenchmarkLoad(b, s, fill(b, s))
}
