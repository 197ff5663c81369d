package postgres

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/gatehouse-nats/gatehouse/store"
	"github.com/gatehouse-nats/gatehouse/store/internal/row"
)

// Revoke implements [store.Store].
func (s *Store) Revoke(ctx context.Context, r store.Revocation, key string) (stored store.Revocation, existing bool, err error) {
	if r, err = row.Normal(r); err != nil {
		return store.Revocation{}, false, fmt.Errorf("store: revoke: %w", err)
	}
	err = s.write(ctx, callTimeout, "revoke", func(ctx context.Context, tx pgx.Tx) error {
		if key != "" {
			// Another call with this key that is under way is waited for here.
			tag, err := tx.Exec(ctx, `INSERT INTO idempotency (key, call, revocation, existing, at)
				VALUES ($1, $2, $3, false, $4) ON CONFLICT (key) DO NOTHING`,
				row.KeyHash(key), row.CallHash(r), row.Text(r.ID), timestamp(time.Now()))
			if err != nil {
				return err
			}
			if tag.RowsAffected() == 0 {
				stored, existing, err = firstAnswer(ctx, tx, r, key)
				return err
			}
		}
		if stored, existing, err = insertRevocation(ctx, tx, r); err != nil {
			return err
		}
		if !existing {
			stored.Position, err = publish(ctx, tx, "revoke", r.ID, row.RevokeEntry(r, time.Now()))
			return err
		}
		if key == "" {
			return nil
		}
		_, err := tx.Exec(ctx, `UPDATE idempotency SET revocation = $2, existing = true WHERE key = $1`,
			row.KeyHash(key), row.Text(stored.ID))
		return err
	})
	if err != nil {
		return store.Revocation{}, false, err
	}
	return stored, existing, nil
}

// firstAnswer returns what the call with this key was answered.
func firstAnswer(ctx context.Context, tx pgx.Tx, r store.Revocation, key string) (first store.Revocation, existing bool, err error) {
	var call []byte
	var id string
	err = tx.QueryRow(ctx, `SELECT call, revocation, existing FROM idempotency WHERE key = $1`, row.KeyHash(key)).
		Scan(&call, (*row.Text)(&id), &existing)
	if err != nil {
		return first, false, err
	}
	if !bytes.Equal(call, row.CallHash(r)) {
		return first, false, store.ErrConflict
	}
	first, err = revocation(ctx, tx, row.FirstColumns, id)
	return first, existing, err
}

var insert = `INSERT INTO revocations (` + row.InsertColumns + `) VALUES (` + marks(row.InsertColumns) + `)
	ON CONFLICT (target, kind, programs, coalesce(until, 'infinity')) WHERE ` + row.EqualOnce + ` DO NOTHING`

// insertRevocation stores r, or returns the one that is equal to it.
func insertRevocation(ctx context.Context, tx pgx.Tx, r store.Revocation) (store.Revocation, bool, error) {
	// The unique index decides between calls that are made at once. The equal one may be lifted
	// between the two statements, hence the second try.
	for range 2 {
		tag, err := tx.Exec(ctx, insert, row.InsertValues(r, value)...)
		if err != nil {
			return store.Revocation{}, false, err
		}
		if tag.RowsAffected() == 1 {
			return r, false, nil
		}
		equal, err := queryRevocation(tx.QueryRow(ctx, `SELECT `+row.RevocationColumns+` FROM revocations
			WHERE target = $1 AND kind = $2 AND programs = $3 AND until IS NOT DISTINCT FROM $4::timestamptz AND `+row.EqualOnce,
			row.TargetHash(r.Target), string(r.Kind), r.Programs, timestamp(r.Until)))
		if !errors.Is(err, pgx.ErrNoRows) {
			return equal, true, err
		}
	}
	return store.Revocation{}, false, fmt.Errorf("%w: revocations of this target change too fast: try again", store.ErrUnavailable)
}

// revokeBeside makes a revocation that no other equals.
func revokeBeside(ctx context.Context, tx pgx.Tx, r store.Revocation) error {
	r, err := row.Normal(r)
	if err != nil {
		return err
	}
	if _, err := tx.Exec(ctx, insert, row.BesideValues(r, value)...); err != nil {
		return err
	}
	_, err = publish(ctx, tx, "revoke", r.ID, row.RevokeEntry(r, time.Now()))
	return err
}

// Lift implements [store.Store].
func (s *Store) Lift(ctx context.Context, l store.Lift) (lifted store.Revocation, err error) {
	err = s.write(ctx, callTimeout, "lift", func(ctx context.Context, tx pgx.Tx) error {
		lifted, err = lift(ctx, tx, l)
		return err
	})
	if err != nil {
		return store.Revocation{}, err
	}
	return lifted, nil
}

