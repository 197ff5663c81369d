package resolver

import (
	"cmp"
	"slices"
	"time"

	"github.com/gatehouse-nats/gatehouse/api"
	"github.com/gatehouse-nats/gatehouse/policy"
	"github.com/gatehouse-nats/gatehouse/store"
)

const (
	// authTimeout is how long after a replica's answer a server may still let the client in. A server waits
	// for 2 s, with TLS for 3 s (nats-server server/const.go, opts.go), and an authorization.timeout above
	// that helps no client, whose own patience ends with the first PING.
	authTimeout = 3 * time.Second
	// secondLook is when a server is asked again after it had nothing to close for the first time: until
	// other servers know that this one listens to their events, it may miss some.
	secondLook = 250 * time.Millisecond
	// idleLook is how often a server is asked while a replica has not confirmed: events may be lost.
	idleLook = 2 * time.Second
	// grid is what the last looks are put off to, so that sweeps share them.
	grid = 250 * time.Millisecond
	// Between attempts at a server that does not answer.
	lookAgain     = 250 * time.Millisecond
	mostLookAgain = 5 * time.Second
)

// sweep carries out one revocation; guarded by Sweeper.mu but for what never changes.
type sweep struct {
	revocation store.Revocation // never changes
	began      time.Time        // when this replica took it up; never changes
	wake       chan struct{}    // for its carrier, holds one
	ended      chan struct{}    // closed when it is not carried any more

	aim                aim
	servers            map[string]*standing // by server id
	confirmed, missing []string             // replicas
	follows            map[string]time.Time // when each replica was known to deny
	settled            time.Time            // what servers show later than that counts; zero while it is not known
	denied             time.Time            // the first settled: nothing that concerns it was issued later
	unsettled          int                  // how often what was settled no longer was
	applied            bool                 // the account claims hold on every server, or none are needed
	claims             string               // what they wait for
	closed             int
	took               time.Duration // zero until done
	held               bool          // this replica's snapshot has held the revocation
}

// standing is how far a sweep is on one server.
type standing struct {
	name   string
	due    time.Time // of the next look; zero: none until something changes
	looks  int       // that found nothing
	failed int       // in a row
	clean  time.Time // when the last look began, if it found nothing; else zero
	left   int       // connections that the last look found and that are not closed
}

// found is what a look at a server showed of one sweep.
type found struct {
	closed  int // connections that were closed
	failed  int // that could not be
	waiting int // that must wait for the account claims, or for their record
	pending bool
	unread  bool // the records that it takes could not be read
}

// heldBack reports whether the session is not to be closed before the account claims keep it out. Callout users
// are kept out by the callout as soon as the revocation is stored, but for what only claims can void.
func (w *sweep) heldBack(s *policy.Session) bool {
	if w.applied {
		return false
	}
	switch w.revocation.Kind {
	case policy.UserKey, policy.SigningKey, policy.Activation:
		return true
	default:
		return s.Direct()
	}
}

// follow notes which replicas have confirmed.
func (w *sweep) follow(confirmed, missing []string, now time.Time) {
	w.confirmed, w.missing = confirmed, missing
	for _, name := range confirmed {
		if _, known := w.follows[name]; !known {
			w.follows[name] = now
		}
	}
}

// spares reports whether the session was surely decided on by who knew of the revocation, so that whoever it is was
// let in nevertheless: where all replicas did and the claims were applied, or a replica that did. Nobody decides anew on
// direct users.
func (w *sweep) spares(s *policy.Session) bool {
	switch {
	case !w.aim.needsRecord(s):
		return false
	case !w.settled.IsZero() && s.Since.After(w.settled):
		return true
	case s.Login == nil, s.Direct():
		return false
	}
	follows, ok := w.follows[s.Login.Replica]
	return ok && s.Since.After(follows.Add(authTimeout))
}

// on returns the standing of a server, which is made when there is none.
func (w *sweep) on(id, name string, now time.Time) *standing {
	st := w.servers[id]
	if st == nil {
		st = &standing{name: name, due: now}
		w.servers[id] = st
	}
	return st
}

