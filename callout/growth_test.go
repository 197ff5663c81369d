package callout

import (
	"testing"
	"time"
)

// TestQueueDoesNotGrowWithOtherSources counts allocations: times belong to the machine.
func TestQueueDoesNotGrowWithOtherSources(t *testing.T) {
	// The list of turns grows now and then, for all logins together.
	const slack = 1
	made := func(sources int) float64 {
		q := waiting(sources)
		return testing.AllocsPerRun(2*maxOpened, func() { pass(t, q) })
	}
	if few, many := made(1), made(maxOpened-1); many > few+slack {
		t.Errorf("a login's way through the queue makes %v allocations where %d sources wait, and %v where one does", many, maxOpened-1, few)
	}
}

// TestThrottledSourcesAreKeptApart: however many sources had refusals, it is those of the source itself that count.
func TestThrottledSourcesAreKeptApart(t *testing.T) {
	t.Parallel()
	th, now := newThrottle(), time.Now()
	for n := range 1000 {
		th.refused(sourceOf(address(n)), now)
	}
	spender := sourceOf(address(1))
	for range refusalBurst {
		th.refused(spender, now)
	}
	for n := range 2000 {
		source := sourceOf(address(n))
		if spent := th.spent(source, now); spent != (source == spender) {
			t.Errorf("source %s: spent %t", source, spent)
		}
	}
}
