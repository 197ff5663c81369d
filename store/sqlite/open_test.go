package sqlite

import (
	"bufio"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/pressly/goose/v3"

	"github.com/gatehouse-nats/gatehouse/migrations"
	"github.com/gatehouse-nats/gatehouse/policy"
	"github.com/gatehouse-nats/gatehouse/store"
	"github.com/gatehouse-nats/gatehouse/store/storetest"
)

func openAt(t testing.TB, path string) *Store {
	t.Helper()
	s, err := Open(t.Context(), Options{Path: path, Migrate: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

func closeStore(t *testing.T, s *Store) {
	t.Helper()
	if err := s.Close(); err != nil {
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

func TestStoreIsKept(t *testing.T) {
	t.Parallel()
	folder := filepath.Join(t.TempDir(), "odd name ?#%20&_txlock=x")
	if err := os.Mkdir(folder, 0o700); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(folder, "gate house.db")
	s := openAt(t, path)
	if _, _, err := s.Revoke(t.Context(), logout("r1"), ""); err != nil {
		t.Fatal(err)
	}
	before, err := s.Load(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{path, path + "-wal", path + "-shm", path + ".lock"} {
		info, err := os.Stat(name)
		if err != nil {
			t.Error(err)
		} else if info.Mode().Perm() != 0o600 {
			t.Errorf("%s has mode %v", name, info.Mode())
		}
	}
	closeStore(t, s)
	if err := os.Chmod(path, 0o644); err != nil {
		t.Fatal(err)
	}
	s = openAt(t, path)
	after, err := s.Load(t.Context())
	if err != nil || after.Position != before.Position || len(after.Revocations) != 1 {
		t.Errorf("%+v became %+v, %v", before, after, err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("others may read the file: %v, %v", info.Mode(), err)
	}
}

func TestWriterIsDurable(t *testing.T) {
	t.Parallel()
	s := openAt(t, filepath.Join(t.TempDir(), "gatehouse.db"))
	for pragma, want := range map[string]string{"synchronous": "2", "journal_mode": "wal", "busy_timeout": "5000"} {
		var got string
		if err := s.writer.QueryRow("PRAGMA " + pragma).Scan(&got); err != nil || got != want {
			t.Errorf("%s is %q, %v", pragma, got, err)
		}
	}
	if _, err := s.reader.Exec("DELETE FROM audit"); err == nil {
		t.Error("a reader may write")
	}
}

// holderPath tells a copy of this test binary to hold the store there open until its input ends.
const holderPath = "GATEHOUSE_TEST_HOLD"

func init() {
	path := os.Getenv(holderPath)
	if path == "" {
		return
	}
	if _, err := Open(context.Background(), Options{Path: path, Migrate: true}); err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	fmt.Println("open")
	_, _ = bufio.NewReader(os.Stdin).ReadString('\n')
	os.Exit(0)
}

func TestSecondOpenerIsRefused(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := filepath.Join(dir, "gatehouse.db")

	holder := exec.Command(os.Args[0])
	holder.Env = append(os.Environ(), holderPath+"="+path)
	in, err := holder.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := holder.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := holder.Start(); err != nil {
		t.Fatal(err)
	}
	if line, err := bufio.NewReader(out).ReadString('\n'); line != "open\n" {
		t.Fatalf("the other process says %q, %v", line, err)
	}
	refused := func(path, who string) {
		t.Helper()
		_, err := Open(t.Context(), Options{Path: path})
		if !errors.Is(err, store.ErrInUse) || !strings.Contains(err.Error(), who) || !strings.Contains(err.Error(), path) {
			t.Errorf("got %v, want %s named", err, who)
		}
	}
	refused(path, "pid "+strconv.Itoa(holder.Process.Pid))
	if err := holder.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = holder.Wait()
	_ = in.Close()

	s := openAt(t, path) // a process that is gone holds nothing
	refused(path, "this process")
	link := filepath.Join(dir, "link.db")
	if err := os.Symlink(path, link); err != nil {
		t.Fatal(err)
	}
	refused(link, "this process")
	closeStore(t, s)
	closeStore(t, openAt(t, link))
}

func TestOpenRefuses(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	garbage := filepath.Join(dir, "garbage.db")
	if err := os.WriteFile(garbage, []byte(strings.Repeat("this is no database ", 500)), 0o600); err != nil {
		t.Fatal(err)
	}
	damaged := filepath.Join(dir, "damaged.db")
	closeStore(t, openAt(t, damaged))
	damage(t, damaged)

	cases := map[string]struct {
		path string
		is   error
		says string
	}{
		"no path":       {"", nil, "sqlite:PATH"},
		"no folder":     {filepath.Join(dir, "missing", "gatehouse.db"), fs.ErrNotExist, "make it first"},
		"a folder":      {dir, nil, "is a directory"},
		"not SQLite":    {garbage, nil, "restore it from a backup"},
		"a damaged one": {damaged, nil, "restore it from a backup"},
	}
	if runtime.GOOS == "linux" {
		// Not even root may make files there.
		cases["read-only folder"] = struct {
			path string
			is   error
			says string
		}{"/sys/gatehouse.db", store.ErrUnavailable, "let the service write it"}
	}
	for name, c := range cases {
		s, err := Open(t.Context(), Options{Path: c.path, Migrate: true})
		if err == nil {
			_ = s.Close()
			t.Errorf("%s: it was opened", name)
			continue
		}
		if c.is != nil && !errors.Is(err, c.is) || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v", name, err)
		}
	}
	// What was refused is not left locked.
	if _, err := Open(t.Context(), Options{Path: garbage}); errors.Is(err, store.ErrInUse) {
		t.Error(err)
	}
}

// damage overwrites the first page but for the header.
func damage(t *testing.T, path string) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteAt([]byte(strings.Repeat("damage", 500)), 100); err != nil {
		t.Fatal(err)
	}
}

func TestSchemaOfOtherReleases(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "gatehouse.db")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(t.Context(), Options{Path: path}); !errors.Is(err, store.ErrSchema) || !strings.Contains(err.Error(), "gatehouse migrate") {
		t.Errorf("without a schema: %v", err)
	}
	if err := Migrate(t.Context(), path); err != nil {
		t.Fatal(err)
	}
	if err := Migrate(t.Context(), path); err != nil {
		t.Errorf("the second migration: %v", err)
	}
	s, err := Open(t.Context(), Options{Path: path})
	if err != nil {
		t.Fatal(err)
	}
	execute := func(query string) {
		t.Helper()
		if _, err := s.writer.Exec(query); err != nil {
			t.Fatal(err)
		}
	}
	// A later release whose migration this one can live with.
	execute(`INSERT INTO schema_release (version, level, needs) VALUES (98, 1, '0.1.0')`)
	closeStore(t, s)
	s = openAt(t, path)
	// One that it cannot, with a harmless one after it.
	execute(`INSERT INTO schema_release (version, level, needs) VALUES (99, 1000, '7.8.9'), (100, 1, '0.1.0')`)
	closeStore(t, s)
	for _, migrate := range []bool{false, true} {
		_, err := Open(t.Context(), Options{Path: path, Migrate: migrate})
		if !errors.Is(err, store.ErrSchema) || !strings.Contains(err.Error(), "release 7.8.9 or later") {
			t.Errorf("migrate %t: %v", migrate, err)
		}
	}
}

// Who only looks makes no file, which the service could not open when another user owns it.
func TestNothingIsMadeWithoutMigrate(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	_, err := Open(t.Context(), Options{Path: filepath.Join(folder, "gatehouse.db")})
	if !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), "gatehouse migrate") {
		t.Errorf("got %v", err)
	}
	if left, err := os.ReadDir(folder); err != nil || len(left) > 0 {
		t.Errorf("%d files are left, %v", len(left), err)
	}
}

// TestReleaseBefore: what a replica of the release before writes meanwhile is stored, and read.
func TestReleaseBefore(t *testing.T) {
	t.Parallel()
	s := openAt(t, filepath.Join(t.TempDir(), "gatehouse.db"))
	if _, err := s.writer.Exec(storetest.InsertOf0001); err != nil {
		t.Fatal(err)
	}
	page, _, err := s.Audit(t.Context(), store.AuditFilter{})
	if err != nil || len(page) != 1 || page[0].Subject != "alice" || page[0].Claims != nil || page[0].ClaimsCut {
		t.Errorf("got %+v, %v", page, err)
	}
	cursor := ""
	for _, want := range []int{1, 0} { // it is in no batch, and followed all the same
		list, next, _, err := s.Arrivals(t.Context(), store.AuditFilter{Limit: 1, Cursor: cursor})
		if err != nil || len(list) != want {
			t.Errorf("followed %d entries, %v; want %d", len(list), err, want)
		}
		cursor = next
	}
}

// TestMigrationOfRows: what the release before has stored is there after the migration.
func TestMigrationOfRows(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "gatehouse.db")
	db, err := sql.Open("sqlite", address(path))
	if err != nil {
		t.Fatal(err)
	}
	p, err := goose.NewProvider(goose.DialectSQLite3, db, migrations.SQLite(),
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
	}, func(hex string) string { return "x'" + hex + "'" },
		func(at time.Time) string { return strconv.FormatInt(at.UnixMicro(), 10) })
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	check(t, openAt(t, path))
}

