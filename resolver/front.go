package resolver

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"golang.org/x/sync/errgroup"

	"github.com/gatehouse-nats/gatehouse/policy"
)

// front is one server as sweeps meet it: what is due there is done together, in looks one after the other.
// Guarded by Sweeper.mu but for what never changes.
type front struct {
	id, name string        // never change
	wake     chan struct{} // holds one; never changes

	arrivals []uint64  // connections to close that were made meanwhile
	enforce  time.Time // when all that is in force is enforced on all connections; zero: not to be
	since    time.Time // when the server joined, or came back
	failed   int       // times in a row that this failed
	limit    int       // connections that are asked for at once; fewer after an answer that did not come
}

// stir makes the front look at what is due.
func (f *front) stir() {
	select {
	case f.wake <- struct{}{}:
	default:
	}
}

// front returns the front of a server, whose goroutine is started when there is none; s.mu is held.
func (s *Sweeper) front(id, name string) *front {
	f := s.fronts[id]
	if f == nil {
		f = &front{id: id, name: name, wake: make(chan struct{}, 1), limit: firstPage}
		s.fronts[id] = f
		if life := s.life; life != nil && !s.r.blind {
			s.carried.Go(func() { s.work(life, f) })
		}
	}
	return f
}

// idleFront is for how long a front without work is kept.
const idleFront = time.Minute

// work does what is due on a server until ctx ends, or nothing has been for a while.
func (s *Sweeper) work(ctx context.Context, f *front) {
	for ctx.Err() == nil {
		t, wait, idle := s.due(f)
		switch {
		case t != nil:
			s.do(ctx, t)
		case idle && s.dismiss(f):
			return
		default:
			timer := time.NewTimer(wait)
			select {
			case <-ctx.Done():
			case <-f.wake:
			case <-timer.C:
			}
			timer.Stop()
		}
	}
}

// dismiss forgets a front that has nothing to do, and reports whether it has.
func (s *Sweeper) dismiss(f *front) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(f.wake) > 0 || len(f.arrivals) > 0 || !f.enforce.IsZero() {
		return false
	}
	for _, w := range s.sweeps {
		if w.servers[f.id] != nil {
			return false
		}
	}
	delete(s.fronts, f.id)
	return true
}

// task is what is done on a server in one go.
type task struct {
	*front
	sweeps   []*sweep // that are due
	arrivals []uint64
	enforce  bool
	since    time.Time // see front
	limit    int
	cut      bool // there may be more connections than were asked for
}

// due returns what is due on a server, or for how long nothing is.
func (s *Sweeper) due(f *front) (t *task, wait time.Duration, idle bool) {
	now := s.r.now()
	s.mu.Lock()
	defer s.mu.Unlock()
	next := now.Add(idleFront)
	idle = true
	t = &task{front: f, arrivals: f.arrivals, limit: f.limit}
	f.arrivals = nil
	for _, w := range s.sweeps {
		st := w.servers[f.id]
		switch {
		case st == nil:
			continue
		case st.due.IsZero():
		case !st.due.After(now):
			t.sweeps = append(t.sweeps, w)
		case st.due.Before(next):
			next = st.due
		}
		idle = false
	}
	switch {
	case f.enforce.IsZero():
	case !f.enforce.After(now):
		t.enforce, t.since = true, f.since
	case f.enforce.Before(next):
		next = f.enforce
	}
	if len(t.sweeps) == 0 && len(t.arrivals) == 0 && !t.enforce {
		return nil, next.Sub(now), idle && f.enforce.IsZero()
	}
	return t, 0, false
}

// do carries out a task: it closes who has arrived, then looks for what the sweeps end.
func (s *Sweeper) do(ctx context.Context, t *task) {
	for _, k := range s.r.kicks(ctx, t.id, t.arrivals) {
		if k.err != nil {
			s.Logger.Debug("a connection that was made meanwhile could not be closed; the server is asked again", "server", t.name, "error", k.err)
		}
	}
	if len(t.sweeps) > 0 {
		s.look(ctx, t)
	}
	if t.enforce {
		s.enforceAll(ctx, t)
	}
}

