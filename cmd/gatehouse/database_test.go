package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// database is a PostgreSQL server of the test's own, which may be stopped.
type database struct {
	testing.TB
	bin, dir string
	data     string // its data folder, in dir
	port     int
	user     *syscall.Credential // nil: this user's own
}

// startDatabase makes a server that listens on a socket in a folder of its own. It keeps the
// durability that scripts/with-postgres.sh takes away, since it is going to be stopped.
func startDatabase(t testing.TB) *database {
	t.Helper()
	d := &database{TB: t, bin: postgresBin(t), dir: shortDir(t), data: "data", port: 5432}
	if os.Getuid() == 0 { // which PostgreSQL refuses to run as
		d.user = unprivileged(t)
		if err := os.Chown(d.dir, int(d.user.Uid), int(d.user.Gid)); err != nil {
			t.Fatal(err)
		}
	}
	d.command("initdb", "-D", filepath.Join(d.dir, "data"), "-U", "gatehouse", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync")
	d.start()
	t.Cleanup(d.stop)
	return d
}

// postgresBin returns the folder of PostgreSQL's programs, where packages put them or else in PATH.
func postgresBin(t testing.TB) string {
	t.Helper()
	for _, pattern := range []string{
		"/usr/lib/postgresql/*/bin", "/usr/pgsql-*/bin",
		"/opt/homebrew/opt/postgresql*/bin", "/usr/local/opt/postgresql*/bin",
	} {
		found, err := filepath.Glob(pattern + "/initdb")
		if err != nil {
			t.Fatal(err)
		}
		if len(found) > 0 {
			slices.Sort(found)
			return filepath.Dir(found[len(found)-1])
		}
	}
	initdb, err := exec.LookPath("initdb")
	if err != nil {
		t.Skip("there is no PostgreSQL server on this machine to start and stop: install postgresql")
	}
	return filepath.Dir(initdb)
}

// unprivileged returns the user that PostgreSQL is run as by root.
func unprivileged(t testing.TB) *syscall.Credential {
	t.Helper()
	u, err := user.Lookup("postgres")
	if err != nil {
		u, err = user.Lookup("nobody")
	}
	if err != nil {
		t.Fatal(err)
	}
	uid, err := strconv.ParseUint(u.Uid, 10, 32)
	if err != nil {
		t.Fatal(err)
	}
	gid, err := strconv.ParseUint(u.Gid, 10, 32)
	if err != nil {
		t.Fatal(err)
	}
	return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
}

func (d *database) command(name string, args ...string) {
	d.Helper()
	cmd := exec.Command(filepath.Join(d.bin, name), args...)
	cmd.Dir = d.dir
	cmd.Env = append(os.Environ(), "HOME="+d.dir)
	if d.user != nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: d.user}
	}
	// Its output goes to a file: the server would keep a pipe open.
	log, err := os.OpenFile(filepath.Join(d.dir, name+".log"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		d.Fatal(err)
	}
	defer log.Close()
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Run(); err != nil {
		text, _ := os.ReadFile(log.Name())
		d.Fatalf("%s: %v\n%s", name, err, text)
	}
}

func (d *database) start() {
	d.Helper()
	d.command("pg_ctl", "-D", filepath.Join(d.dir, d.data), "-l", filepath.Join(d.dir, d.data, "log"), "-w", "-t", "60",
		"-o", fmt.Sprintf("-k %s -p %d -c listen_addresses='' -c shared_buffers=32MB", d.dir, d.port), "start")
}

// stop ends the server at once, as a crash does; on a stopped one it does nothing.
func (d *database) stop() {
	d.Helper()
	if _, err := os.Stat(filepath.Join(d.dir, d.data, "postmaster.pid")); err != nil {
		return
	}
	d.command("pg_ctl", "-D", filepath.Join(d.dir, d.data), "-m", "immediate", "-w", "stop")
}

func (d *database) dsn() string {
	return fmt.Sprintf("postgres://gatehouse@/postgres?host=%s&port=%d", url.QueryEscape(d.dir), d.port)
}

