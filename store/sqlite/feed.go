package sqlite

import (
	"context"
	"database/sql"
	"time"

	"github.com/gatehouse-nats/gatehouse/store"
	"github.com/gatehouse-nats/gatehouse/store/internal/row"
)

// publish ends a mutation: its audit entry and its feed entry, whose position it returns.
func (s *Store) publish(ctx context.Context, tx *tx, kind, id string, e *store.AuditEntry) (at store.Position, err error) {
	if err := s.arrive(ctx, tx, *e); err != nil {
		return at, err
	}
	return at, feed(ctx, tx, kind, id, time.Now(), &at)
}

// feed makes a feed entry; at is set to its position unless it is nil.
func feed(ctx context.Context, tx *tx, kind, id string, now time.Time, at *store.Position) error {
	var p store.Position
	if err := tx.QueryRowContext(ctx, `UPDATE feed_counter SET seq = seq + 1 RETURNING epoch, seq`).Scan(&p.Epoch, &p.Seq); err != nil {
		return err
	}
	if at != nil {
		*at = p
	}
	_, err := tx.ExecContext(ctx, `INSERT INTO feed (seq, at, kind, item) VALUES (?, ?, ?, ?)`, p.Seq, micros(now), kind, row.Text(id))
	return err
}

// Load implements [store.Store]. It is one transaction, and so one state of the file.
func (s *Store) Load(ctx context.Context) (state store.State, err error) {
	err = func() error {
		ctx, done, err := s.bound(ctx)
		if err != nil {
			return err
		}
		defer done()
		tx, err := s.reader.BeginTx(ctx, &sql.TxOptions{ReadOnly: true})
		if err != nil {
			return err
		}
		defer func() { _ = tx.Rollback() }()
		list, err := collect(ctx, tx, func(f *row.Found) []any { return f.StateTargets(target) },
			`SELECT c.epoch, c.seq, `+row.Decided("r")+`
			FROM feed_counter c LEFT JOIN revocations r ON r.lifted_at IS NULL AND (r.until IS NULL OR r.until > ?)`,
			micros(time.Now()))
		if err != nil {
			return err
		}
		accounts, err := collect(ctx, tx, func(r *row.Record) []any { return []any{r} }, `SELECT record FROM accounts WHERE state <> 'deleted'`)
		state = row.State(list)
		state.Accounts = row.Accounts(accounts)
		return err
	}()
	if err != nil {
		return store.State{}, s.failure(ctx, "load the state", err)
	}
	return state, nil
}

// Changes implements [store.Store]. It is one statement, so that no entry is pruned between
// looking whether any is missing and reading them.
func (s *Store) Changes(ctx context.Context, after store.Position, limit int) ([]store.Change, store.Position, error) {
	const what = "read the feed"
	list, err := read(ctx, s, what, func(f *row.Found) []any { return f.ChangeTargets(target) },
		`SELECT c.epoch, c.seq, `+row.Decided("f")+`, c.pruned, f.entry, f.change, f.record
		FROM feed_counter c LEFT JOIN (
			SELECT `+row.Decided("r")+`, feed.seq AS entry, feed.kind AS change, a.record
			FROM feed LEFT JOIN revocations r ON feed.kind <> 'account' AND r.id = feed.item
				LEFT JOIN accounts a ON feed.kind = 'account' AND a.id = feed.item
			WHERE feed.seq > ? AND (r.id IS NOT NULL OR a.id IS NOT NULL) ORDER BY feed.seq LIMIT ?) f
		ORDER BY f.entry`, after.Seq, row.Limit(limit))
	if err != nil {
		return nil, after, err
	}
	changes, position, err := row.Changes(list, after)
	return changes, position, s.failure(ctx, what, err)
}

// PruneFeed implements [store.Store].
func (s *Store) PruneFeed(ctx context.Context, before time.Time) error {
	return s.write(ctx, "prune the feed", func(ctx context.Context, tx *tx) error {
		for _, q := range []string{
			`UPDATE feed_counter SET pruned = max(pruned, coalesce((SELECT max(seq) FROM feed WHERE at < ?), 0))`,
			`DELETE FROM idempotency WHERE at < ?`,
			`DELETE FROM answers WHERE at < ?`,
			`DELETE FROM leases WHERE until < ?`,
			`DELETE FROM user_keys WHERE expires < ?`,
		} {
			if _, err := tx.ExecContext(ctx, q, micros(before)); err != nil {
				return err
			}
		}
		if _, err := tx.ExecContext(ctx, `DELETE FROM heartbeats WHERE at < ? AND at + max_staleness < ?`,
			micros(before), micros(time.Now())); err != nil {
			return err
		}
		_, err := tx.ExecContext(ctx, `DELETE FROM feed WHERE seq <= (SELECT pruned FROM feed_counter)`)
		return err
	})
}
