package replica

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/gatehouse-nats/gatehouse/policy"
	"github.com/gatehouse-nats/gatehouse/store"
)

const (
	// ackWait is for how long an announcement waits for confirmations before it says who is missing.
	ackWait = 250 * time.Millisecond
	// repeatAfter is the least time between two broadcasts of the same.
	repeatAfter = 200 * time.Millisecond
	// maxPending bounds the announcements whose confirmations are remembered, and pendingLife for how long.
	maxPending  = 16384
	pendingLife = 10 * time.Minute
	// clockMargin is added to the age at which a replica's state is taken for stale: its clock and the
	// database's run at slightly different speeds.
	clockMargin = time.Second
)

// pending is an announcement of which confirmations are remembered.
type pending struct {
	began time.Time // before it the revocation was stored
	sent  time.Time // when it was broadcast last
	acked map[string]bool
}

// Announce tells the other replicas of a revocation that is stored, or lifted, and returns by name who
// follows it now, this replica among them, and who may still decide as before. It waits for confirmations for
// a moment, and may be called again and again until nobody is missing. A replica that has ended without saying
// so is missing until nothing that it has read can be in use any more.
func (g *Group) Announce(ctx context.Context, r store.Revocation, lifted bool) (confirmed, missing []string, err error) {
	p := g.announce(pendingID(r.ID, lifted), r, lifted)
	own := g.follow(ctx, policy.RevocationChange{Revocation: r.Revocation, Lifted: lifted}, r.Position)
	known, err := g.replicas(ctx, p.began)
	if err != nil {
		return nil, nil, err
	}
	deadline := time.NewTimer(ackWait)
	defer deadline.Stop()
	for {
		g.mu.Lock()
		confirmed, missing = g.tally(p, own, known, r.Position)
		changed := g.changed
		g.mu.Unlock()
		if len(missing) == 0 {
			return confirmed, missing, nil
		}
		select {
		case <-changed:
		case <-deadline.C:
			return confirmed, missing, nil
		case <-ctx.Done():
			return confirmed, missing, ctx.Err()
		}
	}
}

// Tell broadcasts a change that was just stored, and waits for nobody.
func (g *Group) Tell(r store.Revocation, lifted bool) {
	g.announce(pendingID(r.ID, lifted), r, lifted)
}

func pendingID(revocation string, lifted bool) string {
	if lifted {
		return revocation + ".lifted"
	}
	return revocation
}

// announce broadcasts a change unless that was just done, and returns what is known of its confirmations.
func (g *Group) announce(id string, r store.Revocation, lifted bool) *pending {
	g.mu.Lock()
	now := time.Now()
	p := g.pending[id]
	if p == nil {
		if len(g.pending) >= maxPending {
			g.forget(now)
		}
		p = &pending{began: now, acked: map[string]bool{}}
		g.pending[id] = p
	}
	due := now.Sub(p.sent) >= repeatAfter
	if due {
		p.sent = now
	}
	g.mu.Unlock()
	if due {
		g.publish(g.speaker(), changeSubject, g.inbox+".ack", change{From: g.Name, At: g.now(), Revocation: r.Revocation, Lifted: lifted, Position: r.Position})
	}
	return p
}

// forget drops announcements that are old, or else any; the caller holds mu.
func (g *Group) forget(now time.Time) {
	for id, p := range g.pending {
		if now.Sub(p.began) > pendingLife || len(g.pending) >= maxPending {
			delete(g.pending, id)
		}
	}
}

// replicas returns which replicas the store knows, as of after the time.
func (g *Group) replicas(ctx context.Context, after time.Time) (listing, error) {
	g.mu.Lock()
	known := g.listed
	g.mu.Unlock()
	// The positions in an older list are older too, so that it is only of use for a moment.
	if known.began.After(after) && time.Since(known.began) < repeatAfter {
		return known, nil
	}
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	began := time.Now()
	list, err := g.Directory.Replicas(ctx)
	if err != nil {
		return listing{}, err
	}
	known = listing{began, list}
	g.mu.Lock()
	defer g.mu.Unlock()
	if began.After(g.listed.began) {
		g.listed = known
	}
	return known, nil
}

