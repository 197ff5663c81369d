package callout

import (
	"sync"
	"time"
)

// Bounds against replay. A request whose iat is further from the server's clock than
// replayWindow is not answered, so what was seen must be remembered for twice as long.
const (
	replayWindow = 30 * time.Second
	maxReplay    = 1 << 18
)

// replays remembers the user keys of the requests that were worked on: nats-server makes a
// new one for each, so that a key that comes again is a replay.
type replays struct {
	mu       sync.Mutex
	old, new map[string]struct{}
	turned   time.Time
}

func newReplays(now time.Time) *replays {
	return &replays{new: map[string]struct{}{}, turned: now}
}

// seen notes the key and reports whether it was there already.
func (r *replays) seen(key string, now time.Time) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if now.Sub(r.turned) > 2*replayWindow || len(r.new) >= maxReplay {
		r.old, r.new, r.turned = r.new, make(map[string]struct{}, len(r.new)), now
	}
	if _, ok := r.new[key]; ok {
		return true
	}
	if _, ok := r.old[key]; ok {
		return true
	}
	r.new[key] = struct{}{}
	return false
}