// settle notes that nothing which began before the time can let anybody in later.
func (w *sweep) settle(at time.Time) {
	w.settled = at
	if w.denied.IsZero() {
		w.denied = at
	}
	for _, st := range w.servers {
		if !st.over(at) {
			st.soon(onGrid(at))
		}
	}
}

// unsettle notes that the account claims may not hold on every server any more.
func (w *sweep) unsettle() {
	if w.took > 0 {
		return
	}
	w.applied, w.settled = false, time.Time{}
	w.unsettled++
	w.stir()
}

func onGrid(t time.Time) time.Time {
	if on := t.Truncate(grid); on.Before(t) {
		return on.Add(grid)
	}
	return t
}

// over reports whether the server has shown that nothing is left.
func (st *standing) over(settled time.Time) bool {
	return !settled.IsZero() && !st.clean.IsZero() && !st.clean.Before(settled)
}

// note takes what a look that began at the time has found, and says when the next one is due.
func (st *standing) note(f found, began, now, settled time.Time) {
	st.failed, st.left = 0, f.failed+f.waiting
	switch {
	case f.failed > 0:
		st.clean, st.due = time.Time{}, now.Add(lookAgain)
	case f.pending:
		st.clean, st.due = time.Time{}, now.Add(secondLook)
	case f.waiting > 0, f.unread:
		st.clean, st.due = time.Time{}, now.Add(idleLook)
	case f.closed > 0:
		st.clean, st.due = time.Time{}, now.Add(secondLook)
	default:
		st.looks++
		st.clean = began
		st.due = st.next(now, settled)
	}
}

// next returns when a server that showed nothing is due again; zero when it has shown it late enough.
func (st *standing) next(now, settled time.Time) time.Time {
	switch {
	case st.over(settled):
		return time.Time{}
	case st.looks == 1:
		return now.Add(secondLook)
	case settled.IsZero():
		return now.Add(idleLook)
	case settled.After(now):
		return onGrid(settled)
	default:
		return now
	}
}

// fail notes that the server did not answer.
func (st *standing) fail(now time.Time) {
	st.due = now.Add(min(lookAgain<<min(st.failed, 8), mostLookAgain))
	st.failed++
}

// soon makes the next look due at the time, if none is due before.
func (st *standing) soon(at time.Time) {
	if st.due.IsZero() || at.Before(st.due) {
		st.due = at
	}
}

// stir makes the sweep's carrier look at how far it is.
func (w *sweep) stir() {
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

// over reports whether the sweep is done: every replica denies, and every server has shown after that, that
// nothing is left. When the longest credential has expired by itself, nothing is left either way.
func (w *sweep) over(now time.Time, longest time.Duration) bool {
	if w.settled.IsZero() || len(w.servers) == 0 {
		return false
	}
	if now.After(w.denied.Add(longest)) {
		return true
	}
	for _, st := range w.servers {
		if !st.over(w.settled) {
			return false
		}
	}
	return true
}

// idle reports whether the sweep only waits for servers that do not answer.
func (w *sweep) idle() bool {
	if w.settled.IsZero() || w.took > 0 {
		return false
	}
	for _, st := range w.servers {
		if st.failed == 0 && !st.over(w.settled) {
			return false
		}
	}
	return true
}

// progress says how far the sweep is.
func (w *sweep) progress(now time.Time) api.Progress {
	p := api.Progress{
		Done: w.took > 0, Replicas: len(w.confirmed), ReplicasKnown: len(w.confirmed) + len(w.missing), ReplicasMissing: w.missing,
		ServersKnown: len(w.servers), Closed: w.closed, Claims: w.claims,
		TookMS: cmp.Or(w.took, now.Sub(w.revocation.At)).Milliseconds(),
	}
	for _, st := range w.servers {
		p.Left += st.left
		if st.over(w.settled) {
			p.ServersAnswered++
		}
		if st.failed > 0 {
			p.ServersMissing = append(p.ServersMissing, st.name)
		}
	}
	slices.Sort(p.ServersMissing)
	return p
}

// absent returns the servers that do not answer, name by id.
func (w *sweep) absent() map[string]string {
	list := map[string]string{}
	for id, st := range w.servers {
		if st.failed > 0 {
			list[id] = st.name
		}
	}
	return list
}
