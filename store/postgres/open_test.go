package postgres

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/pressly/goose/v3"

	"github.com/gatehouse-nats/gatehouse/migrations"
	"github.com/gatehouse-nats/gatehouse/policy"
	"github.com/gatehouse-nats/gatehouse/store"
	"github.com/gatehouse-nats/gatehouse/store/internal/row"
	"github.com/gatehouse-nats/gatehouse/store/storetest"
)

const patience = 20 * time.Second

var quiet = slog.New(slog.NewTextHandler(io.Discard, nil))

func openAt(t testing.TB, dsn string) *Store {
	t.Helper()
	s, err := Open(t.Context(), Options{DSN: dsn, Logger: quiet})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

func execute(t *testing.T, dsn, query string) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), dsn)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	if _, err := conn.Exec(t.Context(), query); err != nil {
		t.Fatal(err)
	}
}

func logout(id string) store.Revocation {
	return store.Revocation{
		Revocation: policy.Revocation{
			ID: id, Kind: policy.Logout, At: time.Now(),
			Target: policy.Target{Principal: policy.Principal{Issuer: "https://login.example.com", Subject: "alice"}},
		},
		Actor: "root",
	}
}

func TestInterpretError(t *testing.T) {
	t.Parallel()
	other := errors.New("other")
	for name, c := range map[string]struct {
		err  error
		want error
		says string
	}{
		"read-only":        {&pgconn.PgError{Code: "25006"}, store.ErrUnavailable, "connect to the primary"},
		"disk full":        {&pgconn.PgError{Code: "53100"}, store.ErrUnavailable, "make room"},
		"connections":      {&pgconn.PgError{Code: "53300"}, store.ErrUnavailable, "connections"},
		"lock":             {&pgconn.PgError{Code: "55P03"}, store.ErrUnavailable, "locked"},
		"shutdown":         {&pgconn.PgError{Code: "57P01"}, store.ErrUnavailable, "stopped"},
		"starting":         {&pgconn.PgError{Code: "57P03"}, store.ErrUnavailable, "starting"},
		"statement ended":  {&pgconn.PgError{Code: "57014"}, store.ErrUnavailable, "ended the statement"},
		"deadlock":         {&pgconn.PgError{Code: "40P01"}, store.ErrUnavailable, "try again"},
		"password":         {&pgconn.PgError{Code: "28P01"}, store.ErrUnavailable, "password"},
		"no database":      {&pgconn.PgError{Code: "3D000"}, store.ErrUnavailable, "create it"},
		"damage":           {&pgconn.PgError{Code: "XX001"}, store.ErrUnavailable, "damage"},
		"no table":         {&pgconn.PgError{Code: "42P01"}, store.ErrSchema, "gatehouse migrate"},
		"no column":        {&pgconn.PgError{Code: "42703"}, store.ErrSchema, "gatehouse migrate"},
		"cut off":          {io.ErrUnexpectedEOF, store.ErrUnavailable, "does not answer"},
		"too late":         {fmt.Errorf("query: %w", context.DeadlineExceeded), store.ErrUnavailable, "does not answer"},
		"refused":          {&net.OpError{Op: "dial", Err: other}, store.ErrUnavailable, "does not answer"},
		"wrapped":          {fmt.Errorf("x: %w", &pgconn.PgError{Code: "53100"}), store.ErrUnavailable, "make room"},
		"broken row":       {&pgconn.PgError{Code: "23514", Message: "check"}, nil, "check"},
		"no code":          {&pgconn.PgError{Message: "odd"}, nil, "odd"},
		"an error of ours": {store.ErrConflict, store.ErrConflict, store.ErrConflict.Error()},
		"another":          {other, other, "other"},
	} {
		got := interpretError(c.err)
		if !errors.Is(got, c.err) {
			t.Errorf("%s: the cause is lost", name)
		}
		if c.want != nil && !errors.Is(got, c.want) || c.want == nil && got != c.err || !strings.Contains(got.Error(), c.says) {
			t.Errorf("%s: got %v", name, got)
		}
	}
}

