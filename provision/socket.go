package provision

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"os"
	"os/user"
	"strconv"
	"syscall"
	"time"
)

// peerKey is the context key of the local peer's name.
type peerKey struct{}

// maxPath is the longest path of a socket in bytes (sun_path less its closing NUL).
const maxPath = len(syscall.RawSockaddrUnix{}.Path) - 1

// Listen opens the local socket with mode 0600. A socket that a dead process left behind is
// replaced, one that is served, or may be, is not. It sets the process's umask for a moment:
// call it before other goroutines make files.
func Listen(path string) (net.Listener, error) {
	switch {
	case path == "" || path[0] == '@':
		// Linux would make an abstract socket, which has no mode: all users could connect.
		return nil, fmt.Errorf("socket %q: give the path of a file", path)
	case len(path) > maxPath:
		return nil, fmt.Errorf("socket %s: the path has %d bytes, this system takes at most %d: configure a shorter one", path, len(path), maxPath)
	}
	if err := removeStale(path); err != nil {
		return nil, fmt.Errorf("socket %s: %w", path, err)
	}
	// The mode must be right before anybody can connect.
	old := syscall.Umask(0o177)
	l, err := net.Listen("unix", path)
	syscall.Umask(old)
	if err != nil {
		return nil, fmt.Errorf("socket %s: %w: let the service write its folder, or configure another socket", path, err)
	}
	return l, nil
}

// removeStale removes the socket that a dead process left at path. Only a connection that is
// refused shows that: a process with a full queue, or another user's, does not answer either.
func removeStale(path string) error {
	info, err := os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return err
	case info.Mode().Type() != fs.ModeSocket:
		return errors.New("a file that is not a socket is in its place: remove it, or configure another socket")
	}
	conn, err := net.DialTimeout("unix", path, time.Second)
	switch {
	case err == nil:
		_ = conn.Close()
		return errors.New("it is served by another process: stop it, or configure another socket")
	case !NobodyServes(err):
		return fmt.Errorf("another process may serve it: stop that one and remove the file, or configure another socket: %w", err)
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove what a former process left: %w", err)
	}
	return nil
}

// ConnContext notes who is at the other end of a local connection; give it to the
// [http.Server] that serves [Service.LocalHandler].
func ConnContext(ctx context.Context, c net.Conn) context.Context {
	uid, err := peerUID(c)
	if err != nil {
		return ctx // without a name there are no rights
	}
	return context.WithValue(ctx, peerKey{}, LocalActor(uid))
}

// LocalActor names a user of this host for the audit trail.
func LocalActor(uid int) string {
	if u, err := user.LookupId(strconv.Itoa(uid)); err == nil {
		return "local:" + u.Username
	}
	return "local:" + strconv.Itoa(uid)
}

// Client returns an HTTP client whose every call goes to the local socket at path.
func Client(path string) *http.Client {
	return &http.Client{
		Timeout: handlerTimeout + readTimeout,
		Transport: &http.Transport{
			DisableKeepAlives: true,
			DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
				return (&net.Dialer{Timeout: 2 * time.Second}).DialContext(ctx, "unix", path)
			},
		},
	}
}

// NobodyServes reports whether an error of a call through [Client] means that no process
// serves the socket.
func NobodyServes(err error) bool {
	return errors.Is(err, syscall.ECONNREFUSED) || errors.Is(err, fs.ErrNotExist)
}
