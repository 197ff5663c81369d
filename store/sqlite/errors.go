package sqlite

import (
	"errors"
	"fmt"
	"io/fs"
	"syscall"

	driver "modernc.org/sqlite"
	codes "modernc.org/sqlite/lib"

	"github.com/gatehouse-nats/gatehouse/store"
)

// interpretError gives an error of the driver or of the file system the meaning that the
// contract knows, and says what to do about it. Others are returned as they are.
func interpretError(err error) error {
	if e, ok := errors.AsType[*driver.Error](err); ok {
		const primary = 0xff // the rest of an extended code is detail
		switch e.Code() & primary {
		case codes.SQLITE_READONLY:
			return unavailable("the file is read-only: let the service write it and its folder", err)
		case codes.SQLITE_FULL:
			return unavailable("the disk is full: make room", err)
		case codes.SQLITE_BUSY, codes.SQLITE_LOCKED:
			return unavailable("another process has the file locked: end it", err)
		case codes.SQLITE_IOERR:
			return unavailable("the disk does not read or write: look at the system's log", err)
		case codes.SQLITE_CANTOPEN, codes.SQLITE_PERM:
			return unavailable("the file cannot be opened: let the service read and write it and its folder", err)
		case codes.SQLITE_CORRUPT, codes.SQLITE_NOTADB:
			return fmt.Errorf("the file is damaged or no SQLite database: restore it from a backup: %w", err)
		}
		return err
	}
	switch {
	case errors.Is(err, fs.ErrPermission), errors.Is(err, syscall.EROFS):
		return unavailable("the folder or file is read-only: let the service write it", err)
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		return unavailable("the disk is full: make room", err)
	}
	return err
}

func unavailable(advice string, err error) error {
	return fmt.Errorf("%w: %s: %w", store.ErrUnavailable, advice, err)
}
