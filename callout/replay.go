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
	old, new map[userKey]struct{}
	turned   time.Time
}

// userKey is a public user key as text, which is that long. Held by value, it keeps nothing of its request.
type userKey [56]byte

func newReplays(now time.Time) *replays {
	return &replays{new: map[userKey]struct{}{}, turned: now}
}

// seen notes the key and reports whether it was there already.
func (r *replays) seen(public string, now time.Time) bool {
	var key userKey
	copy(key[:], public)
	r.mu.Lock()
	defer r.mu.Unlock()
	if now.Sub(r.turned) > 2*replayWindow || len(r.new) >= maxReplay {
		r.old, r.new, r.turned = r.new, make(map[userKey]struct{}, len(r.new)), now
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
