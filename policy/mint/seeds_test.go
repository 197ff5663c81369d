package mint

import (
	"bytes"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"testing"

	"github.com/nats-io/nkeys"
)

// pair returns a new account key.
func pair(t testing.TB) (public string, seed []byte) {
	t.Helper()
	kp, err := nkeys.CreateAccount()
	if err != nil {
		t.Fatal(err)
	}
	public, _ = kp.PublicKey()
	seed, _ = kp.Seed()
	return public, seed
}

func newSeed(t testing.TB, public string, seed []byte) *Seed {
	t.Helper()
	s, err := NewSeed(public, seed)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestSeeds(t *testing.T) {
	t.Parallel()
	var none *Seeds
	if none.Len() != 0 || none.Has("A") || NewKeyring().Key("A") != nil {
		t.Error("there is something in nothing")
	}
	public, seed := pair(t)
	other, otherSeed := pair(t)
	one := none.With([]*Seed{newSeed(t, public, seed)}, nil)
	two := one.With([]*Seed{newSeed(t, other, otherSeed), newSeed(t, other, otherSeed)}, nil)
	gone := two.With(nil, []string{public, public, "nothing"})
	for name, c := range map[string]struct {
		seeds      *Seeds
		size       int
		has, other bool
	}{"one": {one, 1, true, false}, "two": {two, 2, true, true}, "one gone": {gone, 1, false, true}} {
		r := NewKeyring().With(c.seeds)
		if c.seeds.Len() != c.size || (r.Key(public) != nil) != c.has || (r.Key(other) != nil) != c.other || c.seeds.Has(public) != c.has {
			t.Errorf("%s: %d seeds, %v, %v", name, c.seeds.Len(), r.Key(public), r.Key(other))
		}
	}
	r := NewKeyring().With(one)
	k := r.Key(public)
	if k.Public() != public || r.Key(public) != k {
		t.Errorf("got %v, want %s, and the same again", k, public)
	}
	signature, _ := k.Sign([]byte("text"))
	verifier, _ := nkeys.FromPublicKey(public)
	if err := verifier.Verify([]byte("text"), signature); err != nil {
		t.Error(err)
	}
	for _, shown := range []string{fmt.Sprintf("%v %+v %#v", r, one, newSeed(t, public, seed)), fmt.Sprint(newSeed(t, public, seed))} {
		if strings.Contains(shown, string(seed)) {
			t.Error("the seed is shown")
		}
	}
}

// TestConfiguredKeyComesFirst keeps what the store holds from taking the place of what the configuration says.
func TestConfiguredKeyComesFirst(t *testing.T) {
	t.Parallel()
	public, seed := pair(t)
	k, err := NewKey(seed)
	if err != nil {
		t.Fatal(err)
	}
	seeds := (*Seeds)(nil).With([]*Seed{newSeed(t, public, seed)}, nil)
	if got := NewKeyring(k).With(seeds).Key(public); got != k {
		t.Error("the key of the store stands before that of the configuration")
	}
}

// TestSeedOfAnotherKey: whoever asks for a key never gets one that signs as another.
func TestSeedOfAnotherKey(t *testing.T) {
	t.Parallel()
	public, _ := pair(t)
	other, seed := pair(t)
	r := NewKeyring().With((*Seeds)(nil).With([]*Seed{newSeed(t, public, seed)}, nil))
	for range 2 { // before and after it was expanded
		if r.Key(public) != nil || r.Key(other) != nil {
			t.Fatal("a key is given for the seed of another")
		}
	}
}

func TestNewSeed(t *testing.T) {
	t.Parallel()
	public, seed := pair(t)
	user, _ := nkeys.CreateUser()
	userSeed, _ := user.Seed()
	userPublic, _ := user.PublicKey()
	for name, c := range map[string]struct {
		public string
		seed   []byte
	}{
		"no seed": {public, nil}, "a user's seed": {public, userSeed}, "a user's key": {userPublic, seed},
		"no key": {"", seed}, "a damaged seed": {public, append(bytes.Repeat([]byte("A"), 20), seed[20:]...)},
	} {
		if _, err := NewSeed(c.public, c.seed); !errors.Is(err, ErrKeyKind) || len(c.seed) > 10 && strings.Contains(err.Error(), string(c.seed[5:])) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestSeedIsExpandedByManyAtOnce(t *testing.T) {
	t.Parallel()
	public, seed := pair(t)
	r := NewKeyring().With((*Seeds)(nil).With([]*Seed{newSeed(t, public, seed)}, nil))
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			if k := r.Key(public); k == nil || k.Public() != public {
				t.Errorf("got %v", k)
			}
		})
	}
	wg.Wait()
}

// TestLookupAllocatesNothing because every login looks a key up.
func TestLookupAllocatesNothing(t *testing.T) {
	public, seed := pair(t)
	r := NewKeyring().With((*Seeds)(nil).With([]*Seed{newSeed(t, public, seed)}, nil))
	r.Key(public)
	if n := testing.AllocsPerRun(100, func() { _ = r.Key(public) }); n != 0 {
		t.Errorf("a lookup takes %v allocations", n)
	}
}

// BenchmarkSeeds is what 20,000 accounts cost: bytes a key that is held, and to change one.
func BenchmarkSeeds(b *testing.B) {
	const many = 20_000
	added := make([]*Seed, many)
	publics := make([]string, many)
	sealed := make([][]byte, many)
	for i := range many {
		publics[i], sealed[i] = pair(b)
	}
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	for i := range many {
		added[i] = newSeed(b, strings.Clone(publics[i]), sealed[i]) // as from a store, which shares no text
	}
	seeds := (*Seeds)(nil).With(added, nil)
	added = nil
	runtime.GC()
	runtime.ReadMemStats(&after)
	runtime.KeepAlive(publics)
	runtime.KeepAlive(sealed)
	held := float64(after.HeapAlloc-before.HeapAlloc) / many
	public, seed := pair(b)
	b.Run("change", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			_ = seeds.With([]*Seed{newSeed(b, public, seed)}, publics[:1])
		}
		b.ReportMetric(held, "held-B/key")
	})
	b.Run("open", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			newSeed(b, public, seed)
		}
	})
	b.Run("expand", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			newSeed(b, public, seed).expand()
		}
	})
	runtime.KeepAlive(seeds)
}
