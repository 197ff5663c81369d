package sqlite

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/gatehouse-nats/gatehouse/account"
	"github.com/gatehouse-nats/gatehouse/store"
	"github.com/gatehouse-nats/gatehouse/store/internal/row"
)

// SaveAccount implements [store.Store].
func (s *Store) SaveAccount(ctx context.Context, c store.AccountChange) (first json.RawMessage, err error) {
	err = s.write(ctx, "save an account", func(ctx context.Context, tx *tx) error {
		if c.Once != nil {
			if first, err = answered(ctx, tx, c.Once.Key, c.Once.Call); first != nil || err != nil {
				return err
			}
			if _, err := tx.ExecContext(ctx, `INSERT INTO answers (key, call, answer, at) VALUES (?, ?, ?, ?)`,
				row.KeyHash(c.Once.Key), c.Once.Call, string(c.Once.Answer), micros(time.Now())); err != nil {
				return err
			}
		}
		if err := saveAccount(ctx, tx, c); err != nil {
			return err
		}
		if c.Account.State == account.Deleted {
			if _, err := tx.ExecContext(ctx, `DELETE FROM served_claims WHERE account = ?`, row.Text(c.Account.ID)); err != nil {
				return err
			}
		}
		for _, public := range c.DropKeys {
			if _, err := tx.ExecContext(ctx, `DELETE FROM sealed_keys WHERE public = ? AND account = ?`, row.Text(public), row.Text(c.Account.ID)); err != nil {
				return err
			}
		}
		for _, k := range c.Keys {
			if _, err := tx.ExecContext(ctx, `INSERT INTO sealed_keys (public, account, box) VALUES (?, ?, ?)`, row.Text(k.Public), row.Text(k.Account), k.Box); err != nil {
				return err
			}
		}
		if c.Close != nil {
			if err := s.revokeBeside(ctx, tx, *c.Close); err != nil {
				return err
			}
		}
		for _, l := range c.Lifts {
			if _, _, err := s.lift(ctx, tx, l); err != nil && !errors.Is(err, store.ErrNotFound) {
				return err
			}
		}
		_, err := s.publish(ctx, tx, "account", c.Account.ID, &c.Entry)
		return err
	})
	if err != nil {
		return nil, err
	}
	if first == nil {
		s.hints.Give()
	}
	return first, nil
}

// madeQuery counts what a binding has made beside the account.
const madeQuery = `SELECT count(*) FROM accounts WHERE maker = ? AND maker <> '' AND id <> ? AND state <> 'deleted'`

// saveAccount puts the record in the place of the one before.
func saveAccount(ctx context.Context, tx *tx, c store.AccountChange) error {
	a := c.Account
	var taken bool
	if err := tx.QueryRowContext(ctx, `SELECT EXISTS (SELECT 1 FROM accounts WHERE name_key = ? AND id <> ? AND state <> 'deleted')`,
		row.Text(account.Key(a.Name)), row.Text(a.ID)).Scan(&taken); err != nil {
		return err
	}
	if taken && a.State != account.Deleted {
		return row.AccountTaken("name", a.Name)
	}
	if c.Most > 0 {
		var others int
		if err := tx.QueryRowContext(ctx, `SELECT count(*) FROM accounts WHERE owner = ? AND plan = ? AND id <> ? AND state <> 'deleted'`,
			row.PrincipalHash(a.Owner.Principal), row.Text(a.Plan), row.Text(a.ID)).Scan(&others); err != nil {
			return err
		}
		if others >= c.Most {
			return row.TooManyAccounts(a, c.Most)
		}
	}
	if c.MostMade > 0 {
		var others int
		if err := tx.QueryRowContext(ctx, madeQuery,
			row.Text(row.Maker(a)), row.Text(a.ID)).Scan(&others); err != nil {
			return err
		}
		if others >= c.MostMade {
			return row.TooManyMade(a, c.MostMade)
		}
	}
	if err := saveOthers(ctx, tx, row.OthersOf(c)); err != nil {
		return err
	}
	if a.Revision > 1 {
		var before row.Record
		if err := tx.QueryRowContext(ctx, `SELECT record FROM accounts WHERE id = ?`, row.Text(a.ID)).Scan(&before); err == nil {
			row.Keep(&a, before.Account)
		} else if !errors.Is(err, sql.ErrNoRows) {
			return err
		}
	}
	values, err := row.AccountValues(a)
	if err != nil {
		return err
	}
	query, none := `UPDATE accounts SET name_key = ?2, owner = ?3, plan = ?4, state = ?5, revision = ?6, applied = ?7, record = ?8, maker = ?9
		WHERE id = ?1 AND revision = ?6 - 1`, row.AccountChanged(a)
	if a.Revision == 1 {
		query, none = `INSERT INTO accounts (`+row.AccountColumns+`) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9) ON CONFLICT (id) DO NOTHING`, row.AccountTaken("id", a.ID)
	}
	result, err := tx.ExecContext(ctx, query, values...)
	if err != nil {
		return err
	}
	if n, err := result.RowsAffected(); n > 0 || err != nil {
		return err
	}
	return none
}