// TestFaults provokes the real faults of SQLite, and looks whether the store recovers.
func TestFaults(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		fault, heal string // run by the writer
		says        string
	}{
		"read-only": {"PRAGMA query_only = 1", "PRAGMA query_only = 0", "read-only"},
		"disk full": {"PRAGMA max_page_count = 1", "PRAGMA max_page_count = 1000000", "disk is full"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := openAt(t, filepath.Join(t.TempDir(), "gatehouse.db"))
			if _, err := s.writer.Exec(c.fault); err != nil {
				t.Fatal(err)
			}
			var err error
			for i := 0; err == nil && i < 1000; i++ {
				_, _, err = s.Revoke(t.Context(), logout("r"+strconv.Itoa(i)), "")
			}
			if !errors.Is(err, store.ErrUnavailable) || !strings.Contains(err.Error(), c.says) {
				t.Errorf("got %v", err)
			}
			if _, err := s.Load(t.Context()); err != nil {
				t.Errorf("it cannot be read: %v", err)
			}
			if _, err := s.writer.Exec(c.heal); err != nil {
				t.Fatal(err)
			}
			if _, _, err := s.Revoke(t.Context(), logout("healed"), ""); err != nil {
				t.Errorf("it does not recover: %v", err)
			}
		})
	}
}

