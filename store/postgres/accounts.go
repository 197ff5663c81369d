package postgres

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/gatehouse-nats/gatehouse/account"
	"github.com/gatehouse-nats/gatehouse/store"
	"github.com/gatehouse-nats/gatehouse/store/internal/row"
)

// SaveAccount implements [store.Store].
func (s *Store) SaveAccount(ctx context.Context, c store.AccountChange) (first json.RawMessage, err error) {
	err = s.write(ctx, callTimeout, "save an account", func(ctx context.Context, tx pgx.Tx) error {
		if c.Once != nil {
			if err := row.AnswerHash(c.Once.Call); err != nil {
				return err
			}
			// Another call with this key that is under way is waited for here.
			tag, err := tx.Exec(ctx, `INSERT INTO answers (key, call, answer, at) VALUES ($1, $2, $3, $4) ON CONFLICT (key) DO NOTHING`,
				row.KeyHash(c.Once.Key), c.Once.Call, string(c.Once.Answer), timestamp(time.Now()))
			if err != nil {
				return err
			}
			if tag.RowsAffected() == 0 {
				first, err = answered(ctx, tx, c.Once.Key, c.Once.Call)
				return err
			}
		}
		if err := saveAccount(ctx, tx, c); err != nil {
			return err
		}
		var batch pgx.Batch // one round trip
		if c.Account.State == account.Deleted {
			batch.Queue(`DELETE FROM served_claims WHERE account = $1`, row.Text(c.Account.ID))
		}
		for _, public := range c.DropKeys {
			batch.Queue(`DELETE FROM sealed_keys WHERE public = $1 AND account = $2`, row.Text(public), row.Text(c.Account.ID))
		}
		for _, k := range c.Keys {
			batch.Queue(`INSERT INTO sealed_keys (public, account, box) VALUES ($1, $2, $3)`, row.Text(k.Public), row.Text(k.Account), k.Box)
		}
		if err := tx.SendBatch(ctx, &batch).Close(); err != nil {
			return err
		}
		if c.Close != nil {
			if err := revokeBeside(ctx, tx, *c.Close); err != nil {
				return err
			}
		}
		for _, l := range c.Lifts {
			if _, err := lift(ctx, tx, l); err != nil && !errors.Is(err, store.ErrNotFound) {
				return err
			}
		}
		_, err := publish(ctx, tx, "account", c.Account.ID, &c.Entry)
		return err
	})
	if err != nil {
		return nil, err
	}
	return first, nil
}