// Accounts implements [store.Store].
func (s *Store) Accounts(ctx context.Context, f store.AccountFilter) ([]account.Account, string, error) {
	const what = "list accounts"
	var where conditions
	if len(f.IDs) > 0 {
		where.add(`id IN (?`+strings.Repeat(", ?", len(f.IDs)-1)+`)`, texts(f.IDs)...)
	}
	where.text(`name_key`, account.Key(f.Name))
	if f.Owner.Subject != "" {
		where.add(`owner = ?`, row.PrincipalHash(f.Owner))
	}
	where.text(`plan`, f.Plan)
	where.text(`state`, string(f.State))
	if f.Mentions != "" {
		where.add(`instr(record, ?) > 0`, f.Mentions)
	}
	if f.Unapplied {
		where.add(`applied < revision AND state NOT IN ('requested', 'deleted')`)
	}
	if !f.Deleted && f.State != account.Deleted {
		where.add(`state <> 'deleted'`)
	}
	if f.Cursor != "" {
		name, id, err := row.ParseNameCursor(f.Cursor)
		if err != nil {
			return nil, "", fmt.Errorf("store: %s: %w", what, err)
		}
		where.add(`(name_key, id) > (?, ?)`, row.Text(name), row.Text(id))
	}
	limit := row.Limit(f.Limit)
	list, err := read(ctx, s, what, func(r *row.Record) []any { return []any{r} },
		`SELECT record FROM accounts`+where.String()+` ORDER BY name_key, id LIMIT ?`, append(where.args, limit+1)...)
	if err != nil {
		return nil, "", err
	}
	page, next := row.NamePage(row.Accounts(list), limit, row.AccountCursor)
	return page, next, nil
}

func texts(list []string) []any {
	values := make([]any, len(list))
	for i, v := range list {
		values[i] = row.Text(v)
	}
	return values
}

// MarkApplied implements [store.Store].
func (s *Store) MarkApplied(ctx context.Context, applied []store.Applied) error {
	changed := false
	err := s.write(ctx, "note what is applied", func(ctx context.Context, tx *tx) error {
		now := time.Now()
		var active []store.AuditEntry
		for _, done := range applied {
			var r row.Record
			err := tx.QueryRowContext(ctx, `SELECT record FROM accounts WHERE id = ?`, row.Text(done.ID)).Scan(&r)
			if errors.Is(err, sql.ErrNoRows) {
				continue
			}
			if err != nil {
				return err
			}
			before := r.Account.State
			if !row.Apply(r.Account, done, now) {
				continue
			}
			active = append(active, row.ActiveEntries(before, r.Account, now)...)
			if err := note(ctx, tx, *r.Account); err != nil {
				return err
			}
			if err := feed(ctx, tx, "account", done.ID, now, nil); err != nil {
				return err
			}
			changed = true
		}
		if len(active) == 0 {
			return nil
		}
		return s.arrive(ctx, tx, active...)
	})
	if err == nil && changed {
		s.hints.Give()
	}
	return err
}

// SealedKeys implements [store.Store].
func (s *Store) SealedKeys(ctx context.Context, f store.SealedKeyFilter) ([]store.SealedKey, string, error) {
	const what = "list sealed keys"
	var where conditions
	if len(f.Accounts) > 0 {
		where.add(`account IN (?`+strings.Repeat(", ?", len(f.Accounts)-1)+`)`, texts(f.Accounts)...)
	}
	if f.Cursor != "" {
		public, _, err := row.ParseNameCursor(f.Cursor)
		if err != nil {
			return nil, "", fmt.Errorf("store: %s: %w", what, err)
		}
		where.add(`public > ?`, row.Text(public))
	}
	limit := row.Limit(f.Limit)
	list, err := read(ctx, s, what, row.SealedKeyTargets,
		`SELECT public, account, box FROM sealed_keys`+where.String()+` ORDER BY public LIMIT ?`, append(where.args, limit+1)...)
	if err != nil {
		return nil, "", err
	}
	page, next := row.NamePage(list, limit, func(k store.SealedKey) string { return k.Public })
	return page, next, nil
}

// SetOperatorKey implements [store.Store].
func (s *Store) SetOperatorKey(ctx context.Context, k *store.SealedKey, e store.AuditEntry) error {
	return s.write(ctx, "keep an operator key", func(ctx context.Context, tx *tx) error {
		result, err := tx.ExecContext(ctx, `DELETE FROM sealed_keys WHERE account = ?`, store.OfOperator)
		if err != nil {
			return err
		}
		if k == nil {
			if n, err := result.RowsAffected(); n == 0 || err != nil {
				return errors.Join(err, row.NoOperatorKey())
			}
		} else if _, err := tx.ExecContext(ctx, `INSERT INTO sealed_keys (public, account, box) VALUES (?, ?, ?)`, row.Text(k.Public), store.OfOperator, k.Box); err != nil {
			return err
		}
		return s.arrive(ctx, tx, e)
	})
}

// Reseal implements [store.Store].
func (s *Store) Reseal(ctx context.Context, k store.SealedKey, before []byte) error {
	return s.write(ctx, "reseal a key", func(ctx context.Context, tx *tx) error {
		result, err := tx.ExecContext(ctx, `UPDATE sealed_keys SET box = ? WHERE public = ? AND box = ?`, k.Box, row.Text(k.Public), before)
		if err != nil {
			return err
		}
		if n, err := result.RowsAffected(); n > 0 || err != nil {
			return err
		}
		return row.BoxChanged(k)
	})
}
