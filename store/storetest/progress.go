package storetest

import (
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/gatehouse-nats/gatehouse/store"
)

var progressTests = map[string]func(*testing.T, store.Store){
	"ProgressIsKept":         testProgress,
	"DoneIsNotUndone":        testDone,
	"LiftedStaysAsItIs":      testProgressOfLifted,
	"Unfinished":             testUnfinished,
	"ProgressIsBounded":      testProgressBounds,
	"FirstAnswerSaysNothing": testProgressAndFirstAnswer,
}

func save(t *testing.T, s store.Store, id, progress string, done bool) {
	t.Helper()
	if err := s.SaveProgress(t.Context(), id, json.RawMessage(progress), done); err != nil {
		t.Fatal(err)
	}
}

// stored returns the revocation with that id.
func stored(t *testing.T, s store.Store, id string) store.Revocation {
	t.Helper()
	list, err := allRevocations(t.Context(), s, store.RevocationFilter{ID: id})
	if err != nil || len(list) != 1 {
		t.Fatalf("%d revocations with id %s, %v", len(list), id, err)
	}
	return list[0]
}

func testProgress(t *testing.T, s store.Store) {
	r := revoke(t, s, block("alice"))
	feed := load(t, s).Position
	for _, p := range []string{`{"closed":1}`, `{"name":"a\\\u0000b"}`, `{}`} {
		save(t, s, r.ID, p, false)
		if got := stored(t, s, r.ID); string(got.Progress) != p || !got.DoneAt.IsZero() {
			t.Errorf("saved %s, got %s, done at %v", p, got.Progress, got.DoneAt)
		}
	}
	if now := load(t, s).Position; now != feed {
		t.Errorf("the feed went on from %v to %v", feed, now)
	}
	if err := s.SaveProgress(t.Context(), "nobody", json.RawMessage(`{}`), false); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("of nothing: %v", err)
	}
}

func testDone(t *testing.T, s store.Store) {
	r := revoke(t, s, block("alice"))
	before := time.Now().Add(-time.Second)
	save(t, s, r.ID, `{"closed":2}`, true)
	done := stored(t, s, r.ID)
	if done.DoneAt.Before(before) || time.Since(done.DoneAt) < -time.Second {
		t.Errorf("done at %v", done.DoneAt)
	}
	save(t, s, r.ID, `{"closed":3}`, false)
	save(t, s, r.ID, `{"closed":4}`, true)
	if got := stored(t, s, r.ID); !cmp.Equal(got, done) {
		t.Error(cmp.Diff(done, got))
	}
}

func testProgressOfLifted(t *testing.T, s store.Store) {
	r := revoke(t, s, block("alice"))
	save(t, s, r.ID, `{"closed":2}`, false)
	lifted := lift(t, s, r.ID)
	if string(lifted.Progress) != `{"closed":2}` {
		t.Errorf("the lift says %s", lifted.Progress)
	}
	save(t, s, r.ID, `{"closed":3}`, true)
	if got := stored(t, s, r.ID); !cmp.Equal(got, lifted) {
		t.Error(cmp.Diff(lifted, got))
	}
}

func testUnfinished(t *testing.T, s store.Store) {
	var want []string
	for i := range 3 {
		r := logout("alice")
		r.At = base.Add(time.Duration(3-i) * time.Minute)
		want = append(want, revoke(t, s, r).ID) // the last one made is the oldest
	}
	done, lifted, ended := block("bob"), block("carol"), block("dave")
	ended.Until = base.Add(time.Minute)
	for _, r := range []store.Revocation{done, lifted, ended} {
		revoke(t, s, r)
	}
	save(t, s, done.ID, `{}`, true)
	lift(t, s, lifted.ID)
	for _, limit := range []int{0, 2} {
		list, err := s.Unfinished(t.Context(), limit)
		if err != nil {
			t.Fatal(err)
		}
		if limit > 0 {
			want = want[:limit]
		}
		if got := revocationIDs(list); !slices.Equal(got, want) {
			t.Errorf("at most %d: got %v, want %v", limit, got, want)
		}
	}
}

func testProgressBounds(t *testing.T, s store.Store) {
	r := revoke(t, s, block("alice"))
	quoted := func(n int) string { return `"` + strings.Repeat("x", n-2) + `"` }
	save(t, s, r.ID, quoted(store.MaxProgress), false)
	for name, p := range map[string]string{"long": quoted(store.MaxProgress + 1), "no JSON": `{`, "empty": ``} {
		if err := s.SaveProgress(t.Context(), r.ID, json.RawMessage(p), false); err == nil {
			t.Errorf("%s: it was saved", name)
		}
	}
	if got := stored(t, s, r.ID); len(got.Progress) != store.MaxProgress {
		t.Errorf("%d bytes are kept", len(got.Progress))
	}
}

// testProgressAndFirstAnswer: whoever repeats a call gets what was answered first, and from where the
// feed has it.
func testProgressAndFirstAnswer(t *testing.T, s store.Store) {
	first, _, err := s.Revoke(t.Context(), block("alice"), "key")
	if err != nil {
		t.Fatal(err)
	}
	save(t, s, first.ID, `{"closed":2}`, true)
	lift(t, s, first.ID)
	again, existing, err := s.Revoke(t.Context(), block("alice"), "key")
	if err != nil || existing || !cmp.Equal(again, first) {
		t.Errorf("existing %t, %v, %s", existing, err, cmp.Diff(first, again))
	}
}
