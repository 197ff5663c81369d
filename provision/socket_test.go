package provision_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"github.com/gatehouse-nats/gatehouse/api"
	"github.com/gatehouse-nats/gatehouse/provision"
)

// The tests here set or meet the process's umask, so they run alone.

// listen opens a socket that the test closes.
func listen(t testing.TB, path string) net.Listener {
	t.Helper()
	l, err := provision.Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return l
}

// stale leaves a socket behind as a dead process does.
func stale(t testing.TB, path string) {
	t.Helper()
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	l.SetUnlinkOnClose(false)
	_ = l.Close()
}

// serveLocal serves the operations on a socket as the service does and returns its path.
func serveLocal(t testing.TB, b *bed) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "s")
	server := provision.NewServer(b.LocalHandler())
	server.ConnContext = provision.ConnContext
	serve(t, listen(t, path), server)
	return path
}

// post calls an operation through the socket at path, without a token when that is empty.
func post(path, op, token, body string) (int, []byte, error) {
	r, err := http.NewRequest(http.MethodPost, "http://local"+api.Path(op), strings.NewReader(body))
	if err != nil {
		return 0, nil, err
	}
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	resp, err := provision.Client(path).Do(r)
	if err != nil {
		return 0, nil, err
	}
	defer func() { _ = resp.Body.Close() }()
	got, err := io.ReadAll(resp.Body)
	return resp.StatusCode, got, err
}

func TestSocketMode(t *testing.T) {
	for _, umask := range []int{0, 0o022, 0o777} {
		old := syscall.Umask(umask)
		path := filepath.Join(t.TempDir(), "s")
		if umask == 0o777 {
			path = filepath.Join(os.TempDir(), fmt.Sprintf("gatehouse-%d.sock", os.Getpid())) // the folder would have no mode
		}
		l, err := provision.Listen(path)
		after := syscall.Umask(old)
		if err != nil {
			t.Fatal(err)
		}
		if after != umask {
			t.Errorf("umask %#o became %#o", umask, after)
		}
		info, err := os.Lstat(path)
		if err != nil || info.Mode() != fs.ModeSocket|0o600 {
			t.Errorf("under umask %#o: mode %v, %v", umask, info.Mode(), err)
		}
		_ = l.Close()
		if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("the socket outlives its listener: %v", err)
		}
	}
}

func TestSocketOfADeadProcessIsReplaced(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	stale(t, path)
	if _, _, err := post(path, api.OpStatus, "", ""); !provision.NobodyServes(err) {
		t.Errorf("somebody serves: %v", err)
	}
	listen(t, path)
	conn, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	_ = conn.Close()
}

