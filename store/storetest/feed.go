package storetest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/gatehouse-nats/gatehouse/policy"
	"github.com/gatehouse-nats/gatehouse/store"
)

var feedTests = map[string]func(*testing.T, store.Store){
	"EmptyStore":               testEmpty,
	"LoadHoldsWhatIsInForce":   testLoad,
	"ChangesLeadToLoad":        testChangesLeadToLoad,
	"ChangesByPages":           testChangePages,
	"SixteenWritersMissNobody": testManyWriters,
	"CursorOfAnotherFeed":      testLostCursors,
	"PrunedEntriesAreLost":     testPruneFeed,
	"PruneFeedFreesKeys":       testPruneKeys,
	"Beat":                     testBeat,
	"Hints":                    testHints,
}

func testEmpty(t *testing.T, s store.Store) {
	state := load(t, s)
	if state.Position.Epoch == "" || state.Position.Seq != 0 || len(state.Revocations) != 0 {
		t.Errorf("state: %+v", state)
	}
	changes, at, err := s.Changes(t.Context(), state.Position, 10)
	if err != nil || len(changes) != 0 || at != state.Position {
		t.Errorf("changes: %v, %v, %v", changes, at, err)
	}
}

func testLoad(t *testing.T, s store.Store) {
	forever, ending, ended := block("forever"), block("ending"), block("ended")
	ending.Until = time.Now().UTC().Add(time.Hour).Truncate(time.Microsecond)
	ended.Until = base.Add(time.Minute)
	out := logout("out")
	lifted := block("lifted")
	for _, r := range []store.Revocation{forever, ending, ended, out, lifted} {
		revoke(t, s, r)
	}
	lift(t, s, lifted.ID)
	state := load(t, s)
	if state.Position.Seq != 6 {
		t.Errorf("position %v", state.Position)
	}
	want := map[string]policy.Revocation{forever.ID: forever.Revocation, ending.ID: ending.Revocation, out.ID: out.Revocation}
	if diff := cmp.Diff(want, byID(state.Revocations)); diff != "" {
		t.Error(diff)
	}
}

func byID(list []policy.Revocation) map[string]policy.Revocation {
	m := make(map[string]policy.Revocation, len(list))
	for _, r := range list {
		m[r.ID] = r
	}
	return m
}

// testChangesLeadToLoad: whatever is done, the changes since any earlier state, applied to it,
// make the state that a load gives.
func testChangesLeadToLoad(t *testing.T, s store.Store) {
	rapid.Check(t, func(rt *rapid.T) {
		state := load(t, s)
		have, at := byID(state.Revocations), state.Position
		var made []string
		for i := range rapid.IntRange(1, 8).Draw(rt, "steps") {
			if len(made) > 0 && rapid.Bool().Draw(rt, "lift") {
				lift(t, s, rapid.SampledFrom(made).Draw(rt, "which"))
				continue
			}
			r := block(rapid.SampledFrom([]string{"alice", "bob", "carol"}).Draw(rt, "subject"))
			if rapid.Bool().Draw(rt, "logout") {
				r.Kind = policy.Logout
			} else if rapid.Bool().Draw(rt, "ends") {
				r.Until = time.Now().UTC().Add(time.Duration(24+i) * time.Hour).Truncate(time.Microsecond)
			}
			stored, _, err := s.Revoke(t.Context(), r, "")
			if err != nil {
				rt.Fatal(err)
			}
			made = append(made, stored.ID)
		}
		for {
			changes, next, err := s.Changes(t.Context(), at, rapid.IntRange(1, 4).Draw(rt, "limit"))
			if err != nil {
				rt.Fatal(err)
			}
			if len(changes) == 0 {
				break
			}
			at = next
			for _, c := range changes {
				if c.Revocation.Lifted {
					delete(have, c.Revocation.Revocation.ID)
				} else {
					have[c.Revocation.Revocation.ID] = c.Revocation.Revocation
				}
			}
		}
		want := load(t, s)
		if at != want.Position {
			rt.Fatalf("at %v, loaded %v", at, want.Position)
		}
		if diff := cmp.Diff(byID(want.Revocations), have); diff != "" {
			rt.Fatal(diff)
		}
	})
}

func testChangePages(t *testing.T, s store.Store) {
	at := load(t, s).Position
	for i := range 5 {
		revoke(t, s, logout(fmt.Sprint(i)))
	}
	var got []string
	for range 10 {
		changes, next, err := s.Changes(t.Context(), at, 2)
		if err != nil || len(changes) > 2 {
			t.Fatalf("%d changes, %v", len(changes), err)
		}
		if len(changes) == 0 {
			break
		}
		for _, c := range changes {
			got = append(got, c.Revocation.Revocation.Subject)
		}
		if last := changes[len(changes)-1].Seq; next.Seq != last {
			t.Errorf("position %v after change %d", next, last)
		}
		at = next
	}
	if want := []string{"0", "1", "2", "3", "4"}; !slices.Equal(got, want) {
		t.Errorf("got %v", got)
	}
}

