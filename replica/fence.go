package replica

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"
)

const (
	// silence is after how long without a heartbeat a peer is taken for frozen: four of them.
	silence = 1200 * time.Millisecond
	// lookEvery is how often it is looked who is silent, which adds to the time.
	lookEvery = 100 * time.Millisecond
	// lateEcho is how late an own heartbeat may come back before a replica takes itself for slow, and
	// calm for how long it then closes nobody's connections: peers have that long to be heard again.
	lateEcho = 600 * time.Millisecond
	calm     = 2 * silence
	// turn is how much longer the next replica leaves it to the one before.
	turn = 500 * time.Millisecond
	// kickTimeout bounds the closing of a peer's connections, and tryAgain is when it is tried next where it was not begun.
	kickTimeout = 2 * time.Second
	tryAgain    = kickTimeout + time.Second
)

// fence has the connections of peers closed that have fallen silent, each once. The first of the healthy
// replicas by name does it, the others only when it does not.
func (g *Group) fence(ctx context.Context) {
	for _, f := range g.frozen(time.Now()) {
		g.tasks.Go(func() { g.close(ctx, f) })
	}
}

// close has the connections of a peer closed, unless it may be this replica that hears nobody: the server on which it
// listens may be cut off from the others, over which its KICKs go.
func (g *Group) close(ctx context.Context, f frozen) {
	ctx, cancel := context.WithTimeout(ctx, kickTimeout)
	defer cancel()
	listens := g.Conns[0].ConnectedServerId()
	if err := g.Reach(ctx, listens); err != nil {
		if !f.again && !errors.Is(ctx.Err(), context.Canceled) {
			g.Logger.Warn("a replica has fallen silent, or the server on which this one listens is cut off: nothing is closed before that server answers",
				"replica", f.From, "silent", f.silent.Round(time.Millisecond), "server_id", listens, "error", err)
		}
		return
	}
	if !g.still(f) {
		return
	}
	g.Logger.Warn("a replica has fallen silent: its connections are closed, so that the servers ask others",
		"replica", f.From, "silent", f.silent.Round(time.Millisecond), "connections", len(f.Connections))
	g.OnFenced()
	var cuts sync.WaitGroup
	defer cuts.Wait()
	for _, c := range f.Connections {
		cuts.Go(func() { g.cut(ctx, f.From, c) })
	}
}

// still reports whether nothing was heard of the peer since it was found silent, and notes that it is fenced then.
func (g *Group) still(f frozen) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	p := g.peers[f.From]
	if p == nil || p.silent(time.Now()) < f.silent {
		return false
	}
	p.fenced = true
	return true
}

// cut closes a connection of a peer. A KICK to a server that does not answer is not sent: it would arrive once the network is whole
// again, and close the connection of a healthy peer.
func (g *Group) cut(ctx context.Context, name string, c Connection) {
	err := g.Reach(ctx, c.ServerID)
	if err == nil {
		err = g.Kick(ctx, c.ServerID, c.CID)
	}
	if err != nil && !errors.Is(ctx.Err(), context.Canceled) {
		g.Logger.Warn("a connection of a replica that has fallen silent could not be closed", "replica", name, "server_id", c.ServerID, "cid", c.CID, "error", err)
	}
}

type frozen struct {
	beat
	silent time.Duration
	again  bool // it was tried before
}

// frozen returns the peers that this replica is to fence now, and notes that it tries.
func (g *Group) frozen(now time.Time) (list []frozen) {
	g.mu.Lock()
	defer g.mu.Unlock()
	healthy := []string{g.Name}
	for name, p := range g.peers {
		silent := p.silent(now)
		if silent <= silence && !p.last.Leaving {
			healthy = append(healthy, name)
		}
		if silent > forgetAfter {
			delete(g.peers, name)
		}
	}
	if g.Kick == nil || !g.own.prompt(now) {
		return nil
	}
	slices.Sort(healthy)
	patience := silence + time.Duration(slices.Index(healthy, g.Name))*turn
	for _, p := range g.peers {
		silent := p.silent(now)
		if silent <= patience || p.fenced || p.last.Leaving || now.Sub(p.tried) < tryAgain {
			continue
		}
		if len(p.last.Connections) > 0 {
			list = append(list, frozen{p.last, silent, !p.tried.IsZero()})
		}
		p.tried = now
	}
	return list
}

// prompt reports whether this replica hears itself in time, and has for a while.
func (e *echo) prompt(now time.Time) bool {
	for _, sent := range e.sent {
		if now.Sub(sent) > lateEcho {
			return false
		}
	}
	return !e.heard.IsZero() && now.Sub(e.heard) <= lateEcho+beatEvery && now.Sub(e.began) > silence && now.Sub(e.late) > calm
}
