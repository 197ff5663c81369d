package sqlite

import (
	"context"
	"database/sql"
	"encoding/hex"
	"encoding/json"
	"fmt"

	"github.com/gatehouse-nats/gatehouse/policy"
	"github.com/gatehouse-nats/gatehouse/store"
	"github.com/gatehouse-nats/gatehouse/store/internal/row"
)

// see keeps whom the logins among the entries speak of.
func see(ctx context.Context, tx *sql.Tx, entries []store.AuditEntry) error {
	seen := row.Sightings(entries)
	if len(seen) == 0 {
		return nil
	}
	hashes := make([]string, len(seen))
	for i, s := range seen {
		hashes[i] = hex.EncodeToString(s.Hash)
	}
	asked, err := json.Marshal(hashes)
	if err != nil {
		return err
	}
	known, err := collect(ctx, tx, func(s *row.Seen) []any { return row.IdentityTargets(s, target) },
		`SELECT `+row.IdentityColumns+` FROM identities WHERE identity IN (SELECT unhex(value) FROM json_each(?))`, string(asked))
	if err != nil {
		return err
	}
	for _, s := range row.News(seen, known) {
		if err := saveIdentity(ctx, tx, s); err != nil {
			return fmt.Errorf("identity %q of %q: %w", s.Subject, s.Issuer, err)
		}
	}
	return nil
}

func saveIdentity(ctx context.Context, tx *sql.Tx, s row.Seen) error {
	if _, err := tx.ExecContext(ctx, `INSERT INTO identities (`+row.IdentityColumns+`) VALUES (?, ?, ?, ?, ?, ?)
		ON CONFLICT (identity) DO UPDATE SET name = excluded.name, display = excluded.display, last_seen = excluded.last_seen`,
		row.IdentityValues(s, value)...); err != nil {
		return err
	}
	if _, err := tx.ExecContext(ctx, `DELETE FROM identity_display WHERE identity = ?`, s.Hash); err != nil {
		return err
	}
	for _, v := range s.Values() {
		if _, err := tx.ExecContext(ctx, `INSERT INTO identity_display (value, identity) VALUES (?, ?)`, v, s.Hash); err != nil {
			return err
		}
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
	where.text(`subject`, f.Subject)
	where.text(`name`, f.Name)
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
	list, err := read(ctx, s, what, func(i *row.Seen) []any { return row.IdentityTargets(i, target) },
		`SELECT `+row.IdentityColumns+` FROM identities`+where.String()+` ORDER BY identity LIMIT ?`, append(where.args, limit+1)...)
	if err != nil {
		return nil, "", err
	}
	page, next := row.IdentityPage(list, f, limit)
	return page, next, nil
}

var loginsQuery = `SELECT ` + row.AuditColumns + ` FROM audit WHERE id IN (
	SELECT (SELECT id FROM audit WHERE server_id = asked.value ->> 0 AND cid = asked.value ->> 1
		AND kind = 'login' AND outcome = 'allowed' ORDER BY at DESC, id DESC LIMIT 1)
	FROM json_each(?) AS asked)`

// Logins implements [store.Store].
func (s *Store) Logins(ctx context.Context, connections []store.ConnectionID) ([]store.AuditEntry, error) {
	servers, cids, err := row.Connections(connections)
	if err != nil {
		return nil, fmt.Errorf("store: list logins: %w", err)
	}
	pairs := make([][2]any, len(servers))
	for i := range servers {
		pairs[i] = [2]any{servers[i], cids[i]}
	}
	asked, err := json.Marshal(pairs)
	if err != nil {
		return nil, fmt.Errorf("store: list logins: %w", err)
	}
	return read(ctx, s, "list logins", func(e *store.AuditEntry) []any { return row.AuditTargets(e, target) },
		loginsQuery, string(asked))
}