// wire is a way to a PostgreSQL that can be cut.
type wire struct {
	listener net.Listener
	to       *pgconn.Config
	done     sync.WaitGroup

	mu    sync.Mutex
	cut   bool
	conns map[net.Conn]bool
	text  string // the answer to the commit of a transaction with it is held

	committed chan struct{} // closed once that is so
}

// startWire returns a wire to the database and the address that leads through it.
func startWire(t testing.TB, dsn string) (*wire, string) {
	t.Helper()
	to, err := pgx.ParseConfig(dsn)
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	w := &wire{listener: l, to: &to.Config, conns: map[net.Conn]bool{}}
	w.done.Go(w.accept)
	t.Cleanup(func() {
		_ = l.Close()
		w.setCut(true)
		w.done.Wait()
	})
	through := &url.URL{
		Scheme: "postgres", User: url.UserPassword(to.User, to.Password), Host: l.Addr().String(),
		Path: "/" + to.Database, RawQuery: "sslmode=disable",
	}
	return w, through.String()
}

func (w *wire) accept() {
	for {
		conn, err := w.listener.Accept()
		if err != nil {
			return
		}
		network, address := pgconn.NetworkAddress(w.to.Host, w.to.Port)
		server, err := net.DialTimeout(network, address, 5*time.Second)
		if err != nil || !w.keep(conn, server) {
			_ = conn.Close()
			continue
		}
		var held atomic.Bool
		for to, from := range map[io.Writer]net.Conn{&requests{wire: w, Writer: server, held: &held}: conn, &answers{wire: w, Writer: conn, held: &held}: server} {
			w.done.Go(func() {
				_, _ = io.Copy(to, from) // either side may end it
				w.drop(conn, server)
			})
		}
	}
}

// requests are what one connection asks of the database.
type requests struct {
	*wire
	io.Writer
	found bool // the text, in the transaction under way
	held  *atomic.Bool
}

func (r *requests) Write(p []byte) (int, error) {
	r.mu.Lock()
	r.found = r.found || r.text != "" && bytes.Contains(p, []byte(r.text))
	r.mu.Unlock()
	if r.found && bytes.Contains(p, []byte("commit\x00")) {
		r.held.Store(true)
	}
	return r.Writer.Write(p)
}

// answers are what the database says to one connection.
type answers struct {
	*wire
	io.Writer
	held *atomic.Bool
}

func (a *answers) Write(p []byte) (int, error) {
	if !a.held.Load() {
		return a.Writer.Write(p)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.text != "" {
		a.text = ""
		close(a.committed)
	}
	return len(p), nil
}

// holdCommit swallows the answer to the next commit of a transaction in which the text is written, and all that
// comes after it on that connection. What it returns is closed once the database has committed.
func (w *wire) holdCommit(text string) <-chan struct{} {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.text, w.committed = text, make(chan struct{})
	return w.committed
}

// keep notes connections, to be able to cut them; it closes them when the wire is cut.
func (w *wire) keep(conns ...net.Conn) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, c := range conns {
		if w.cut {
			_ = c.Close()
			continue
		}
		w.conns[c] = true
	}
	return !w.cut
}

func (w *wire) drop(conns ...net.Conn) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, c := range conns {
		_ = c.Close()
		delete(w.conns, c)
	}
}

// setCut cuts the wire: connections end, new ones are closed at once. Or it mends it.
func (w *wire) setCut(cut bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.cut = cut
	if cut {
		for c := range w.conns {
			_ = c.Close()
		}
		clear(w.conns)
	}
}

func TestWireCanBeCut(t *testing.T) {
	t.Parallel()
	d := startDatabase(t)
	w, through := startWire(t, d.dsn())
	ask := func() error {
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		conn, err := pgx.Connect(ctx, through)
		if err != nil {
			return err
		}
		return errors.Join(conn.Ping(ctx), conn.Close(ctx))
	}
	if err := ask(); err != nil {
		t.Fatal(err)
	}
	w.setCut(true)
	if ask() == nil {
		t.Fatal("the wire is not cut")
	}
	w.setCut(false)
	if err := ask(); err != nil {
		t.Fatal(err)
	}
	d.stop()
	if ask() == nil {
		t.Fatal("the database runs on")
	}
	d.start()
	if err := ask(); err != nil {
		t.Fatal(err)
	}
}
