package policy_test

import (
	"fmt"
	"os"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-nats/gatehouse/policy"
)

// blocks returns n blocks of identities of the issuer, with texts of their own, as a store makes them.
func blocks(n int) []policy.Revocation {
	list := make([]policy.Revocation, n)
	for i := range list {
		list[i] = policy.Revocation{
			ID: fmt.Sprintf("0198f2c4-0000-7000-8000-%012d", i), Kind: policy.Block, At: start,
			Target: policy.Target{Principal: policy.Principal{
				Issuer: strings.Clone("https://login.example.com"), Subject: fmt.Sprintf("00u%017d", i),
			}},
		}
	}
	return list
}

// crowd returns rules, and many identities that are not blocked.
func crowd(b testing.TB) (*policy.Rules, []*policy.Identity) {
	snapshot, one := scene{bindings: 6, groups: 10}.build(b)
	people := make([]*policy.Identity, 1024)
	for i := range people {
		id := *one
		id.Subject, id.SessionID, id.TokenID = fmt.Sprintf("00v%017d", i), fmt.Sprint("session-", i), fmt.Sprint("token-", i)
		people[i] = &id
	}
	return snapshot.Rules, people
}

func decideAll(t testing.TB, s *policy.Snapshot, people []*policy.Identity) time.Duration {
	began := time.Now()
	for _, id := range people {
		if d := policy.Decide(s, id, policy.Connection{Type: policy.Standard}, start, nil); !d.Allowed() {
			t.Fatal(d.Refusal)
		}
	}
	return time.Since(began) / time.Duration(len(people))
}

// BenchmarkBlocks shows what blocks cost those who are not blocked.
func BenchmarkBlocks(b *testing.B) {
	rules, people := crowd(b)
	for _, n := range []int{0, 100_000, 1_000_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			s := &policy.Snapshot{Rules: rules, Revocations: policy.NewRevocations(blocks(n))}
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				decideAll(b, s, people[i%len(people):][:1])
			}
		})
	}
}

// TestManyBlocksProve: blocks hardly cost those who are not blocked, and their memory is told.
func TestManyBlocksProve(t *testing.T) {
	long := os.Getenv("GATEHOUSE_PROVE") == "1"
	sizes, rounds := []int{1000}, 3
	if long {
		sizes, rounds = []int{100_000, 1_000_000}, 400
	}
	rules, people := crowd(t)
	none := &policy.Snapshot{Rules: rules, Revocations: policy.NewRevocations(nil)}
	for _, n := range sizes {
		before := heap()
		many := &policy.Snapshot{Rules: rules, Revocations: policy.NewRevocations(blocks(n))}
		memory := heap() - before
		// In turns, and the quickest of each: whatever else the machine does only adds to them.
		var without, with []time.Duration
		for range rounds {
			without = append(without, decideAll(t, none, people))
			with = append(with, decideAll(t, many, people))
		}
		a, b := slices.Min(without), slices.Min(with)
		t.Logf("%d blocks: a decision takes %v, and %v with none (%+.1f %%); memory %.1f MB, %d bytes a block",
			n, b, a, 100*(float64(b)/float64(a)-1), float64(memory)/1e6, memory/int64(n))
		if n == 100_000 && float64(b) > 1.05*float64(a) {
			t.Errorf("with %d blocks a decision takes more than 5 %% longer", n)
		}
		blocked := *people[0]
		blocked.Subject = fmt.Sprintf("00u%017d", n-1)
		if d := policy.Decide(many, &blocked, policy.Connection{Type: policy.Standard}, start, nil); d.Allowed() || d.Refusal.Reason != policy.Blocked {
			t.Errorf("the last of %d is not blocked: %v", n, d.Refusal)
		}
		runtime.KeepAlive(many)
	}
}

// heap returns the bytes that are in use.
func heap() int64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}
