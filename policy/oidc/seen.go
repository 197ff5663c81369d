package oidc

import (
	"crypto/sha256"
	"sync"
)

// Bounds of what is remembered of verified tokens. A generation holds half of it, so that at most
// that much is forgotten at once.
const (
	seenTokens = 2048    // of a generation
	seenBytes  = 4 << 20 // of a generation's tokens; decoded they take a few times as much
)

// seen remembers tokens whose signature has verified: clients come back with the same token whenever
// their connection breaks, and all at once when a server ends. It remembers nothing of what a token is
// good for: whether its time, audience and issuer are right is judged anew each time, and so is the
// decision. Tokens that did not verify are not remembered, so that nobody can fill it with them.
type seen struct {
	mu           sync.Mutex
	young, old   map[[sha256.Size]byte]*verified
	bytes        int // of the young ones' tokens
	tokens, size int // the bounds of a generation
}

// verified is a token of an issuer whose signature has verified with one of the issuer's keys.
type verified struct {
	token
	keeper *keeper
	digest [sha256.Size]byte // of the keys that the issuer had then
}

func newSeen(tokens, size int) *seen {
	return &seen{young: map[[sha256.Size]byte]*verified{}, tokens: tokens, size: size}
}

// find returns what is remembered of the token of size bytes that has the SHA-256 key, nil when nothing is.
func (s *seen) find(key [sha256.Size]byte, size int) *verified {
	s.mu.Lock()
	defer s.mu.Unlock()
	if v := s.young[key]; v != nil {
		return v
	}
	v := s.old[key]
	if v != nil {
		s.keep(key, v, size) // whoever comes back is not forgotten
	}
	return v
}

// add remembers a token, see [seen.find].
func (s *seen) add(key [sha256.Size]byte, size int, v *verified) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.keep(key, v, size)
}

func (s *seen) keep(key [sha256.Size]byte, v *verified, size int) {
	if len(s.young) >= s.tokens || s.bytes+size > s.size {
		s.young, s.old, s.bytes = map[[sha256.Size]byte]*verified{}, s.young, 0
	}
	s.young[key] = v
	s.bytes += size
}

// holds reports whether what verified then would verify now: the issuer is the same, and has the same keys.
func (v *verified) holds(keepers map[string]*keeper) bool {
	return keepers[v.issuer] == v.keeper && v.keeper.keys.Load().digest == v.digest
}