// saveAccount puts the record in the place of the one before.
func saveAccount(ctx context.Context, tx pgx.Tx, c store.AccountChange) error {
	a := c.Account
	if c.Most > 0 {
		// One after another for an owner, so that what is counted stays so until the commit.
		owner := row.PrincipalHash(a.Owner.Principal)
		if _, err := tx.Exec(ctx, `SELECT pg_advisory_xact_lock($1)`, int64(binary.BigEndian.Uint64(owner))); err != nil {
			return err
		}
		var others int
		if err := tx.QueryRow(ctx, `SELECT count(*) FROM accounts WHERE owner = $1 AND plan = $2 AND id <> $3 AND state <> 'deleted'`,
			owner, row.Text(a.Plan), row.Text(a.ID)).Scan(&others); err != nil {
			return err
		}
		if others >= c.Most {
			return row.TooManyAccounts(a, c.Most)
		}
	}
	if c.MostMade > 0 {
		// Likewise for a binding; after the owner, everywhere.
		if _, err := tx.Exec(ctx, `SELECT pg_advisory_xact_lock(hashtextextended($1, 0))`, row.Text("made by "+row.Maker(a))); err != nil {
			return err
		}
		var others int
		if err := tx.QueryRow(ctx, `SELECT count(*) FROM accounts WHERE maker = $1 AND maker <> '' AND id <> $2 AND state <> 'deleted'`,
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
		if err := tx.QueryRow(ctx, `SELECT record FROM accounts WHERE id = $1 FOR UPDATE`, row.Text(a.ID)).Scan(&before); err == nil {
			row.Keep(&a, before.Account)
		} else if !errors.Is(err, pgx.ErrNoRows) {
			return err
		}
	}
	values, err := row.AccountValues(a)
	if err != nil {
		return err
	}
	query, none := `UPDATE accounts SET name_key = $2, owner = $3, plan = $4, state = $5, revision = $6, applied = $7, record = $8, maker = $9
		WHERE id = $1 AND revision = $6 - 1`, row.AccountChanged(a)
	if a.Revision == 1 {
		query, none = `INSERT INTO accounts (`+row.AccountColumns+`) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) ON CONFLICT (id) DO NOTHING`, row.AccountTaken("id", a.ID)
	}
	tag, err := tx.Exec(ctx, query, values...)
	var failed *pgconn.PgError
	switch {
	case errors.As(err, &failed) && failed.ConstraintName == "accounts_name":
		return row.AccountTaken("name", a.Name)
	case err != nil:
		return err
	case tag.RowsAffected() == 0:
		return none
	}
	return nil
}

// Accounts implements [store.Store].
func (s *Store) Accounts(ctx context.Context, f store.AccountFilter) ([]account.Account, string, error) {
	const what = "list accounts"
	var where conditions
	if len(f.IDs) > 0 {
		where.add(`id = ANY (?)`, texts(f.IDs))
	}
	where.text(`name_key`, account.Key(f.Name))
	if f.Owner.Subject != "" {
		where.add(`owner = ?`, row.PrincipalHash(f.Owner))
	}
	where.text(`plan`, f.Plan)
	where.text(`state`, string(f.State))
	if f.Mentions != "" {
		where.add(`strpos(record, ?) > 0`, f.Mentions)
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
	list, err := read(ctx, s, callTimeout, what, func(r *row.Record) []any { return []any{r} },
		`SELECT record FROM accounts`+where.String()+` ORDER BY name_key, id LIMIT `+strconv.Itoa(limit+1), where.args...)
	if err != nil {
		return nil, "", err
	}
	page, next := row.NamePage(row.Accounts(list), limit, row.AccountCursor)
	return page, next, nil
}

func texts(list []string) []row.Text {
	values := make([]row.Text, len(list))
	for i, v := range list {
		values[i] = row.Text(v)
	}
	return values
}

// MarkApplied implements [store.Store].
func (s *Store) MarkApplied(ctx context.Context, applied []store.Applied) error {
	return s.write(ctx, callTimeout, "note what is applied", func(ctx context.Context, tx pgx.Tx) error {
		// Locked in one order, so that two transactions do not wait for each other.
		records, err := collect(ctx, tx, func(r *row.Record) []any { return []any{r} },
			`SELECT record FROM accounts WHERE id = ANY ($1) ORDER BY id COLLATE "C" FOR UPDATE`, texts(idsOf(applied)))
		if err != nil {
			return err
		}
		known := make(map[string]*account.Account, len(records))
		for _, r := range records {
			known[r.Account.ID] = r.Account
		}
		now := time.Now()
		var active []store.AuditEntry
		var batch pgx.Batch
		for _, done := range applied {
			a := known[done.ID]
			if a == nil {
				continue
			}
			before := a.State
			if !row.Apply(a, done, now) {
				continue
			}
			active = append(active, row.ActiveEntries(before, a, now)...)
			values, err := row.AccountValues(*a)
			if err != nil {
				return err
			}
			batch.Queue(noted, values...)
		}
		if batch.Len() == 0 {
			return nil
		}
		changed := batch.QueuedQueries
		if len(active) > 0 {
			arrive(&batch, active...)
			settle(&batch)
		}
		for _, q := range changed {
			batch.Queue(`WITH next AS (UPDATE feed_counter SET seq = seq + 1 RETURNING seq)
				INSERT INTO feed (seq, at, kind, item) SELECT seq, clock_timestamp(), 'account', $1 FROM next`, q.Arguments[0])
		}
		batch.Queue(`SELECT pg_notify('` + channel + `', '')`)
		return tx.SendBatch(ctx, &batch).Close()
	})
}

func idsOf(applied []store.Applied) []string {
	ids := make([]string, len(applied))
	for i, a := range applied {
		ids[i] = a.ID
	}
	return ids
}

// SealedKeys implements [store.Store].
func (s *Store) SealedKeys(ctx context.Context, f store.SealedKeyFilter) ([]store.SealedKey, string, error) {
	const what = "list sealed keys"
	var where conditions
	if len(f.Accounts) > 0 {
		where.add(`account = ANY (?)`, texts(f.Accounts))
	}
	if f.Cursor != "" {
		public, _, err := row.ParseNameCursor(f.Cursor)
		if err != nil {
			return nil, "", fmt.Errorf("store: %s: %w", what, err)
		}
		where.add(`public > ?`, row.Text(public))
	}
	limit := row.Limit(f.Limit)
	list, err := read(ctx, s, callTimeout, what, row.SealedKeyTargets,
		`SELECT public, account, box FROM sealed_keys`+where.String()+` ORDER BY public LIMIT `+strconv.Itoa(limit+1), where.args...)
	if err != nil {
		return nil, "", err
	}
	page, next := row.NamePage(list, limit, func(k store.SealedKey) string { return k.Public })
	return page, next, nil
}

// SetOperatorKey implements [store.Store].
func (s *Store) SetOperatorKey(ctx context.Context, k *store.SealedKey, e store.AuditEntry) error {
	return s.write(ctx, callTimeout, "keep an operator key", func(ctx context.Context, tx pgx.Tx) error {
		// One at a time: two that saw none before would keep one each.
		if _, err := tx.Exec(ctx, `LOCK TABLE sealed_keys IN SHARE ROW EXCLUSIVE MODE`); err != nil {
			return err
		}
		tag, err := tx.Exec(ctx, `DELETE FROM sealed_keys WHERE account = $1`, store.OfOperator)
		if err != nil {
			return err
		}
		if k == nil && tag.RowsAffected() == 0 {
			return row.NoOperatorKey()
		}
		var batch pgx.Batch
		if k != nil {
			batch.Queue(`INSERT INTO sealed_keys (public, account, box) VALUES ($1, $2, $3)`, row.Text(k.Public), store.OfOperator, k.Box)
		}
		arrive(&batch, e)
		settle(&batch)
		return tx.SendBatch(ctx, &batch).Close()
	})
}

// Reseal implements [store.Store].
func (s *Store) Reseal(ctx context.Context, k store.SealedKey, before []byte) error {
	return s.write(ctx, callTimeout, "reseal a key", func(ctx context.Context, tx pgx.Tx) error {
		tag, err := tx.Exec(ctx, `UPDATE sealed_keys SET box = $1 WHERE public = $2 AND box = $3`, k.Box, row.Text(k.Public), before)
		if tag.RowsAffected() > 0 || err != nil {
			return err
		}
		return row.BoxChanged(k)
	})
}