// tally returns who follows the change and who may not; the caller holds mu. A replica may decide as before
// as long as its state is fresh, by the store's list or by what it says itself. A position that it has named
// before the change was made shows nothing: after a failover another change may have been there.
func (g *Group) tally(p *pending, own bool, known listing, at store.Position) (confirmed, missing []string) {
	count := func(name string, follows bool) {
		if follows {
			confirmed = append(confirmed, name)
		} else {
			missing = append(missing, name)
		}
	}
	now := time.Now()
	count(g.Name, own)
	listed := map[string]bool{g.Name: true}
	for _, r := range known.replicas {
		if listed[r.Name] {
			continue
		}
		listed[r.Name] = true
		said := g.peers[r.Name]
		written := known.began.Add(-r.Age) // or later
		follows := p.acked[r.Name] || written.After(p.began) && covers(r.Applied, at) || said.follows(p.began, at)
		// After a failover that lost heartbeats the list shows too early that a replica is stale.
		if follows || r.Age <= r.MaxStaleness+clockMargin || said.decides(now) {
			count(r.Name, follows)
		}
	}
	for name, said := range g.peers {
		follows := p.acked[name] || said.follows(p.began, at)
		if !listed[name] && (follows || said.decides(now)) {
			count(name, follows)
		}
	}
	slices.Sort(confirmed)
	slices.Sort(missing)
	return confirmed, missing
}

// follows reports whether the peer, which may be nil, has said after the time that it follows the feed that far.
func (p *peer) follows(after time.Time, at store.Position) bool {
	return p != nil && p.heard.After(after) && covers(p.last.Applied, at)
}

// decides reports whether the peer, which may be nil, may still decide by what it has read.
func (p *peer) decides(now time.Time) bool {
	return p != nil && !p.last.Leaving && now.Sub(p.heard) <= p.last.Decides+clockMargin
}

// covers reports whether whoever follows the feed up to p follows what it has at q.
func covers(p, q store.Position) bool { return q.Epoch != "" && p.Epoch == q.Epoch && p.Seq >= q.Seq }

// follow makes this replica's decisions follow a change and reports whether they do. Whatever says that
// something was lifted, only the store makes a replica admit again.
func (g *Group) follow(ctx context.Context, c policy.RevocationChange, at store.Position) bool {
	if !c.Lifted {
		return g.Mirror.Learn(c, at)
	}
	if !covers(g.Mirror.Applied(), at) {
		ctx, cancel := context.WithTimeout(ctx, storeTimeout)
		defer cancel()
		_ = g.Mirror.Refresh(ctx) // it logs what went wrong, and goes on polling
	}
	return covers(g.Mirror.Applied(), at)
}

func (g *Group) hearChange(msg *nats.Msg) {
	var c change
	if !g.read(msg, &c, func() time.Time { return c.At }) || c.From == g.Name {
		return
	}
	// The reply is not signed: it must not lead to where something else is listened to.
	if c.Revocation.ID == "" || c.Revocation.Legal() != "" || !strings.HasPrefix(msg.Reply, nats.InboxPrefix) {
		g.OnDropped()
		return
	}
	if c.Lifted {
		g.hearLift(c, msg.Reply)
		return
	}
	g.confirm(c, msg.Reply, g.Mirror.Learn(policy.RevocationChange{Revocation: c.Revocation}, c.Position))
}

// hearLift looks at the store aside, one look at a time: the connection must not wait for it.
func (g *Group) hearLift(c change, reply string) {
	if covers(g.Mirror.Applied(), c.Position) {
		g.confirm(c, reply, true)
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.ended || !g.looking.CompareAndSwap(false, true) {
		return // it is announced again, to who is there
	}
	g.tasks.Go(func() {
		defer g.looking.Store(false)
		g.confirm(c, reply, g.follow(g.life, policy.RevocationChange{Revocation: c.Revocation, Lifted: true}, c.Position))
	})
}

func (g *Group) confirm(c change, reply string, follows bool) {
	g.publish(g.speaker(), reply, "", ack{From: g.Name, At: g.now(), ID: c.Revocation.ID, Lifted: c.Lifted, Follows: follows})
}

func (g *Group) hearAck(msg *nats.Msg) {
	var a ack
	if !g.read(msg, &a, func() time.Time { return a.At }) || !a.Follows {
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if p := g.pending[pendingID(a.ID, a.Lifted)]; p != nil && !p.acked[a.From] {
		p.acked[a.From] = true
		g.tell()
	}
}
