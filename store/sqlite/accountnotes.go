package sqlite

import (
	"context"
	"errors"
	"strings"

	"github.com/gatehouse-nats/gatehouse/account"
	"github.com/gatehouse-nats/gatehouse/store/internal/row"
)

// noted puts what was noted in a record into the place of the record, whose revision stays.
const noted = `UPDATE accounts SET name_key = ?2, owner = ?3, plan = ?4, state = ?5, revision = ?6, applied = ?7, record = ?8, maker = ?9 WHERE id = ?1`

func note(ctx context.Context, tx *tx, a account.Account) error {
	values, err := row.AccountValues(a)
	if err != nil {
		return err
	}
	_, err = tx.ExecContext(ctx, noted, values...)
	return err
}

// saveOthers checks that other accounts are as they were, and tells them of the change.
func saveOthers(ctx context.Context, tx *tx, others row.Others) error {
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

// records returns the accounts with these ids.
func records(ctx context.Context, tx *tx, ids []string) (list []account.Account, err error) {
	rows, err := tx.QueryContext(ctx, `SELECT record FROM accounts WHERE id IN (?`+strings.Repeat(", ?", len(ids)-1)+`)`, texts(ids)...)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	for rows.Next() {
		var r row.Record
		if err := rows.Scan(&r); err != nil {
			return nil, err
		}
		list = append(list, *r.Account)
	}
	return list, rows.Err()
}

// Settle implements [store.Store].
func (s *Store) Settle(ctx context.Context, id string, left []string) error {
	return s.write(ctx, "settle who has left", func(ctx context.Context, tx *tx) error {
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
