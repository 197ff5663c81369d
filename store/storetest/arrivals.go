package storetest

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/gatehouse-nats/gatehouse/store"
)

var arrivalTests = map[string]func(*testing.T, store.Store){
	"ArrivalsComeInTheirOrder":   testArrivals,
	"ArrivalsOfWriters":          testArrivalsOfWriters,
	"ArrivalsFrom":               testArrivalsFrom,
	"ArrivalsThatAreFiltered":    testArrivalsFiltered,
	"ArrivalsAfterPruning":       testArrivalsPruned,
	"ArrivalsByAnAbsurdCursor":   testArrivalCursors,
	"CopiesRememberTheirCursors": testCopies,
}

// follow reads arrivals after the cursor until there are no more, and returns the last cursor.
func follow(t *testing.T, s store.Store, f store.AuditFilter) (list []store.AuditEntry, cursor string) {
	t.Helper()
	for {
		page, next, more, err := s.Arrivals(t.Context(), f)
		if err != nil {
			t.Fatal(err)
		}
		if f.Limit > 0 && len(page) > f.Limit {
			t.Fatalf("a page of %d entries, asked for %d", len(page), f.Limit)
		}
		list = append(list, page...)
		if f.Cursor = next; !more {
			return list, next
		}
	}
}

func testArrivals(t *testing.T, s store.Store) {
	late, first, second, third := login("late"), login("first"), login("second"), login("third")
	record(t, s, third, second) // in a batch they go by their times
	record(t, s, first)
	record(t, s, first, third) // sent again
	want := auditIDs([]store.AuditEntry{second, third, first})
	for _, limit := range []int{0, 1, 2, 3} {
		list, cursor := follow(t, s, store.AuditFilter{Limit: limit})
		if !slices.Equal(auditIDs(list), want) {
			t.Errorf("by %d: %v, want %v", limit, auditIDs(list), want)
		}
		if again, same := follow(t, s, store.AuditFilter{Cursor: cursor}); len(again) != 0 || same != cursor {
			t.Errorf("by %d: %v again", limit, auditIDs(again))
		}
	}
	_, cursor := follow(t, s, store.AuditFilter{})
	record(t, s, late)
	revoke(t, s, block("alice"))
	list, _ := follow(t, s, store.AuditFilter{Cursor: cursor, Limit: 1})
	if len(list) != 2 || list[0].ID != late.ID || list[1].Op != "revoke" {
		t.Errorf("what came late, and a revocation: %+v", list)
	}
}

// Whoever follows sees each entry once, however many store at the same time.
func testArrivalsOfWriters(t *testing.T, s store.Store) {
	const writers, batches, size = 4, 12, 3
	var wg sync.WaitGroup
	for w := range writers {
		wg.Go(func() {
			for range batches {
				var entries []store.AuditEntry
				for range size {
					entries = append(entries, login(fmt.Sprint(w)))
				}
				if err := s.Record(t.Context(), entries); err != nil {
					t.Error(err)
				}
			}
		})
	}
	written := make(chan struct{})
	go func() { wg.Wait(); close(written) }()
	seen, cursor := map[string]int{}, ""
	for done := false; !done; {
		select {
		case <-written:
			done = true // and look once more
		default:
		}
		var list []store.AuditEntry
		list, cursor = follow(t, s, store.AuditFilter{Cursor: cursor, Limit: 5})
		for _, e := range list {
			seen[e.ID]++
		}
	}
	if len(seen) != writers*batches*size {
		t.Errorf("saw %d entries, want %d", len(seen), writers*batches*size)
	}
	for id, n := range seen {
		if n != 1 {
			t.Errorf("saw %s %d times", id, n)
		}
	}
}

