package callout

import (
	"hash/maphash"
	"sync"
	"time"
)

// Bounds against replay. A request whose iat is further from the server's clock than replayWindow is not
// answered, so what was seen must be remembered for twice as long.
const (
	replayWindow = 30 * time.Second
	// maxReplay is how many requests are remembered at most of one generation, which lasts for twice replayWindow:
	// 35,000 a second, in 34 MB.
	maxReplay = 1 << 21
)

// replays remembers the user keys of the requests that were worked on: nats-server makes a new one for each, so
// that a key that comes again is a replay. A key is remembered for twice to four times replayWindow.
//
// It keeps fingerprints of 64 bits under a seed of its own. A replay is always known by its fingerprint; a new key has
// that of another one by chance with n/2^64 where n are remembered, once in 10^14 logins at 1,000 a second, and is then
// left unanswered like a replay: the client tries again, with another key.
type replays struct {
	seed   maphash.Seed
	limit  int // of a generation
	mu     sync.Mutex
	old    *fingerprints
	new    *fingerprints
	turned time.Time
}

func newReplays(now time.Time) *replays {
	return &replays{seed: maphash.MakeSeed(), limit: maxReplay, old: new(fingerprints), new: new(fingerprints), turned: now}
}

// sighting is what a key turns out to be.
type sighting int

const (
	firstSeen sighting = iota
	seenBefore
	notKept // there is no room for it, so that it could come again
)

// seen notes the key and says whether it was there already. It forgets nothing before its time to make room.
func (r *replays) seen(public string, now time.Time) sighting {
	f := max(maphash.String(r.seed, public), 1) // 0 marks a free slot
	r.mu.Lock()
	defer r.mu.Unlock()
	if now.Sub(r.turned) > 2*replayWindow {
		r.old, r.new, r.turned = r.new, new(fingerprints), now
	}
	switch {
	case r.new.has(f) || r.old.has(f):
		return seenBefore
	case r.new.size >= r.limit:
		return notKept
	}
	r.new.add(f)
	return firstSeen
}

// fingerprints is a set of numbers other than 0. It grows in parts, so that no login waits until all of it has been copied.
type fingerprints struct {
	parts [64]part
	size  int
}

// part has the fingerprints that end in the same bits: an open-addressed table, a power of two long, at most three quarters full.
type part struct {
	slots []uint64 // 0 where there is none
	size  int
}

// smallest is the length of a part's first table.
const smallest = 32

func (s *fingerprints) part(f uint64) *part { return &s.parts[f%uint64(len(s.parts))] }

func (s *fingerprints) has(f uint64) bool {
	p := s.part(f)
	return len(p.slots) > 0 && *p.slot(f) != 0
}

// add adds one that is not in the set.
func (s *fingerprints) add(f uint64) {
	p := s.part(f)
	if 4*(p.size+1) > 3*len(p.slots) {
		before := p.slots
		p.slots = make([]uint64, max(smallest, 2*len(before)))
		for _, f := range before {
			if f != 0 {
				*p.slot(f) = f
			}
		}
	}
	*p.slot(f) = f
	p.size++
	s.size++
}

// slot returns where the fingerprint is, or the free slot where it would be.
func (p *part) slot(f uint64) *uint64 {
	mask := uint64(len(p.slots) - 1)
	for i := f >> 32 & mask; ; i = (i + 1) & mask {
		if p.slots[i] == 0 || p.slots[i] == f {
			return &p.slots[i]
		}
	}
}
