package sqlite

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"

	"github.com/gatehouse-nats/gatehouse/policy"
	"github.com/gatehouse-nats/gatehouse/store"
	"github.com/gatehouse-nats/gatehouse/store/internal/row"
)

const (
	knownIdentities = `SELECT ` + row.IdentityColumns + ` FROM identities WHERE identity IN (SELECT unhex(value) FROM json_each(?))`
	insertIdentity  = `INSERT INTO identities (` + row.IdentityColumns + `) VALUES (?, ?, ?, ?, ?, ?)`
	updateIdentity  = `UPDATE identities SET name = ?, display = ?, last_seen = ? WHERE identity = ?`
	touchIdentity   = `UPDATE identities SET last_seen = ? WHERE identity = ?`
	insertShown     = `INSERT INTO identity_display (value, identity) VALUES (?, ?) ON CONFLICT DO NOTHING`
	deleteShown     = `DELETE FROM identity_display WHERE value = ? AND identity = ?`
)

func identityTargets(s *row.Seen) []any { return row.IdentityTargets(s, target) }

// see keeps whom the logins among the entries speak of.
func (s *Store) see(ctx context.Context, tx *tx, entries []store.AuditEntry) error {
	seen := s.familiar.strangers(row.Sightings(entries))
	if len(seen) == 0 {
		return nil
	}
	hashes := make([]string, len(seen))
	for i, who := range seen {
		hashes[i] = hex.EncodeToString(who.Hash)
	}
	asked, err := json.Marshal(hashes)
	if err != nil {
		return err
	}
	known, err := collect(ctx, tx, identityTargets, knownIdentities, string(asked))
	if err != nil {
		return err
	}
	s.familiar.note(known...)
	for _, n := range row.FindNews(seen, known) {
		if err := s.saveIdentity(ctx, tx, n); err != nil {
			return fmt.Errorf("identity %q of %q: %w", n.Subject, n.Issuer, err)
		}
		s.familiar.note(n.Seen)
	}
	return nil
}

// saveIdentity writes the rows that change, and no others.
func (s *Store) saveIdentity(ctx context.Context, tx *tx, n row.News) (err error) {
	values := row.IdentityValues(n.Seen, value)
	switch {
	case n.Same:
		return tx.run(ctx, touchIdentity, value(n.LastSeen), n.Hash)
	case n.Before.Hash == nil:
		err = tx.run(ctx, insertIdentity, values...)
	default:
		err = tx.run(ctx, updateIdentity, append(values[3:], n.Hash)...)
	}
	if err != nil {
		return err
	}
	is, was := n.Values(), n.Before.Values()
	for _, c := range []struct {
		query       string
		these, less []string
	}{{deleteShown, was, is}, {insertShown, is, was}} {
		for _, v := range c.these {
			if slices.Contains(c.less, v) {
				continue
			}
			if err := tx.run(ctx, c.query, v, n.Hash); err != nil {
				return err
			}
		}
	}
	return nil
}

func identitiesQuery(where conditions) string {
	return `SELECT ` + row.IdentityColumns + ` FROM identities` + where.String() + ` ORDER BY identity LIMIT ?`
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
	list, err := read(ctx, s, what, identityTargets,
		identitiesQuery(where), append(where.args, limit+1)...)
	if err != nil {
		return nil, "", err
	}
	page, next := row.IdentityPage(list, f, limit)
	return page, next, nil
}

var loginsQuery = `SELECT ` + row.AuditColumns + ` FROM audit WHERE id IN (
	SELECT (SELECT id FROM audit WHERE substr(server_id, 1, 10) = substr(asked.value ->> 0, 1, 10)
		AND server_id = asked.value ->> 0 AND cid = asked.value ->> 1
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
