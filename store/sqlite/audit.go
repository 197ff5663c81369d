package sqlite

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/gatehouse-nats/gatehouse/store"
	"github.com/gatehouse-nats/gatehouse/store/internal/row"
)

const (
	takePlace     = `UPDATE audit_arrived SET seq = seq + 1 RETURNING seq`
	insertArrival = `INSERT INTO audit_arrivals (seq, batch, at) VALUES (?, ?, ?)`
)

var insertAudit = `INSERT INTO audit (` + row.AuditColumns + `, batch) VALUES (?` +
	strings.Repeat(", ?", strings.Count(row.AuditColumns, ",")+1) + `) ON CONFLICT (id) DO NOTHING`

// Record implements [store.Store].
func (s *Store) Record(ctx context.Context, entries []store.AuditEntry) error {
	if len(entries) == 0 {
		return nil
	}
	return s.write(ctx, "record audit entries", func(ctx context.Context, tx *tx) error {
		if err := s.arrive(ctx, tx, entries...); err != nil {
			return err
		}
		return s.see(ctx, tx, entries)
	})
}

// arrive stores entries as a batch of the trail; one transaction writes at a time.
func (s *Store) arrive(ctx context.Context, tx *tx, entries ...store.AuditEntry) error {
	var seq int64
	if err := tx.QueryRowContext(ctx, takePlace).Scan(&seq); err != nil {
		return err
	}
	var values []any
	for i := range entries {
		values = append(row.AuditValues(values[:0], &entries[i], value), seq)
		if err := tx.run(ctx, insertAudit, values...); err != nil {
			return fmt.Errorf("entry %q: %w", entries[i].ID, err)
		}
	}
	return tx.run(ctx, insertArrival, seq, seq, value(time.Now()))
}

// auditConditions are what a filter asks for, but for its cursor.
func auditConditions(f store.AuditFilter) (where conditions) {
	where.text(`id`, f.ID)
	where.text(`kind`, string(f.Kind))
	where.text(`outcome`, f.Outcome)
	where.unusual(`outcome`, f.Outcome)
	where.text(`reason`, f.Reason)
	where.unusual(`reason`, f.Reason)
	where.text(`issuer`, f.Principal.Issuer)
	where.text(`subject`, f.Principal.Subject)
	where.name(f.Name)
	if f.Session != "" {
		where.add(`session_id <> ''`)
		where.text(`session_id`, f.Session)
	}
	where.account(f.Account, f.AccountID)
	if f.Actor != "" {
		where.add(`actor <> ''`)
		where.text(`actor`, f.Actor)
	}
	where.text(`op`, f.Op)
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
	return where
}

func newestQuery(where conditions) string {
	return `SELECT ` + row.AuditColumns + ` FROM audit` + where.String() + ` ORDER BY at DESC, id DESC LIMIT ?`
}

// Audit implements [store.Store].
func (s *Store) Audit(ctx context.Context, f store.AuditFilter) ([]store.AuditEntry, string, error) {
	const what = "list audit entries"
	where := auditConditions(f)
	if err := where.before(f.Cursor); err != nil {
		return nil, "", fmt.Errorf("store: %s: %w", what, err)
	}
	limit := row.Limit(f.Limit)
	list, err := read(ctx, s, what, func(e *store.AuditEntry) []any { return row.AuditTargets(e, target) },
		newestQuery(where), append(where.args, limit+1)...)
	if err != nil {
		return nil, "", err
	}
	page, next := row.Page(list, limit, row.AuditCursor)
	return page, next, nil
}

// PruneAudit implements [store.Store].
func (s *Store) PruneAudit(ctx context.Context, kind store.AuditKind, before time.Time, limit int) (int, error) {
	var n int64
	err := s.write(ctx, "prune the audit trail", func(ctx context.Context, tx *tx) error {
		if kind == store.LoginEntry {
			if err := s.pruneIdentities(ctx, tx, before, limit); err != nil {
				return err
			}
		}
		result, err := tx.ExecContext(ctx, `DELETE FROM audit WHERE id IN
			(SELECT id FROM audit WHERE kind = ? AND at < ? ORDER BY at LIMIT ?)`, kind, micros(before), max(limit, 0))
		if err != nil {
			return err
		}
		if n, err = result.RowsAffected(); err != nil {
			return err
		}
		_, err = tx.ExecContext(ctx, `DELETE FROM audit_arrivals WHERE seq IN (SELECT seq FROM audit_arrivals AS r
			WHERE at < ? AND NOT EXISTS (SELECT 1 FROM audit WHERE audit.batch = r.batch) LIMIT ?)`, micros(before), max(limit, 0))
		return err
	})
	return int(n), err
}

// pruneIdentities deletes at most limit identities that were not seen since.
func (s *Store) pruneIdentities(ctx context.Context, tx *tx, before time.Time, limit int) error {
	old, err := collect(ctx, tx, identityTargets, `SELECT `+row.IdentityColumns+` FROM identities
		WHERE last_seen < ? ORDER BY last_seen LIMIT ?`, value(before), max(limit, 0))
	if err != nil {
		return err
	}
	s.familiar.forget()
	for _, gone := range old {
		for _, v := range gone.Values() {
			if err := tx.run(ctx, deleteShown, v, gone.Hash); err != nil {
				return err
			}
		}
		if _, err := tx.ExecContext(ctx, `DELETE FROM identities WHERE identity = ?`, gone.Hash); err != nil {
			return err
		}
	}
	return nil
}
