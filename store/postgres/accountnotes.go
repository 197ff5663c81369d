package postgres

import (
	"context"

	"github.com/jackc/pgx/v5"

	"github.com/gatehouse-nats/gatehouse/account"
	"github.com/gatehouse-nats/gatehouse/store/internal/row"
)

// noted puts what was noted in a record into the place of the record, whose revision stays.
const noted = `UPDATE accounts SET name_key = $2, owner = $3, plan = $4, state = $5, revision = $6, applied = $7, record = $8, maker = $9 WHERE id = $1`

func note(ctx context.Context, tx pgx.Tx, a account.Account) error {
	values, err := row.AccountValues(a)
	if err != nil {
		return err
	}
	_, err = tx.Exec(ctx, noted, values...)
	return err
}

// saveOthers checks that other accounts are as they were, and tells them of the change.
func saveOthers(ctx context.Context, tx pgx.Tx, others row.Others) error {
	ids := others.IDs()
	if len(ids) == 0 {
		return nil
	}
	are, err := records(ctx, tx, ids)
	if err != nil {
		return err
	}
	told, err := others.Check(are)
	if err != nil {
		return err
	}
	for _, a := range told {
		if err := note(ctx, tx, a); err != nil {
			return err
		}
	}
	return nil
}

// records returns the accounts with these ids, locked in the order of the ids until the transaction ends.
func records(ctx context.Context, tx pgx.Tx, ids []string) ([]account.Account, error) {
	rows, err := tx.Query(ctx, `SELECT record FROM accounts WHERE id = ANY ($1) ORDER BY id FOR UPDATE`, texts(ids))
	if err != nil {
		return nil, err
	}
	list, err := pgx.CollectRows(rows, func(r pgx.CollectableRow) (record row.Record, err error) {
		err = r.Scan(&record)
		return record, err
	})
	return row.Accounts(list), err
}

// Settle implements [store.Store].
func (s *Store) Settle(ctx context.Context, id string, left []string) error {
	return s.write(ctx, callTimeout, "settle who has left", func(ctx context.Context, tx pgx.Tx) error {
		list, err := records(ctx, tx, []string{id})
		if err != nil {
			return err
		}
		for _, a := range list {
			if row.Settle(&a, left) {
				return note(ctx, tx, a)
			}
		}
		return nil
	})
}
