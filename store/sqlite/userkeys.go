package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/gatehouse-nats/gatehouse/store"
	"github.com/gatehouse-nats/gatehouse/store/internal/row"
)

// AddUserKey implements [store.Store].
func (s *Store) AddUserKey(ctx context.Context, k store.UserKey, most int) error {
	return s.write(ctx, "add a user key", func(ctx context.Context, tx *tx) error {
		now := micros(time.Now())
		var others int
		var among bool
		if err := tx.QueryRowContext(ctx, `SELECT count(*) FILTER (WHERE id <> ?), coalesce(max(id = ?), 0) FROM user_keys
			WHERE owner = ? AND account_id = ? AND (expires IS NULL OR expires > ?)`,
			row.UserKeyID(k), row.UserKeyID(k), row.Owner(k), row.Text(k.AccountID), now).Scan(&others, &among); err != nil {
			return err
		}
		if !among && others >= most {
			return row.TooMany(k, most)
		}
		var before row.SignUps
		err := tx.QueryRowContext(ctx, `SELECT obtained FROM user_keys WHERE id = ? AND owner = ?`, row.UserKeyID(k), row.Owner(k)).Scan(&before)
		if err != nil && !errors.Is(err, sql.ErrNoRows) {
			return err
		}
		k.Obtained = k.After(before)
		result, err := tx.ExecContext(ctx, `INSERT INTO user_keys (`+row.UserKeyColumns+`, id, owner) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
			ON CONFLICT (id) DO UPDATE SET account = excluded.account, issuer = excluded.issuer, subject = excluded.subject,
				name = excluded.name, program = excluded.program, issued = excluded.issued, owner = excluded.owner, obtained = excluded.obtained,
				expires = max(user_keys.expires, excluded.expires)
			WHERE user_keys.owner = excluded.owner OR user_keys.expires <= ?`, append(row.UserKeyValues(k, value), now)...)
		if err != nil {
			return err
		}
		if n, err := result.RowsAffected(); n > 0 || err != nil {
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
		where.add(`(expires IS NULL OR expires > ?)`, micros(f.ValidAt))
	}
	if f.Cursor != "" {
		at, err := row.ParseCursor(f.Cursor)
		if err != nil {
			return nil, "", fmt.Errorf("store: %s: %w", what, err)
		}
		where.add(`(issued, id) < (?, ?)`, micros(at.At), at.ID)
	}
	limit := row.Limit(f.Limit)
	list, err := read(ctx, s, what, func(k *store.UserKey) []any { return row.UserKeyTargets(k, target) },
		`SELECT `+row.UserKeyColumns+` FROM user_keys`+where.String()+` ORDER BY issued DESC, id DESC LIMIT ?`, append(where.args, limit+1)...)
	if err != nil {
		return nil, "", err
	}
	page, next := row.Page(list, limit, row.UserKeyCursor)
	return page, next, nil
}
