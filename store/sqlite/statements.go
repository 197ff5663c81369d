package sqlite

import (
	"context"
	"database/sql"
)

// statements are those of every login, which are prepared once.
var statements = []string{
	takePlace, insertAudit, insertArrival,
	insertIdentity, updateIdentity, touchIdentity, insertShown, deleteShown,
}

// keep prepares the statements on the writing connection.
func (s *Store) keep(ctx context.Context) error {
	s.prepared = make(map[string]*sql.Stmt, len(statements))
	for _, query := range statements {
		p, err := s.writer.PrepareContext(ctx, query)
		if err != nil {
			return err
		}
		s.prepared[query] = p
	}
	return nil
}

// kept returns one of [statements] for use in a transaction.
func (s *Store) kept(ctx context.Context, tx *sql.Tx, query string) *sql.Stmt {
	return tx.StmtContext(ctx, s.prepared[query])
}

// run executes a statement that is over in no time. It is not watched for the end of the context, which would take
// a goroutine each; the transaction is.
func run(ctx context.Context, p *sql.Stmt, args ...any) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	_, err := p.ExecContext(context.WithoutCancel(ctx), args...)
	return err
}
