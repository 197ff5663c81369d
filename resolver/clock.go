package resolver

import (
	"slices"
	"time"
)

// MaxOffset is how far a server's clock may be from the median before nothing is minted for it: it
// would enforce the end of a credential that much too late, or refuse a short one at once.
const MaxOffset = 20 * time.Second

// Offset returns by how much the server's clock is ahead of ours; 0 when it is not known.
func (r *Resolver) Offset(id string) time.Duration {
	r.mu.RLock()
	defer r.mu.RUnlock()
	if s, ok := r.servers[id]; ok {
		return r.offset(s)
	}
	return 0
}

// offset is [Resolver.Offset] of a server, with r.mu held. This host's clock may have been set since it was measured: what
// was asked for before would pass for new, or the other way round, until the next round.
func (r *Resolver) offset(s *server) time.Duration {
	moved := r.moved() - s.moved
	if moved.Abs() < leastMove {
		return s.Offset
	}
	r.Wake() // a host that slept has not been set, and looks the same
	return s.Offset - moved
}

// leastMove is by how much this host's clock is set at least where it matters. It is beyond what the reading of two clocks
// takes on a busy machine.
const leastMove = time.Second

// moved returns by how much this host's clock was set ahead since the resolver was made.
func (r *Resolver) moved() time.Duration {
	return r.now().Round(0).Sub(r.made.Round(0)) - time.Since(r.began)
}

// Skew returns the median of the servers' clocks less ours, of two middle ones the smaller, so
// that one wrong clock of two does not decide; 0 when no server is known.
func (r *Resolver) Skew() time.Duration {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.skew()
}

// skew is [Resolver.Skew] with r.mu held.
func (r *Resolver) skew() time.Duration {
	if len(r.servers) == 0 {
		return 0
	}
	offsets := make([]time.Duration, 0, len(r.servers))
	for _, s := range r.servers {
		offsets = append(offsets, r.offset(s))
	}
	slices.Sort(offsets)
	above, below := offsets[len(offsets)/2], offsets[(len(offsets)-1)/2]
	if above.Abs() < below.Abs() {
		return above
	}
	return below
}