func TestListenRefuses(t *testing.T) {
	dir := t.TempDir()
	in := func(name string) string { return filepath.Join(dir, name) }
	listen(t, in("served"))
	if err := os.WriteFile(in("file"), []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(in("folder"), 0o700); err != nil {
		t.Fatal(err)
	}
	stale(t, in("target"))
	for link, target := range map[string]string{"dangling": "nowhere", "link": "target"} {
		if err := os.Symlink(target, in(link)); err != nil {
			t.Fatal(err)
		}
	}
	for path, says := range map[string]string{
		in("served"):                 "served by another process: stop it",
		in("file"):                   "remove it, or configure another socket",
		in("folder"):                 "remove it, or configure another socket",
		in("dangling"):               "remove it, or configure another socket",
		in("link"):                   "remove it, or configure another socket",
		in("file/s"):                 "not a directory",
		in("absent/s"):               "let the service write its folder",
		in(strings.Repeat("x", 200)): "configure a shorter one",
		"":                           "give the path of a file",
		"@gatehouse-test":            "give the path of a file",
	} {
		l, err := provision.Listen(path)
		if err == nil {
			_ = l.Close()
			t.Errorf("%q: opened", path)
			continue
		}
		if !strings.Contains(err.Error(), says) || !strings.Contains(err.Error(), "socket ") {
			t.Errorf("%q: %q does not say %q", path, err, says)
		}
	}
	for _, name := range []string{"served", "file", "folder", "dangling", "link", "target"} {
		if _, err := os.Lstat(in(name)); err != nil {
			t.Errorf("%s was removed: %v", name, err)
		}
	}
}

func TestLongestSocketPath(t *testing.T) {
	most := len(syscall.RawSockaddrUnix{}.Path) - 1
	dir := t.TempDir()
	path := filepath.Join(dir, strings.Repeat("x", most-len(dir)-1))
	listen(t, path)
	if _, err := provision.Listen(path + "x"); err == nil || !strings.Contains(err.Error(), fmt.Sprintf("at most %d", most)) {
		t.Errorf("a byte more: %v", err)
	}
}

// A process that is too busy to take connections still owns its socket.
func TestSocketOfABusyProcessIsNotTaken(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("a full queue refuses connections here, as a dead process does")
	}
	path := filepath.Join(t.TempDir(), "s")
	fd, err := syscall.Socket(syscall.AF_UNIX, syscall.SOCK_STREAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = syscall.Close(fd) }()
	if err := errors.Join(syscall.Bind(fd, &syscall.SockaddrUnix{Name: path}), syscall.Listen(fd, 0)); err != nil {
		t.Fatal(err)
	}
	for range 10 {
		conn, err := net.Dial("unix", path)
		if err != nil {
			break
		}
		defer func() { _ = conn.Close() }()
	}
	if l, err := provision.Listen(path); err == nil {
		_ = l.Close()
		t.Error("the socket was taken")
	} else if !strings.Contains(err.Error(), "another process may serve it") {
		t.Error(err)
	}
	if _, err := os.Lstat(path); err != nil {
		t.Errorf("the socket was removed: %v", err)
	}
	if _, _, err := post(path, api.OpStatus, "", ""); err == nil || provision.NobodyServes(err) {
		t.Errorf("the command line would open the store beside the service: %v", err)
	}
}

func TestNobodyServes(t *testing.T) {
	dir := t.TempDir()
	if _, _, err := post(filepath.Join(dir, "absent"), api.OpStatus, "", ""); !provision.NobodyServes(err) {
		t.Errorf("no socket: %v", err)
	}
	path := serveLocal(t, newBed(t))
	if code, body, err := post(path, api.OpStatus, "", ""); err != nil || code != http.StatusOK {
		t.Errorf("%d %s %v", code, body, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://local/v1/status", nil)
	if err != nil {
		t.Fatal(err)
	}
	_, err = provision.Client(path).Do(r)
	for _, err := range []error{nil, err, errors.New("other"), syscall.EACCES, syscall.EAGAIN} {
		if provision.NobodyServes(err) {
			t.Errorf("nobody serves after %v", err)
		}
	}
}

// The peer of the socket is the actor, whatever else the request says.
func TestPeerIsTheActor(t *testing.T) {
	b := newBed(t)
	path := serveLocal(t, b)
	code, body, err := post(path, api.OpRevoke, "", `{"issuer":"corp","subject":"alice","reason":"left"}`)
	if err != nil || code != http.StatusOK {
		t.Fatalf("%d %s %v", code, body, err)
	}
	want := provision.LocalActor(os.Getuid())
	if list := b.list(t); len(list) != 1 || list[0].Actor != want {
		t.Errorf("%+v, want the actor %s", list, want)
	}
	if got := provision.LocalActor(4_000_000_000); got != "local:4000000000" {
		t.Errorf("a user without a name is %s", got)
	}
}

// Whoever comes over another kind of connection has no name, and so no rights.
func TestOtherConnectionsHaveNoActor(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := provision.NewServer(newBed(t).LocalHandler())
	server.ConnContext = provision.ConnContext
	serve(t, l, server)
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Post("http://"+l.Addr().String()+"/v1/status", "", nil)
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	if resp.StatusCode != http.StatusForbidden {
		t.Errorf("answered %s", resp.Status)
	}
}
