package storetest

import (
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/gatehouse-nats/gatehouse/store"
)

var replicaTests = map[string]func(*testing.T, store.Store){
	"Heartbeats":             testHeartbeats,
	"HeartbeatsAreNotPruned": testPruneHeartbeats,
	"Lease":                  testLease,
	"LeaseEnds":              testLeaseEnds,
	"LeaseAtOnce":            testLeaseAtOnce,
	"LeaseModel":             testLeaseModel,
	"LeaseNames":             testLeaseNames,
}

func beat(t *testing.T, s store.Store, h store.Heartbeat) {
	t.Helper()
	if _, err := s.Beat(t.Context(), h); err != nil {
		t.Fatal(err)
	}
}

func replicas(t *testing.T, s store.Store) []store.Replica {
	t.Helper()
	list, err := s.Replicas(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return list
}

func testHeartbeats(t *testing.T, s store.Store) {
	at := store.Position{Epoch: "e", Seq: 7}
	for _, name := range []string{"b", "a", "B", "odd \x00 name"} {
		beat(t, s, store.Heartbeat{Replica: name})
		beat(t, s, store.Heartbeat{Replica: name, Applied: at, MaxStaleness: 90 * time.Second})
	}
	var names []string
	for _, r := range replicas(t, s) {
		names = append(names, r.Name)
		if r.Applied != at || r.MaxStaleness != 90*time.Second || r.Age < 0 || r.Age > patience || r.At.IsZero() || r.Stale() {
			t.Errorf("%+v", r)
		}
	}
	if want := []string{"B", "a", "b", "odd \x00 name"}; !slices.Equal(names, want) {
		t.Errorf("got %q", names)
	}
	for range 2 {
		if err := s.Leave(t.Context(), "a"); err != nil {
			t.Fatal(err)
		}
	}
	if left := replicas(t, s); len(left) != 3 || left[1].Name != "b" {
		t.Errorf("after one left: %+v", left)
	}
	for name, h := range map[string]store.Heartbeat{"no name": {}} {
		if _, err := s.Beat(t.Context(), h); err == nil {
			t.Errorf("%s was taken", name)
		}
	}
}

// testPruneHeartbeats: a replica may decide on for its max_staleness after its last heartbeat, and is not
// forgotten before.
func testPruneHeartbeats(t *testing.T, s store.Store) {
	beat(t, s, store.Heartbeat{Replica: "quick", MaxStaleness: time.Microsecond})
	beat(t, s, store.Heartbeat{Replica: "slow", MaxStaleness: time.Hour})
	deadline := time.Now().Add(patience)
	for {
		if err := s.PruneFeed(t.Context(), time.Now().Add(time.Hour)); err != nil {
			t.Fatal(err)
		}
		left := replicas(t, s)
		if len(left) == 1 && left[0].Name == "slow" {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("left: %+v", left)
		}
	}
}

func acquire(t *testing.T, s store.Store, name, holder string, ttl time.Duration) (bool, time.Time) {
	t.Helper()
	held, until, err := s.Acquire(t.Context(), name, holder, ttl)
	if err != nil {
		t.Fatal(err)
	}
	return held, until
}

func testLease(t *testing.T, s store.Store) {
	held, until := acquire(t, s, "sweep/1", "r1", time.Hour)
	if !held || until.Before(time.Now().Add(30*time.Minute)) {
		t.Fatalf("held %t until %v", held, until)
	}
	if held, other := acquire(t, s, "sweep/1", "r2", 2*time.Hour); held || !other.Equal(until) {
		t.Errorf("another holds it until %v, and it is %v", other, until)
	}
	if held, _ := acquire(t, s, "sweep/2", "r2", time.Hour); !held {
		t.Error("another lease is not free")
	}
	held, renewed := acquire(t, s, "sweep/1", "r1", 2*time.Hour)
	if !held || !renewed.After(until) {
		t.Errorf("renewed: %t until %v", held, renewed)
	}
	for _, holder := range []string{"r2", "r1"} {
		if err := s.Release(t.Context(), "sweep/1", holder); err != nil {
			t.Fatal(err)
		}
		if held, _ := acquire(t, s, "sweep/1", "r3", time.Hour); held != (holder == "r1") {
			t.Errorf("after the release by %s it is held by another: %t", holder, held)
		}
	}
}

func testLeaseEnds(t *testing.T, s store.Store) {
	acquire(t, s, "lease", "r1", time.Microsecond)
	deadline := time.Now().Add(patience)
	for held := false; !held; {
		if held, _ = acquire(t, s, "lease", "r2", time.Hour); time.Now().After(deadline) {
			t.Fatal("nobody else gets a lease that has ended")
		}
	}
	if held, _ := acquire(t, s, "lease", "r1", time.Hour); held {
		t.Error("the one that let it end has it too")
	}
}

// testLeaseAtOnce: of many that ask at once one gets it.
func testLeaseAtOnce(t *testing.T, s store.Store) {
	for round := range 5 {
		name := "lease " + strconv.Itoa(round)
		got := make(chan int, 8)
		var wg sync.WaitGroup
		for i := range cap(got) {
			wg.Go(func() {
				held, _, err := s.Acquire(t.Context(), name, strconv.Itoa(i), time.Hour)
				if err != nil {
					t.Error(err)
				}
				if held {
					got <- i
				}
			})
		}
		wg.Wait()
		if len(got) != 1 {
			t.Errorf("round %d: %d have it", round, len(got))
		}
	}
}

// testLeaseModel: whatever the order of calls, a lease that is held is its holder's alone.
func testLeaseModel(t *testing.T, s store.Store) {
	rapid.Check(t, func(rt *rapid.T) {
		name := newID()
		holder := ""
		who := rapid.SampledFrom([]string{"r1", "r2", "r3"})
		for range rapid.IntRange(1, 12).Draw(rt, "steps") {
			r := who.Draw(rt, "who")
			if rapid.Bool().Draw(rt, "release") {
				if err := s.Release(t.Context(), name, r); err != nil {
					rt.Fatal(err)
				}
				if holder == r {
					holder = ""
				}
				continue
			}
			held, until, err := s.Acquire(t.Context(), name, r, time.Hour)
			if err != nil || held != (holder == "" || holder == r) || until.IsZero() {
				rt.Fatalf("%s gets %t until %v, %v; it is %q's", r, held, until, err, holder)
			}
			if held {
				holder = r
			}
		}
	})
}

func testLeaseNames(t *testing.T, s store.Store) {
	for name, c := range map[string][2]string{"no name": {"", "r1"}, "no holder": {"lease", ""}} {
		if held, _, err := s.Acquire(t.Context(), c[0], c[1], time.Hour); held || err == nil {
			t.Errorf("%s: held %t, %v", name, held, err)
		}
	}
	for _, odd := range oddTexts {
		if held, _ := acquire(t, s, odd, odd, time.Hour); !held {
			t.Errorf("%q is not free", odd)
		}
	}
	acquire(t, s, "ended", "r1", time.Microsecond)
	if err := s.PruneFeed(t.Context(), time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	var kept []bool
	for _, odd := range oddTexts {
		held, _ := acquire(t, s, odd, "another", time.Hour)
		kept = append(kept, !held)
	}
	if slices.Contains(kept, false) {
		t.Errorf("leases that hold were pruned: %s", cmp.Diff(oddTexts, kept))
	}
}
