package storetest

import (
	"errors"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/gatehouse-nats/gatehouse/policy"
	"github.com/gatehouse-nats/gatehouse/store"
)

var revocationTests = map[string]func(*testing.T, store.Store){
	"RevokeIsListedAuditedAndFed":  testRevoke,
	"Lift":                         testLift,
	"LiftOfNothing":                testLiftOfNothing,
	"EqualBlockExists":             testEqualBlock,
	"EqualBlocksAtOnce":            testEqualBlocksAtOnce,
	"LogoutsAddUp":                 testLogouts,
	"SameKeySameCall":              testSameKeySameCall,
	"SameKeyOtherCall":             testSameKeyOtherCall,
	"SameKeyAtOnce":                testSameKeyAtOnce,
	"KeyOfAFailedCallIsFree":       testKeyOfAFailedCall,
	"KeyOfAnExistingBlock":         testKeyOfAnExistingBlock,
	"RevocationFilters":            testRevocationFilters,
	"RevocationPagesAreStable":     testRevocationPages,
	"OddSubjects":                  testOddSubjects,
	"LongTexts":                    testLongTexts,
	"TimesAreKeptToTheMicrosecond": testRevocationTimes,
	"BlockThatEndsFirstIsRefused":  testBackwardBlock,
}

func testRevoke(t *testing.T, s store.Store) {
	r := block("alice")
	r.Until = base.Add(24 * time.Hour)
	before := load(t, s).Position
	got := revoke(t, s, r)
	r.Position = store.Position{Epoch: before.Epoch, Seq: before.Seq + 1}
	if diff := cmp.Diff(r, got); diff != "" {
		t.Errorf("Revoke changed it: %s", diff)
	}
	list, err := allRevocations(t.Context(), s, store.RevocationFilter{})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]store.Revocation{r}, list); diff != "" {
		t.Error(diff)
	}
	changes, after, err := s.Changes(t.Context(), before, 10)
	if err != nil {
		t.Fatal(err)
	}
	want := []store.Change{{Seq: before.Seq + 1, Revocation: policy.RevocationChange{Revocation: r.Revocation}}}
	if diff := cmp.Diff(want, changes); diff != "" {
		t.Error(diff)
	}
	if after != (store.Position{Epoch: before.Epoch, Seq: before.Seq + 1}) {
		t.Errorf("position after the change: %v", after)
	}
	audit, err := allAudit(t.Context(), s, store.AuditFilter{Kind: store.AdminEntry})
	if err != nil || len(audit) != 1 {
		t.Fatalf("audit: %v, %v", audit, err)
	}
	if e := audit[0]; e.Op != "revoke" || e.Actor != "root" || e.Target != "alice of "+issuer || !strings.Contains(e.Detail, r.ID) || e.Reason != r.Reason ||
		e.Issuer != issuer || e.Subject != "alice" || e.Outcome != "done" || e.ID == "" || time.Since(e.At) > time.Hour {
		t.Errorf("audit entry: %+v", e)
	}
}

func testLift(t *testing.T, s store.Store) {
	r := revoke(t, s, block("alice"))
	start := load(t, s)
	lifted := lift(t, s, r.ID)
	if !lifted.LiftedAt.Equal(base.Add(time.Hour)) || lifted.LiftedBy != "root" || lifted.LiftNote != "came back" {
		t.Errorf("lifted: %+v", lifted)
	}
	again, err := s.Lift(t.Context(), store.Lift{ID: r.ID, At: base.Add(2 * time.Hour), Actor: "other"})
	if err != nil || !cmp.Equal(again, lifted) {
		t.Errorf("the second lift: %v, %v", again, err)
	}
	if lifted.Position != load(t, s).Position {
		t.Errorf("the lift is at %v and the feed at %v", lifted.Position, load(t, s).Position)
	}
	changes, _, err := s.Changes(t.Context(), start.Position, 10)
	if err != nil || len(changes) != 1 || !changes[0].Revocation.Lifted || changes[0].Revocation.Revocation.ID != r.ID {
		t.Errorf("changes: %v, %v", changes, err)
	}
	if state := load(t, s); len(state.Revocations) != 0 {
		t.Errorf("still in force: %v", state.Revocations)
	}
	audit, err := allAudit(t.Context(), s, store.AuditFilter{Kind: store.AdminEntry})
	if err != nil || len(audit) != 2 || audit[0].Op != "revoke.lift" || audit[0].Reason != "came back" {
		t.Errorf("audit: %+v, %v", audit, err)
	}
	// A lifted block makes room for an equal one.
	revoke(t, s, block("alice"))
}

