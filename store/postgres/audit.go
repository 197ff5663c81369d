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

var insertAudit = `INSERT INTO audit (` + row.AuditColumns + `, batch) VALUES (` + marks(row.AuditColumns) + `, currval('audit_batches')) ON CONFLICT (id) DO NOTHING`

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
		arrive(&batch, entries...)
		if err := see(ctx, tx, &batch, entries); err != nil {
			return err
		}
		settle(&batch)
		return tx.SendBatch(ctx, &batch).Close()
	})
}

// arrive stores entries as a batch of the trail, which [settle] gives its place.
func arrive(batch *pgx.Batch, entries ...store.AuditEntry) {
	batch.Queue(`SELECT nextval('audit_batches')`)
	for i := range entries {
		batch.Queue(insertAudit, row.AuditValues(nil, &entries[i], value)...)
	}
}

// settle takes the place of a batch in the order of arrival. It locks the counter until the commit, so that
// a reader who is past a place has seen all before it, and comes last, to lock it as briefly as can be.
func settle(batch *pgx.Batch) {
	batch.Queue(`WITH next AS (UPDATE audit_arrived SET seq = seq + 1 RETURNING seq)
		INSERT INTO audit_arrivals (seq, batch, at) SELECT seq, currval('audit_batches'), clock_timestamp() FROM next`)
}

// auditConditions are what a filter asks for, but for its cursor.
func auditConditions(f store.AuditFilter) (where conditions) {
	where.text(`id`, f.ID)
	where.text(`kind`, string(f.Kind))
	where.text(`outcome`, f.Outcome)
	where.unusual(`outcome`, f.Outcome)
	where.long(`reason`, f.Reason)
	where.unusual(`reason`, f.Reason)
	where.text(`issuer`, f.Principal.Issuer)
	where.long(`subject`, f.Principal.Subject)
	where.name(f.Name)
	if f.Session != "" {
		where.add(`session_id <> ''`)
		where.long(`session_id`, f.Session)
	}
	where.account(f.Account, f.AccountID)
	if f.Actor != "" {
		where.add(`actor <> ''`)
		where.long(`actor`, f.Actor)
	}
	where.text(`op`, f.Op)
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
	return where
}

// Audit implements [store.Store].
func (s *Store) Audit(ctx context.Context, f store.AuditFilter) ([]store.AuditEntry, string, error) {
	const what = "list audit entries"
	where := auditConditions(f)
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
func (s *Store) PruneAudit(ctx context.Context, kind store.AuditKind, before time.Time, limit int) (n int, err error) {
	err = s.write(ctx, bulkTimeout, "prune the audit trail", func(ctx context.Context, tx pgx.Tx) error {
		if kind == store.LoginEntry {
			if err := pruneIdentities(ctx, tx, before, limit); err != nil {
				return err
			}
		}
		tag, err := tx.Exec(ctx, `DELETE FROM audit WHERE id IN
			(SELECT id FROM audit WHERE kind = $1 AND at < $2 ORDER BY at LIMIT $3)`, kind, timestamp(before), max(limit, 0))
		if err != nil {
			return err
		}
		n = int(tag.RowsAffected())
		_, err = tx.Exec(ctx, `DELETE FROM audit_arrivals WHERE seq IN (SELECT seq FROM audit_arrivals AS r
			WHERE at < $1 AND NOT EXISTS (SELECT 1 FROM audit WHERE audit.batch = r.batch) LIMIT $2)`, timestamp(before), max(limit, 0))
		return err
	})
	return n, err
}

// pruneIdentities deletes at most limit identities that were not seen since.
func pruneIdentities(ctx context.Context, tx pgx.Tx, before time.Time, limit int) error {
	_, err := tx.Exec(ctx, `WITH old AS (DELETE FROM identities WHERE identity IN
		(SELECT identity FROM identities WHERE last_seen < $1 ORDER BY last_seen LIMIT $2 FOR UPDATE SKIP LOCKED) RETURNING identity)
		DELETE FROM identity_display WHERE identity IN (SELECT identity FROM old)`, timestamp(before), max(limit, 0))
	return err
}
