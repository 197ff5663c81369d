package resolver

import (
	"crypto/sha256"
	"time"
)

// print is the SHA-256 of an account JWT, or of several the XOR of theirs: what servers make known of their stores
// (nats-server server/dirstore.go, xorAssign). The zero value is that of nothing.
type print [sha256.Size]byte

func printOf(token string) print { return sha256.Sum256([]byte(token)) }

func (p print) xor(q print) print {
	for i := range p {
		p[i] ^= q[i]
	}
	return p
}

// printLife is how long a server may take to say what it stores.
const printLife = 5 * time.Second

// fingerprint is the print of all account JWTs that servers were given, now and after each of the last changes. Servers
// take pushes in the order in which they were published, so one that is asked between two has one of these.
type fingerprint struct {
	now    print
	recent map[print]int // how often each is in order
	order  []moment
}

type moment struct {
	print print
	until time.Time // when the next change came, and printLife more
}

// replace notes that servers are given one account JWT in place of another; zero is none.
func (f *fingerprint) replace(before, after print, now time.Time) {
	if before == after {
		return
	}
	f.forget(now)
	if f.recent == nil {
		f.recent = map[print]int{}
	}
	f.recent[f.now]++
	f.order = append(f.order, moment{f.now, now.Add(printLife)})
	f.now = f.now.xor(before).xor(after)
}

// forget drops what no server has to say any more.
func (f *fingerprint) forget(now time.Time) {
	ended := 0
	for ended < len(f.order) && now.After(f.order[ended].until) {
		p := f.order[ended].print
		if f.recent[p]--; f.recent[p] == 0 {
			delete(f.recent, p)
		}
		ended++
	}
	f.order = f.order[ended:]
}

// matches reports whether servers had this a moment ago, or have it now.
func (f *fingerprint) matches(p print, now time.Time) bool {
	f.forget(now)
	return p == f.now || f.recent[p] > 0
}
