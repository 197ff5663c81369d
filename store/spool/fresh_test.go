package spool

import (
	"context"
	"encoding/json"
	"fmt"
	"reflect"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"
	"unsafe"
	"weak"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/gatehouse-nats/gatehouse/store"
)

// TestFreshIsWhatIsRead compares what is sent from memory with what another process reads from the disk.
func TestFreshIsWhatIsRead(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(r *rapid.T) {
		text := rapid.OneOf(rapid.Just(""), rapid.String(), rapid.SampledFrom([]string{"a\xffb", "<&>", "\u2028", "\x00", `"\`}))
		var entries []store.AuditEntry
		for i := range rapid.IntRange(1, 12).Draw(r, "entries") {
			e := store.AuditEntry{
				ID: fmt.Sprintf("id-%d", i), At: time.Unix(rapid.Int64Range(0, 4e9).Draw(r, "at"), 123_456_789), Kind: store.LoginEntry,
				Outcome: "allowed", Reason: text.Draw(r, "reason"), Subject: text.Draw(r, "subject"), CID: rapid.Uint64().Draw(r, "cid"),
				Display: rapid.MapOfN(text, text, 0, 2).Draw(r, "display"), Roles: rapid.SliceOfN(text, 0, 2).Draw(r, "roles"),
			}
			if rapid.Bool().Draw(r, "claims") {
				claims, err := json.Marshal(map[string]string{"groups": text.Draw(r, "claim")})
				if err != nil {
					r.Fatal(err)
				}
				e.Claims = claims
			}
			if rapid.Bool().Draw(r, "expires") {
				e.Expires = e.At.Add(time.Hour).Local()
			}
			entries = append(entries, e)
		}
		split := rapid.IntRange(0, len(entries)).Draw(r, "split")
		if diff := cmp.Diff(sent(t, r, entries, split, true), sent(t, r, entries, split, false)); diff != "" {
			r.Fatal(diff)
		}
	})
}

// sent appends entries, drains what there is after as many as split says, and returns all that was sent at the end: by the
// same process, or by one that opens the spool anew each time.
func sent(t *testing.T, r *rapid.T, entries []store.AuditEntry, split int, same bool) (got []store.AuditEntry) {
	dir := t.TempDir()
	s, err := Open(dir, Options{MaxBytes: MinBytes})
	if err != nil {
		r.Fatal(err)
	}
	defer func() { _ = s.Close() }()
	drain := func() {
		if !same {
			if err := s.Close(); err != nil {
				r.Fatal(err)
			}
			if s, err = Open(dir, Options{MaxBytes: MinBytes}); err != nil {
				r.Fatal(err)
			}
		}
		if err := s.Drain(t.Context(), func(_ context.Context, list []store.AuditEntry) error {
			got = append(got, list...)
			return nil
		}); err != nil {
			r.Fatal(err)
		}
	}
	for i, e := range entries {
		if i == split {
			drain()
		}
		if err := s.Append(e); err != nil {
			r.Fatal(err)
		}
	}
	drain()
	return got
}

// TestFreshStopsAtItsRoom sends all, in order, when more wait than memory keeps, and when sending fails in between.
func TestFreshStopsAtItsRoom(t *testing.T) {
	t.Parallel()
	s, err := Open(t.TempDir(), Options{MaxBytes: MinBytes})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = s.Close() }()
	const count = 2*mostFresh + 10
	next, fails := 0, 0
	send := func(_ context.Context, list []store.AuditEntry) error {
		if fails++; fails%2 == 1 {
			return store.ErrUnavailable
		}
		for _, e := range list {
			if e.ID != fmt.Sprint("id-", next) {
				t.Fatalf("got %s in the place of %d", e.ID, next)
			}
			next++
		}
		return nil
	}
	for i := range count {
		if err := s.Append(store.AuditEntry{ID: fmt.Sprint("id-", i), At: time.Unix(1, 0), Kind: store.LoginEntry, Outcome: "allowed"}); err != nil {
			t.Fatal(err)
		}
		if i%700 == 0 {
			_ = s.Drain(t.Context(), send)
		}
	}
	for s.Pending().Entries > 0 {
		_ = s.Drain(t.Context(), send)
	}
	if next != count || len(s.fresh) != 0 {
		t.Errorf("%d of %d were sent, %d are still in memory", next, count, len(s.fresh))
	}
}

// TestFreshEntriesStayWhole appends from many sides while sending fails now and then, segments are short, and every few entries
// must be read from the disk: each comes once, in its writer's order, with what was given and nothing of another.
func TestFreshEntriesStayWhole(t *testing.T) {
	t.Parallel()
	const writers, each = 6, 300
	s := openSpool(t, t.TempDir())
	s.rotate = 8 << 10
	given := func(w, i int) store.AuditEntry {
		subject := fmt.Sprintf("%d-%04d", w, i)
		e := store.AuditEntry{
			ID: "id-" + subject, At: time.Unix(1_800_000_000+int64(i), 0).UTC(), Kind: store.LoginEntry, Outcome: "allowed", Subject: subject, CID: uint64(i + 1),
			Display: map[string]string{"email": subject + "@example.com"}, Claims: json.RawMessage(`{"groups":["` + subject + `"]}`),
			Roles: []string{"r-" + subject}, Bindings: []string{"b-" + subject}, UserKey: "U" + subject,
		}
		if i%7 == 0 {
			e.Client = "go \xff" + subject
		}
		return e
	}
	var got []store.AuditEntry
	calls := 0
	send := func(_ context.Context, list []store.AuditEntry) error {
		if calls++; calls%3 == 0 {
			return store.ErrUnavailable
		}
		got = append(got, list...)
		return nil
	}
	stop, drained := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(drained)
		for {
			select {
			case <-stop:
				return
			case <-s.more:
				_ = s.Drain(t.Context(), send)
			}
		}
	}()
	var wg sync.WaitGroup
	for w := range writers {
		wg.Go(func() {
			for i := range each {
				if err := s.Append(given(w, i)); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	close(stop)
	<-drained
	for s.Pending().Entries > 0 {
		_ = s.Drain(t.Context(), send)
	}
	next := map[int]int{}
	for _, e := range got {
		var w, i int
		if _, err := fmt.Sscanf(e.ID, "id-%d-%d", &w, &i); err != nil || i != next[w] {
			t.Fatalf("%s came where entry %d of its writer was due", e.ID, next[w])
		}
		next[w]++
		want := given(w, i)
		want.Client = strings.ToValidUTF8(want.Client, "\ufffd")
		if diff := cmp.Diff(want, e); diff != "" {
			t.Fatalf("%s (-given +sent):\n%s", e.ID, diff)
		}
	}
	if len(got) != writers*each {
		t.Errorf("%d entries were sent, want %d", len(got), writers*each)
	}
}

// TestFreshHoldsNoRequest has an entry whose every text is cut from a large one, as those of a login are from its request: the
// large one is not kept with it.
func TestFreshHoldsNoRequest(t *testing.T) {
	t.Parallel()
	s := openSpool(t, t.TempDir())
	given, large := cutFrom(t)
	if err := s.Append(given); err != nil {
		t.Fatal(err)
	}
	want := given
	own(&want)
	given = store.AuditEntry{}
	runtime.GC()
	if large.Value() != nil {
		t.Error("an entry in memory holds what its texts were cut from")
	}
	var got []store.AuditEntry
	if err := s.Drain(t.Context(), func(_ context.Context, list []store.AuditEntry) error {
		got = append(got, list...)
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]store.AuditEntry{want}, got); diff != "" {
		t.Error(diff)
	}
}

// cutFrom returns an entry whose texts are parts of a large one, and whether that is still held.
func cutFrom(t *testing.T) (store.AuditEntry, weak.Pointer[byte]) {
	t.Helper()
	large := []byte(strings.Repeat("abcdefgh", 20<<10))
	text := unsafe.String(&large[0], len(large)) // a copy would be another one
	e := store.AuditEntry{At: time.Unix(1_800_000_000, 0).UTC(), Display: map[string]string{"email": text[7:20]}}
	fields := 0
	for v, i := reflect.ValueOf(&e).Elem(), 0; i < v.NumField(); i++ {
		if f := v.Field(i); f.Type() == reflect.TypeFor[string]() {
			f.SetString(text[i : i+9+i%3])
			fields++
		}
	}
	if fields < 20 {
		t.Fatalf("only %d fields are texts", fields)
	}
	e.Kind = store.LoginEntry
	return e, weak.Make(&large[0])
}
