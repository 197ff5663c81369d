package storetest

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/gatehouse-nats/gatehouse/migrations"
)

// PostgresEnv names the PostgreSQL in which tests make their databases.
const PostgresEnv = "GATEHOUSE_TEST_POSTGRES"

// Postgres returns the URL of a database of the test's own, with the schema in it, gone after
// the test; settings can be added to it with &. It fails the test when there is no PostgreSQL,
// and skips it with -short. The databases are copies of one that migrate has made, which stays
// for later runs; with a nil migrate the database is empty.
func Postgres(t testing.TB, migrate func(ctx context.Context, dsn string) error) string {
	t.Helper()
	given := os.Getenv(PostgresEnv)
	if given == "" {
		if testing.Short() {
			t.Skip(PostgresEnv + " is not set")
		}
		t.Fatal(PostgresEnv + " is not set: run `make test`, which starts a PostgreSQL, or `go test -short`")
	}
	admin, err := url.Parse(given)
	if err != nil || !strings.HasPrefix(admin.Scheme, "postgres") {
		t.Fatal(PostgresEnv + " is no postgres:// URL")
	}
	create := "TEMPLATE template0"
	if migrate != nil {
		template, err := templateOf(admin, migrate)
		if err != nil {
			t.Fatalf("make the template database: %v", err)
		}
		create = "TEMPLATE " + template
	}
	name := "gatehouse_test_" + strings.ReplaceAll(uuid.NewString(), "-", "")
	if err := execute(admin, "CREATE DATABASE "+name+" "+create); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := execute(admin, "DROP DATABASE "+name+" WITH (FORCE)"); err != nil {
			t.Error(err)
		}
	})
	return withDatabase(admin, name)
}

var templates struct {
	sync.Mutex
	name string
}

// templateOf returns the database that those of tests are copied from, made once for these migrations.
func templateOf(admin *url.URL, migrate func(context.Context, string) error) (string, error) {
	templates.Lock()
	defer templates.Unlock()
	if templates.name != "" {
		return templates.name, nil
	}
	name, err := templateName()
	if err != nil {
		return "", err
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	conn, err := pgx.Connect(ctx, admin.String())
	if err != nil {
		return "", err
	}
	defer conn.Close(ctx)
	// The test binaries of other packages may be at it too.
	if _, err := conn.Exec(ctx, "SELECT pg_advisory_lock(hashtext($1))", name); err != nil {
		return "", err
	}
	var exists bool
	if err := conn.QueryRow(ctx, "SELECT EXISTS (SELECT FROM pg_database WHERE datname = $1)", name).Scan(&exists); err != nil {
		return "", err
	}
	if !exists {
		// Under another name until it is whole.
		for _, step := range []func() error{
			func() error { return execute(admin, "DROP DATABASE IF EXISTS "+name+"_new") },
			func() error { return execute(admin, "CREATE DATABASE "+name+"_new") },
			func() error { return migrate(ctx, withDatabase(admin, name+"_new")) },
			func() error { return execute(admin, "ALTER DATABASE "+name+"_new RENAME TO "+name) },
		} {
			if err := step(); err != nil {
				return "", err
			}
		}
	}
	templates.name = name
	return name, nil
}

func templateName() (string, error) {
	h := sha256.New()
	files := migrations.Postgres()
	err := fs.WalkDir(files, ".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		content, err := fs.ReadFile(files, path)
		fmt.Fprintf(h, "%s\n%s\n", path, content)
		return err
	})
	return "gatehouse_template_" + hex.EncodeToString(h.Sum(nil)[:8]), err
}

func execute(admin *url.URL, sql string) error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	conn, err := pgx.Connect(ctx, admin.String())
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	for {
		_, err = conn.Exec(ctx, sql)
		// A database is in use for a moment after its last connection was closed.
		if err == nil || !strings.Contains(err.Error(), "being accessed by other users") {
			return err
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// withDatabase returns the address with another database. It has a query, so that settings can be
// added with &.
func withDatabase(admin *url.URL, name string) string {
	u := *admin
	u.Path = "/" + name
	u.ForceQuery = true
	return u.String()
}
