package provision

import "golang.org/x/sys/unix"

// socketPeer asks by LOCAL_PEERCRED, see unix(4).
func socketPeer(fd int) (int, error) {
	cred, err := unix.GetsockoptXucred(fd, unix.SOL_LOCAL, unix.LOCAL_PEERCRED)
	if err != nil {
		return 0, err
	}
	return int(cred.Uid), nil
}
