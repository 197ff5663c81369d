package provision

import (
	"errors"
	"net"
)

// peerUID returns the user id of the process at the other end of a Unix socket, which the
// system vouches for.
func peerUID(c net.Conn) (int, error) {
	uc, ok := c.(*net.UnixConn)
	if !ok {
		return 0, errors.New("not a local connection")
	}
	raw, err := uc.SyscallConn()
	if err != nil {
		return 0, err
	}
	var uid int
	var peerErr error
	if err := raw.Control(func(fd uintptr) { uid, peerErr = socketPeer(int(fd)) }); err != nil {
		return 0, err
	}
	return uid, peerErr
}
