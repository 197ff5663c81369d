// Package migrations holds the store's schema as embedded SQL for goose, one folder a
// dialect. Migrations only go forward.
//
// Each one records in schema_release the oldest release that may run on the schema from
// then on, so that an old release that is started beside a new one refuses instead of
// misreading what the new one writes.
package migrations

import (
	"embed"
	"fmt"
	"io/fs"

	"github.com/gatehouse-nats/gatehouse/store"
)

const (
	// Level is this release's place in the order of releases, as schema_release.level counts
	// them. It is raised with the first migration that older releases must not run on.
	Level = 3
	// Latest is the version of the newest migration, the same in both dialects.
	Latest = 6
	// Table is where goose keeps what has been applied.
	Table = "schema_migrations"
)

//go:embed postgres/*.sql sqlite/*.sql
var files embed.FS

// Postgres returns the migrations for PostgreSQL 14 and later.
func Postgres() fs.FS { return folder("postgres") }

// SQLite returns the migrations for SQLite.
func SQLite() fs.FS { return folder("sqlite") }

func folder(name string) fs.FS {
	sub, err := fs.Sub(files, name)
	if err != nil {
		panic(err) // the name is a constant of this file
	}
	return sub
}

// Schema is what a store says about its schema; the zero value is an empty database.
type Schema struct {
	Version int    // of the newest migration that was applied
	Level   int    // of the oldest release that may run on it
	Needs   string // the name of that release
}

// Usable returns an error that wraps [store.ErrSchema] when this release may not run on the
// schema: because it is too new, or because migrations are missing that are not going to be
// applied now.
func (s Schema) Usable(migrating bool) error {
	switch {
	case s.Level > Level:
		return fmt.Errorf("%w: it is at version %d and needs release %s or later: upgrade this replica",
			store.ErrSchema, s.Version, s.Needs)
	case s.Version < Latest && !migrating:
		return fmt.Errorf("%w: it is at version %d and this release needs %d: run `gatehouse migrate`",
			store.ErrSchema, s.Version, Latest)
	}
	return nil
}
