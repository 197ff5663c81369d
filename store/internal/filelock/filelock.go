// Package filelock keeps a second opener away from what only one may have open.
package filelock

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"syscall"

	"github.com/gatehouse-nats/gatehouse/store"
)

// Lock is held until it is closed or its process ends, however it ends. It is an flock(2), which
// belongs to the open file: a second opener in the same process is refused as well.
type Lock struct{ file *os.File }

// Take locks the file at path, which is made when it is not there (mode 0600) and stays. The
// error wraps [store.ErrInUse] and names the process when another has it.
func Take(path string) (*Lock, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("%w: its folder must exist, on a local disk, and this user must be allowed to write there", err)
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		holder := holder(f)
		_ = f.Close()
		if errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, fmt.Errorf("%w: %s is locked by %s: stop it first", store.ErrInUse, path, holder)
		}
		return nil, fmt.Errorf("lock %s: %w", path, err)
	}
	if err := f.Truncate(0); err == nil {
		// What holds the lock is for people; a full disk must not keep the lock from being taken.
		_, _ = f.WriteAt([]byte(strconv.Itoa(os.Getpid())+"\n"), 0)
	}
	return &Lock{f}, nil
}

// holder says which process wrote itself into the lock file.
func holder(f *os.File) string {
	b, _ := io.ReadAll(io.LimitReader(f, 32))
	pid, err := strconv.Atoi(strings.TrimSpace(string(b)))
	switch {
	case err != nil:
		return "another process"
	case pid == os.Getpid():
		return "this process (pid " + strconv.Itoa(pid) + ")"
	}
	return "pid " + strconv.Itoa(pid)
}

// Close gives the lock back. The file stays: removing it could take it from under another
// process that has just locked it. It is unlocked first: a child that is just being started has
// the file too until it runs its own program, and would hold the lock on.
func (l *Lock) Close() error {
	return errors.Join(syscall.Flock(int(l.file.Fd()), syscall.LOCK_UN), l.file.Close())
}
