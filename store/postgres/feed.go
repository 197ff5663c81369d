package postgres

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/gatehouse-nats/gatehouse/store"
	"github.com/gatehouse-nats/gatehouse/store/internal/row"
)

// channel is what mutations notify.
const channel = "gatehouse_feed"

// publish ends a mutation: its audit entry, and last its feed entry, whose position it returns and
// keeps with the revocation. The row of feed_counter is locked from there to the commit, so that seq is
// visible in order and a reader that is past an entry has seen all before it; taken last, it is locked
// as briefly as can be.
func publish(ctx context.Context, tx pgx.Tx, kind, id string, e *store.AuditEntry) (at store.Position, err error) {
	var batch pgx.Batch // one round trip
	arrive(&batch, *e)
	settle(&batch)
	if err := tx.SendBatch(ctx, &batch).Close(); err != nil {
		return at, err
	}
	place := `epoch = next.epoch, seq = next.seq`
	if kind == "lift" {
		place = `lift_epoch = next.epoch, lift_seq = next.seq`
	}
	err = tx.QueryRow(ctx, `WITH next AS (UPDATE feed_counter SET seq = seq + 1 RETURNING epoch, seq),
		entry AS (INSERT INTO feed (seq, at, kind, item) SELECT seq, clock_timestamp(), $1, $2 FROM next),
		placed AS (UPDATE revocations SET `+place+` FROM next WHERE id = $2)
		SELECT epoch, seq, pg_notify('`+channel+`', '')::text FROM next`, kind, row.Text(id)).Scan(&at.Epoch, &at.Seq, nil)
	return at, err
}

// Load implements [store.Store]. It is one transaction that sees one state of the database.
func (s *Store) Load(ctx context.Context) (state store.State, err error) {
	bound, cancel := s.bound(ctx, bulkTimeout)
	defer cancel()
	var list []row.Found
	var accounts []row.Record
	err = pgx.BeginTxFunc(bound, s.pool, pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly}, func(tx pgx.Tx) (err error) {
		list, err = collect(bound, tx, func(f *row.Found) []any { return append(f.StateTargets(target), target(&f.Server)) },
			`SELECT c.epoch, c.seq, `+row.Decided("r")+`, pg_postmaster_start_time()
			FROM feed_counter c LEFT JOIN revocations r ON r.lifted_at IS NULL AND (r.until IS NULL OR r.until > $1)`,
			timestamp(time.Now()))
		if err != nil {
			return err
		}
		accounts, err = collect(bound, tx, func(r *row.Record) []any { return []any{r} }, `SELECT record FROM accounts WHERE state <> 'deleted'`)
		return err
	})
	if err != nil {
		return store.State{}, s.failure(ctx, "load the state", err)
	}
	// Only now, since with a million blocks it takes longer than PostgreSQL lets a transaction stand still.
	if len(list) > 0 {
		s.loaded.Store(list[0].Server.UnixMicro())
	}
	state = row.State(list)
	state.Accounts = row.Accounts(accounts)
	return state, nil
}

// Changes implements [store.Store]. It is one statement, so that no entry is pruned between
// looking whether any is missing and reading them. Another server than the one that was loaded from may
// have lost entries and given their places to others, so then the position is none of its feed.
func (s *Store) Changes(ctx context.Context, after store.Position, limit int) ([]store.Change, store.Position, error) {
	const what = "read the feed"
	list, err := read(ctx, s, callTimeout, what,
		func(f *row.Found) []any { return append(f.ChangeTargets(target), target(&f.Server)) },
		`SELECT c.epoch, c.seq, `+row.Decided("f")+`, c.pruned, f.entry, f.change, f.record,
			pg_postmaster_start_time()
		FROM feed_counter c LEFT JOIN (
			SELECT `+row.Decided("r")+`, feed.seq AS entry, feed.kind AS change, a.record
			FROM feed LEFT JOIN revocations r ON feed.kind <> 'account' AND r.id = feed.item
				LEFT JOIN accounts a ON feed.kind = 'account' AND a.id = feed.item
			WHERE feed.seq > $1 AND (r.id IS NOT NULL OR a.id IS NOT NULL) ORDER BY feed.seq LIMIT $2) f ON true
		ORDER BY f.entry`, after.Seq, row.Limit(limit))
	if err != nil {
		return nil, after, err
	}
	if loaded := s.loaded.Load(); len(list) > 0 && loaded != 0 && loaded != list[0].Server.UnixMicro() {
		return nil, after, s.failure(ctx, what, fmt.Errorf("%w: the server is another one than before, or was started anew", store.ErrLost))
	}
	changes, position, err := row.Changes(list, after)
	return changes, position, s.failure(ctx, what, err)
}

// PruneFeed implements [store.Store].
func (s *Store) PruneFeed(ctx context.Context, before time.Time) error {
	return s.write(ctx, bulkTimeout, "prune the feed", func(ctx context.Context, tx pgx.Tx) error {
		var batch pgx.Batch
		batch.Queue(`DELETE FROM heartbeats WHERE at < $1
			AND at < clock_timestamp() - max_staleness * interval '1 microsecond'`, timestamp(before))
		batch.Queue(`DELETE FROM leases WHERE until < $1`, timestamp(before))
		batch.Queue(`DELETE FROM user_keys WHERE expires < $1`, timestamp(before))
		batch.Queue(`DELETE FROM idempotency WHERE at < $1`, timestamp(before))
		batch.Queue(`DELETE FROM answers WHERE at < $1`, timestamp(before))
		batch.Queue(`UPDATE feed_counter SET pruned = greatest(pruned, (SELECT max(seq) FROM feed WHERE at < $1))`, timestamp(before))
		batch.Queue(`DELETE FROM feed WHERE seq <= (SELECT pruned FROM feed_counter)`)
		return tx.SendBatch(ctx, &batch).Close()
	})
}
