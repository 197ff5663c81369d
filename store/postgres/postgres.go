// Package postgres is the store that several replicas share. It keeps to what PostgreSQL 14 has.
//
// It needs sessions of its own: connect directly or through a pooler in session mode, since
// LISTEN and the lock on migrations belong to a session.
package postgres

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/gatehouse-nats/gatehouse/store"
	"github.com/gatehouse-nats/gatehouse/store/internal/hint"
)

const (
	connectTimeout = 5 * time.Second
	// callTimeout bounds one call, the wait for a connection included.
	callTimeout = 5 * time.Second
	// bulkTimeout bounds the calls that read or delete much.
	bulkTimeout = 60 * time.Second
)

// Options say which database to use, and how.
type Options struct {
	// DSN is a URL or keyword string as libpq takes it. With several hosts, add
	// target_session_attrs=read-write.
	DSN string
	// Migrate brings an older schema up to date; without it such a store is refused.
	Migrate bool
	// Logger is told when the connection for hints is lost; nil is [slog.Default].
	Logger *slog.Logger
}

// Store implements [store.Store] on PostgreSQL.
type Store struct {
	pool   *pgxpool.Pool
	logger *slog.Logger

	loaded atomic.Int64 // when the server was started that the state was last loaded from, in microseconds

	hints  hint.Hub
	listen sync.Once
	ctx    context.Context // ends with Close
	close  context.CancelFunc
	wg     sync.WaitGroup
}

var _ store.Store = (*Store)(nil)

// Open connects to the database and checks its schema, migrating it when allowed. It returns
// [store.ErrSchema] when this release may not run on it, and [store.ErrUnavailable] when the
// database does not answer.
func Open(ctx context.Context, o Options) (*Store, error) {
	config, err := parse(o.DSN)
	if err != nil {
		return nil, err
	}
	ready := func() error {
		if o.Migrate {
			return migrate(ctx, config.ConnConfig)
		}
		return verify(ctx, config.ConnConfig)
	}
	if err := ready(); err != nil {
		return nil, fmt.Errorf("open the PostgreSQL store: %w", interpretError(err))
	}
	pool, err := pgxpool.NewWithConfig(ctx, config)
	if err != nil {
		return nil, fmt.Errorf("open the PostgreSQL store: %w", interpretError(err))
	}
	s := &Store{pool: pool, logger: o.Logger}
	if s.logger == nil {
		s.logger = slog.Default()
	}
	s.ctx, s.close = context.WithCancel(context.Background())
	return s, nil
}

// parse reads the address. What is wrong with one that cannot be read stays untold, since the
// parsers quote what may be its password.
func parse(dsn string) (*pgxpool.Config, error) {
	config, err := pgxpool.ParseConfig(dsn)
	if err != nil {
		return nil, errors.New("the store's address is neither a postgres:// URL nor a keyword string: " +
			"check its form, percent-encode special characters of the password, and see that the files it names can be read")
	}
	if config.ConnConfig.ConnectTimeout == 0 {
		config.ConnConfig.ConnectTimeout = connectTimeout
	}
	// The calls have deadlines of their own; these end what a client that is gone, or stands still, left behind. Whoever stands
	// still in a transaction keeps the counters locked that all other replicas write, and is to lose them well within
	// a call of theirs.
	for name, value := range map[string]string{
		"application_name":                    "gatehouse",
		"statement_timeout":                   "60s",
		"idle_in_transaction_session_timeout": "2s",
	} {
		if _, given := config.ConnConfig.RuntimeParams[name]; !given {
			config.ConnConfig.RuntimeParams[name] = value
		}
	}
	return config, nil
}

// Close implements [store.Store].
func (s *Store) Close() error {
	s.close()
	s.listen.Do(func() {}) // from here on nobody starts to listen
	s.wg.Wait()
	s.hints.Close()
	s.pool.Close()
	return nil
}

// bound returns the context of a call: with a deadline, and ended by Close.
func (s *Store) bound(ctx context.Context, timeout time.Duration) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	stop := context.AfterFunc(s.ctx, cancel)
	return ctx, func() { stop(); cancel() }
}

// write runs f in one transaction, and once more where PostgreSQL ended it for standing still, with nothing done.
func (s *Store) write(ctx context.Context, timeout time.Duration, what string, f func(context.Context, pgx.Tx) error) error {
	bound, cancel := s.bound(ctx, timeout)
	defer cancel()
	run := func() error {
		return pgx.BeginFunc(bound, s.pool, func(tx pgx.Tx) error { return f(bound, tx) })
	}
	err := run()
	if stoodStill(err) {
		err = run()
	}
	return s.failure(ctx, what, err)
}

// read returns all rows of a query; targets says where one is scanned to.
func read[T any](ctx context.Context, s *Store, timeout time.Duration, what string, targets func(*T) []any, query string, args ...any) ([]T, error) {
	bound, cancel := s.bound(ctx, timeout)
	defer cancel()
	list, err := collect(bound, s.pool, targets, query, args...)
	if err != nil {
		return nil, s.failure(ctx, what, err)
	}
	return list, nil
}

// collect returns all rows of a query.
func collect[T any](ctx context.Context, db interface {
	Query(ctx context.Context, query string, args ...any) (pgx.Rows, error)
}, targets func(*T) []any, query string, args ...any) ([]T, error) {
	rows, err := db.Query(ctx, query, args...)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, func(found pgx.CollectableRow) (v T, err error) {
		return v, found.Scan(targets(&v)...)
	})
}

// failure says what err means: the store was closed, the caller gave up, or what PostgreSQL says.
func (s *Store) failure(ctx context.Context, what string, err error) error {
	switch {
	case err == nil:
		return nil
	case s.ctx.Err() != nil:
		err = store.ErrClosed
	case ctx.Err() != nil:
		err = context.Cause(ctx)
	default:
		if isReadOnly(err) {
			// This server has become a standby: connect anew, so that the primary is found.
			s.pool.Reset()
		}
		err = interpretError(err)
	}
	return fmt.Errorf("store: %s: %w", what, err)
}
