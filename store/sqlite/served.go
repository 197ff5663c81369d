package sqlite

import (
	"context"
	"time"

	"github.com/gatehouse-nats/gatehouse/store"
	"github.com/gatehouse-nats/gatehouse/store/internal/row"
)

// Serve implements [store.Store].
func (s *Store) Serve(ctx context.Context, lease, holder string, claims []store.ServedClaims) error {
	return s.write(ctx, "keep claims for servers", func(ctx context.Context, tx *tx) error {
		var held int
		err := tx.QueryRowContext(ctx, `SELECT count(*) FROM leases WHERE name = ? AND holder = ? AND until > ?`, row.Text(lease), row.Text(holder), micros(time.Now())).Scan(&held)
		if err != nil {
			return err
		}
		if held == 0 {
			return store.ErrChanged
		}
		for _, c := range claims {
			if _, err := tx.ExecContext(ctx, `INSERT INTO served_claims (account, revision, token) VALUES (?, ?, ?)
				ON CONFLICT (account) DO UPDATE SET revision = excluded.revision, token = excluded.token
				WHERE excluded.revision >= served_claims.revision AND excluded.token <> served_claims.token`,
				row.Text(c.Account), c.Revision, row.Text(c.Token)); err != nil {
				return err
			}
		}
		return nil
	})
}

// Served implements [store.Store].
func (s *Store) Served(ctx context.Context, account string) (string, error) {
	found, err := read(ctx, s, "look claims for servers up", func(token *row.Text) []any { return []any{token} }, row.Served("?1"), row.Text(account))
	if err != nil || len(found) == 0 {
		return "", err
	}
	return string(found[0]), nil
}