func testLiftOfNothing(t *testing.T, s store.Store) {
	_, err := s.Lift(t.Context(), store.Lift{ID: "nobody", At: base, Actor: "root"})
	if !errors.Is(err, store.ErrNotFound) {
		t.Errorf("got %v", err)
	}
}

func testEqualBlock(t *testing.T, s store.Store) {
	first := revoke(t, s, block("alice"))
	second := block("alice")
	second.Reason, second.At = "again", base.Add(time.Minute)
	got, existing, err := s.Revoke(t.Context(), second, "")
	if err != nil || !existing || !cmp.Equal(got, first) {
		t.Errorf("got %+v, %t, %v", got, existing, err)
	}
	if at := load(t, s).Position.Seq; at != 1 {
		t.Errorf("the feed is at %d", at)
	}
	// Another end is another block, and so is another identity.
	ending := block("alice")
	ending.Until = base.Add(24 * time.Hour)
	revoke(t, s, ending)
	revoke(t, s, block("bob"))
	if n := len(load(t, s).Revocations); n != 3 {
		t.Errorf("%d in force", n)
	}
}

func testEqualBlocksAtOnce(t *testing.T, s store.Store) {
	const callers = 8
	fresh := make(chan string, callers)
	ids := make(chan string, callers)
	var wg sync.WaitGroup
	for range callers {
		wg.Go(func() {
			r, existing, err := s.Revoke(t.Context(), block("alice"), "")
			if err != nil {
				t.Error(err)
			}
			if !existing {
				fresh <- r.ID
			}
			ids <- r.ID
		})
	}
	wg.Wait()
	close(ids)
	if len(fresh) != 1 {
		t.Fatalf("%d calls made a block", len(fresh))
	}
	want := <-fresh
	for id := range ids {
		if id != want {
			t.Errorf("answered %s, made %s", id, want)
		}
	}
}

func testLogouts(t *testing.T, s store.Store) {
	revoke(t, s, logout("alice"))
	revoke(t, s, logout("alice"))
	if n := len(load(t, s).Revocations); n != 2 {
		t.Errorf("%d in force", n)
	}
}

func testSameKeySameCall(t *testing.T, s store.Store) {
	first, existing, err := s.Revoke(t.Context(), block("alice"), "key-1")
	if err != nil || existing {
		t.Fatal(existing, err)
	}
	lift(t, s, first.ID)
	at := load(t, s).Position
	again := block("alice") // with its own id
	again.At = base.Add(time.Minute)
	got, existing, err := s.Revoke(t.Context(), again, "key-1")
	if err != nil || existing || !cmp.Equal(got, first) {
		t.Errorf("the answer changed: %t, %v, %s", existing, err, cmp.Diff(first, got))
	}
	if now := load(t, s).Position; now != at {
		t.Errorf("the feed went on from %v to %v", at, now)
	}
}

func testSameKeyOtherCall(t *testing.T, s store.Store) {
	if _, _, err := s.Revoke(t.Context(), block("alice"), "key"); err != nil {
		t.Fatal(err)
	}
	at := load(t, s).Position
	for name, change := range map[string]func(*store.Revocation){
		"kind":     func(r *store.Revocation) { r.Kind = policy.Logout },
		"issuer":   func(r *store.Revocation) { r.Issuer += "/" },
		"subject":  func(r *store.Revocation) { r.Subject = "bob" },
		"end":      func(r *store.Revocation) { r.Until = base.Add(time.Hour) },
		"reason":   func(r *store.Revocation) { r.Reason = "other" },
		"actor":    func(r *store.Revocation) { r.Actor = "other" },
		"session":  func(r *store.Revocation) { r.Kind, r.Session = policy.Logout, "sid" },
		"match":    func(r *store.Revocation) { r.Subject, r.Match = "", `{"sub":["alice"]}` },
		"programs": func(r *store.Revocation) { r.Programs = true },
	} {
		r := block("alice")
		change(&r)
		if _, _, err := s.Revoke(t.Context(), r, "key"); !errors.Is(err, store.ErrConflict) {
			t.Errorf("another %s: %v", name, err)
		}
	}
	if now := load(t, s).Position; now != at {
		t.Errorf("the feed went on from %v to %v", at, now)
	}
}