func TestLockedByAnotherProgram(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "gatehouse.db")
	s := openAt(t, path)
	if _, err := s.writer.Exec("PRAGMA busy_timeout = 10"); err != nil {
		t.Fatal(err)
	}
	other, err := sql.Open("sqlite", address(path, "_txlock=immediate"))
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	tx, err := other.BeginTx(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Beat(t.Context(), store.Heartbeat{Replica: "r1"}); !errors.Is(err, store.ErrUnavailable) || !strings.Contains(err.Error(), "locked") {
		t.Errorf("got %v", err)
	}
	if err := tx.Rollback(); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Beat(t.Context(), store.Heartbeat{Replica: "r1"}); err != nil {
		t.Errorf("it does not recover: %v", err)
	}
}

func TestInterpretErrorLeavesOthers(t *testing.T) {
	t.Parallel()
	for _, err := range []error{nil, store.ErrConflict, sql.ErrNoRows, errors.New("other")} {
		if got := interpretError(err); got != err {
			t.Errorf("%v became %v", err, got)
		}
	}
	s := openAt(t, filepath.Join(t.TempDir(), "gatehouse.db"))
	_, err := s.writer.Exec(`INSERT INTO heartbeats (replica, at) VALUES ('', 0)`)
	if err == nil || interpretError(err) != err {
		t.Errorf("a broken constraint became %v", interpretError(err))
	}
}
