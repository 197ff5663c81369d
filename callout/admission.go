package callout

import (
	"net/netip"
	"sync"
	"time"
)

// Bounds of the queue. Work that waits longer than its client is never done, so a queue
// that is longer than what can be worked off meanwhile only costs memory.
const (
	maxRaw    = 8192
	maxOpened = 4096
	// window is how many requests are opened ahead of being worked on: fairness can only
	// choose among requests whose source is known, and opening costs a quarter of a login.
	window = 64
	// openings is how many requests are opened at most before one is worked on: those of a
	// throttled source do not fill the window, and must not keep the others waiting either.
	openings = 4
)

// queue holds logins that wait for a worker, newest first: the newest is the one whose
// client is the likeliest to be there still. Opened logins wait apart by source, so that
// one source cannot keep the others waiting; sources that had too many logins refused
// come last.
type queue struct {
	now  func() time.Time
	drop func(*login, dropReason)

	mu     sync.Mutex
	work   sync.Cond
	raw    []*login // oldest first
	opened int      // since one was worked on
	fair   lane
	last   lane // sources with too many refusals
	closed bool
}

// dropReason says why a login left the queue without a worker.
type dropReason int

const (
	droppedLate dropReason = iota
	droppedFull
	droppedThrottled
)

func newQueue(now func() time.Time, drop func(*login, dropReason)) *queue {
	q := &queue{now: now, drop: drop, fair: newLane(), last: newLane()}
	q.work.L = &q.mu
	return q
}

// add queues a login that has just arrived. The oldest gives way when there are too many.
func (q *queue) add(l *login) {
	q.mu.Lock()
	var dropped *login
	if len(q.raw) >= maxRaw {
		dropped, q.raw[0] = q.raw[0], nil
		q.raw = q.raw[1:]
	}
	q.raw = append(q.raw, l)
	q.work.Signal()
	q.mu.Unlock()
	if dropped != nil {
		q.drop(dropped, droppedFull)
	}
}

// addOpened queues a login whose source is known.
func (q *queue) addOpened(l *login) {
	q.mu.Lock()
	to := &q.fair
	if l.throttled {
		to = &q.last
	}
	full := to.size >= maxOpened
	if !full {
		to.push(l)
		q.work.Signal()
	}
	q.mu.Unlock()
	if full {
		q.drop(l, droppedFull)
	}
}

// next blocks until there is a login to work on and returns it, or nil once the queue is closed.
func (q *queue) next() *login {
	for {
		l, late, ok := q.take()
		for _, d := range late {
			reason := droppedLate
			if d.throttled {
				reason = droppedThrottled
			}
			q.drop(d, reason)
		}
		if l != nil || !ok {
			return l
		}
	}
}

// take returns a login, or the late ones that were found on the way.
func (q *queue) take() (l *login, late []*login, ok bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for {
		if q.closed {
			return nil, nil, false
		}
		now := q.now()
		late = q.expire(now, late)
		switch {
		case len(q.raw) > 0 && q.fair.size < window && (q.opened < openings || q.fair.size == 0):
			q.opened++
			l = q.raw[len(q.raw)-1]
			q.raw[len(q.raw)-1] = nil
			q.raw = q.raw[:len(q.raw)-1]
		case q.fair.size > 0:
			q.opened = 0
			l = q.fair.pop()
		case q.last.size > 0:
			l = q.last.pop()
		}
		if l != nil || len(late) > 0 {
			return l, late, true
		}
		q.work.Wait()
	}
}

// expire takes out the logins whose deadline has passed; q.mu is held.
func (q *queue) expire(now time.Time, late []*login) []*login {
	for len(q.raw) > 0 && now.After(q.raw[0].deadline) {
		late = append(late, q.raw[0])
		q.raw[0] = nil
		q.raw = q.raw[1:]
	}
	late = q.fair.expire(now, late)
	return q.last.expire(now, late)
}

// depth returns how many logins wait and since when the oldest does.
func (q *queue) depth() (n int, oldest time.Time) {
	q.mu.Lock()
	defer q.mu.Unlock()
	n = len(q.raw) + q.fair.size + q.last.size
	if len(q.raw) > 0 {
		oldest = q.raw[0].arrived
	}
	return n, oldest
}

// close wakes every worker; next returns nil from then on.
func (q *queue) close() {
	q.mu.Lock()
	q.closed = true
	q.mu.Unlock()
	q.work.Broadcast()
}

// lane holds opened logins: sources take turns, and each source's newest comes first.
type lane struct {
	bySource map[netip.Prefix]*stack
	turn     []*stack // the sources that have something, in the order of their turns
	size     int
	swept    time.Time
}

// stack holds one source's logins, oldest first.
type stack struct {
	source netip.Prefix
	logins []*login
}

func newLane() lane { return lane{bySource: map[netip.Prefix]*stack{}} }

func (n *lane) push(l *login) {
	s, ok := n.bySource[l.source]
	if !ok {
		s = &stack{source: l.source}
		n.bySource[l.source] = s
		n.turn = append(n.turn, s)
	}
	s.logins = append(s.logins, l)
	n.size++
}

// pop returns the newest login of the source whose turn it is; the lane is not empty.
func (n *lane) pop() *login {
	s := n.turn[0]
	n.turn = n.turn[1:]
	l := s.logins[len(s.logins)-1]
	s.logins[len(s.logins)-1] = nil
	s.logins = s.logins[:len(s.logins)-1]
	n.size--
	if len(s.logins) > 0 {
		n.turn = append(n.turn, s)
	} else {
		delete(n.bySource, s.source)
	}
	return l
}

// sweepEvery bounds how often a lane is searched for late logins, which costs its length.
const sweepEvery = 20 * time.Millisecond

func (n *lane) expire(now time.Time, late []*login) []*login {
	if n.size == 0 || now.Sub(n.swept) < sweepEvery {
		return late
	}
	n.swept = now
	turn := n.turn[:0]
	for _, s := range n.turn {
		for len(s.logins) > 0 && now.After(s.logins[0].deadline) {
			late = append(late, s.logins[0])
			s.logins[0] = nil
			s.logins = s.logins[1:]
			n.size--
		}
		if len(s.logins) > 0 {
			turn = append(turn, s)
		} else {
			delete(n.bySource, s.source)
		}
	}
	clear(n.turn[len(turn):])
	n.turn = turn
	return late
}
