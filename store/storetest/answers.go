package storetest

import (
	"encoding/json"
	"errors"
	"sync"
	"testing"

	"github.com/gatehouse-nats/gatehouse/store"
)

func testAnsweredOnce(t *testing.T, s store.Store) {
	c := created("orders", "alice")
	c.Once = &store.Once{Key: "k", Call: call("orders"), Answer: json.RawMessage(`{"n": 1}`)}
	if first, err := s.SaveAccount(t.Context(), c); err != nil || first != nil {
		t.Fatalf("got %s, %v", first, err)
	}
	again := created("orders", "alice")
	again.Account.ID = "Aanother"
	again.Once = &store.Once{Key: "k", Call: call("orders"), Answer: json.RawMessage(`{"n": 2}`)}
	if first, err := s.SaveAccount(t.Context(), again); err != nil || string(first) != `{"n": 1}` {
		t.Errorf("again: %s, %v", first, err)
	}
	if first, err := s.Answer(t.Context(), "k", call("orders")); err != nil || string(first) != `{"n": 1}` {
		t.Errorf("looked up: %s, %v", first, err)
	}
	if _, err := s.Answer(t.Context(), "k", call("other")); !errors.Is(err, store.ErrConflict) {
		t.Errorf("of another call: %v", err)
	}
	again.Once.Call = call("other")
	if _, err := s.SaveAccount(t.Context(), again); !errors.Is(err, store.ErrConflict) {
		t.Errorf("another call: %v", err)
	}
	if first, err := s.Answer(t.Context(), "unused", call("orders")); err != nil || first != nil {
		t.Errorf("unused: %s, %v", first, err)
	}
	// A change that fails leaves no answer.
	failed := created("ORDERS", "bob")
	failed.Once = &store.Once{Key: "f", Call: call("f"), Answer: json.RawMessage(`{}`)}
	if _, err := s.SaveAccount(t.Context(), failed); !errors.Is(err, store.ErrTaken) {
		t.Fatal(err)
	}
	if first, err := s.Answer(t.Context(), "f", call("f")); err != nil || first != nil {
		t.Errorf("of a change that failed: %s, %v", first, err)
	}
}

// remember keeps an answer and says which one was there, or "" when it is kept.
func remember(t *testing.T, s store.Store, key, of, answer, before string) (string, error) {
	t.Helper()
	o := store.Once{Key: key, Call: call(of)}
	if answer != "" {
		o.Answer = json.RawMessage(answer)
	}
	var there json.RawMessage
	if before != "" {
		there = json.RawMessage(before)
	}
	first, err := s.Remember(t.Context(), o, there)
	return string(first), err
}

func testRemembered(t *testing.T, s store.Store) {
	for _, step := range []struct {
		call, answer, before string
		first                string
		err                  error
	}{
		{"kick", `null`, "", "", nil},
		{"kick", `null`, "", `null`, nil}, // begun
		{"other", `null`, "", "", store.ErrConflict},
		{"other", `{"n": 3}`, `null`, "", store.ErrConflict},
		{"kick", `{"n": 1}`, `null`, "", nil},
		{"kick", `{"n": 2}`, `null`, `{"n": 1}`, nil},
		{"kick", "", `null`, `{"n": 1}`, nil},
		{"kick", `null`, "", `{"n": 1}`, nil},
		{"kick", "", `{"n": 1}`, "", nil}, // forgotten
		{"kick", `{"n": 2}`, `{"n": 1}`, "", store.ErrChanged},
		{"other", `null`, "", "", nil},
	} {
		if first, err := remember(t, s, "k", step.call, step.answer, step.before); first != step.first || !errors.Is(err, step.err) {
			t.Errorf("%+v: got %s, %v", step, first, err)
		}
	}
	if _, err := s.Remember(t.Context(), store.Once{Key: "short", Call: []byte("no hash"), Answer: json.RawMessage(`{}`)}, nil); err == nil {
		t.Error("a call that is no hash was kept")
	}
}

// Of many that begin a call at once, one does.
func testRememberedAtOnce(t *testing.T, s store.Store) {
	const many = 16
	var group sync.WaitGroup
	firsts := make([]string, many)
	for i := range firsts {
		group.Go(func() {
			first, err := remember(t, s, "k", "kick", `null`, "")
			if err != nil {
				t.Error(err)
			}
			firsts[i] = first
		})
	}
	group.Wait()
	began := 0
	for _, first := range firsts {
		switch first {
		case "":
			began++
		case `null`:
		default:
			t.Errorf("got %s", first)
		}
	}
	if began != 1 {
		t.Errorf("%d of %d began", began, many)
	}
}
