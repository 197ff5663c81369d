package sqlite

import (
	"path/filepath"
	"strconv"
	"testing"

	"github.com/gatehouse-nats/gatehouse/store"
	"github.com/gatehouse-nats/gatehouse/store/storetest"
)

// fill makes n blocks.
func fill(t testing.TB, s *Store) func(int) {
	return func(n int) {
		t.Helper()
		if _, err := s.writer.Exec(`WITH RECURSIVE number (i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM number WHERE i + 1 < ?)
			INSERT INTO revocations (id, kind, target, issuer, subject, at, reason, actor)
			SELECT printf('0198f2c4-0000-7000-8000-%012d', i), 'block', randomblob(32), 'https://login.example.com', printf('00u%017d', i),
				1800000000000000 + i, 'left', 'root' FROM number`, n); err != nil {
			t.Fatal(err)
		}
	}
}

func TestManyBlocksProve(t *testing.T) {
	for _, n := range storetest.ManyBlocks() {
		path := filepath.Join(t.TempDir(), strconv.Itoa(n))
		s := openAt(t, path)
		storetest.ProveManyBlocks(t, n, func(n int) {
			fill(t, s)(n)
			closeStore(t, s)
		}, func() store.Store { return openAt(t, path) })
	}
}

func BenchmarkLoad(b *testing.B) {
	s := openAt(b, filepath.Join(b.TempDir(), "gatehouse.db"))
	storetest.BenchmarkLoad(b, s, fill(b, s))
}
