package postgres

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"maps"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"
	"github.com/pressly/goose/v3/lock"

	"github.com/gatehouse-nats/gatehouse/migrations"
	"github.com/gatehouse-nats/gatehouse/store"
)

// oldestServer is the first version that has what the SQL uses.
const oldestServer = 140000

// Migrate brings the schema of the database up to date. Replicas that do so at once wait for
// each other, up to five minutes.
func Migrate(ctx context.Context, dsn string) error {
	config, err := parse(dsn)
	if err != nil {
		return err
	}
	if err := migrate(ctx, config.ConnConfig); err != nil {
		return fmt.Errorf("migrate the PostgreSQL store: %w", interpretError(err))
	}
	return nil
}

// verify returns an error unless this release can use the database as it is.
func verify(ctx context.Context, config *pgx.ConnConfig) error {
	db := stdlib.OpenDB(*config)
	defer db.Close()
	have, err := schema(ctx, db)
	if err != nil {
		return err
	}
	return have.Usable(false)
}

func migrate(ctx context.Context, config *pgx.ConnConfig) error {
	config = config.Copy()
	config.RuntimeParams = maps.Clone(config.RuntimeParams)
	config.RuntimeParams["statement_timeout"] = "0" // a migration takes as long as it takes
	db := stdlib.OpenDB(*config)
	defer db.Close()
	have, err := schema(ctx, db)
	if err != nil {
		return err
	}
	if err := have.Usable(true); err != nil || have.Version >= migrations.Latest {
		return err
	}
	locker, err := lock.NewPostgresSessionLocker(lock.WithLockTimeout(1, 300))
	if err != nil {
		return err
	}
	p, err := goose.NewProvider(goose.DialectPostgres, db, migrations.Postgres(), goose.WithSessionLocker(locker),
		goose.WithTableName(migrations.Table), goose.WithDisableGlobalRegistry(true))
	if err != nil {
		return err
	}
	_, err = p.Up(ctx)
	return err
}

// schema reads what the database says about its schema, after a look at the database itself.
func schema(ctx context.Context, db *sql.DB) (migrations.Schema, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	var have migrations.Schema
	var version int
	var encoding string
	var known bool
	err := db.QueryRowContext(ctx, `SELECT current_setting('server_version_num')::int,
		current_setting('server_encoding'), to_regclass('schema_release') IS NOT NULL`).Scan(&version, &encoding, &known)
	switch {
	case err != nil:
		return have, err
	case version < oldestServer:
		return have, fmt.Errorf("the server is PostgreSQL %d: version 14 or later is needed", version/10000)
	case encoding != "UTF8":
		return have, fmt.Errorf("%w: the database has encoding %s: make one with ENCODING 'UTF8'", store.ErrSchema, encoding)
	case !known:
		return have, nil
	}
	// The newest row that asks for the highest level names the release.
	err = db.QueryRowContext(ctx, `SELECT (SELECT max(version) FROM schema_release), level, needs
		FROM schema_release ORDER BY level DESC, version DESC LIMIT 1`).Scan(&have.Version, &have.Level, &have.Needs)
	if errors.Is(err, sql.ErrNoRows) {
		return have, nil
	}
	return have, err
}
