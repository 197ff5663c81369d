package postgres

import (
	"context"
	"fmt"
	"strconv"

	"github.com/jackc/pgx/v5"

	"github.com/gatehouse-nats/gatehouse/policy"
	"github.com/gatehouse-nats/gatehouse/store"
	"github.com/gatehouse-nats/gatehouse/store/internal/row"
)

// see queues what keeps whom the logins among the entries speak of.
func see(ctx context.Context, tx pgx.Tx, batch *pgx.Batch, entries []store.AuditEntry) error {
	seen := row.Sightings(entries)
	if len(seen) == 0 {
		return nil
	}
	hashes := make([][]byte, len(seen))
	for i, s := range seen {
		hashes[i] = s.Hash
	}
	rows, err := tx.Query(ctx, `SELECT `+row.IdentityColumns+` FROM identities WHERE identity = ANY($1)`, hashes)
	if err != nil {
		return err
	}
	known, err := pgx.CollectRows(rows, func(found pgx.CollectableRow) (s row.Seen, err error) {
		return s, found.Scan(row.IdentityTargets(&s, target)...)
	})
	if err != nil {
		return err
	}
	for _, s := range row.FindNews(seen, known) {
		// Another replica may have stored a later login meanwhile, which then stays.
		batch.Queue(`WITH seen AS (INSERT INTO identities (`+row.IdentityColumns+`) VALUES ($1, $2, $3, $4, $5, $6)
				ON CONFLICT (identity) DO UPDATE SET name = excluded.name, display = excluded.display, last_seen = excluded.last_seen
				WHERE identities.last_seen <= excluded.last_seen RETURNING identity),
			gone AS (DELETE FROM identity_display d USING seen WHERE d.identity = seen.identity AND d.value <> ALL ($7::text[]))
			INSERT INTO identity_display (value, identity) SELECT value, identity FROM seen, unnest($7::text[]) AS value
				ON CONFLICT DO NOTHING`, append(row.IdentityValues(s.Seen, value), s.Values())...)
	}
	return nil
}

// Identities implements [store.Store].
func (s *Store) Identities(ctx context.Context, f store.IdentityFilter) ([]store.KnownIdentity, string, error) {
	const what = "list identities"
	var where conditions
	if f.Issuer != "" && f.Subject != "" {
		where.add(`identity = ?`, row.PrincipalHash(policy.Principal{Issuer: f.Issuer, Subject: f.Subject}))
	}
	where.text(`issuer`, f.Issuer)
	where.long(`subject`, f.Subject)
	where.name(f.Name)
	if f.Display != "" {
		first, last := row.Shown(f)
		where.add(`identity IN (SELECT identity FROM identity_display WHERE value BETWEEN ? AND ?)`, first, last)
	}
	if f.Cursor != "" {
		after, err := row.IdentityCursor(f.Cursor)
		if err != nil {
			return nil, "", fmt.Errorf("store: %s: %w", what, err)
		}
		where.add(`identity > ?`, after)
	}
	limit := row.Limit(f.Limit)
	list, err := read(ctx, s, callTimeout, what, func(i *row.Seen) []any { return row.IdentityTargets(i, target) },
		`SELECT `+row.IdentityColumns+` FROM identities`+where.String()+` ORDER BY identity LIMIT `+strconv.Itoa(limit+1), where.args...)
	if err != nil {
		return nil, "", err
	}
	page, next := row.IdentityPage(list, f, limit)
	return page, next, nil
}

var loginsQuery = `SELECT ` + row.AuditColumns + ` FROM audit WHERE id IN (
	SELECT (SELECT id FROM audit WHERE left(server_id, 128) = left(asked.server, 128) AND server_id = asked.server
		AND audit.cid = asked.cid AND kind = 'login' AND outcome = 'allowed' ORDER BY at DESC, id DESC LIMIT 1)
	FROM unnest($1::text[], $2::bigint[]) AS asked (server, cid))`

// Logins implements [store.Store].
func (s *Store) Logins(ctx context.Context, connections []store.ConnectionID) ([]store.AuditEntry, error) {
	servers, cids, err := row.Connections(connections)
	if err != nil {
		return nil, fmt.Errorf("store: list logins: %w", err)
	}
	return read(ctx, s, callTimeout, "list logins", func(e *store.AuditEntry) []any { return row.AuditTargets(e, target) },
		loginsQuery, servers, cids)
}
