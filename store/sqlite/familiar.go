package sqlite

import (
	"hash/maphash"
	"slices"
	"sync"
	"time"

	"github.com/gatehouse-nats/gatehouse/store/internal/row"
)

// maxFamiliar bounds how many identities are remembered, at about 100 bytes each.
const maxFamiliar = 1 << 15

// familiar remembers what rows identities have, so that who logs in again and again is not looked up each time. Only this
// process writes the file.
type familiar struct {
	mu   sync.Mutex
	seed maphash.Seed
	rows map[[32]byte]familiarRow
}

type familiarRow struct {
	shown    uint64 // hash of name and display claims
	lastSeen time.Time
}

// strangers returns the sightings that may tell something new.
func (f *familiar) strangers(seen []row.Seen) []row.Seen {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.DeleteFunc(seen, func(s row.Seen) bool {
		r, ok := f.rows[[32]byte(s.Hash)]
		return ok && r.shown == f.shown(s) && !row.Stale(r.lastSeen, s.LastSeen)
	})
}

// note remembers rows as the transaction leaves them; [Store.write] forgets them when it fails.
func (f *familiar) note(rows ...row.Seen) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.rows == nil {
		f.seed, f.rows = maphash.MakeSeed(), map[[32]byte]familiarRow{}
	}
	for _, s := range rows {
		if len(f.rows) >= maxFamiliar {
			clear(f.rows)
		}
		f.rows[[32]byte(s.Hash)] = familiarRow{f.shown(s), s.LastSeen}
	}
}

func (f *familiar) forget() {
	f.mu.Lock()
	defer f.mu.Unlock()
	clear(f.rows)
}

// shown hashes what is shown of an identity; the order of the claims is nothing.
func (f *familiar) shown(s row.Seen) uint64 {
	sum := maphash.String(f.seed, s.Name)
	for name, value := range s.Display {
		sum += maphash.Comparable(f.seed, [2]string{name, value})
	}
	return sum
}
