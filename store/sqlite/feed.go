package sqlite

import (
	"context"
	"database/sql"
	"time"

	"github.com/gatehouse-nats/gatehouse/store"
	"github.com/gatehouse-nats/gatehouse/store/internal/row"
)

// publish ends a mutation: its audit entry and its feed entry.
func publish(ctx context.Context, tx *sql.Tx, kind, id string, e *store.AuditEntry) error {
	if _, err := tx.ExecContext(ctx, insertAudit, row.AuditValues(e, value)...); err != nil {
		return err
	}
	var seq int64
	if err := tx.QueryRowContext(ctx, `UPDATE feed_counter SET seq = seq + 1 RETURNING seq`).Scan(&seq); err != nil {
		return err
	}
	_, err := tx.ExecContext(ctx, `INSERT INTO feed (seq, at, kind, item) VALUES (?, ?, ?, ?)`,
		seq, micros(time.Now()), kind, row.Text(id))
	return err
}

// Load implements [store.Store]. It is one statement, and so one state of the file.
func (s *Store) Load(ctx context.Context) (store.State, error) {
	list, err := read(ctx, s, "load the state", func(f *row.Found) []any { return f.StateTargets(target) },
		`SELECT c.epoch, c.seq, r.id, r.kind, r.issuer, r.subject, r.at, r.until
		FROM feed_counter c LEFT JOIN revocations r ON r.lifted_at IS NULL AND (r.until IS NULL OR r.until > ?)`,
		micros(time.Now()))
	if err != nil {
		return store.State{}, err
	}
	return row.State(list), nil
}

// Changes implements [store.Store]. It is one statement, so that no entry is pruned between
// looking whether any is missing and reading them.
func (s *Store) Changes(ctx context.Context, after store.Position, limit int) ([]store.Change, store.Position, error) {
	const what = "read the feed"
	list, err := read(ctx, s, what, func(f *row.Found) []any { return f.ChangeTargets(target) },
		`SELECT c.epoch, c.seq, f.id, f.kind, f.issuer, f.subject, f.at, f.until, c.pruned, f.seq, f.change
		FROM feed_counter c LEFT JOIN (
			SELECT r.id, r.kind, r.issuer, r.subject, r.at, r.until, feed.seq, feed.kind AS change
			FROM feed JOIN revocations r ON r.id = feed.item
			WHERE feed.seq > ? ORDER BY feed.seq LIMIT ?) f
		ORDER BY f.seq`, after.Seq, row.Limit(limit))
	if err != nil {
		return nil, after, err
	}
	changes, position, err := row.Changes(list, after)
	return changes, position, s.failure(ctx, what, err)
}

// Beat implements [store.Store].
func (s *Store) Beat(ctx context.Context, replica string) (p store.Position, err error) {
	err = s.write(ctx, "beat", func(ctx context.Context, tx *sql.Tx) error {
		if _, err := tx.ExecContext(ctx, `INSERT INTO heartbeats (replica, at) VALUES (?, ?)
			ON CONFLICT (replica) DO UPDATE SET at = excluded.at`, row.Text(replica), micros(time.Now())); err != nil {
			return err
		}
		return tx.QueryRowContext(ctx, `SELECT epoch, seq FROM feed_counter`).Scan(&p.Epoch, &p.Seq)
	})
	return p, err
}

// PruneFeed implements [store.Store].
func (s *Store) PruneFeed(ctx context.Context, before time.Time) error {
	return s.write(ctx, "prune the feed", func(ctx context.Context, tx *sql.Tx) error {
		for _, q := range []string{
			`UPDATE feed_counter SET pruned = max(pruned, coalesce((SELECT max(seq) FROM feed WHERE at < ?), 0))`,
			`DELETE FROM heartbeats WHERE at < ?`,
			`DELETE FROM idempotency WHERE at < ?`,
		} {
			if _, err := tx.ExecContext(ctx, q, micros(before)); err != nil {
				return err
			}
		}
		_, err := tx.ExecContext(ctx, `DELETE FROM feed WHERE seq <= (SELECT pruned FROM feed_counter)`)
		return err
	})
}