// TestNoPasswordInErrors: whatever is wrong with an address, its password is not shown.
func TestNoPasswordInErrors(t *testing.T) {
	t.Parallel()
	const secret = "s3cr3t"
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close() // nobody accepts
	for _, dsn := range []string{
		"postgres://u:" + secret + "%zz@localhost/db",
		"postgres://u:" + secret + "@local host/db",
		"postgres://u:" + secret + "@localhost:port/db",
		"postgres://u:" + secret + "@localhost/db?sslmode=perhaps",
		"postgres://u@localhost/db?password=" + secret + "&connect_timeout=x",
		"host=localhost password=" + secret + " port=x",
		"host=localhost password='" + secret + " sslrootcert=/missing",
		"postgres://u:" + secret + "@127.0.0.1:1/db",
		"postgres://u:" + secret + "@" + listener.Addr().String() + "/db?connect_timeout=1",
		secret,
	} {
		_, err := Open(t.Context(), Options{DSN: dsn})
		if err == nil || strings.Contains(err.Error(), secret) {
			t.Errorf("%q: %v", dsn, err)
		}
		if err := Migrate(t.Context(), dsn); err == nil || strings.Contains(err.Error(), secret) {
			t.Errorf("%q: %v", dsn, err)
		}
	}
}

func TestUnreachable(t *testing.T) {
	t.Parallel()
	_, err := Open(t.Context(), Options{DSN: "postgres://u@127.0.0.1:1/db"})
	if !errors.Is(err, store.ErrUnavailable) || !strings.Contains(err.Error(), "does not answer") {
		t.Errorf("got %v", err)
	}
}

func TestMigrationsAtOnce(t *testing.T) {
	t.Parallel()
	dsn := storetest.Postgres(t, nil)
	if _, err := Open(t.Context(), Options{DSN: dsn}); !errors.Is(err, store.ErrSchema) || !strings.Contains(err.Error(), "gatehouse migrate") {
		t.Errorf("without a schema: %v", err)
	}
	var wg sync.WaitGroup
	for range 6 {
		wg.Go(func() {
			s, err := Open(t.Context(), Options{DSN: dsn, Migrate: true})
			if err != nil {
				t.Error(err)
				return
			}
			if _, err := s.Beat(t.Context(), store.Heartbeat{Replica: "r1"}); err != nil {
				t.Error(err)
			}
			_ = s.Close()
		})
	}
	wg.Wait()
}

func TestSchemaOfOtherReleases(t *testing.T) {
	t.Parallel()
	dsn := storetest.Postgres(t, Migrate)
	// A later release whose migration this one can live with.
	execute(t, dsn, `INSERT INTO schema_release (version, level, needs) VALUES (98, 1, '0.1.0')`)
	_ = openAt(t, dsn).Close()
	// One that it cannot, with a harmless one after it.
	execute(t, dsn, `INSERT INTO schema_release (version, level, needs) VALUES (99, 1000, '7.8.9'), (100, 1, '0.1.0')`)
	for _, migrate := range []bool{false, true} {
		_, err := Open(t.Context(), Options{DSN: dsn, Migrate: migrate})
		if !errors.Is(err, store.ErrSchema) || !strings.Contains(err.Error(), "release 7.8.9 or later") {
			t.Errorf("migrate %t: %v", migrate, err)
		}
	}
}

// TestReleaseBefore: what a replica of the release before writes meanwhile is stored, and read.
func TestReleaseBefore(t *testing.T) {
	t.Parallel()
	dsn := storetest.Postgres(t, Migrate)
	execute(t, dsn, strings.ReplaceAll(storetest.InsertOf0001, "1800000000000000", "to_timestamp(1800000000)"))
	page, _, err := openAt(t, dsn).Audit(t.Context(), store.AuditFilter{})
	if err != nil || len(page) != 1 || page[0].Subject != "alice" || page[0].Claims != nil || page[0].ClaimsCut {
		t.Errorf("got %+v, %v", page, err)
	}
}

