package postgres

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/gatehouse-nats/gatehouse/store"
	"github.com/gatehouse-nats/gatehouse/store/internal/row"
)

var insertAudit = `INSERT INTO audit (` + row.AuditColumns + `) VALUES (` + marks(row.AuditColumns) + `) ON CONFLICT (id) DO NOTHING`

// marks returns a placeholder for each of the columns.
func marks(columns string) string {
	list := make([]string, strings.Count(columns, ",")+1)
	for i := range list {
		list[i] = "$" + strconv.Itoa(i+1)
	}
	return strings.Join(list, ", ")
}

// Record implements [store.Store].
func (s *Store) Record(ctx context.Context, entries []store.AuditEntry) error {
	if len(entries) == 0 {
		return nil
	}
	return s.write(ctx, bulkTimeout, "record audit entries", func(ctx context.Context, tx pgx.Tx) error {
		var batch pgx.Batch // one round trip
		for i := range entries {
			batch.Queue(insertAudit, row.AuditValues(&entries[i], value)...)
		}
		if err := see(ctx, tx, &batch, entries); err != nil {
			return err
		}
		return tx.SendBatch(ctx, &batch).Close()
	})
}

// Audit implements [store.Store].
func (s *Store) Audit(ctx context.Context, f store.AuditFilter) ([]store.AuditEntry, string, error) {
	const what = "list audit entries"
	var where conditions
	where.text(`id`, f.ID)
	where.text(`kind`, string(f.Kind))
	where.text(`outcome`, f.Outcome)
	where.long(`reason`, f.Reason)
	where.text(`issuer`, f.Principal.Issuer)
	where.long(`subject`, f.Principal.Subject)
	where.long(`name`, f.Name)
	if f.Session != "" {
		where.add(`session_id <> ''`)
		where.long(`session_id`, f.Session)
	}
	where.text(`account`, f.Account)
	where.long(`actor`, f.Actor)
	if f.Display != "" {
		where.add(`EXISTS (SELECT 1 FROM jsonb_each_text(display) AS shown WHERE shown.value = ?)`, row.Text(f.Display))
	}
	if f.Claims {
		where.add(`claims <> ''`)
	}
	if !f.Since.IsZero() {
		where.add(`at >= ?`, timestamp(f.Since))
	}
	if !f.Before.IsZero() {
		where.add(`at < ?`, timestamp(f.Before))
	}
	if err := where.before(f.Cursor); err != nil {
		return nil, "", fmt.Errorf("store: %s: %w", what, err)
	}
	limit := row.Limit(f.Limit)
	list, err := read(ctx, s, bulkTimeout, what,
		func(e *store.AuditEntry) []any { return row.AuditTargets(e, target) },
		`SELECT `+row.AuditColumns+` FROM audit`+where.String()+
			` ORDER BY at DESC, id DESC LIMIT `+strconv.Itoa(limit+1), where.args...)
	if err != nil {
		return nil, "", err
	}
	page, next := row.Page(list, limit, row.AuditCursor)
	return page, next, nil
}

// PruneAudit implements [store.Store].
func (s *Store) PruneAudit(ctx context.Context, before time.Time, limit int) (n int, err error) {
	err = s.write(ctx, bulkTimeout, "prune the audit trail", func(ctx context.Context, tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, `WITH old AS (DELETE FROM identities WHERE identity IN
			(SELECT identity FROM identities WHERE last_seen < $1 ORDER BY last_seen LIMIT $2 FOR UPDATE) RETURNING identity)
			DELETE FROM identity_display WHERE identity IN (SELECT identity FROM old)`, timestamp(before), max(limit, 0)); err != nil {
			return err
		}
		tag, err := tx.Exec(ctx, `DELETE FROM audit WHERE id IN
			(SELECT id FROM audit WHERE at < $1 ORDER BY at LIMIT $2)`, timestamp(before), max(limit, 0))
		n = int(tag.RowsAffected())
		return err
	})
	return n, err
}
