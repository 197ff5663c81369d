package resolver

import (
	"context"
	"encoding/json"
	"time"
)

const (
	storeTimeout    = 5 * time.Second
	announceTimeout = 5 * time.Second
	// leaseLife is for how long a sweep is its carrier's without a sign of life. One that goes on for long, as
	// for a server that is down, is held for longer at a time.
	leaseLife     = 15 * time.Second
	longLeaseLife = time.Minute
	// saveEvery is the least time between two savings of a sweep's progress.
	saveEvery = 500 * time.Millisecond
	// firstAsk and mostAsk are between two questions whether replicas and claims are there.
	firstAsk = 100 * time.Millisecond
	mostAsk  = 2 * time.Second
	// releaseTimeout bounds giving up the lease when the service ends.
	releaseTimeout = time.Second
)

// carrier is what carries one sweep besides its looks at the servers.
type carrier struct {
	*Sweeper
	w *sweep

	confirmed time.Time // when the last replica had confirmed; zero while one is missing
	asked     time.Duration
	ask       time.Time // when replicas and claims are asked next
	renew     time.Time // when the lease is
	save      time.Time // when progress may be
	unsaved   bool      // it has changed since
	written   string    // progress as it was saved last
}

// carry tells the replicas, waits for them and for the claims, holds the lease and saves the progress, until
// the sweep is over, another replica has it, or ctx ends.
func (s *Sweeper) carry(ctx context.Context, w *sweep) {
	c := &carrier{Sweeper: s, w: w, asked: firstAsk, save: w.began.Add(saveEvery)}
	defer c.end()
	for ctx.Err() == nil {
		now := s.r.now()
		if !now.Before(c.ask) {
			c.inquire(ctx)
		}
		if c.lifted() {
			s.Logger.Info("a revocation was lifted before it was carried out", "revocation", w.revocation.ID)
			c.release(ctx)
			return
		}
		if c.dropped() {
			c.release(ctx)
			return
		}
		if !now.Before(c.renew) && !c.hold(ctx) {
			return
		}
		if over := c.report(ctx); over {
			c.release(ctx)
			return
		}
		c.pause(ctx)
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), releaseTimeout)
	defer cancel()
	c.release(ctx)
}

// inquire asks the replicas and the claims for what they have not confirmed yet, and settles the sweep once
// both have.
func (c *carrier) inquire(ctx context.Context) {
	if c.confirmed.IsZero() {
		c.announce(ctx)
	}
	c.mu.Lock()
	applied := c.w.applied
	c.mu.Unlock()
	if !applied {
		c.converge(ctx)
	}
	now := c.r.now()
	c.ask, c.asked = now.Add(c.asked), min(2*c.asked, mostAsk)
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.confirmed.IsZero() && c.w.applied && c.w.settled.IsZero() {
		at := c.confirmed.Add(authTimeout)
		if at.Before(now) {
			at = now
		}
		c.w.settle(at)
		c.stirAll()
	}
}

func (c *carrier) announce(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, announceTimeout)
	defer cancel()
	confirmed, missing, err := c.Replicas.Announce(ctx, c.w.revocation, false)
	if err == nil && len(confirmed) == 0 {
		err = errNoReplicas
	}
	if err != nil {
		c.Logger.Debug("the replicas could not all be told of a revocation; trying again", "revocation", c.w.revocation.ID, "error", err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.w.follow(confirmed, missing, c.r.now())
	if err == nil && len(missing) == 0 {
		c.confirmed = c.r.now()
	}
}

func (c *carrier) converge(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, announceTimeout)
	defer cancel()
	c.mu.Lock()
	asked := c.w.unsettled
	c.mu.Unlock()
	done, why, err := c.Claims.Converged(ctx, c.w.revocation)
	if err != nil {
		done, why = false, err.Error()
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if done && c.w.unsettled != asked {
		done, why = false, "a server has joined meanwhile"
	}
	c.w.applied, c.w.claims = done, why
	if done {
		for _, st := range c.w.servers {
			st.soon(c.r.now())
		}
		c.stirAll()
	}
}

// stirAll makes every server's front look at what is due; s.mu is held.
func (s *Sweeper) stirAll() {
	for _, f := range s.fronts {
		f.stir()
	}
}

// lifted reports whether the revocation was lifted or has ended: this replica's snapshot held it, and does not
// any more.
func (c *carrier) lifted() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.lapsed(c.w)
}

