package provision

import (
	"math"
	"net/http"
	"sync"
	"time"

	"github.com/gatehouse-nats/gatehouse/api"
	"github.com/gatehouse-nats/gatehouse/policy"
)

// Bounds of how often one identity may call.
const (
	rateWindow  = 10 * time.Second
	rateCalls   = 100    // in a window
	maxCounted  = 10_000 // identities in a window; those beyond it are bounded by the calls at once alone
	rateMessage = "too many calls of this identity: at most %d in %s"
)

// rates counts the calls of each identity in windows of time.
type rates struct {
	mu    sync.Mutex
	since time.Time
	calls map[policy.Principal]int
}

// take counts a call and returns how long to wait before the next when there were too many; 0 when it may go on.
func (r *rates) take(who policy.Principal, now time.Time) time.Duration {
	r.mu.Lock()
	defer r.mu.Unlock()
	if age := now.Sub(r.since); age < 0 || age >= rateWindow {
		r.since, r.calls = now, map[policy.Principal]int{}
	}
	n, counted := r.calls[who]
	switch {
	case n >= rateCalls:
		return r.since.Add(rateWindow).Sub(now)
	case counted || len(r.calls) < maxCounted:
		r.calls[who] = n + 1
	}
	return 0
}

func tooMany(wait time.Duration) *api.Error {
	e := refuse(http.StatusTooManyRequests, api.ReasonRateLimited, rateMessage, rateCalls, rateWindow)
	e.RetryAfter = int(math.Ceil(wait.Seconds()))
	return e
}
