package gatehouse

import (
	"math"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func TestDelayBound(t *testing.T) {
	t.Parallel()
	for attempt, want := range map[int]time.Duration{
		-1: time.Second, 0: time.Second, 1: time.Second, 2: 2 * time.Second, 3: 4 * time.Second,
		5: 16 * time.Second, 6: 30 * time.Second, 7: 30 * time.Second, math.MaxInt: 30 * time.Second,
	} {
		if got := delayBound(attempt); got != want {
			t.Errorf("attempt %d: %v, want %v", attempt, got, want)
		}
	}
}

func TestReconnectDelayIsAnyPartOfItsBound(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		attempt := rapid.Int().Draw(t, "attempt")
		share := rapid.Float64Range(0, 1).Draw(t, "share")
		random := func(n int64) int64 { return min(int64(share*float64(n)), n-1) }
		got, bound := reconnectDelay(attempt, random), delayBound(attempt)
		if got < 0 || got >= bound || bound > maxDelay || delayBound(attempt) > delayBound(max(attempt, attempt+1)) {
			t.Fatalf("attempt %d: %v of %v", attempt, got, bound)
		}
		if math.Abs(float64(got)-share*float64(bound)) > 1 {
			t.Fatalf("attempt %d: %v is not %v of %v", attempt, got, share, bound)
		}
	})
}
