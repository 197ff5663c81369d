package sqlite

import (
	"context"
	"fmt"

	"github.com/gatehouse-nats/gatehouse/store"
	"github.com/gatehouse-nats/gatehouse/store/internal/row"
)

// AccountClaims implements [store.Store].
func (s *Store) AccountClaims(ctx context.Context) ([]store.AccountClaims, error) {
	return read(ctx, s, "load account claims",
		func(c *store.AccountClaims) []any {
			return []any{(*row.Text)(&c.Account), (*row.Text)(&c.Base), (*row.Text)(&c.Desired), &c.Revision}
		}, `SELECT account, base, desired, revision FROM account_claims ORDER BY account`)
}

// SaveAccountClaims implements [store.Store].
func (s *Store) SaveAccountClaims(ctx context.Context, c store.AccountClaims) error {
	return s.write(ctx, "save account claims", func(ctx context.Context, tx *tx) error {
		query := `UPDATE account_claims SET base = ?2, desired = ?3, revision = ?4 WHERE account = ?1 AND revision = ?4 - 1`
		if c.Revision == 1 {
			query = `INSERT INTO account_claims (account, base, desired, revision) VALUES (?1, ?2, ?3, ?4) ON CONFLICT DO NOTHING`
		}
		result, err := tx.ExecContext(ctx, query, row.Text(c.Account), row.Text(c.Base), row.Text(c.Desired), c.Revision)
		if err != nil {
			return err
		}
		if n, err := result.RowsAffected(); n > 0 || err != nil {
			return err
		}
		return fmt.Errorf("claims of account %s at revision %d: %w: read them again", c.Account, c.Revision-1, store.ErrChanged)
	})
}