// TestBeatOfReleaseBefore: a replica that would misread what is stored now gets no heartbeat through, and
// so answers nobody once its snapshot is stale.
func TestBeatOfReleaseBefore(t *testing.T) {
	t.Parallel()
	dsn := storetest.Postgres(t, Migrate)
	conn, err := pgx.Connect(t.Context(), dsn)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	if _, err := conn.Exec(t.Context(), storetest.BeatOf0002); err == nil || !strings.Contains(err.Error(), "max_staleness") {
		t.Errorf("got %v", err)
	}
}

// TestMigrationOfRows: what the release before has stored is there after the migration.
func TestMigrationOfRows(t *testing.T) {
	t.Parallel()
	dsn := storetest.Postgres(t, nil)
	db, err := sql.Open("pgx", dsn)
	if err != nil {
		t.Fatal(err)
	}
	p, err := goose.NewProvider(goose.DialectPostgres, db, migrations.Postgres(),
		goose.WithTableName(migrations.Table), goose.WithDisableGlobalRegistry(true))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.UpTo(t.Context(), 2); err != nil {
		t.Fatal(err)
	}
	check := storetest.Before0003(t, func(query string) {
		if _, err := db.Exec(query); err != nil {
			t.Fatal(err)
		}
	}, func(hex string) string { return `'\x` + hex + `'` },
		func(at time.Time) string { return "'" + at.Format(time.RFC3339Nano) + "'" })
	if _, err := db.Exec(storetest.BeatOf0002); err != nil {
		t.Errorf("before the migration: %v", err)
	}
	if _, err := db.Exec(`UPDATE heartbeats SET at = (SELECT at FROM revocations ORDER BY at LIMIT 1)`); err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	if err := Migrate(t.Context(), dsn); err != nil {
		t.Fatal(err)
	}
	check(t, openAt(t, dsn))
}

func TestEncodingIsChecked(t *testing.T) {
	t.Parallel()
	admin := storetest.Postgres(t, nil)
	const name = "gatehouse_test_ascii"
	execute(t, admin, "DROP DATABASE IF EXISTS "+name)
	execute(t, admin, "CREATE DATABASE "+name+" ENCODING 'SQL_ASCII' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0")
	t.Cleanup(func() {
		conn, err := pgx.Connect(context.Background(), admin)
		if err != nil {
			t.Error(err)
			return
		}
		defer conn.Close(context.Background())
		if _, err := conn.Exec(context.Background(), "DROP DATABASE "+name+" WITH (FORCE)"); err != nil {
			t.Error(err)
		}
	})
	config, err := pgx.ParseConfig(admin)
	if err != nil {
		t.Fatal(err)
	}
	dsn := strings.Replace(admin, config.Database, name, 1)
	if err := Migrate(t.Context(), dsn); !errors.Is(err, store.ErrSchema) || !strings.Contains(err.Error(), "ENCODING 'UTF8'") {
		t.Errorf("got %v", err)
	}
}

func TestReadOnlyAndBack(t *testing.T) {
	t.Parallel()
	dsn := storetest.Postgres(t, Migrate)
	s := openAt(t, dsn)
	name := s.pool.Config().ConnConfig.Database
	execute(t, dsn, "ALTER DATABASE "+name+" SET default_transaction_read_only = on")
	s.pool.Reset() // as if the connections were new
	_, err := s.Beat(t.Context(), store.Heartbeat{Replica: "r1"})
	if !errors.Is(err, store.ErrUnavailable) || !strings.Contains(err.Error(), "read-only") {
		t.Errorf("got %v", err)
	}
	if _, err := s.Load(t.Context()); err != nil {
		t.Errorf("it cannot be read: %v", err)
	}
	execute(t, dsn+"&default_transaction_read_only=off", "ALTER DATABASE "+name+" RESET default_transaction_read_only")
	// The failure threw the old connections away; the load may have made one since.
	if _, err := s.Beat(t.Context(), store.Heartbeat{Replica: "r1"}); err == nil {
		return
	}
	if _, err := s.Beat(t.Context(), store.Heartbeat{Replica: "r1"}); err != nil {
		t.Errorf("it does not recover: %v", err)
	}
}

