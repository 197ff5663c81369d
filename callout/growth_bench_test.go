package callout

import (
	"fmt"
	"net/netip"
	"testing"
	"time"
)

// address is that of the n-th source.
func address(n int) netip.Addr {
	return netip.AddrFrom4([4]byte{10, byte(n >> 16), byte(n >> 8), byte(n)})
}

// waiting is a queue with a login of each of so many sources.
func waiting(sources int) *queue {
	q := newQueue(time.Now, func(*login, dropReason) {})
	for n := range sources {
		q.addOpened(named("", address(n).String(), time.Now().Add(time.Hour)))
	}
	return q
}

// pass takes a login out of the queue and puts it back.
func pass(t testing.TB, q *queue) {
	l, _, ok := q.take()
	if l == nil || !ok {
		t.Fatal("a login that waits is not there")
	}
	q.addOpened(l)
}

// BenchmarkGrowthQueue shows what a login's way through the queue costs when others wait.
func BenchmarkGrowthQueue(b *testing.B) {
	for _, n := range []int{1, 100, maxOpened - 1} {
		b.Run(fmt.Sprintf("sources=%d", n), func(b *testing.B) {
			q := waiting(n)
			b.ReportAllocs()
			for b.Loop() {
				pass(b, q)
			}
		})
	}
}

// BenchmarkGrowthThrottle shows what a refusal costs when many sources have had some.
func BenchmarkGrowthThrottle(b *testing.B) {
	for _, n := range []int{1, 1000, maxSources} {
		b.Run(fmt.Sprintf("sources=%d", n), func(b *testing.B) {
			th, now := newThrottle(), time.Now()
			for k := range n {
				th.refused(sourceOf(address(k)), now)
			}
			one := sourceOf(address(0))
			b.ReportAllocs()
			for b.Loop() {
				th.spent(one, now)
				th.refused(one, now)
			}
		})
	}
}

// BenchmarkGrowthReplays shows what it costs to look for a replay among what was seen.
func BenchmarkGrowthReplays(b *testing.B) {
	for _, n := range []int{1, 1000, maxReplay - 1} {
		b.Run(fmt.Sprintf("seen=%d", n), func(b *testing.B) {
			now := time.Now()
			r := newReplays(now)
			for k := range n {
				r.seen(fmt.Sprintf("U%055d", k), now)
			}
			b.ReportAllocs()
			for b.Loop() {
				if r.seen("U0000000000000000000000000000000000000000000000000000000", now) != seenBefore {
					b.Fatal("a replay is not known")
				}
			}
		})
	}
}