// lift ends a revocation, and returns one that is lifted already unchanged; [store.ErrNotFound] when there is none.
func lift(ctx context.Context, tx pgx.Tx, l store.Lift) (store.Revocation, error) {
	lifted, err := queryRevocation(tx.QueryRow(ctx, `UPDATE revocations SET lifted_at = $2, lifted_by = $3, lift_note = $4
		WHERE id = $1 AND lifted_at IS NULL RETURNING `+row.RevocationColumns,
		row.Text(l.ID), timestamp(l.At), row.Text(l.Actor), row.Text(l.Note)))
	if errors.Is(err, pgx.ErrNoRows) {
		return revocation(ctx, tx, row.RevocationColumns, l.ID)
	}
	if err != nil {
		return lifted, err
	}
	lifted.Position, err = publish(ctx, tx, "lift", l.ID, row.LiftEntry(lifted, time.Now()))
	return lifted, err
}

// revocation returns the columns of the one with that id, [store.ErrNotFound] when there is none.
func revocation(ctx context.Context, tx pgx.Tx, columns, id string) (store.Revocation, error) {
	r, err := queryRevocation(tx.QueryRow(ctx, `SELECT `+columns+` FROM revocations WHERE id = $1`, row.Text(id)))
	if errors.Is(err, pgx.ErrNoRows) {
		return r, fmt.Errorf("revocation %q: %w", id, store.ErrNotFound)
	}
	return r, err
}

func queryRevocation(found pgx.Row) (r store.Revocation, err error) {
	return r, found.Scan(row.RevocationTargets(&r, target)...)
}

// Revocations implements [store.Store].
func (s *Store) Revocations(ctx context.Context, f store.RevocationFilter) ([]store.Revocation, string, error) {
	const what = "list revocations"
	var where conditions
	where.text(`id`, f.ID)
	where.text(`kind`, string(f.Kind))
	where.text(`issuer`, f.Target.Issuer)
	where.long(`subject`, f.Target.Subject)
	where.text(`session_id`, f.Target.Session)
	where.text(`token_id`, f.Target.Token)
	where.text(`claim_match`, f.Target.Match)
	if f.Target.Account != "" {
		where.add(`account <> ''`)
		where.long(`account`, f.Target.Account)
	}
	where.text(`key`, f.Target.Key)
	where.text(`export`, f.Target.Export)
	where.text(`actor`, f.Actor)
	if !f.Since.IsZero() {
		where.add(`at >= ?`, timestamp(f.Since))
	}
	if !f.Before.IsZero() {
		where.add(`at < ?`, timestamp(f.Before))
	}
	if !f.InForceAt.IsZero() {
		where.add(`lifted_at IS NULL AND (until IS NULL OR until > ?)`, timestamp(f.InForceAt))
	}
	if err := where.before(f.Cursor); err != nil {
		return nil, "", fmt.Errorf("store: %s: %w", what, err)
	}
	limit := row.Limit(f.Limit)
	list, err := read(ctx, s, callTimeout, what,
		func(r *store.Revocation) []any { return row.RevocationTargets(r, target) },
		`SELECT `+row.RevocationColumns+` FROM revocations`+where.String()+
			` ORDER BY at DESC, id DESC LIMIT `+strconv.Itoa(limit+1), where.args...)
	if err != nil {
		return nil, "", err
	}
	page, next := row.Page(list, limit, row.RevocationCursor)
	return page, next, nil
}

var unfinishedQuery = `SELECT ` + row.RevocationColumns + ` FROM revocations WHERE lifted_at IS NULL AND done_at IS NULL
	AND (until IS NULL OR until > clock_timestamp()) ORDER BY at DESC, id DESC LIMIT $1`

// Unfinished implements [store.Store].
func (s *Store) Unfinished(ctx context.Context, limit int) ([]store.Revocation, error) {
	return read(ctx, s, callTimeout, "list unfinished revocations",
		func(r *store.Revocation) []any { return row.RevocationTargets(r, target) }, unfinishedQuery, row.Limit(limit))
}

// SaveProgress implements [store.Store].
func (s *Store) SaveProgress(ctx context.Context, id string, progress json.RawMessage, done bool) error {
	const what = "save the progress of a revocation"
	if err := row.Progress(progress); err != nil {
		return fmt.Errorf("store: %s: %w", what, err)
	}
	return s.write(ctx, callTimeout, what, func(ctx context.Context, tx pgx.Tx) error {
		tag, err := tx.Exec(ctx, `UPDATE revocations SET progress = $2, done_at = CASE WHEN $3 THEN clock_timestamp() END
			WHERE id = $1 AND lifted_at IS NULL AND done_at IS NULL`, row.Text(id), row.Text(progress), done)
		if tag.RowsAffected() > 0 || err != nil {
			return err
		}
		_, err = revocation(ctx, tx, row.RevocationColumns, id)
		return err
	})
}
