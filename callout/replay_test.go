package callout

import (
	"fmt"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// A key that was noted is known for as long as its request could be answered, whatever else is noted meanwhile, and
// none is known that was not.
func TestReplays(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		now := time.Unix(1_800_000_000, 0)
		r := newReplays(now)
		r.limit = rapid.IntRange(1, 400).Draw(t, "limit")
		noted := map[string]time.Time{} // it forgets nothing
		next := 0
		t.Repeat(map[string]func(*rapid.T){
			"new": func(t *rapid.T) {
				for range rapid.IntRange(1, 300).Draw(t, "count") {
					key := fmt.Sprintf("U%055d", next)
					next++
					switch got := r.seen(key, now); {
					case got == firstSeen:
						noted[key] = now
					case got != notKept || r.new.size < r.limit:
						t.Fatalf("%s is %d with %d of %d remembered", key, got, r.new.size, r.limit)
					}
				}
			},
			"again": func(t *rapid.T) {
				for key, at := range noted {
					switch got := r.seen(key, now); {
					case got == seenBefore:
					case now.Sub(at) <= 2*replayWindow:
						t.Fatalf("%s was forgotten after %s", key, now.Sub(at))
					case got == firstSeen:
						noted[key] = now
					}
				}
			},
			"later": func(t *rapid.T) {
				now = now.Add(time.Duration(rapid.Int64Range(0, int64(replayWindow)).Draw(t, "time")))
			},
			"": func(t *rapid.T) {
				for _, s := range []*fingerprints{r.old, r.new} {
					if s.size > r.limit {
						t.Fatalf("%d remembered, at most %d", s.size, r.limit)
					}
				}
			},
		})
	})
}

// What was seen is given up in the end, however many it was, and so is a lack of room.
func TestReplaysAreForgotten(t *testing.T) {
	t.Parallel()
	now := time.Unix(1_800_000_000, 0)
	r := newReplays(now)
	r.limit = 2
	for key, want := range map[string]sighting{"a": firstSeen, "b": firstSeen} {
		if got := r.seen(key, now); got != want {
			t.Errorf("%s is %d, want %d", key, got, want)
		}
	}
	if got := r.seen("c", now.Add(2*replayWindow)); got != notKept {
		t.Errorf("one for which there is no room is %d, want %d", got, notKept)
	}
	if got := r.seen("c", now.Add(2*replayWindow+1)); got != firstSeen {
		t.Errorf("the same a generation later is %d, want %d", got, firstSeen)
	}
	if got := r.seen("a", now.Add(2*replayWindow+1)); got != seenBefore {
		t.Errorf("one of the generation before is %d, want %d", got, seenBefore)
	}
	r.seen("d", now.Add(5*replayWindow))
	if n := r.old.size + r.new.size; n != 2 {
		t.Errorf("%d are remembered, want c and d", n)
	}
}

// A set has exactly what was added, also those that would share a slot.
func TestFingerprints(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		var s fingerprints
		want := map[uint64]bool{}
		few := rapid.Uint64Range(0, 3)
		f := rapid.OneOf(rapid.Uint64Min(1), rapid.Custom(func(t *rapid.T) uint64 {
			return few.Draw(t, "slot")<<32 | few.Draw(t, "part") + 1
		}))
		for _, f := range rapid.SliceOfN(f, 0, 1000).Draw(t, "fingerprints") {
			if got := s.has(f); got != want[f] {
				t.Fatalf("%x is there: %t, want %t", f, got, want[f])
			}
			if !want[f] {
				s.add(f)
				want[f] = true
			}
		}
		for f := range want {
			if !s.has(f) {
				t.Fatalf("%x is not there", f)
			}
		}
		if s.size != len(want) {
			t.Fatalf("%d are there, want %d", s.size, len(want))
		}
	})
}
