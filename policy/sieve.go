package policy

import "hash/maphash"

// sieve says of which places an index surely holds nothing, in far less memory than the index, which
// is out of the processor's caches when it is large: it is a Bloom filter with all bits of a place in one word.
// An empty one says nothing.
type sieve []uint64

// newSieve returns one for n places, at 16 bits or more for each; one place in 400 that holds nothing
// is then not told.
func newSieve(n int) sieve {
	words := 1
	for words*4 < n {
		words *= 2
	}
	return make(sieve, words)
}

func (s sieve) add(p place) {
	word, bits := s.bits(p)
	s[word] |= bits
}

// lacks reports whether the place was surely not added.
func (s sieve) lacks(p place) bool {
	if len(s) == 0 {
		return false
	}
	word, bits := s.bits(p)
	return s[word]&bits != bits
}

var sieveSeed = maphash.MakeSeed()

func (s sieve) bits(p place) (word int, bits uint64) {
	// What is in one scope under a name is hardly in another under the same.
	h := maphash.String(sieveSeed, p.name) ^ maphash.String(sieveSeed, p.owner)*3
	return int(h>>32) & (len(s) - 1), 1<<(h&63) | 1<<(h>>6&63) | 1<<(h>>12&63) | 1<<(h>>18&63)
}
