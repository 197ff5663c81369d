package sqlite

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/gatehouse-nats/gatehouse/store"
	"github.com/gatehouse-nats/gatehouse/store/internal/row"
)

// Revoke implements [store.Store].
func (s *Store) Revoke(ctx context.Context, r store.Revocation, key string) (stored store.Revocation, existing bool, err error) {
	if r, err = row.Normal(r); err != nil {
		return store.Revocation{}, false, fmt.Errorf("store: revoke: %w", err)
	}
	changed := false
	err = s.write(ctx, "revoke", func(ctx context.Context, tx *tx) error {
		if key != "" {
			var answered bool
			stored, existing, answered, err = firstAnswer(ctx, tx, r, key)
			if err != nil || answered {
				return err
			}
		}
		if stored, existing, err = insertRevocation(ctx, tx, r); err != nil {
			return err
		}
		now := time.Now()
		if key != "" {
			if _, err := tx.ExecContext(ctx, `INSERT INTO idempotency (key, call, revocation, existing, at) VALUES (?, ?, ?, ?, ?)`,
				row.KeyHash(key), row.CallHash(r), row.Text(stored.ID), existing, micros(now)); err != nil {
				return err
			}
		}
		if existing {
			return nil
		}
		changed = true
		stored.Position, err = s.publishRevocation(ctx, tx, r, now)
		return err
	})
	if err != nil {
		return store.Revocation{}, false, err
	}
	if changed {
		s.hints.Give()
	}
	return stored, existing, nil
}

// publishRevocation ends the making of a revocation, and keeps its position with it.
func (s *Store) publishRevocation(ctx context.Context, tx *tx, r store.Revocation, now time.Time) (store.Position, error) {
	at, err := s.publish(ctx, tx, "revoke", r.ID, row.RevokeEntry(r, now))
	if err != nil {
		return at, err
	}
	_, err = tx.ExecContext(ctx, `UPDATE revocations SET epoch = ?, seq = ? WHERE id = ?`, at.Epoch, at.Seq, row.Text(r.ID))
	return at, err
}

// revokeBeside makes a revocation that no other equals.
func (s *Store) revokeBeside(ctx context.Context, tx *tx, r store.Revocation) error {
	r, err := row.Normal(r)
	if err != nil {
		return err
	}
	if err := insertValues(ctx, tx, row.BesideValues(r, value)); err != nil {
		return err
	}
	_, err = s.publishRevocation(ctx, tx, r, time.Now())
	return err
}

// firstAnswer returns what the call with this key was answered, if there was one.
func firstAnswer(ctx context.Context, tx *tx, r store.Revocation, key string) (first store.Revocation, existing, found bool, err error) {
	var call []byte
	var id string
	err = tx.QueryRowContext(ctx, `SELECT call, revocation, existing FROM idempotency WHERE key = ?`, row.KeyHash(key)).
		Scan(&call, (*row.Text)(&id), &existing)
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return first, false, false, nil
	case err != nil:
		return first, false, false, err
	case !bytes.Equal(call, row.CallHash(r)):
		return first, false, false, store.ErrConflict
	}
	first, err = revocation(ctx, tx, row.FirstColumns, id)
	return first, existing, true, err
}

// insertRevocation stores r, or returns the one that is equal to it.
func insertRevocation(ctx context.Context, tx *tx, r store.Revocation) (store.Revocation, bool, error) {
	if !r.Whole() {
		return r, false, insert(ctx, tx, r)
	}
	equal, err := queryRevocation(tx.QueryRowContext(ctx, `SELECT `+row.RevocationColumns+` FROM revocations
		WHERE target = ? AND kind = ? AND programs = ? AND coalesce(until, 0) = coalesce(?, 0) AND `+row.EqualOnce,
		row.TargetHash(r.Target), string(r.Kind), r.Programs, micros(r.Until)))
	if errors.Is(err, sql.ErrNoRows) {
		return r, false, insert(ctx, tx, r)
	}
	return equal, true, err
}

func insert(ctx context.Context, tx *tx, r store.Revocation) error {
	return insertValues(ctx, tx, row.InsertValues(r, value))
}

func insertValues(ctx context.Context, tx *tx, values []any) error {
	_, err := tx.ExecContext(ctx, `INSERT INTO revocations (`+row.InsertColumns+`) VALUES (?`+
		strings.Repeat(", ?", len(values)-1)+`)`, values...)
	return err
}

// Lift implements [store.Store].
func (s *Store) Lift(ctx context.Context, l store.Lift) (lifted store.Revocation, err error) {
	changed := false
	err = s.write(ctx, "lift", func(ctx context.Context, tx *tx) error {
		lifted, changed, err = s.lift(ctx, tx, l)
		return err
	})
	if err != nil {
		return store.Revocation{}, err
	}
	if changed {
		s.hints.Give()
	}
	return lifted, nil
}