func TestLockedTable(t *testing.T) {
	t.Parallel()
	dsn := storetest.Postgres(t, Migrate)
	s := openAt(t, dsn+"&lock_timeout=100")
	conn, err := pgx.Connect(t.Context(), dsn)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	tx, err := conn.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tx.Exec(t.Context(), "LOCK TABLE feed_counter"); err != nil {
		t.Fatal(err)
	}
	if _, _, err := s.Revoke(t.Context(), logout("r1"), "key"); !errors.Is(err, store.ErrUnavailable) || !strings.Contains(err.Error(), "locked") {
		t.Errorf("got %v", err)
	}
	if err := tx.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, _, err := s.Revoke(t.Context(), logout("r1"), "key"); err != nil {
		t.Errorf("it does not recover: %v", err)
	}
}

// TestReplicaStandsStill: what a replica that stands still has locked ends before a call of another one does.
func TestReplicaStandsStill(t *testing.T) {
	t.Parallel()
	dsn := storetest.Postgres(t, Migrate)
	s, other := openAt(t, dsn), openAt(t, dsn)
	tx, err := s.pool.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = tx.Rollback(context.Background()) }()
	if _, err := tx.Exec(t.Context(), "UPDATE feed_counter SET seq = seq"); err != nil {
		t.Fatal(err)
	}
	if _, _, err := other.Revoke(t.Context(), logout("r1"), "key"); err != nil {
		t.Errorf("another replica cannot revoke: %v", err)
	}
}

// TestStandingStillOnce: a transaction that PostgreSQL ended is made again, whichever way the next statement learns of that.
func TestStandingStillOnce(t *testing.T) {
	t.Parallel()
	dsn := storetest.Postgres(t, Migrate)
	observer := openAt(t, dsn)
	s := openAt(t, dsn)
	n := 0
	err := s.write(t.Context(), patience, "stand still", func(ctx context.Context, tx pgx.Tx) error {
		if n++; n == 1 {
			for ended := false; !ended; {
				err := observer.pool.QueryRow(ctx, `SELECT count(*) = 0 FROM pg_sleep(0.01)
					JOIN pg_stat_activity ON pid = $1`, tx.Conn().PgConn().PID()).Scan(&ended)
				if err != nil {
					return err
				}
			}
		}
		_, err := tx.Exec(ctx, "UPDATE feed_counter SET seq = seq + 1")
		return err
	})
	if err != nil || n != 2 {
		t.Errorf("%d times, %v", n, err)
	}
	var seq int
	if err := observer.pool.QueryRow(t.Context(), "SELECT seq FROM feed_counter").Scan(&seq); err != nil || seq != 1 {
		t.Errorf("the counter is %d, %v: only the second one was to stay", seq, err)
	}
}

// TestConnectionsAreCut ends every connection of the store: calls go on, and so do hints.
func TestConnectionsAreCut(t *testing.T) {
	t.Parallel()
	dsn := storetest.Postgres(t, Migrate)
	var log bytes.Buffer
	reader, err := Open(t.Context(), Options{DSN: dsn, Logger: slog.New(slog.NewTextHandler(&log, nil))})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = reader.Close() })
	writer := openAt(t, dsn)
	hints := reader.Hints(t.Context())
	deadline := time.After(patience)
	n := 0
	heard := func() {
		t.Helper()
		for {
			n++
			if _, _, err := writer.Revoke(t.Context(), logout(fmt.Sprint(n)), ""); err != nil && !errors.Is(err, store.ErrUnavailable) {
				t.Fatal(err)
			}
			select {
			case <-hints:
				return
			case <-time.After(50 * time.Millisecond):
			case <-deadline:
				t.Fatal("no hint came")
			}
		}
	}
	heard()
	execute(t, dsn, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()")
	heard() // the one for being connected again, or a real one
	heard()
	for {
		_, err := reader.Load(t.Context())
		if err == nil {
			break
		}
		if !errors.Is(err, store.ErrUnavailable) {
			t.Fatal(err)
		}
		select {
		case <-deadline:
			t.Fatal(err)
		case <-time.After(10 * time.Millisecond):
		}
	}
	_ = reader.Close() // who logs has ended
	if !strings.Contains(log.String(), "connection for hints lost") {
		t.Errorf("the log says %q", log.String())
	}
}

