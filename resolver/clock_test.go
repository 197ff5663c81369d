package resolver

import (
	"fmt"
	"testing"
	"time"
)

// Once this host's clock was set, servers are as far from it as that, before any of them was asked again: the age of a request
// and whether it is remembered follow one clock.
func TestClockIsSet(t *testing.T) {
	t.Parallel()
	s := startSystem(t, 1)
	var clock shiftedClock
	r := s.run(t, Options{Interval: never, Now: clock.now}, s.need(t))
	ready(t, r)
	server := s.admin.ConnectedServerId()
	r.mu.RLock() // no round ends meanwhile
	here := r.servers[server]
	measured := here.Offset
	for _, by := range []time.Duration{-30 * time.Second, time.Hour, -24 * time.Hour, 23*time.Hour + 30*time.Second} {
		clock.advance(by)
		away := -time.Until(clock.now())
		for what, offset := range map[string]time.Duration{"offset": r.offset(here), "skew": r.skew()} {
			if off := offset - measured - away; off.Abs() > 5*time.Second {
				t.Errorf("set by %s: %s %s, want about %s", by, what, offset, away)
			}
		}
	}
	r.mu.RUnlock()
	// Then they are asked again, as they are when the host has slept, which looks the same.
	clock.advance(time.Minute)
	eventually(t, func() error {
		for _, offset := range []time.Duration{r.Skew(), r.Offset(server), r.Servers()[0].Offset} {
			if (offset + time.Minute).Abs() > 5*time.Second {
				return fmt.Errorf("offset %s, want about a minute", offset)
			}
		}
		r.mu.RLock()
		defer r.mu.RUnlock()
		offset := r.servers[server].Offset
		return check((offset+time.Minute).Abs() < 5*time.Second, "the server is not asked again: offset %s", offset)
	})
}
