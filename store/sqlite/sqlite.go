// Package sqlite is the embedded store: one file, one process.
//
// There is one writing connection, which makes transactions one after another, and a pool
// of readers beside it, which the write-ahead log never lets wait. A revocation is on the disk
// (synchronous=FULL) before it is answered.
package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"sync"

	"github.com/pressly/goose/v3"

	"github.com/gatehouse-nats/gatehouse/migrations"
	"github.com/gatehouse-nats/gatehouse/store"
	"github.com/gatehouse-nats/gatehouse/store/internal/filelock"
	"github.com/gatehouse-nats/gatehouse/store/internal/hint"
)

// readers is how many reads run at once; each has a page cache of its own.
const readers = 4

// Options say which file to open, and how.
type Options struct {
	// Path is the database file; Migrate makes it, readable for its owner alone, when it is not there.
	// Beside it stand PATH.lock and SQLite's own -wal and -shm.
	Path string
	// Migrate brings an older schema up to date; without it such a store is refused, and one that is not there.
	Migrate bool
}

// Store implements [store.Store] on a SQLite file.
type Store struct {
	path   string
	lock   *filelock.Lock
	writer *sql.DB
	reader *sql.DB
	hints  hint.Hub

	familiar familiar

	ctx   context.Context // ends with Close
	close context.CancelFunc
	calls sync.RWMutex // held for reading by each call, so that Close waits for them
}

var _ store.Store = (*Store)(nil)

// Open opens the store. It returns [store.ErrInUse] when this or another process has it open,
// [store.ErrSchema] when this release may not run on its schema, and [store.ErrUnavailable]
// when the file or its folder cannot be written.
func Open(ctx context.Context, o Options) (*Store, error) {
	s, err := open(ctx, o)
	if err != nil {
		return nil, fmt.Errorf("open the SQLite store %s: %w", o.Path, err)
	}
	return s, nil
}

// Migrate brings the schema of the file at path up to date; nothing else may have it open.
func Migrate(ctx context.Context, path string) error {
	s, err := Open(ctx, Options{Path: path, Migrate: true})
	if err != nil {
		return err
	}
	return s.Close()
}

func open(ctx context.Context, o Options) (_ *Store, err error) {
	path, err := resolve(o.Path)
	if err != nil {
		return nil, err
	}
	// Who only looks makes nothing: a file that root left behind would lock the service out.
	if _, err := os.Stat(path); !o.Migrate && errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w: the service makes it when it first starts, and so does gatehouse migrate", fs.ErrNotExist)
	}
	s := &Store{path: path}
	s.ctx, s.close = context.WithCancel(context.Background())
	defer func() {
		if err != nil {
			s.close()
			err = errors.Join(err, s.release())
		}
	}()
	if s.lock, err = filelock.Take(path + ".lock"); err != nil {
		return nil, interpretError(err)
	}
	if err := private(path); err != nil {
		return nil, interpretError(err)
	}
	// The pragmas are of a connection, so they belong to its address. With the 2 MB of cache that SQLite has, most
	// pages of the indexes that are in no order would be read again for each batch.
	if s.writer, err = openWriter(address(path, "_txlock=immediate", "_pragma=busy_timeout(5000)",
		"_pragma=journal_mode(wal)", "_pragma=synchronous(full)", "_pragma=cache_size(-4000)")); err != nil {
		return nil, err
	}
	s.writer.SetMaxOpenConns(1)
	if err := s.prepare(ctx, o.Migrate); err != nil {
		return nil, interpretError(err)
	}
	if s.reader, err = sql.Open("sqlite", address(path, "_pragma=busy_timeout(5000)", "_pragma=query_only(1)")); err != nil {
		return nil, err
	}
	s.reader.SetMaxOpenConns(readers)
	s.reader.SetMaxIdleConns(readers)
	return s, nil
}

// resolve returns the one name of the file, so that its lock has one name too.
func resolve(path string) (string, error) {
	if path == "" {
		return "", errors.New("no path is given: use sqlite:PATH")
	}
	abs, err := filepath.Abs(path)
	if err != nil {
		return "", err
	}
	if real, err := filepath.EvalSymlinks(abs); err == nil {
		return real, nil
	}
	folder, err := filepath.EvalSymlinks(filepath.Dir(abs))
	if errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("its folder does not exist, make it first: %w", err)
	} else if err != nil {
		return "", err
	}
	return filepath.Join(folder, filepath.Base(abs)), nil
}

// private makes the file when it is not there, and takes it from group and others when it is.
// SQLite gives its -wal and -shm the same mode.
func private(path string) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if info.Mode().Perm()&0o077 == 0 {
		return nil
	}
	return f.Chmod(0o600)
}

func address(path string, params ...string) string {
	u := url.URL{Scheme: "file", Path: path}
	for i, p := range params {
		if i > 0 {
			u.RawQuery += "&"
		}
		u.RawQuery += p
	}
	return u.String()
}

