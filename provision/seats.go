package provision

import (
	"net/http"
	"net/netip"
	"sync"

	"github.com/gatehouse-nats/gatehouse/api"
)

// maxOfAddress is how many of the seats callers at one address may take up, so that they keep nobody else out. It bounds calls at
// once and not in a time: a site behind one address is no attack, and its calls take milliseconds.
const maxOfAddress = maxConcurrent / 4

// seats bound the calls that are under way over a network, all of them and those from one address; nil ones bound nothing.
type seats struct {
	free slots

	mu    sync.Mutex
	taken map[netip.Addr]int // no more than there are seats
}

func newSeats() *seats {
	return &seats{free: make(slots, maxConcurrent), taken: map[netip.Addr]int{}}
}

// take takes one seat, which give must give back, unless it returns an error.
func (s *seats) take(source netip.Addr) error {
	if s == nil {
		return nil
	}
	from, counted := site(source)
	s.mu.Lock()
	defer s.mu.Unlock()
	if counted && s.taken[from] >= maxOfAddress {
		return errCrowded
	}
	if !s.free.take() {
		return errBusy
	}
	if counted {
		s.taken[from]++
	}
	return nil
}

func (s *seats) give(source netip.Addr) {
	if s == nil {
		return
	}
	from, counted := site(source)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.free.give()
	if !counted {
		return
	}
	if s.taken[from]--; s.taken[from] == 0 {
		delete(s.taken, from)
	}
}

// site returns what counts as one address: of IPv6 a /64, which one host has to itself. Loopback is not counted, which a proxy
// that http.proxies does not name may call from for everybody.
func site(source netip.Addr) (netip.Addr, bool) {
	if !source.IsValid() || source.IsLoopback() {
		return source, false
	}
	if source.Is6() {
		prefix, err := source.WithZone("").Prefix(64)
		return prefix.Addr(), err == nil
	}
	return source, true
}

// What answers calls beyond those.
var (
	errBusy    = again(http.StatusTooManyRequests, api.ReasonRateLimited, "too many calls at once: try again")
	errCrowded = again(http.StatusTooManyRequests, api.ReasonRateLimited, "too many calls at once from this address: try again")
)
