package sqlite

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"

	"modernc.org/sqlite"
)

// A tx is a transaction of the writing connection.
type tx struct {
	*sql.Tx
	conn *sql.Conn
}

// begin starts a transaction, which end ends. The end of the context does not: what ran next would be outside of it.
func (s *Store) begin(ctx context.Context) (*tx, error) {
	conn, err := s.writer.Conn(ctx)
	if err != nil {
		return nil, err
	}
	t, err := conn.BeginTx(context.WithoutCancel(ctx), nil)
	if err != nil {
		_ = conn.Close()
		return nil, err
	}
	return &tx{t, conn}, nil
}

// end rolls back what was not committed.
func (t *tx) end() {
	_ = t.Rollback()
	_ = t.conn.Close() // back into the pool
}

// run executes one of the statements of every login, which is prepared once and over in no time: the end of the context is
// looked for before it, since to watch for it would take a goroutine. The values are such as the driver takes:
// for a row, what database/sql does to convert them costs as much as what SQLite does to store them.
func (t *tx) run(ctx context.Context, query string, values ...any) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	return t.conn.Raw(func(conn any) error {
		return conn.(*writingConn).run(context.WithoutCancel(ctx), query, values)
	})
}

// openWriter returns a database whose connections keep their prepared statements.
func openWriter(dsn string) (*sql.DB, error) {
	c, err := sqlite.NewConnector(dsn)
	if err != nil {
		return nil, err
	}
	return sql.OpenDB(connector{c}), nil
}

type connector struct{ driver.Connector }

func (c connector) Connect(ctx context.Context) (driver.Conn, error) {
	conn, err := c.Connector.Connect(ctx)
	if err != nil {
		return nil, err
	}
	full, ok := conn.(driverConn)
	if !ok {
		_ = conn.Close()
		return nil, fmt.Errorf("the driver's connection %T lacks something that it had", conn)
	}
	return &writingConn{driverConn: full, prepared: map[string]statement{}}, nil
}

// A driverConn is what connections of the driver implement; database/sql does less with one that lacks something.
type driverConn interface {
	driver.Conn
	driver.ConnBeginTx
	driver.ConnPrepareContext
	driver.ExecerContext
	driver.QueryerContext
	driver.Pinger
	driver.SessionResetter
	driver.Validator
}

// A statement is one of the driver's.
type statement interface {
	driver.Stmt
	driver.StmtExecContext
}

// A writingConn is a connection with the statements that it has prepared. It is used by one transaction at a time.
type writingConn struct {
	driverConn
	prepared map[string]statement // by query
	values   []driver.NamedValue  // of the last one that ran
}

// Unwrap returns the driver's connection, for the driver's own use.
func (c *writingConn) Unwrap() driver.Conn { return c.driverConn }

func (c *writingConn) run(ctx context.Context, query string, values []any) error {
	s, err := c.statement(ctx, query)
	if err != nil {
		return err
	}
	c.values = c.values[:0]
	for i, v := range values {
		c.values = append(c.values, driver.NamedValue{Ordinal: i + 1, Value: v})
	}
	_, err = s.ExecContext(ctx, c.values)
	clear(c.values)
	return err
}

func (c *writingConn) statement(ctx context.Context, query string) (statement, error) {
	if s := c.prepared[query]; s != nil {
		return s, nil
	}
	made, err := c.PrepareContext(ctx, query)
	if err != nil {
		return nil, err
	}
	s, ok := made.(statement)
	if !ok {
		return nil, fmt.Errorf("the driver's statements are %T, which have no ExecContext", made)
	}
	c.prepared[query] = s
	return s, nil
}

// Close closes the statements first: SQLite keeps the file open for those that are left.
func (c *writingConn) Close() error {
	var errs []error
	for _, s := range c.prepared {
		errs = append(errs, s.Close())
	}
	clear(c.prepared)
	return errors.Join(append(errs, c.driverConn.Close())...)
}