// look asks the server once for all sweeps that are due, closes what they end, and notes what came of it.
func (s *Sweeper) look(ctx context.Context, t *task) {
	began, leeway := s.r.now(), s.leeway()
	q := s.aims(t.sweeps)
	list, missing, err := s.find(ctx, t, q, leeway)
	results := make([]found, len(t.sweeps))
	for i := range q.aims {
		// Whose a direct user is only the records say: without them nothing that a server shows is all there is.
		results[i].unread = missing && q.aims[i].Issuer != ""
	}
	if err == nil {
		hits := map[uint64][]int{} // which sweeps end a connection
		for i := range list {
			s.weigh(&list[i], q, t.sweeps, leeway, missing, hits, results)
		}
		s.close(ctx, t, hits, results)
	}
	if ctx.Err() == nil {
		s.noteAll(t, results, began, err)
	}
}

// aims returns the aims of the sweeps under the rules of now.
func (s *Sweeper) aims(sweeps []*sweep) *search {
	rules := s.rules()
	s.mu.Lock()
	defer s.mu.Unlock()
	aims := make([]aim, len(sweeps))
	for i, w := range sweeps {
		w.aim = aimAt(w.revocation.Revocation, rules)
		aims[i] = w.aim
	}
	return newSearch(aims)
}

// find returns the connections of a server among which those are that the aims may end, with what is recorded
// of them; missing says that the records could not be read.
func (s *Sweeper) find(ctx context.Context, t *task, q *search, leeway time.Duration) (list []policy.Session, missing bool, err error) {
	keys, missing := s.keys(ctx, q)
	list, err = s.ask(ctx, t, q.filters(keys, s.r.needs))
	if err != nil {
		return nil, missing, err
	}
	places := q.unrecorded(list, leeway)
	if len(places) == 0 {
		return list, missing, nil
	}
	unrecorded := make([]policy.Session, len(places))
	for i, at := range places {
		unrecorded[i] = list[at]
	}
	if failed := s.join(ctx, unrecorded); failed != nil {
		s.Logger.Debug("the records of connections could not be read", "error", failed)
		missing = true
	}
	for i, at := range places {
		list[at] = unrecorded[i]
	}
	return list, missing, nil
}

// join is Records.Join with a deadline.
func (s *Sweeper) join(ctx context.Context, list []policy.Session) error {
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	return s.Records.Join(ctx, list)
}

// keys returns the keys of the identities that are meant, as far as those are few.
func (s *Sweeper) keys(ctx context.Context, q *search) (keys []string, missing bool) {
	if len(q.byPrincipal) > mostAsks {
		return nil, false // all connections are asked for
	}
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	for p := range q.byPrincipal {
		of, err := s.Records.Keys(ctx, p)
		if err != nil {
			s.Logger.Debug("the keys of an identity could not be read", "error", err)
			return keys, true
		}
		keys = append(keys, of...)
	}
	return keys, false
}

// ask returns what the server shows by the filters, several asked for at once.
func (s *Sweeper) ask(ctx context.Context, t *task, filters []SessionFilter) ([]policy.Session, error) {
	var mu sync.Mutex
	var list []policy.Session
	anyCut := false
	var g errgroup.Group
	g.SetLimit(parallelReads)
	for _, f := range filters {
		g.Go(func() error {
			page, cut, err := s.r.page(ctx, t.id, f, t.limit)
			mu.Lock()
			defer mu.Unlock()
			list = append(list, page...)
			anyCut = anyCut || cut
			return err
		})
	}
	err := g.Wait()
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case err != nil:
		t.front.limit = max(t.limit/pageStep, leastPage)
	case anyCut:
		if t.limit == mostPage {
			s.Logger.Warn("a server has more connections than it can be asked for at once: what a revocation ends may be among the rest", "server", t.name, "server_id", t.id, "asked_for", t.limit)
		}
		t.front.limit = min(t.limit*pageStep, mostPage)
		t.cut = true
	default:
		t.front.limit = firstPage
	}
	return list, err
}

// weigh adds the session to the hits of the sweeps that end it, or to what they wait for.
func (s *Sweeper) weigh(session *policy.Session, q *search, sweeps []*sweep, leeway time.Duration, missing bool, hits map[uint64][]int, results []found) {
	now := s.r.now()
	var seen []int
	q.candidates(session, func(i int) {
		if slices.Contains(seen, i) {
			return
		}
		seen = append(seen, i)
		w := sweeps[i]
		if s.over(w) {
			return
		}
		a := &q.aims[i]
		switch verdict := a.judge(session, leeway, now, missing && now.Sub(w.began) < storeTimeout); {
		case verdict == spared:
		case s.spares(w, session):
		case verdict == undecided:
			results[i].waiting++
			results[i].pending = true
		case s.heldBack(w, session):
			results[i].waiting++
		default:
			hits[session.CID] = append(hits[session.CID], i)
		}
	})
}

