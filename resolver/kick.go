package resolver

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/nats-io/nats.go"
	"golang.org/x/sync/errgroup"
)

// parallelKicks bounds the KICKs of one server that are on their way at once: its answers come one after
// the other, and logins are to be answered in between.
const parallelKicks = 64

// goneText is how a server says that it has no such connection (server/server.go, DisconnectClientByID).
const goneText = "no such client or leafnode id"

// Kick closes one connection of a server; nil as well when it is gone already. The client is free to come
// back, and is decided on anew.
func (r *Resolver) Kick(ctx context.Context, server string, cid uint64) error {
	if r.blind {
		return ErrNoSystemUser
	}
	if !isServerID(server) {
		return fmt.Errorf("%.100q is not the id of a server: gatehouse status lists the servers", server)
	}
	_, err := r.kick(ctx, server, cid)
	return err
}

// Reach returns nil once the server answers on the way that a KICK takes.
func (r *Resolver) Reach(ctx context.Context, server string) error {
	if r.blind {
		return ErrNoSystemUser
	}
	if !isServerID(server) {
		return fmt.Errorf("%.100q is not the id of a server", server)
	}
	_, err := r.ping(ctx, server)
	return err
}

// kick is [Resolver.Kick] that also reports whether the connection was still there.
func (r *Resolver) kick(ctx context.Context, server string, cid uint64) (closed bool, err error) {
	data, err := r.ask(ctx, server, "KICK", map[string]uint64{"cid": cid})
	if err != nil {
		return false, err
	}
	var answer struct {
		Server serverInfo `json:"server"`
		Error  *struct {
			Description string `json:"description"`
		} `json:"error"`
	}
	switch err := json.Unmarshal(data, &answer); {
	case err != nil:
		return false, fmt.Errorf("KICK on server %s: %w", server, err)
	case answer.Server.ID != server:
		return false, fmt.Errorf("KICK on server %s: server %q answered", server, answer.Server.ID)
	case answer.Error == nil:
		return true, nil
	case answer.Error.Description == goneText:
		return false, nil
	default:
		return false, fmt.Errorf("KICK on server %s: %s", server, answer.Error.Description)
	}
}

// KickAll closes connections of one server, several at a time, and returns how many were closed; those that
// are gone already are none of them. The error is of one that could not be closed; the others are tried all
// the same, unless the server does not answer any more.
func (r *Resolver) KickAll(ctx context.Context, server string, cids []uint64) (closed int, err error) {
	if r.blind {
		return 0, ErrNoSystemUser
	}
	for _, k := range r.kicks(ctx, server, cids) {
		if k.closed {
			closed++
		}
		err = cmp.Or(err, k.err)
	}
	return closed, err
}

// kicked is what became of a connection: closed, gone before when there is no error either.
type kicked struct {
	closed bool
	err    error
}

// kicks closes connections of one server and returns what became of each. Once the server has not answered in
// time, the rest is left.
func (r *Resolver) kicks(ctx context.Context, server string, cids []uint64) []kicked {
	ctx, leave := context.WithCancelCause(ctx)
	defer leave(nil)
	results := make([]kicked, len(cids))
	var g errgroup.Group
	g.SetLimit(parallelKicks)
	for i, cid := range cids {
		g.Go(func() error {
			k := &results[i]
			if k.err = context.Cause(ctx); k.err != nil {
				return nil
			}
			k.closed, k.err = r.kick(ctx, server, cid)
			if errors.Is(k.err, context.DeadlineExceeded) || errors.Is(k.err, nats.ErrNoResponders) {
				leave(k.err)
			}
			return nil
		})
	}
	_ = g.Wait() // each has its own
	return results
}
