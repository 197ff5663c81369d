package postgres

import (
	"context"
	"errors"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/gatehouse-nats/gatehouse/store"
	"github.com/gatehouse-nats/gatehouse/store/internal/row"
)

// Beat implements [store.Store].
func (s *Store) Beat(ctx context.Context, h store.Heartbeat) (p store.Position, err error) {
	err = s.write(ctx, callTimeout, "beat", func(ctx context.Context, tx pgx.Tx) error {
		return tx.QueryRow(ctx, `WITH beat AS (INSERT INTO heartbeats (replica, at, epoch, seq, max_staleness)
			VALUES ($1, clock_timestamp(), $2, $3, $4)
			ON CONFLICT (replica) DO UPDATE SET at = excluded.at, epoch = excluded.epoch, seq = excluded.seq,
				max_staleness = excluded.max_staleness)
			SELECT epoch, seq FROM feed_counter`,
			row.Text(h.Replica), row.Text(h.Applied.Epoch), h.Applied.Seq, h.MaxStaleness.Microseconds()).Scan(&p.Epoch, &p.Seq)
	})
	return p, err
}

// Replicas implements [store.Store].
func (s *Store) Replicas(ctx context.Context) ([]store.Replica, error) {
	return read(ctx, s, callTimeout, "list replicas", func(r *store.Replica) []any { return row.ReplicaTargets(r, target) },
		`SELECT replica, epoch, seq, at, max_staleness, (extract(epoch FROM clock_timestamp() - at) * 1000000)::bigint
		FROM heartbeats ORDER BY replica COLLATE "C"`)
}

// Leave implements [store.Store].
func (s *Store) Leave(ctx context.Context, replica string) error {
	return s.write(ctx, callTimeout, "leave", func(ctx context.Context, tx pgx.Tx) error {
		_, err := tx.Exec(ctx, `DELETE FROM heartbeats WHERE replica = $1`, row.Text(replica))
		return err
	})
}

// Acquire implements [store.Store].
func (s *Store) Acquire(ctx context.Context, name, holder string, ttl time.Duration) (held bool, until time.Time, err error) {
	err = s.write(ctx, callTimeout, "acquire a lease", func(ctx context.Context, tx pgx.Tx) error {
		// Who waits for another's call reads the clock again after it, in the condition.
		err := tx.QueryRow(ctx, `INSERT INTO leases (name, holder, until)
			VALUES ($1, $2, clock_timestamp() + $3::bigint * interval '1 microsecond')
			ON CONFLICT (name) DO UPDATE SET holder = excluded.holder, until = excluded.until
			WHERE leases.holder = excluded.holder OR leases.until <= clock_timestamp() RETURNING until`,
			row.Text(name), row.Text(holder), ttl.Microseconds()).Scan(target(&until))
		if !errors.Is(err, pgx.ErrNoRows) {
			held = err == nil
			return err
		}
		err = tx.QueryRow(ctx, `SELECT until FROM leases WHERE name = $1`, row.Text(name)).Scan(target(&until))
		if errors.Is(err, pgx.ErrNoRows) {
			return nil // it was given up between the two: the next call gets it
		}
		return err
	})
	return held && err == nil, until, err
}

// Release implements [store.Store].
func (s *Store) Release(ctx context.Context, name, holder string) error {
	return s.write(ctx, callTimeout, "release a lease", func(ctx context.Context, tx pgx.Tx) error {
		_, err := tx.Exec(ctx, `DELETE FROM leases WHERE name = $1 AND holder = $2`, row.Text(name), row.Text(holder))
		return err
	})
}
