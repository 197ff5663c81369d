package postgres

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"syscall"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/gatehouse-nats/gatehouse/store"
)

// The SQLSTATEs that are told apart by themselves; see PostgreSQL's appendix A.
const (
	readOnlyTransaction = "25006"
	idleInTransaction   = "25P03"
	undefinedTable      = "42P01"
	undefinedColumn     = "42703"
)

// advice says what to do about a class of SQLSTATEs that means: not now.
var advice = map[string]string{
	"08": "the connection failed: see that the server runs and can be reached",
	"25": "it is in a state that takes no writes: connect to the primary",
	"28": "it does not let this user in: check user, password and pg_hba.conf",
	"3D": "the database does not exist: create it",
	"40": "another transaction was in the way: try again",
	"53": "it is out of space, memory or connections: make room",
	"55": "what is asked for is locked: see pg_locks",
	"57": "it was stopped, is starting or ended the statement: see its log",
	"58": "its host does not read or write: see its log",
	"XX": "it reports damage or a fault of its own: see its log",
}

// interpretError gives an error of the driver the meaning that the contract knows, and says
// what to do about it. Others are returned as they are.
func interpretError(err error) error {
	if e, ok := errors.AsType[*pgconn.PgError](err); ok {
		switch e.Code {
		case readOnlyTransaction:
			return unavailable("the database is read-only: connect to the primary", err)
		case undefinedTable, undefinedColumn:
			return fmt.Errorf("%w: run `gatehouse migrate`: %w", store.ErrSchema, err)
		}
		if a, ok := advice[e.Code[:min(2, len(e.Code))]]; ok {
			return unavailable("PostgreSQL refuses: "+a, err)
		}
		return err
	}
	if isUnreachable(err) {
		return unavailable("PostgreSQL does not answer: see that the server runs and can be reached", err)
	}
	return err
}

func unavailable(text string, err error) error {
	return fmt.Errorf("%w: %s: %w", store.ErrUnavailable, text, err)
}

func isReadOnly(err error) bool {
	e, ok := errors.AsType[*pgconn.PgError](err)
	return ok && e.Code == readOnlyTransaction
}

// isUnreachable reports whether the server did not get the call or did not answer it.
func isUnreachable(err error) bool {
	if _, ok := errors.AsType[*pgconn.ConnectError](err); ok {
		return true
	}
	if _, ok := errors.AsType[net.Error](err); ok {
		return true
	}
	return pgconn.SafeToRetry(err) || pgconn.Timeout(err) ||
		errors.Is(err, context.DeadlineExceeded) ||
		errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, net.ErrClosed)
}

// stoodStill reports whether PostgreSQL ended the session since nothing came from it amid a transaction. Over a Unix socket
// the next statement cannot even be sent then, so a failed write says the same: what was not sent cannot have been the
// commit, whose answer is all that a transaction waits for after it.
func stoodStill(err error) bool {
	if e, ok := errors.AsType[*pgconn.PgError](err); ok {
		return e.Code == idleInTransaction
	}
	return errors.Is(err, syscall.EPIPE)
}