func TestSettings(t *testing.T) {
	t.Parallel()
	s := openAt(t, storetest.Postgres(t, Migrate)+"&statement_timeout=7s")
	for name, want := range map[string]string{
		"application_name": "gatehouse", "statement_timeout": "7s", "idle_in_transaction_session_timeout": "2s",
	} {
		var got string
		if err := s.pool.QueryRow(t.Context(), "SELECT current_setting($1)", name).Scan(&got); err != nil || got != want {
			t.Errorf("%s is %q, %v", name, got, err)
		}
	}
}

// TestIndexesAreUsed: the filters that people ask for do not read the whole trail.
func TestIndexesAreUsed(t *testing.T) {
	t.Parallel()
	s := openAt(t, storetest.Postgres(t, Migrate))
	conn, err := s.pool.Acquire(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Release()
	if _, err := conn.Exec(t.Context(), "SET enable_seqscan = off; SET enable_sort = off"); err != nil {
		t.Fatal(err)
	}
	uses := func(index, query string, args ...any) {
		t.Helper()
		rows, err := conn.Query(t.Context(), "EXPLAIN "+query, args...)
		if err != nil {
			t.Fatal(err)
		}
		plan, err := pgx.CollectRows(rows, pgx.RowTo[string])
		if err != nil || !strings.Contains(strings.Join(plan, "\n"), index) {
			t.Errorf("%s: %v, %v", query, plan, err)
		}
	}
	for index, f := range map[string]store.AuditFilter{
		"audit_newest": {Outcome: "allowed"}, "audit_subject": {Name: "corp-alice"}, "audit_name": {Name: "corp-a==00"},
		"audit_outcome": {Principal: policy.Principal{Subject: "s"}, Outcome: "refused"}, "audit_reason": {Reason: "blocked"},
		"audit_actor": {Actor: "root"}, "audit_session": {Session: "s"},
	} {
		where := auditConditions(f)
		uses(index, "SELECT id FROM audit"+where.String()+" ORDER BY at DESC, id DESC LIMIT 10", where.args...)
	}
	for index, name := range map[string]string{"identities_subject": "corp-alice", "identities_name": "corp-a==00"} {
		var where conditions
		where.name(name)
		uses(index, "SELECT identity FROM identities"+where.String()+" ORDER BY identity LIMIT 10", where.args...)
	}
	uses("audit_connection", loginsQuery, []string{"N"}, []int64{1})
	uses("revocations_unfinished", unfinishedQuery, 10)
	uses("revocations_equal", "SELECT id FROM revocations WHERE target = $1 AND kind = $2 AND "+row.EqualOnce, []byte{1}, "block")
	uses("identity_display_pkey", "SELECT identity FROM identity_display WHERE value BETWEEN $1 AND $2", "a", "b")
	uses("user_keys_owner", "SELECT id FROM user_keys WHERE owner = $1 ORDER BY issued DESC, id DESC LIMIT 10", []byte{1})
}

// TestLeaseBetweenReplicas: of two replicas one has the lease at a time, by the one clock of the database.
func TestLeaseBetweenReplicas(t *testing.T) {
	t.Parallel()
	dsn := storetest.Postgres(t, Migrate)
	one, two := openAt(t, dsn), openAt(t, dsn)
	for round := range 30 {
		held := make(chan string, 2)
		var wg sync.WaitGroup
		for name, s := range map[string]*Store{"one": one, "two": two} {
			wg.Go(func() {
				mine, _, err := s.Acquire(t.Context(), "sweep", name, time.Hour)
				if err != nil {
					t.Error(err)
				}
				if mine {
					held <- name
				}
			})
		}
		wg.Wait()
		if len(held) != 1 {
			t.Fatalf("round %d: %d have it", round, len(held))
		}
		if err := two.Release(t.Context(), "sweep", <-held); err != nil {
			t.Fatal(err)
		}
	}
}
