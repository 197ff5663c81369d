package postgres

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"strconv"

	"github.com/jackc/pgx/v5"

	"github.com/gatehouse-nats/gatehouse/store"
	"github.com/gatehouse-nats/gatehouse/store/internal/row"
)

// AddUserKey implements [store.Store].
func (s *Store) AddUserKey(ctx context.Context, k store.UserKey, most int) error {
	return s.write(ctx, callTimeout, "add a user key", func(ctx context.Context, tx pgx.Tx) error {
		// One after another for an owner, so that what is counted stays so until the commit.
		if _, err := tx.Exec(ctx, `SELECT pg_advisory_xact_lock($1)`, int64(binary.BigEndian.Uint64(row.Owner(k)))); err != nil {
			return err
		}
		var others int
		var among bool
		if err := tx.QueryRow(ctx, `SELECT count(*) FILTER (WHERE id <> $1), coalesce(bool_or(id = $1), false) FROM user_keys
			WHERE owner = $2 AND account_id = $3 AND (expires IS NULL OR expires > clock_timestamp())`,
			row.UserKeyID(k), row.Owner(k), row.Text(k.AccountID)).Scan(&others, &among); err != nil {
			return err
		}
		if !among && others >= most {
			return row.TooMany(k, most)
		}
		var before row.SignUps
		err := tx.QueryRow(ctx, `SELECT obtained FROM user_keys WHERE id = $1 AND owner = $2`, row.UserKeyID(k), row.Owner(k)).Scan(&before)
		if err != nil && !errors.Is(err, pgx.ErrNoRows) {
			return err
		}
		k.Obtained = k.After(before)
		tag, err := tx.Exec(ctx, `INSERT INTO user_keys (`+row.UserKeyColumns+`, id, owner) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)
			ON CONFLICT (id) DO UPDATE SET account = excluded.account, issuer = excluded.issuer, subject = excluded.subject,
				name = excluded.name, program = excluded.program, issued = excluded.issued, owner = excluded.owner, obtained = excluded.obtained,
				expires = nullif(greatest(coalesce(user_keys.expires, 'infinity'), coalesce(excluded.expires, 'infinity')), 'infinity')
			WHERE user_keys.owner = excluded.owner OR user_keys.expires <= clock_timestamp()`, row.UserKeyValues(k, value)...)
		if tag.RowsAffected() > 0 || err != nil {
			return err
		}
		return row.Taken(k)
	})
}

// UserKeys implements [store.Store].
func (s *Store) UserKeys(ctx context.Context, f store.UserKeyFilter) ([]store.UserKey, string, error) {
	const what = "list user keys"
	var where conditions
	if f.Principal.Issuer != "" && f.Principal.Subject != "" {
		where.add(`owner = ?`, row.PrincipalHash(f.Principal))
	}
	where.text(`issuer`, f.Principal.Issuer)
	where.text(`subject`, f.Principal.Subject)
	where.text(`account_id`, f.AccountID)
	where.text(`key`, f.Key)
	where.text(`program`, f.Program)
	if !f.ValidAt.IsZero() {
		where.add(`(expires IS NULL OR expires > ?)`, timestamp(f.ValidAt))
	}
	if f.Cursor != "" {
		at, err := row.ParseCursor(f.Cursor)
		if err != nil {
			return nil, "", fmt.Errorf("store: %s: %w", what, err)
		}
		where.add(`(issued, id) < (?, ?)`, timestamp(at.At), at.ID)
	}
	limit := row.Limit(f.Limit)
	list, err := read(ctx, s, callTimeout, what, func(k *store.UserKey) []any { return row.UserKeyTargets(k, target) },
		`SELECT `+row.UserKeyColumns+` FROM user_keys`+where.String()+` ORDER BY issued DESC, id DESC LIMIT `+strconv.Itoa(limit+1), where.args...)
	if err != nil {
		return nil, "", err
	}
	page, next := row.Page(list, limit, row.UserKeyCursor)
	return page, next, nil
}
