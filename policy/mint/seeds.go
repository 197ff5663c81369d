package mint

import (
	"fmt"
	"hash/maphash"
	"log/slog"
	"maps"
	"sync/atomic"

	"github.com/nats-io/nkeys"
)

// seedShards is how many parts seeds have: a change copies the parts that it touches and no other.
const seedShards = 256

// Seeds holds the seeds of account signing keys, each of which is expanded when it is first signed with. It is
// immutable; a nil one is empty.
type Seeds struct {
	hash   maphash.Seed
	shards [seedShards]map[string]*Seed
	size   int
}

// Seed is the seed of an account signing key.
type Seed struct {
	public string
	seed   [32]byte // without what nkeys writes around it
	key    atomic.Pointer[Key]
}

// NewSeed returns the seed (SA…) of the key with that public key, which is compared when the key is first asked
// for; an error that wraps [ErrKeyKind] and holds nothing of the seed.
func NewSeed(public string, seed []byte) (*Seed, error) {
	if !nkeys.IsValidPublicAccountKey(public) {
		return nil, fmt.Errorf("%w: %.80q is no account key (A…)", ErrKeyKind, public)
	}
	s := &Seed{public: public}
	prefix, secret, err := nkeys.DecodeSeed(seed)
	if err != nil || prefix != nkeys.PrefixByteAccount || len(secret) != len(s.seed) {
		return nil, fmt.Errorf("%w: not an account seed (SA…)", ErrKeyKind)
	}
	copy(s.seed[:], secret)
	clear(secret)
	return s, nil
}

// Public returns the public key (A…).
func (s *Seed) Public() string { return s.public }

// String keeps the seed out of formatted text.
func (s *Seed) String() string { return s.public }

// GoString keeps the seed out of %#v.
func (s *Seed) GoString() string { return s.public }

// LogValue keeps the seed out of logs.
func (s *Seed) LogValue() slog.Value { return slog.StringValue(s.public) }

// With returns the seeds with those in place of any of the same public keys, and without the ones that are gone.
func (s *Seeds) With(added []*Seed, gone []string) *Seeds {
	next := &Seeds{}
	if s == nil {
		next.hash = maphash.MakeSeed()
	} else {
		*next = *s
	}
	var own [seedShards]bool
	shard := func(public string) map[string]*Seed {
		i := next.shard(public)
		if !own[i] {
			next.shards[i], own[i] = maps.Clone(next.shards[i]), true
		}
		if next.shards[i] == nil {
			next.shards[i] = map[string]*Seed{}
		}
		return next.shards[i]
	}
	for _, public := range gone {
		if next.Has(public) {
			delete(shard(public), public)
			next.size--
		}
	}
	for _, a := range added {
		if !next.Has(a.public) {
			next.size++
		}
		shard(a.public)[a.public] = a
	}
	return next
}

func (s *Seeds) shard(public string) int { return int(maphash.String(s.hash, public) % seedShards) }

// Len returns how many seeds there are.
func (s *Seeds) Len() int {
	if s == nil {
		return 0
	}
	return s.size
}

// Has reports whether there is a seed for the public key.
func (s *Seeds) Has(public string) bool { return s.seed(public) != nil }

func (s *Seeds) seed(public string) *Seed {
	if s == nil {
		return nil
	}
	return s.shards[s.shard(public)][public]
}

// key returns the key with that public key, nil when there is none or its seed is another key's.
func (s *Seeds) key(public string) *Key {
	seed := s.seed(public)
	if seed == nil {
		return nil
	}
	if k := seed.key.Load(); k != nil {
		return k
	}
	return seed.expand()
}

// expand makes the key, and keeps it: two that do so at once make the same. It is nil when the seed is another key's.
func (s *Seed) expand() *Key {
	text, err := nkeys.EncodeSeed(nkeys.PrefixByteAccount, s.seed[:])
	if err != nil {
		return nil
	}
	defer clear(text)
	k, err := NewKey(text)
	if err != nil || k.public != s.public {
		return nil
	}
	s.key.Store(k)
	return k
}
