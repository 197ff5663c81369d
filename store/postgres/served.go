package postgres

import (
	"bytes"
	"context"
	"slices"

	"github.com/jackc/pgx/v5"

	"github.com/gatehouse-nats/gatehouse/store"
	"github.com/gatehouse-nats/gatehouse/store/internal/row"
)

// Serve implements [store.Store].
func (s *Store) Serve(ctx context.Context, lease, holder string, claims []store.ServedClaims) error {
	// In one order, so that two writers never wait for each other.
	inOrder := slices.SortedFunc(slices.Values(claims), func(a, b store.ServedClaims) int {
		return bytes.Compare([]byte(a.Account), []byte(b.Account))
	})
	return s.write(ctx, callTimeout, "keep claims for servers", func(ctx context.Context, tx pgx.Tx) error {
		// Nobody takes the lease over before this is done.
		held, err := tx.Exec(ctx, `SELECT FROM leases WHERE name = $1 AND holder = $2 AND until > clock_timestamp() FOR SHARE`, row.Text(lease), row.Text(holder))
		if err != nil {
			return err
		}
		if held.RowsAffected() == 0 {
			return store.ErrChanged
		}
		var batch pgx.Batch
		for _, c := range inOrder {
			batch.Queue(`INSERT INTO served_claims (account, revision, token) VALUES ($1, $2, $3)
				ON CONFLICT (account) DO UPDATE SET revision = excluded.revision, token = excluded.token
				WHERE excluded.revision >= served_claims.revision AND excluded.token <> served_claims.token`,
				row.Text(c.Account), c.Revision, row.Text(c.Token))
		}
		return tx.SendBatch(ctx, &batch).Close()
	})
}

// Served implements [store.Store].
func (s *Store) Served(ctx context.Context, account string) (string, error) {
	found, err := read(ctx, s, callTimeout, "look claims for servers up", func(token *row.Text) []any { return []any{token} }, row.Served("$1"), row.Text(account))
	if err != nil || len(found) == 0 {
		return "", err
	}
	return string(found[0]), nil
}