// testManyWriters tails the feed while many write: nobody's entry may appear behind the cursor.
func testManyWriters(t *testing.T, s store.Store) {
	const writers, each = 16, 20
	at := load(t, s).Position
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	var wg sync.WaitGroup
	for w := range writers {
		wg.Go(func() {
			for i := range each {
				if _, _, err := s.Revoke(ctx, logout(fmt.Sprintf("%d-%d", w, i)), ""); err != nil {
					t.Errorf("writer %d: %v", w, err)
					return
				}
			}
		})
	}
	seen := make(map[string]int)
	for n := 0; n < writers*each; {
		changes, next, err := s.Changes(ctx, at, 7)
		if err != nil {
			t.Fatalf("after %d entries: %v", n, err)
		}
		for i, c := range changes {
			if want := at.Seq + int64(i) + 1; c.Seq != want {
				t.Errorf("entry %d came where %d was due", c.Seq, want)
			}
			seen[c.Revocation.Revocation.Subject]++
		}
		n += len(changes)
		at = next
	}
	wg.Wait()
	for w := range writers {
		for i := range each {
			if n := seen[fmt.Sprintf("%d-%d", w, i)]; n != 1 {
				t.Errorf("entry %d of writer %d was seen %d times", i, w, n)
			}
		}
	}
}

func testLostCursors(t *testing.T, s store.Store) {
	revoke(t, s, logout("alice"))
	at := load(t, s).Position
	for name, p := range map[string]store.Position{
		"ahead":         {Epoch: at.Epoch, Seq: at.Seq + 1},
		"another epoch": {Epoch: "other", Seq: at.Seq},
		"none":          {},
	} {
		changes, next, err := s.Changes(t.Context(), p, 10)
		if !errors.Is(err, store.ErrLost) || len(changes) != 0 || next != p {
			t.Errorf("%s: %v, %v, %v", name, changes, next, err)
		}
	}
}

func testPruneFeed(t *testing.T, s store.Store) {
	start := load(t, s).Position
	revoke(t, s, logout("alice"))
	revoke(t, s, logout("bob"))
	end := load(t, s).Position
	if err := s.PruneFeed(t.Context(), time.Now().Add(-time.Hour)); err != nil {
		t.Fatal(err)
	}
	if changes, _, err := s.Changes(t.Context(), start, 10); err != nil || len(changes) != 2 {
		t.Errorf("new entries were pruned: %v, %v", changes, err)
	}
	for range 2 {
		if err := s.PruneFeed(t.Context(), time.Now().Add(time.Hour)); err != nil {
			t.Fatal(err)
		}
	}
	for seq := start.Seq; seq < end.Seq; seq++ {
		if _, _, err := s.Changes(t.Context(), store.Position{Epoch: start.Epoch, Seq: seq}, 10); !errors.Is(err, store.ErrLost) {
			t.Errorf("cursor %d of %d: %v", seq, end.Seq, err)
		}
	}
	if changes, at, err := s.Changes(t.Context(), end, 10); err != nil || len(changes) != 0 || at != end {
		t.Errorf("cursor at the end: %v, %v, %v", changes, at, err)
	}
	revoke(t, s, logout("carol"))
	if changes, _, err := s.Changes(t.Context(), end, 10); err != nil || len(changes) != 1 {
		t.Errorf("after the pruning: %v, %v", changes, err)
	}
	if n := len(load(t, s).Revocations); n != 3 {
		t.Errorf("%d revocations are left", n)
	}
}

func testPruneKeys(t *testing.T, s store.Store) {
	if _, _, err := s.Revoke(t.Context(), logout("alice"), "key"); err != nil {
		t.Fatal(err)
	}
	if err := s.PruneFeed(t.Context(), time.Now().Add(time.Hour)); err != nil {
		t.Fatal(err)
	}
	if _, _, err := s.Revoke(t.Context(), logout("bob"), "key"); err != nil {
		t.Error(err)
	}
}

func testBeat(t *testing.T, s store.Store) {
	for _, replica := range []string{"r1", "r2", "r1", "odd \x00 name"} {
		r := revoke(t, s, logout(replica))
		at, err := s.Beat(t.Context(), store.Heartbeat{Replica: replica})
		if err != nil {
			t.Fatal(err)
		}
		if want := load(t, s).Position; at != want {
			t.Errorf("at %v, want %v, after %s", at, want, r.ID)
		}
	}
}

func testHints(t *testing.T, s store.Store) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	one, two := s.Hints(ctx), s.Hints(t.Context())
	deadline := time.After(patience)
	// A hint may be lost while its connection is being made, so write until one comes.
	for i, ch := range []<-chan struct{}{one, two, one} {
		for heard := false; !heard; {
			revoke(t, s, logout(fmt.Sprint(i)))
			select {
			case <-ch:
				heard = true
			case <-time.After(100 * time.Millisecond):
			case <-deadline:
				t.Fatalf("no hint on channel %d", i)
			}
		}
	}
	cancel()
	for {
		select {
		case _, open := <-one:
			if !open {
				return
			}
		case <-deadline:
			t.Fatal("the channel of an ended context stays open")
		}
	}
}