func testArrivalsFrom(t *testing.T, s store.Store) {
	old, recent := login("old"), login("recent")
	old.At, recent.At = time.Now().Add(-time.Hour), time.Now()
	record(t, s, old, recent)
	if list, _ := follow(t, s, store.AuditFilter{Since: time.Now().Add(-time.Minute)}); !slices.Equal(auditIDs(list), []string{recent.ID}) {
		t.Errorf("since a minute ago: %v", auditIDs(list))
	}
	page, cursor, more, err := s.Arrivals(t.Context(), store.AuditFilter{Tail: true})
	if err != nil || len(page) != 0 || more {
		t.Fatalf("from now on: %v, %v, %v", page, more, err)
	}
	later := login("later")
	later.At = old.At // of a replica that was cut off
	record(t, s, later)
	if list, _ := follow(t, s, store.AuditFilter{Cursor: cursor, Tail: true}); !slices.Equal(auditIDs(list), []string{later.ID}) {
		t.Errorf("from then on: %v", auditIDs(list))
	}
}

// A filter that few entries pass moves on all the same.
func testArrivalsFiltered(t *testing.T, s store.Store) {
	var want []string
	for i := range 450 { // more batches than one page looks through
		e := login("alice")
		if i%225 == 0 {
			e.Reason = "blocked"
			want = append(want, e.ID)
		}
		record(t, s, e)
	}
	for _, limit := range []int{0, 1} {
		if list, _ := follow(t, s, store.AuditFilter{Reason: "blocked", Limit: limit}); !slices.Equal(auditIDs(list), want) {
			t.Errorf("by %d: %v, want %v", limit, auditIDs(list), want)
		}
	}
	if list, _ := follow(t, s, store.AuditFilter{}); len(list) != 450 {
		t.Errorf("%d of all", len(list))
	}
}

func testArrivalsPruned(t *testing.T, s store.Store) {
	old, kept := login("old"), login("kept")
	record(t, s, old)
	_, cursor, _, err := s.Arrivals(t.Context(), store.AuditFilter{})
	if err != nil {
		t.Fatal(err)
	}
	kept.At = time.Now().Add(time.Hour)
	record(t, s, kept)
	if n, err := s.PruneAudit(t.Context(), store.LoginEntry, time.Now().Add(time.Minute), 10); n != 1 || err != nil {
		t.Fatalf("pruned %d, %v", n, err)
	}
	for name, from := range map[string]string{"from the start": "", "from what was pruned": cursor} {
		if list, _ := follow(t, s, store.AuditFilter{Cursor: from}); !slices.Equal(auditIDs(list), []string{kept.ID}) {
			t.Errorf("%s: %v", name, auditIDs(list))
		}
	}
}

func testArrivalCursors(t *testing.T, s store.Store) {
	record(t, s, login("alice"))
	record(t, s, login("bob"))
	_, listed, err := s.Audit(t.Context(), store.AuditFilter{Limit: 1})
	if err != nil || listed == "" {
		t.Fatal(listed, err)
	}
	for name, cursor := range map[string]string{
		"of the list": listed, "of nothing": "x", "not base64": "\x00",
		"ahead, as after a restore": "YS45OTkuOTk5LjAuaWQ", // a.999.999.0.id
		"negative":                  "YS4tMS4wLjAu",        // a.-1.0.0.
	} {
		if _, _, _, err := s.Arrivals(t.Context(), store.AuditFilter{Cursor: cursor}); !errors.Is(err, store.ErrCursor) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func testCopies(t *testing.T, s store.Store) {
	if cursor, err := s.CopyCursor(t.Context(), "stream"); cursor != "" || err != nil {
		t.Errorf("before the first copy: %q, %v", cursor, err)
	}
	for _, cursor := range []string{"one", "two"} {
		if err := s.SaveCopyCursor(t.Context(), "stream", cursor); err != nil {
			t.Fatal(err)
		}
		if got, err := s.CopyCursor(t.Context(), "stream"); got != cursor || err != nil {
			t.Errorf("%q, %v; want %q", got, err, cursor)
		}
	}
	if cursor, err := s.CopyCursor(t.Context(), "other"); cursor != "" || err != nil {
		t.Errorf("of another: %q, %v", cursor, err)
	}
}
