package sqlite

import (
	"context"
	"database/sql"
	"fmt"
	"strings"
	"time"

	"github.com/gatehouse-nats/gatehouse/store"
	"github.com/gatehouse-nats/gatehouse/store/internal/row"
)

var insertAudit = `INSERT INTO audit (` + row.AuditColumns + `) VALUES (?` +
	strings.Repeat(", ?", strings.Count(row.AuditColumns, ",")) + `) ON CONFLICT (id) DO NOTHING`

// Record implements [store.Store].
func (s *Store) Record(ctx context.Context, entries []store.AuditEntry) error {
	if len(entries) == 0 {
		return nil
	}
	return s.write(ctx, "record audit entries", func(ctx context.Context, tx *sql.Tx) error {
		insert, err := tx.PrepareContext(ctx, insertAudit)
		if err != nil {
			return err
		}
		defer insert.Close()
		for i := range entries {
			if _, err := insert.ExecContext(ctx, row.AuditValues(&entries[i], value)...); err != nil {
				return fmt.Errorf("entry %q: %w", entries[i].ID, err)
			}
		}
		return see(ctx, tx, entries)
	})
}

// Audit implements [store.Store].
func (s *Store) Audit(ctx context.Context, f store.AuditFilter) ([]store.AuditEntry, string, error) {
	const what = "list audit entries"
	var where conditions
	where.text(`id`, f.ID)
	where.text(`kind`, string(f.Kind))
	where.text(`outcome`, f.Outcome)
	where.text(`reason`, f.Reason)
	where.text(`issuer`, f.Principal.Issuer)
	where.text(`subject`, f.Principal.Subject)
	where.text(`name`, f.Name)
	if f.Session != "" {
		where.add(`session_id <> ''`)
		where.text(`session_id`, f.Session)
	}
	where.text(`account`, f.Account)
	where.text(`actor`, f.Actor)
	if f.Display != "" {
		where.add(`EXISTS (SELECT 1 FROM json_each(display) WHERE value = ?)`, row.Text(f.Display))
	}
	if f.Claims {
		where.add(`claims <> ''`)
	}
	if !f.Since.IsZero() {
		where.add(`at >= ?`, micros(f.Since))
	}
	if !f.Before.IsZero() {
		where.add(`at < ?`, micros(f.Before))
	}
	if err := where.before(f.Cursor); err != nil {
		return nil, "", fmt.Errorf("store: %s: %w", what, err)
	}
	limit := row.Limit(f.Limit)
	list, err := read(ctx, s, what, func(e *store.AuditEntry) []any { return row.AuditTargets(e, target) },
		`SELECT `+row.AuditColumns+` FROM audit`+where.String()+` ORDER BY at DESC, id DESC LIMIT ?`, append(where.args, limit+1)...)
	if err != nil {
		return nil, "", err
	}
	page, next := row.Page(list, limit, row.AuditCursor)
	return page, next, nil
}

// PruneAudit implements [store.Store].
func (s *Store) PruneAudit(ctx context.Context, before time.Time, limit int) (int, error) {
	var n int64
	err := s.write(ctx, "prune the audit trail", func(ctx context.Context, tx *sql.Tx) error {
		const old = `SELECT identity FROM identities WHERE last_seen < ? ORDER BY last_seen LIMIT ?`
		for _, table := range []string{"identity_display", "identities"} {
			if _, err := tx.ExecContext(ctx, `DELETE FROM `+table+` WHERE identity IN (`+old+`)`, micros(before), max(limit, 0)); err != nil {
				return err
			}
		}
		result, err := tx.ExecContext(ctx, `DELETE FROM audit WHERE id IN
			(SELECT id FROM audit WHERE at < ? ORDER BY at LIMIT ?)`, micros(before), max(limit, 0))
		if err != nil {
			return err
		}
		n, err = result.RowsAffected()
		return err
	})
	return int(n), err
}
