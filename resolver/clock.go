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
		return s.Offset
	}
	return 0
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
		offsets = append(offsets, s.Offset)
	}
	slices.Sort(offsets)
	above, below := offsets[len(offsets)/2], offsets[(len(offsets)-1)/2]
	if above.Abs() < below.Abs() {
		return above
	}
	return below
}