// prepare checks the schema, and migrates it when allowed. The lock on the file stands in for
// the lock on migrations that goose has for PostgreSQL alone.
func (s *Store) prepare(ctx context.Context, migrate bool) error {
	have, err := s.schema(ctx)
	if err != nil {
		return err
	}
	if err := have.Usable(migrate); err != nil || have.Version >= migrations.Latest {
		return err
	}
	p, err := goose.NewProvider(goose.DialectSQLite3, s.writer, migrations.SQLite(),
		goose.WithTableName(migrations.Table), goose.WithDisableGlobalRegistry(true))
	if err != nil {
		return err
	}
	_, err = p.Up(ctx)
	return err
}

// schema reads what the store says about its schema.
func (s *Store) schema(ctx context.Context) (migrations.Schema, error) {
	var have migrations.Schema
	var tables int
	err := s.writer.QueryRowContext(ctx, `SELECT count(*) FROM sqlite_schema WHERE name = 'schema_release'`).Scan(&tables)
	if err != nil || tables == 0 {
		return have, err
	}
	// The newest row that asks for the highest level names the release.
	err = s.writer.QueryRowContext(ctx, `SELECT (SELECT max(version) FROM schema_release), level, needs
		FROM schema_release ORDER BY level DESC, version DESC LIMIT 1`).Scan(&have.Version, &have.Level, &have.Needs)
	if errors.Is(err, sql.ErrNoRows) {
		return have, nil
	}
	return have, err
}

// Hints implements [store.Store]: only this process writes, so its own writes are all there is to hint at.
func (s *Store) Hints(ctx context.Context) <-chan struct{} { return s.hints.Subscribe(ctx) }

// Close implements [store.Store].
func (s *Store) Close() error {
	s.close()
	s.calls.Lock()
	defer s.calls.Unlock()
	s.hints.Close()
	return s.release()
}

// release closes what was opened; the lock goes last.
func (s *Store) release() error {
	var errs []error
	for _, db := range []*sql.DB{s.reader, s.writer} {
		if db != nil {
			errs = append(errs, db.Close())
		}
	}
	if s.lock != nil {
		errs = append(errs, s.lock.Close())
	}
	s.reader, s.writer, s.lock = nil, nil, nil
	return errors.Join(errs...)
}

// bound returns the context of a call, which Close ends, and what is to be called at its end; an
// error when the store is closed.
func (s *Store) bound(ctx context.Context) (context.Context, func(), error) {
	s.calls.RLock()
	if s.ctx.Err() != nil {
		s.calls.RUnlock()
		return nil, nil, store.ErrClosed
	}
	ctx, cancel := context.WithCancel(ctx)
	stop := context.AfterFunc(s.ctx, cancel)
	return ctx, func() { stop(); cancel(); s.calls.RUnlock() }, nil
}

// write runs f in one transaction.
func (s *Store) write(ctx context.Context, what string, f func(context.Context, *tx) error) error {
	err := func() error {
		ctx, done, err := s.bound(ctx)
		if err != nil {
			return err
		}
		defer done()
		tx, err := s.begin(ctx)
		if err != nil {
			return err
		}
		defer tx.end()
		if err = f(ctx, tx); err == nil {
			err = ctx.Err()
		}
		if err == nil {
			err = tx.Commit()
		}
		if err != nil {
			s.familiar.forget() // before anybody else writes: some of what is remembered may not have come to be
		}
		return err
	}()
	return s.failure(ctx, what, err)
}

// read returns all rows of a query; targets says where one is scanned to.
func read[T any](ctx context.Context, s *Store, what string, targets func(*T) []any, query string, args ...any) ([]T, error) {
	list, err := func() (list []T, err error) {
		ctx, done, err := s.bound(ctx)
		if err != nil {
			return nil, err
		}
		defer done()
		return collect(ctx, s.reader, targets, query, args...)
	}()
	return list, s.failure(ctx, what, err)
}

// collect returns all rows of a query.
func collect[T any](ctx context.Context, db interface {
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
}, targets func(*T) []any, query string, args ...any) (list []T, err error) {
	rows, err := db.QueryContext(ctx, query, args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var v T
		if err := rows.Scan(targets(&v)...); err != nil {
			return nil, err
		}
		list = append(list, v)
	}
	return list, rows.Err()
}

// failure says what err means: the store was closed, the caller gave up, or what SQLite says.
func (s *Store) failure(ctx context.Context, what string, err error) error {
	switch {
	case err == nil:
		return nil
	case s.ctx.Err() != nil:
		err = store.ErrClosed
	case ctx.Err() != nil:
		err = context.Cause(ctx)
	default:
		err = interpretError(err)
	}
	return fmt.Errorf("store: %s: %w", what, err)
}
