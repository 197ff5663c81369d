package store_test

import (
	"errors"
	"testing"
	"time"

	"github.com/gatehouse-nats/gatehouse/store"
)

func TestSamplerKeepsOneASecondAndCountsTheRest(t *testing.T) {
	var kept []store.AuditEntry
	s := store.NewSampler(store.SampleEvery, store.ByReason, func(e store.AuditEntry) error {
		kept = append(kept, e)
		return nil
	})
	now := time.Unix(1_800_000_000, 0)
	for range 100 {
		if err := s.Offer(store.AuditEntry{Reason: "token_malformed"}, now); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Offer(store.AuditEntry{Reason: "key_unknown"}, now); err != nil {
		t.Fatal(err)
	}
	if len(kept) != 2 {
		t.Fatalf("%d entries kept, want one of each reason", len(kept))
	}
	s.Flush(now.Add(store.SampleEvery / 2))
	if len(kept) != 2 {
		t.Fatal("an entry was kept too early")
	}
	s.Flush(now.Add(store.SampleEvery))
	total := 0
	for _, e := range kept {
		total += e.Count
	}
	if len(kept) != 3 || total != 101 {
		t.Errorf("%d entries for %d refusals, want 3 for 101", len(kept), total)
	}
}

func TestSamplerHoldsWhatCannotBeKept(t *testing.T) {
	full := true
	var kept []store.AuditEntry
	s := store.NewSampler(store.SampleEvery, store.ByReason, func(e store.AuditEntry) error {
		if full {
			return errors.New("spool is full")
		}
		kept = append(kept, e)
		return nil
	})
	now := time.Unix(1_800_000_000, 0)
	for range 2 {
		if s.Offer(store.AuditEntry{Reason: "r"}, now) == nil {
			t.Fatal("the caller was not told that its entry could not be kept")
		}
	}
	full = false
	for range 3 {
		if err := s.Offer(store.AuditEntry{Reason: "r"}, now); err != nil {
			t.Fatal(err)
		}
	}
	full = true
	s.Flush(now.Add(store.SampleEvery))
	full = false
	s.Flush(now.Add(2 * store.SampleEvery))
	if len(kept) != 2 || kept[0].Count != 1 || kept[1].Count != 2 {
		t.Errorf("kept %v", kept)
	}
}

// What was held is still an entry when the one that was to speak for it could not be kept.
func TestSamplerHoldsOn(t *testing.T) {
	full := false
	var kept []store.AuditEntry
	s := store.NewSampler(store.SampleEvery, store.ByReason, func(e store.AuditEntry) error {
		if full {
			return errors.New("spool is full")
		}
		kept = append(kept, e)
		return nil
	})
	now := time.Unix(1_800_000_000, 0)
	for _, id := range []string{"1", "2", "3"} {
		if err := s.Offer(store.AuditEntry{ID: id, Reason: "r"}, now); err != nil {
			t.Fatal(err)
		}
	}
	full = true
	now = now.Add(store.SampleEvery)
	if s.Offer(store.AuditEntry{ID: "4", Reason: "r"}, now) == nil {
		t.Fatal("the caller was not told that its entry could not be kept")
	}
	full = false
	s.Flush(now)
	if len(kept) != 2 || kept[1].ID != "3" || kept[1].Reason != "r" || kept[1].Count != 2 {
		t.Errorf("kept %+v", kept)
	}
}