// lapsed is [carrier.lifted] of any sweep; s.mu is held.
func (s *Sweeper) lapsed(w *sweep) bool {
	state := s.State()
	if state == nil {
		return false
	}
	holds := state.Revocations.Holds(w.revocation.Revocation) && w.revocation.InForce(s.r.now())
	was := w.held
	w.held = was || holds
	return was && !holds
}

// finished reports whether the sweep has nothing to close any more: it was proved, or lifted, and whoever comes
// may have been let in since; s.mu is held.
func (s *Sweeper) finished(w *sweep) bool { return w.took > 0 || s.lapsed(w) }

// dropped reports whether the sweep was given up to make room for another.
func (c *carrier) dropped() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.sweeps[c.w.revocation.ID] != c.w
}

// hold takes or renews the lease; false when another replica has it.
func (c *carrier) hold(ctx context.Context) bool {
	life := leaseLife
	if c.r.now().Sub(c.w.began) > longLeaseLife {
		life = longLeaseLife
	}
	held, err := true, error(nil)
	c.call(ctx, func(ctx context.Context) {
		held, _, err = c.Ledger.Acquire(ctx, leaseName(c.w.revocation.ID), c.Replica, life)
	})
	c.renew = c.r.now().Add(life / 3)
	if err != nil {
		// Without the store nobody else can take it over either: two that close the same connections do no harm.
		c.Logger.Debug("the lease of a sweep could not be renewed", "revocation", c.w.revocation.ID, "error", err)
		c.renew = c.r.now().Add(mostAsk)
		return true
	}
	if !held {
		c.Logger.Debug("another replica carries the sweep", "revocation", c.w.revocation.ID)
	}
	return held
}

// report saves the progress when it has changed, and reports whether the sweep is over and that is stored.
func (c *carrier) report(ctx context.Context) bool {
	now := c.r.now()
	longest := c.MaxTTL()
	c.mu.Lock()
	if c.w.took == 0 && c.w.over(now, longest) {
		if c.r.complete() {
			c.w.took = max(now.Sub(c.w.revocation.At), time.Millisecond)
		} else {
			c.r.Wake() // the servers may count one that has ended
		}
	}
	progress := saved{Progress: c.w.progress(now), Absent: c.w.absent()}
	c.mu.Unlock()
	took := progress.TookMS
	if !progress.Done {
		progress.TookMS = 0 // it changes by itself
	}
	text, err := json.Marshal(progress)
	c.unsaved = err == nil && string(text) != c.written
	if !c.unsaved || now.Before(c.save) && !progress.Done {
		return false
	}
	c.save = now.Add(saveEvery)
	c.call(ctx, func(ctx context.Context) {
		err = c.Ledger.SaveProgress(ctx, c.w.revocation.ID, text, progress.Done)
	})
	if err != nil {
		c.Logger.Debug("the progress of a sweep could not be stored", "revocation", c.w.revocation.ID, "error", err)
		return false
	}
	c.written, c.unsaved = string(text), false
	if progress.Done {
		c.Logger.Info("a revocation is carried out", "revocation", c.w.revocation.ID, "closed", progress.Closed, "replicas", progress.Replicas,
			"servers", progress.ServersAnswered, "took_ms", took)
	}
	return progress.Done
}

// pause waits until there is something to do.
func (c *carrier) pause(ctx context.Context) {
	next := c.renew
	c.mu.Lock()
	settled := !c.w.settled.IsZero()
	c.mu.Unlock()
	if !settled && c.ask.Before(next) {
		next = c.ask
	}
	if c.unsaved && c.save.Before(next) {
		next = c.save
	}
	wait := max(min(next.Sub(c.r.now()), mostAsk), saveEvery/10)
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-c.w.wake:
	case <-timer.C:
	}
}

// release gives the lease up, so that another replica can take it, or nobody has to look at it any more.
func (c *carrier) release(ctx context.Context) {
	c.call(ctx, func(ctx context.Context) {
		if err := c.Ledger.Release(ctx, leaseName(c.w.revocation.ID), c.Replica); err != nil {
			c.Logger.Debug("the lease of a sweep could not be given up", "revocation", c.w.revocation.ID, "error", err)
		}
	})
}

// call makes one call to the store, of few at a time.
func (s *Sweeper) call(ctx context.Context, do func(context.Context)) {
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	select {
	case s.calls <- struct{}{}:
		defer func() { <-s.calls }()
	case <-ctx.Done():
	}
	do(ctx)
}

// end forgets the sweep.
func (c *carrier) end() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.drop(c.w)
	close(c.w.ended)
}
