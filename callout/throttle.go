package callout

import (
	"net/netip"
	"sync"
	"time"
)

// A source that had refusalBurst logins refused comes after all others until it has had
// time to earn refusals back. Logins that are admitted never count: a site behind one
// address is not an attack, and even a throttled source is served when nobody else waits.
const (
	refusalBurst     = 100
	refusalPerSecond = 10
	maxSources       = 65536
)

// throttle counts refusals by source.
type throttle struct {
	mu      sync.Mutex
	sources map[netip.Prefix]allowance
}

// allowance is how many refusals a source has left, as of a time.
type allowance struct {
	left float64
	at   time.Time
}

func newThrottle() *throttle { return &throttle{sources: map[netip.Prefix]allowance{}} }

func (a allowance) now(now time.Time) allowance {
	left := min(refusalBurst, a.left+now.Sub(a.at).Seconds()*refusalPerSecond)
	return allowance{left: left, at: now}
}

// refused notes a refusal.
func (t *throttle) refused(source netip.Prefix, now time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	a, ok := t.sources[source]
	if !ok {
		if len(t.sources) >= maxSources {
			t.prune(now)
		}
		a = allowance{left: refusalBurst, at: now}
	}
	a = a.now(now)
	a.left = max(0, a.left-1)
	t.sources[source] = a
}

// spent reports whether the source has no refusal left.
func (t *throttle) spent(source netip.Prefix, now time.Time) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	a, ok := t.sources[source]
	return ok && a.now(now).left < 1
}

// prune forgets the sources that have earned everything back, and all when none has: a
// flood from that many sources is not told apart by source anyway. t.mu is held.
func (t *throttle) prune(now time.Time) {
	for s, a := range t.sources {
		if a.now(now).left >= refusalBurst {
			delete(t.sources, s)
		}
	}
	if len(t.sources) >= maxSources {
		clear(t.sources)
	}
}

// sourceOf returns what counts as one source: an IPv4 address, or an IPv6 /64, which one
// subscriber has to itself. An address that cannot be read is the zero Prefix.
func sourceOf(addr netip.Addr) netip.Prefix {
	addr = addr.Unmap().WithZone("")
	bits := 32
	if addr.Is6() {
		bits = 64
	}
	p, err := addr.Prefix(bits)
	if err != nil {
		return netip.Prefix{}
	}
	return p
}
