package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"time"

	"github.com/gatehouse-nats/gatehouse/store"
	"github.com/gatehouse-nats/gatehouse/store/internal/row"
)

// Beat implements [store.Store].
func (s *Store) Beat(ctx context.Context, h store.Heartbeat) (p store.Position, err error) {
	err = s.write(ctx, "beat", func(ctx context.Context, tx *tx) error {
		if _, err := tx.ExecContext(ctx, `INSERT INTO heartbeats (replica, at, epoch, seq, max_staleness) VALUES (?, ?, ?, ?, ?)
			ON CONFLICT (replica) DO UPDATE SET at = excluded.at, epoch = excluded.epoch, seq = excluded.seq,
				max_staleness = excluded.max_staleness`,
			row.Text(h.Replica), micros(time.Now()), row.Text(h.Applied.Epoch), h.Applied.Seq, h.MaxStaleness.Microseconds()); err != nil {
			return err
		}
		return tx.QueryRowContext(ctx, `SELECT epoch, seq FROM feed_counter`).Scan(&p.Epoch, &p.Seq)
	})
	return p, err
}

// Replicas implements [store.Store].
func (s *Store) Replicas(ctx context.Context) ([]store.Replica, error) {
	return read(ctx, s, "list replicas", func(r *store.Replica) []any { return row.ReplicaTargets(r, target) },
		`SELECT replica, epoch, seq, at, max_staleness, ? - at FROM heartbeats ORDER BY replica`, micros(time.Now()))
}

// Leave implements [store.Store].
func (s *Store) Leave(ctx context.Context, replica string) error {
	return s.write(ctx, "leave", func(ctx context.Context, tx *tx) error {
		_, err := tx.ExecContext(ctx, `DELETE FROM heartbeats WHERE replica = ?`, row.Text(replica))
		return err
	})
}

// Acquire implements [store.Store]; the database's clock is that of this process.
func (s *Store) Acquire(ctx context.Context, name, holder string, ttl time.Duration) (held bool, until time.Time, err error) {
	err = s.write(ctx, "acquire a lease", func(ctx context.Context, tx *tx) error {
		now := time.Now()
		err := tx.QueryRowContext(ctx, `INSERT INTO leases (name, holder, until) VALUES (?, ?, ?)
			ON CONFLICT (name) DO UPDATE SET holder = excluded.holder, until = excluded.until
			WHERE leases.holder = excluded.holder OR leases.until <= ? RETURNING until`,
			row.Text(name), row.Text(holder), micros(now.Add(ttl)), micros(now)).Scan(target(&until))
		if !errors.Is(err, sql.ErrNoRows) {
			held = err == nil
			return err
		}
		return tx.QueryRowContext(ctx, `SELECT until FROM leases WHERE name = ?`, row.Text(name)).Scan(target(&until))
	})
	return held && err == nil, until, err
}

// Release implements [store.Store].
func (s *Store) Release(ctx context.Context, name, holder string) error {
	return s.write(ctx, "release a lease", func(ctx context.Context, tx *tx) error {
		_, err := tx.ExecContext(ctx, `DELETE FROM leases WHERE name = ? AND holder = ?`, row.Text(name), row.Text(holder))
		return err
	})
}
