package replica

import (
	"context"
	"slices"
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
	// kickTimeout bounds the closing of a peer's connections.
	kickTimeout = 2 * time.Second
)

// fence has the connections of peers closed that have fallen silent, each once. The first of the healthy
// replicas by name does it, the others only when it does not.
func (g *Group) fence(ctx context.Context) {
	for _, f := range g.frozen(time.Now()) {
		g.Logger.Warn("a replica has fallen silent: its connections are closed, so that the servers ask others",
			"replica", f.From, "silent", f.silent.Round(time.Millisecond), "connections", len(f.Connections))
		g.OnFenced()
		for _, c := range f.Connections {
			g.tasks.Go(func() { g.cut(ctx, f.From, c) })
		}
	}
}

// cut closes a connection of a peer.
func (g *Group) cut(ctx context.Context, name string, c Connection) {
	ctx, cancel := context.WithTimeout(ctx, kickTimeout)
	defer cancel()
	if err := g.Kick(ctx, c.ServerID, c.CID); err != nil && ctx.Err() == nil {
		g.Logger.Warn("a connection of a replica that has fallen silent could not be closed", "replica", name, "server_id", c.ServerID, "cid", c.CID, "error", err)
	}
}

type frozen struct {
	beat
	silent time.Duration
}

// frozen returns the peers that this replica is to fence now, and notes that it does.
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
		if silent <= patience || p.fenced || p.last.Leaving {
			continue
		}
		p.fenced = true
		if len(p.last.Connections) > 0 {
			list = append(list, frozen{p.last, silent})
		}
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