func (s *Sweeper) spares(w *sweep, session *policy.Session) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return w.spares(session)
}

func (s *Sweeper) over(w *sweep) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.finished(w)
}

func (s *Sweeper) heldBack(w *sweep, session *policy.Session) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return w.heldBack(session)
}

// close closes the connections and adds to the results of the sweeps that end them.
func (s *Sweeper) close(ctx context.Context, t *task, hits map[uint64][]int, results []found) {
	cids := make([]uint64, 0, len(hits))
	for cid := range hits {
		cids = append(cids, cid)
	}
	for at, k := range s.r.kicks(ctx, t.id, cids) {
		for _, i := range hits[cids[at]] {
			switch {
			case k.err != nil:
				results[i].failed++
			case k.closed:
				results[i].closed++
			}
		}
	}
}

// noteAll notes what a look has found of each sweep. A server that is not there, and whose name another one
// has, was restarted: its connections ended with it.
func (s *Sweeper) noteAll(t *task, results []found, began time.Time, err error) {
	now := s.r.now()
	restarted := errors.Is(err, nats.ErrNoResponders) && s.r.replaced(t.id, t.name)
	s.mu.Lock()
	defer s.mu.Unlock()
	if err != nil {
		s.Logger.Debug("a server did not answer a sweep", "server", t.name, "server_id", t.id, "error", err)
	}
	for i, w := range t.sweeps {
		st := w.servers[t.id]
		switch {
		case st == nil:
		case restarted:
			delete(w.servers, t.id)
		case err != nil:
			st.fail(now)
		default:
			w.closed += results[i].closed
			results[i].pending = results[i].pending || t.cut
			st.note(results[i], began, now, w.settled)
		}
		w.stir()
	}
}

// enforceAll closes what any revocation ends on a server that has joined or come back: it was not asked
// meanwhile. Direct users are left to the claims, without which they would come back.
func (s *Sweeper) enforceAll(ctx context.Context, t *task) {
	again, err := s.enforceOnce(ctx, t)
	if err != nil && ctx.Err() == nil {
		s.Logger.Warn("a server that came back did not show its connections; trying again", "server", t.name, "server_id", t.id, "error", err)
	}
	now := s.r.now()
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case err != nil && s.r.knows(t.id):
		t.front.enforce = now.Add(min(lookAgain<<min(t.front.failed, 8), mostLookAgain))
		t.front.failed++
	case err == nil && again:
		t.front.enforce, t.front.failed = now.Add(secondLook), 0
	default:
		t.front.enforce, t.front.failed = time.Time{}, 0
	}
}

// enforceOnce is one attempt; again says that something was closed, or could not be told yet.
func (s *Sweeper) enforceOnce(ctx context.Context, t *task) (again bool, err error) {
	state, now := s.State(), s.r.now()
	if state == nil {
		return true, nil
	}
	q := newSearch(s.recent(state, now))
	if len(q.aims) == 0 {
		return false, nil
	}
	leeway := s.leeway()
	list, missing, err := s.find(ctx, t, q, leeway)
	if err != nil {
		return false, err
	}
	var cids []uint64
	for i := range list {
		if list[i].Direct() {
			continue
		}
		worst := spared
		q.candidates(&list[i], func(at int) {
			a := &q.aims[at]
			// Whoever has come since then was decided on anew: a sweep under way sees to who was not.
			if a.needsRecord(&list[i]) && list[i].Since.After(t.since.Add(authTimeout)) {
				return
			}
			worst = max(worst, a.judge(&list[i], leeway, now, missing))
		})
		again = again || worst != spared
		if worst == ended {
			cids = append(cids, list[i].CID)
		}
	}
	closed, err := s.r.KickAll(ctx, t.id, cids)
	if closed > 0 {
		s.Logger.Info("connections that revocations end were closed on a server that joined", "server", t.name, "server_id", t.id, "closed", closed)
	}
	return again || t.cut, err
}

// recent returns the aims of what is in force and may still end a connection: what was allowed before an older
// one has expired.
func (s *Sweeper) recent(state *policy.Snapshot, now time.Time) []aim {
	since := now.Add(-s.MaxTTL())
	var aims []aim
	for _, r := range state.Revocations.All(func(r policy.Revocation) bool { return r.InForce(now) && r.At.After(since) }) {
		aims = append(aims, aimAt(r, state.Rules))
	}
	return aims
}