func testSameKeyAtOnce(t *testing.T, s store.Store) {
	const callers = 8
	ids := make(chan string, callers)
	var wg sync.WaitGroup
	for range callers {
		wg.Go(func() {
			r, existing, err := s.Revoke(t.Context(), logout("alice"), "key")
			if err != nil || existing {
				t.Errorf("existing %t, %v", existing, err)
			}
			ids <- r.ID
		})
	}
	wg.Wait()
	close(ids)
	first := <-ids
	for id := range ids {
		if id != first {
			t.Errorf("answers %s and %s", first, id)
		}
	}
	if state := load(t, s); len(state.Revocations) != 1 || state.Position.Seq != 1 {
		t.Errorf("the state is %+v", state)
	}
}

func testKeyOfAFailedCall(t *testing.T, s store.Store) {
	bad := block("alice")
	bad.Kind = "other"
	if _, _, err := s.Revoke(t.Context(), bad, "key"); err == nil {
		t.Fatal("an unknown kind was stored")
	}
	if _, _, err := s.Revoke(t.Context(), block("alice"), "key"); err != nil {
		t.Error(err)
	}
}

func testKeyOfAnExistingBlock(t *testing.T, s store.Store) {
	first := revoke(t, s, block("alice"))
	for range 2 {
		got, existing, err := s.Revoke(t.Context(), block("alice"), "key")
		if err != nil || !existing || got.ID != first.ID {
			t.Errorf("got %s, %t, %v; want %s", got.ID, existing, err, first.ID)
		}
	}
}

func testRevocationFilters(t *testing.T, s store.Store) {
	alice, bob := block("alice"), block("bob")
	alice.At, bob.At = base, base.Add(time.Minute)
	bob.Until = base.Add(time.Hour)
	other := block("alice")
	other.Issuer, other.At = "https://other.example.com", base.Add(2*time.Minute)
	lifted := logout("carol")
	lifted.At = base.Add(3 * time.Minute)
	for _, r := range []store.Revocation{alice, bob, other, lifted} {
		revoke(t, s, r)
	}
	lift(t, s, lifted.ID)

	for name, c := range map[string]struct {
		filter store.RevocationFilter
		want   []string
	}{
		"all, newest first": {store.RevocationFilter{}, []string{lifted.ID, other.ID, bob.ID, alice.ID}},
		"an identity":       {store.RevocationFilter{Target: alice.Target}, []string{alice.ID}},
		"an issuer":         {store.RevocationFilter{Target: policy.Target{Principal: policy.Principal{Issuer: issuer}}}, []string{lifted.ID, bob.ID, alice.ID}},
		"nobody":            {store.RevocationFilter{Target: policy.Target{Principal: policy.Principal{Issuer: issuer, Subject: "dave"}}}, nil},
		"in force":          {store.RevocationFilter{InForceAt: base.Add(30 * time.Minute)}, []string{other.ID, bob.ID, alice.ID}},
		"in force at the end": {store.RevocationFilter{InForceAt: bob.Until},
			[]string{other.ID, alice.ID}},
		"both": {store.RevocationFilter{Target: bob.Target, InForceAt: base.Add(2 * time.Hour)}, nil},
	} {
		for _, limit := range []int{0, 1} {
			c.filter.Limit = limit
			list, err := allRevocations(t.Context(), s, c.filter)
			if err != nil {
				t.Fatal(err)
			}
			if got := revocationIDs(list); !slices.Equal(got, c.want) {
				t.Errorf("%s, by %d: got %v, want %v", name, limit, got, c.want)
			}
		}
	}
}

func revocationIDs(list []store.Revocation) (ids []string) {
	for _, r := range list {
		ids = append(ids, r.ID)
	}
	return ids
}

