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

// Listen opens the local socket with mode 0600. A socket that a dead process left behind is
// replaced, one that is served is not.
func Listen(path string) (net.Listener, error) {
	if conn, err := net.DialTimeout("unix", path, time.Second); err == nil {
		_ = conn.Close()
		return nil, fmt.Errorf("socket %s is served by another process: stop it, or configure another socket", path)
	}
	if info, err := os.Lstat(path); err == nil {
		if info.Mode().Type() != fs.ModeSocket {
			return nil, fmt.Errorf("socket %s: a file that is not a socket is in its place: remove it, or configure another socket", path)
		}
		if err := os.Remove(path); err != nil {
			return nil, fmt.Errorf("socket %s: remove what a former process left: %w", path, err)
		}
	}
	// The mode must be right before anybody can connect.
	old := syscall.Umask(0o177)
	l, err := net.Listen("unix", path)
	syscall.Umask(old)
	if err != nil {
		return nil, fmt.Errorf("socket %s: %w", path, err)
	}
	return l, nil
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
