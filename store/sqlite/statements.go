package sqlite

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
)

// A tx is a transaction of the writing connection.
type tx struct {
	*sql.Tx
	conn     *sql.Conn
	prepared *prepared
}

// begin starts a transaction, which end ends.
func (s *Store) begin(ctx context.Context) (*tx, error) {
	conn, err := s.writer.Conn(ctx)
	if err != nil {
		return nil, err
	}
	t, err := conn.BeginTx(ctx, nil)
	if err != nil {
		_ = conn.Close()
		return nil, err
	}
	return &tx{t, conn, &s.prepared}, nil
}

// end rolls back what was not committed.
func (t *tx) end() {
	_ = t.Rollback()
	_ = t.conn.Close() // back into the pool
}

// run executes one of the statements of every login, which is prepared once and over in no time. It is not watched for the
// end of the context, which would take a goroutine each; the transaction is. The values are such as the driver takes:
// for a row, what database/sql does to convert them costs as much as what SQLite does to store them.
func (t *tx) run(ctx context.Context, query string, values ...any) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	return t.conn.Raw(func(conn any) error {
		return t.prepared.run(context.WithoutCancel(ctx), conn, query, values)
	})
}

// A statement is one of the driver's.
type statement interface {
	driver.Stmt
	driver.StmtExecContext
}

// prepared are the statements of a connection, by query. Whoever has the connection uses them alone.
type prepared struct {
	conn       any
	statements map[string]statement
	values     []driver.NamedValue // of the last one that ran
}

func (p *prepared) run(ctx context.Context, conn any, query string, values []any) error {
	s, err := p.statement(ctx, conn, query)
	if err != nil {
		return err
	}
	p.values = p.values[:0]
	for i, v := range values {
		p.values = append(p.values, driver.NamedValue{Ordinal: i + 1, Value: v})
	}
	_, err = s.ExecContext(ctx, p.values)
	clear(p.values)
	return err
}

func (p *prepared) statement(ctx context.Context, conn any, query string) (statement, error) {
	if p.conn != conn { // the first one, or one in the place of one that failed
		p.conn, p.statements = conn, map[string]statement{}
	}
	if s := p.statements[query]; s != nil {
		return s, nil
	}
	s, err := conn.(driver.ConnPrepareContext).PrepareContext(ctx, query)
	if err != nil {
		return nil, err
	}
	made, ok := s.(statement)
	if !ok {
		return nil, fmt.Errorf("the driver's statements are %T, which have no ExecContext", s)
	}
	p.statements[query] = made
	return made, nil
}

// close closes the statements; the connection does not close before.
func (p *prepared) close() error {
	var errs []error
	for _, s := range p.statements {
		errs = append(errs, s.Close())
	}
	*p = prepared{}
	return errors.Join(errs...)
}
