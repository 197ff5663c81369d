package sqlite

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/gatehouse-nats/gatehouse/store"
	"github.com/gatehouse-nats/gatehouse/store/internal/row"
)

// Arrivals implements [store.Store].
func (s *Store) Arrivals(ctx context.Context, f store.AuditFilter) ([]store.AuditEntry, string, bool, error) {
	page, next, more, err := row.Arrivals(f, arrivals{ctx, s, f})
	if errors.Is(err, store.ErrCursor) {
		err = fmt.Errorf("store: follow the audit trail: %w", err)
	}
	return page, next, more, err
}

// arrivals reads the entries that pass a filter in the order of arrival.
type arrivals struct {
	ctx    context.Context
	s      *Store
	filter store.AuditFilter
}

const followAudit = "follow the audit trail"

// Ends implements [row.ArrivalReader].
func (a arrivals) Ends(since time.Time) (newest, before int64, err error) {
	type ends struct{ newest, before int64 }
	list, err := read(a.ctx, a.s, followAudit, func(e *ends) []any { return []any{&e.newest, &e.before} },
		`SELECT seq, coalesce((SELECT max(seq) FROM audit_arrivals WHERE at < ?), 0) FROM audit_arrived`, micros(since))
	if err != nil || len(list) != 1 {
		return 0, 0, err
	}
	return list[0].newest, list[0].before, nil
}

// Rest implements [row.ArrivalReader].
func (a arrivals) Rest(after row.Place, limit int) ([]store.AuditEntry, error) {
	where := auditConditions(a.filter)
	where.rest(after)
	return read(a.ctx, a.s, followAudit, func(e *store.AuditEntry) []any { return row.AuditTargets(e, target) },
		restQuery(where), append(where.args, limit)...)
}

// rest asks for what comes after a place in its batch.
func (c *conditions) rest(after row.Place) {
	if after.Batch == 0 {
		c.add(`batch < 1`) // one large batch of all from before there were any, with an index of its own
	} else {
		c.add(`batch = ?`, after.Batch)
	}
	c.add(`(at, id) > (?, ?)`, micros(after.At), row.Text(after.ID))
}

func restQuery(where conditions) string {
	return `SELECT ` + row.AuditColumns + ` FROM audit` + where.String() + ` ORDER BY at, id LIMIT ?`
}

// Between implements [row.ArrivalReader].
func (a arrivals) Between(after, upTo int64, limit int) ([]row.Arrived, error) {
	where := auditConditions(a.filter)
	where.add(`r.seq > ? AND r.seq <= ?`, after, upTo)
	return read(a.ctx, a.s, followAudit, func(e *row.Arrived) []any { return e.Targets(target) },
		betweenQuery(where), append(where.args, limit)...)
}

func betweenQuery(where conditions) string {
	return `SELECT r.seq, ` + row.AuditColumns + `, batch FROM (SELECT seq, batch AS arrived FROM audit_arrivals) r
		JOIN audit ON batch = r.arrived` + where.String() + ` ORDER BY r.seq, at, id LIMIT ?`
}

// CopyCursor implements [store.Store].
func (s *Store) CopyCursor(ctx context.Context, name string) (string, error) {
	list, err := read(ctx, s, "read the place of a copy", func(c *string) []any { return []any{c} },
		`SELECT cursor FROM audit_copies WHERE name = ?`, name)
	if err != nil || len(list) == 0 {
		return "", err
	}
	return list[0], nil
}

// SaveCopyCursor implements [store.Store].
func (s *Store) SaveCopyCursor(ctx context.Context, name, cursor string) error {
	return s.write(ctx, "note the place of a copy", func(ctx context.Context, tx *tx) error {
		_, err := tx.ExecContext(ctx, `INSERT INTO audit_copies (name, cursor, at) VALUES (?, ?, ?)
			ON CONFLICT (name) DO UPDATE SET cursor = excluded.cursor, at = excluded.at`, name, cursor, micros(time.Now()))
		return err
	})
}