func testRevocationPages(t *testing.T, s store.Store) {
	var want []string
	for i := range 7 {
		r := logout("subject-" + strconv.Itoa(i)) // all of the same time, so that ids decide
		revoke(t, s, r)
		want = append(want, r.ID)
	}
	slices.Sort(want)
	slices.Reverse(want)
	var got []string
	cursor := ""
	for i := range 10 {
		page, next, err := s.Revocations(t.Context(), store.RevocationFilter{Limit: 2, Cursor: cursor})
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, revocationIDs(page)...)
		if next == "" {
			break
		}
		cursor = next
		late := logout("late-" + strconv.Itoa(i))
		late.At = base.Add(time.Hour)
		revoke(t, s, late)
	}
	if !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	for _, bad := range []string{"x", "!", "MTIz", "YS5i", "MTIzLg"} {
		if _, _, err := s.Revocations(t.Context(), store.RevocationFilter{Cursor: bad}); !errors.Is(err, store.ErrCursor) {
			t.Errorf("cursor %q: %v", bad, err)
		}
	}
}

func testOddSubjects(t *testing.T, s store.Store) {
	for name, odd := range oddTexts {
		r := block(odd)
		r.Issuer, r.Reason, r.Actor = issuer+odd, odd, odd
		r = revoke(t, s, r)
		list, err := allRevocations(t.Context(), s, store.RevocationFilter{Target: r.Target})
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if diff := cmp.Diff([]store.Revocation{r}, list); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
		if _, err := s.Lift(t.Context(), store.Lift{ID: r.ID, At: base, Actor: odd, Note: odd}); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	changes, _, err := s.Changes(t.Context(), store.Position{Epoch: load(t, s).Position.Epoch}, 1000)
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for _, c := range changes {
		seen[c.Revocation.Revocation.Subject] = true
	}
	for name, odd := range oddTexts {
		if !seen[odd] {
			t.Errorf("%s: the feed has another subject", name)
		}
	}
}

func testLongTexts(t *testing.T, s store.Store) {
	// Texts that do not compress, in case an index compresses its keys; alike in their beginnings.
	var long strings.Builder
	for i := range 2500 {
		long.WriteString(strconv.FormatInt(int64(i*i*7919)%46656+46656, 36))
	}
	for _, end := range []string{"a", "b"} {
		r := block(long.String()[:10000] + end)
		r.Issuer, r.Reason, r.Actor = "https://"+long.String(), long.String(), long.String()
		stored, _, err := s.Revoke(t.Context(), r, long.String()+end)
		if err != nil || !cmp.Equal(stored.Revocation, r.Revocation) || stored.Reason != r.Reason {
			t.Fatalf("Revoke: %v", err)
		}
		e := login(r.Subject)
		e.Reason, e.Name, e.Actor = r.Reason, r.Reason, r.Actor
		record(t, s, e)
		for name, f := range map[string]store.AuditFilter{
			"subject": {Kind: store.LoginEntry, Principal: policy.Principal{Subject: r.Subject}},
			"name":    {ID: e.ID, Name: e.Name},
			"reason":  {ID: e.ID, Reason: e.Reason},
			"actor":   {ID: e.ID, Actor: e.Actor},
		} {
			list, err := allAudit(t.Context(), s, f)
			if err != nil || len(list) != 1 || list[0].ID != e.ID {
				t.Errorf("by %s: %d entries, %v", name, len(list), err)
			}
		}
	}
}

func testRevocationTimes(t *testing.T, s store.Store) {
	zone := time.FixedZone("far", 5*3600)
	r := block("alice")
	r.At = time.Date(2026, 3, 4, 5, 6, 7, 123456789, zone)
	r.Until = time.Date(9000, 3, 4, 5, 6, 7, 987654321, zone)
	stored := revoke(t, s, r)
	list, err := allRevocations(t.Context(), s, store.RevocationFilter{})
	if err != nil || len(list) != 1 || !cmp.Equal(list[0], stored) {
		t.Fatalf("listed %+v, answered %+v, %v", list, stored, err)
	}
	if want := time.Date(2026, 3, 4, 0, 6, 7, 123456000, time.UTC); list[0].At != want {
		t.Errorf("at %v, want %v", list[0].At, want)
	}
	if want := time.Date(9000, 3, 4, 0, 6, 7, 987654000, time.UTC); list[0].Until != want {
		t.Errorf("until %v, want %v", list[0].Until, want)
	}
}

func testBackwardBlock(t *testing.T, s store.Store) {
	r := block("alice")
	r.Until = r.At.Add(-time.Second)
	if _, _, err := s.Revoke(t.Context(), r, ""); err == nil {
		t.Error("it was stored")
	}
}