// lift ends a revocation, and reports whether it was not lifted before; [store.ErrNotFound] when there is none.
func (s *Store) lift(ctx context.Context, tx *tx, l store.Lift) (lifted store.Revocation, changed bool, err error) {
	if lifted, err = revocation(ctx, tx, row.RevocationColumns, l.ID); err != nil || !lifted.LiftedAt.IsZero() {
		return lifted, false, err
	}
	lifted.LiftedAt, lifted.LiftedBy, lifted.LiftNote = row.Time(l.At), l.Actor, l.Note
	if lifted.Position, err = s.publish(ctx, tx, "lift", l.ID, row.LiftEntry(lifted, time.Now())); err != nil {
		return lifted, false, err
	}
	_, err = tx.ExecContext(ctx, `UPDATE revocations SET lifted_at = ?, lifted_by = ?, lift_note = ?,
		lift_epoch = ?, lift_seq = ? WHERE id = ?`,
		micros(l.At), row.Text(l.Actor), row.Text(l.Note), lifted.Position.Epoch, lifted.Position.Seq, row.Text(l.ID))
	return lifted, true, err
}

// revocation returns the columns of the one with that id, [store.ErrNotFound] when there is none.
func revocation(ctx context.Context, tx *tx, columns, id string) (store.Revocation, error) {
	r, err := queryRevocation(tx.QueryRowContext(ctx, `SELECT `+columns+` FROM revocations WHERE id = ?`, row.Text(id)))
	if errors.Is(err, sql.ErrNoRows) {
		return r, fmt.Errorf("revocation %q: %w", id, store.ErrNotFound)
	}
	return r, err
}

func queryRevocation(found *sql.Row) (r store.Revocation, err error) {
	return r, found.Scan(row.RevocationTargets(&r, target)...)
}

// Revocations implements [store.Store].
func (s *Store) Revocations(ctx context.Context, f store.RevocationFilter) ([]store.Revocation, string, error) {
	const what = "list revocations"
	var where conditions
	where.text(`id`, f.ID)
	where.text(`kind`, string(f.Kind))
	where.text(`issuer`, f.Target.Issuer)
	where.text(`subject`, f.Target.Subject)
	where.text(`session_id`, f.Target.Session)
	where.text(`token_id`, f.Target.Token)
	where.text(`claim_match`, f.Target.Match)
	if f.Target.Account != "" {
		where.add(`account <> ''`)
		where.text(`account`, f.Target.Account)
	}
	where.text(`key`, f.Target.Key)
	where.text(`export`, f.Target.Export)
	where.text(`actor`, f.Actor)
	if !f.Since.IsZero() {
		where.add(`at >= ?`, micros(f.Since))
	}
	if !f.Before.IsZero() {
		where.add(`at < ?`, micros(f.Before))
	}
	if !f.InForceAt.IsZero() {
		where.add(`lifted_at IS NULL AND (until IS NULL OR until > ?)`, micros(f.InForceAt))
	}
	if err := where.before(f.Cursor); err != nil {
		return nil, "", fmt.Errorf("store: %s: %w", what, err)
	}
	limit := row.Limit(f.Limit)
	list, err := read(ctx, s, what, func(r *store.Revocation) []any { return row.RevocationTargets(r, target) },
		`SELECT `+row.RevocationColumns+` FROM revocations`+where.String()+` ORDER BY at DESC, id DESC LIMIT ?`, append(where.args, limit+1)...)
	if err != nil {
		return nil, "", err
	}
	page, next := row.Page(list, limit, row.RevocationCursor)
	return page, next, nil
}

var unfinishedQuery = `SELECT ` + row.RevocationColumns + ` FROM revocations WHERE lifted_at IS NULL AND done_at IS NULL
	AND (until IS NULL OR until > ?) ORDER BY at DESC, id DESC LIMIT ?`

// Unfinished implements [store.Store].
func (s *Store) Unfinished(ctx context.Context, limit int) ([]store.Revocation, error) {
	return read(ctx, s, "list unfinished revocations", func(r *store.Revocation) []any { return row.RevocationTargets(r, target) },
		unfinishedQuery, micros(time.Now()), row.Limit(limit))
}

// SaveProgress implements [store.Store].
func (s *Store) SaveProgress(ctx context.Context, id string, progress json.RawMessage, done bool) error {
	const what = "save the progress of a revocation"
	if err := row.Progress(progress); err != nil {
		return fmt.Errorf("store: %s: %w", what, err)
	}
	return s.write(ctx, what, func(ctx context.Context, tx *tx) error {
		var ended time.Time
		if done {
			ended = time.Now()
		}
		result, err := tx.ExecContext(ctx, `UPDATE revocations SET progress = ?, done_at = ?
			WHERE id = ? AND lifted_at IS NULL AND done_at IS NULL`, row.Text(progress), micros(ended), row.Text(id))
		if err != nil {
			return err
		}
		if n, err := result.RowsAffected(); n > 0 || err != nil {
			return err
		}
		_, err = revocation(ctx, tx, row.RevocationColumns, id)
		return err
	})
}
