package storetest

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/gatehouse-nats/gatehouse/store"
)

var identityTests = map[string]func(*testing.T, store.Store){
	"WhoLoggedIn":              testIdentities,
	"DisplayChanges":           testDisplayChanges,
	"LateEntriesChangeNothing": testLateEntries,
	"OnlyVerifiedLogins":       testOnlyLogins,
	"IdentityPages":            testIdentityPages,
	"OddIdentities":            testOddIdentities,
	"IdentitiesArePruned":      testPruneIdentities,
	"RecordedAtOnce":           testRecordedAtOnce,
}

var loginTests = map[string]func(*testing.T, store.Store){
	"LoginsOfConnections": testLogins,
	"LoginsAreBounded":    testLoginBounds,
}

// known reads every page, and returns the identities by subject.
func known(t *testing.T, s store.Store, f store.IdentityFilter) map[string]store.KnownIdentity {
	t.Helper()
	list, err := pages(func(cursor string) ([]store.KnownIdentity, string, error) {
		f.Cursor = cursor
		return s.Identities(t.Context(), f)
	})
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]store.KnownIdentity{}
	for _, i := range list {
		if _, twice := found[i.Subject+" "+i.Issuer]; twice {
			t.Errorf("%s is listed twice", i.Subject)
		}
		found[i.Subject+" "+i.Issuer] = i
	}
	return found
}

func subjects(found map[string]store.KnownIdentity) (list []string) {
	for _, i := range found {
		list = append(list, i.Subject)
	}
	slices.Sort(list)
	return list
}

func shown(subject, email, name string) store.AuditEntry {
	e := login(subject)
	e.Name = "corp-" + subject
	e.Display = map[string]string{"email": email, "name": name}
	return e
}

func testIdentities(t *testing.T, s store.Store) {
	alice := shown("1", "Alice@Example.com", "Alice Łąka")
	bob := shown("2", "bob@example.com", "Bob")
	refused := shown("3", "alice.b@example.com", "Alice Σ")
	refused.Outcome, refused.Reason = "refused", "no_binding"
	other := shown("1", "alice@example.com", "K")
	other.Issuer, other.Name = "https://other.example.com", "other-1"
	record(t, s, alice, bob, refused, other)

	want := store.KnownIdentity{Issuer: issuer, Subject: "1", Name: "corp-1", Display: alice.Display, LastSeen: alice.At}
	if diff := cmp.Diff(want, known(t, s, store.IdentityFilter{Issuer: issuer, Subject: "1"})["1 "+issuer]); diff != "" {
		t.Error(diff)
	}
	for name, c := range map[string]struct {
		filter store.IdentityFilter
		want   []string
	}{
		"all":                {store.IdentityFilter{}, []string{"1", "1", "2", "3"}},
		"e-mail":             {store.IdentityFilter{Display: "bob@example.com"}, []string{"2"}},
		"e-mail, other case": {store.IdentityFilter{Display: "ALICE@example.COM"}, []string{"1", "1"}},
		"blanks":             {store.IdentityFilter{Display: " bob@example.com\n"}, []string{"2"}},
		"of an issuer":       {store.IdentityFilter{Display: "alice@example.com", Issuer: issuer}, []string{"1"}},
		"name":               {store.IdentityFilter{Display: "ALICE ŁĄKA"}, []string{"1"}},
		"final sigma":        {store.IdentityFilter{Display: "alice ς"}, []string{"3"}},
		"kelvin":             {store.IdentityFilter{Display: "\u212a"}, []string{"1"}},
		"prefix":             {store.IdentityFilter{Display: "aLICE", Prefix: true}, []string{"1", "1", "3"}},
		"no prefix":          {store.IdentityFilter{Display: "alice"}, nil},
		"wildcards":          {store.IdentityFilter{Display: "%", Prefix: true}, nil},
		"subject":            {store.IdentityFilter{Subject: "2"}, []string{"2"}},
		"principal name":     {store.IdentityFilter{Name: "corp-1"}, []string{"1"}},
		"not there":          {store.IdentityFilter{Issuer: issuer, Subject: "9"}, nil},
	} {
		for _, limit := range []int{0, 1} {
			c.filter.Limit = limit
			if got := subjects(known(t, s, c.filter)); !slices.Equal(got, c.want) {
				t.Errorf("%s, by %d: got %v, want %v", name, limit, got, c.want)
			}
		}
	}
}

func testDisplayChanges(t *testing.T, s store.Store) {
	first := shown("1", "alice@example.com", "Alice")
	second := shown("1", "alice.smith@example.com", "Alice")
	bare := login("1") // of a time when no display claims were configured
	bare.Name = first.Name
	bare.At = second.At.Add(2 * time.Hour)
	record(t, s, first)
	record(t, s, second)
	record(t, s, bare)
	for display, want := range map[string]int{"alice@example.com": 0, "alice.smith@example.com": 1, "alice": 1} {
		found := known(t, s, store.IdentityFilter{Display: display})
		if len(found) != want {
			t.Errorf("%d are found by %s", len(found), display)
		}
		for _, i := range found {
			if !i.LastSeen.Equal(bare.At) || !cmp.Equal(i.Display, second.Display) {
				t.Errorf("%+v", i)
			}
		}
	}
	// Within the hour the time is not written again.
	soon := shown("1", "alice.smith@example.com", "Alice")
	soon.At = bare.At.Add(time.Minute)
	record(t, s, soon)
	if i := known(t, s, store.IdentityFilter{Subject: "1"})["1 "+issuer]; !i.LastSeen.Equal(bare.At) {
		t.Errorf("last seen %v", i.LastSeen)
	}
}

func testLateEntries(t *testing.T, s store.Store) {
	late := shown("1", "old@example.com", "Alice")
	record(t, s, shown("1", "new@example.com", "Alice"))
	record(t, s, late)
	if n := len(known(t, s, store.IdentityFilter{Display: "old@example.com"})); n != 0 {
		t.Error("an older entry that came later counts")
	}
	older, newer := shown("2", "old@example.com", "Bob"), shown("2", "new@example.com", "Bob")
	record(t, s, newer, older) // in one batch
	if got := subjects(known(t, s, store.IdentityFilter{Display: "new@example.com"})); !slices.Equal(got, []string{"1", "2"}) {
		t.Errorf("got %v", got)
	}
}

func testOnlyLogins(t *testing.T, s store.Store) {
	admin := login("root")
	admin.Kind, admin.Op = store.AdminEntry, "revoke"
	nobody := login("")
	nowhere := login("x")
	nowhere.Issuer = ""
	record(t, s, admin, nobody, nowhere)
	revoke(t, s, block("carol"))
	if found := known(t, s, store.IdentityFilter{}); len(found) != 0 {
		t.Errorf("found %v", found)
	}
}

func testIdentityPages(t *testing.T, s store.Store) {
	const n = 25
	var entries []store.AuditEntry
	for i := range n {
		entries = append(entries, shown(fmt.Sprint(i), fmt.Sprintf("%d@example.com", i), "Same Name"))
	}
	record(t, s, entries...)
	var got []string
	cursor := ""
	for range n {
		page, next, err := s.Identities(t.Context(), store.IdentityFilter{Display: "same", Prefix: true, Limit: 4, Cursor: cursor})
		if err != nil || len(page) > 4 {
			t.Fatalf("%d identities, %v", len(page), err)
		}
		for _, i := range page {
			got = append(got, i.Subject)
			again := shown(i.Subject, "moved@example.com", "Same Name")
			again.At = base.Add(5 * time.Hour)
			record(t, s, again) // whoever comes meanwhile changes no place
		}
		if next == "" {
			break
		}
		cursor = next
	}
	slices.Sort(got)
	if len(got) != n || len(slices.Compact(got)) != n {
		t.Errorf("listed %v", got)
	}
	for _, bad := range []string{"x", "00", strings.Repeat("z", 64)} {
		if _, _, err := s.Identities(t.Context(), store.IdentityFilter{Cursor: bad}); !errors.Is(err, store.ErrCursor) {
			t.Errorf("cursor %q: %v", bad, err)
		}
	}
}

func testOddIdentities(t *testing.T, s store.Store) {
	for name, odd := range oddTexts {
		e := shown(odd, odd, strings.Repeat(odd, 1000))
		record(t, s, e)
		for by, f := range map[string]store.IdentityFilter{
			"subject": {Subject: odd}, "name": {Name: "corp-" + odd}, "long display": {Display: strings.Repeat(odd, 1000)},
			"prefix": {Display: strings.Repeat(odd, 3), Prefix: true},
		} {
			found := known(t, s, f)
			if i, ok := found[odd+" "+issuer]; !ok || !cmp.Equal(i.Display, e.Display) {
				t.Errorf("%s is not found by %s: %q", name, by, subjects(found))
			}
		}
	}
}

func testPruneIdentities(t *testing.T, s store.Store) {
	var entries []store.AuditEntry
	for i := range 5 {
		e := shown(fmt.Sprint(i), fmt.Sprintf("%d@example.com", i), "Somebody")
		e.At = base.Add(time.Duration(i) * time.Minute)
		entries = append(entries, e)
	}
	record(t, s, entries...)
	for range 3 {
		if _, err := s.PruneAudit(t.Context(), store.LoginEntry, entries[3].At, 2); err != nil {
			t.Fatal(err)
		}
	}
	if got := subjects(known(t, s, store.IdentityFilter{Display: "some", Prefix: true})); !slices.Equal(got, []string{"3", "4"}) {
		t.Errorf("left: %v", got)
	}
	record(t, s, shown("0", "0@example.com", "Somebody"))
	if got := subjects(known(t, s, store.IdentityFilter{Display: "0@example.com"})); !slices.Equal(got, []string{"0"}) {
		t.Errorf("back: %v", got)
	}
}

// testRecordedAtOnce: many replicas store logins of the same identities, in any order.
func testRecordedAtOnce(t *testing.T, s store.Store) {
	var wg sync.WaitGroup
	for w := range 8 {
		wg.Go(func() {
			for round := range 5 {
				var batch []store.AuditEntry
				for i := range 20 {
					subject := fmt.Sprint((i*7 + w*3 + round) % 20)
					batch = append(batch, shown(subject, fmt.Sprintf("%d-%d-%s@example.com", w, round, subject), "Same"))
				}
				if err := s.Record(t.Context(), batch); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	found := known(t, s, store.IdentityFilter{Display: "same"})
	if len(found) != 20 {
		t.Errorf("%d identities", len(found))
	}
	for _, i := range found { // found by what is shown of them, and by nothing else
		if got := known(t, s, store.IdentityFilter{Display: i.Display["email"]}); len(got) != 1 {
			t.Errorf("%s is found by its e-mail %d times", i.Subject, len(got))
		}
	}
	for w := range 8 {
		for _, i := range known(t, s, store.IdentityFilter{Prefix: true, Display: fmt.Sprint(w, "-")}) {
			if !strings.HasPrefix(i.Display["email"], fmt.Sprint(w, "-")) {
				t.Errorf("%s is found by what was once shown: %s", i.Subject, i.Display)
			}
		}
	}
}

func testLogins(t *testing.T, s store.Store) {
	at := func(server string, cid uint64, outcome string) store.AuditEntry {
		e := login(fmt.Sprintf("%s/%d", server, cid))
		e.ServerID, e.CID, e.Outcome = server, cid, outcome
		return e
	}
	first, second := at("N1", 5, "allowed"), at("N1", 5, "allowed")
	refused := at("N1", 5, "refused")
	sameCID, large, odd := at("N2", 5, "allowed"), at("N1", math.MaxUint64, "allowed"), at("odd \x00\\", 1, "allowed")
	onlyRefused, admin := at("N3", 1, "refused"), at("N3", 2, "allowed")
	admin.Kind = store.AdminEntry
	record(t, s, first, second, refused, sameCID, large, odd, onlyRefused, admin)
	list, err := s.Logins(t.Context(), []store.ConnectionID{
		{ServerID: "N1", CID: 5}, {ServerID: "N1", CID: 5}, {ServerID: "N1", CID: math.MaxUint64}, {ServerID: "N2", CID: 5},
		{ServerID: odd.ServerID, CID: 1}, {ServerID: "N3", CID: 1}, {ServerID: "N3", CID: 2}, {ServerID: "N4", CID: 1},
	})
	if err != nil {
		t.Fatal(err)
	}
	want := []string{second.ID, sameCID.ID, large.ID, odd.ID}
	got := auditIDs(list)
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	for _, e := range list {
		if e.ID == second.ID && !cmp.Equal(e, second) {
			t.Error(cmp.Diff(second, e))
		}
	}
}

func testLoginBounds(t *testing.T, s store.Store) {
	if list, err := s.Logins(t.Context(), nil); err != nil || len(list) != 0 {
		t.Errorf("of nothing: %v, %v", list, err)
	}
	ids := make([]store.ConnectionID, store.MaxPage)
	for i := range ids {
		ids[i] = store.ConnectionID{ServerID: "N1", CID: uint64(i)}
		e := login("alice")
		e.ServerID, e.CID = "N1", uint64(i)
		if i%100 == 0 {
			record(t, s, e)
		}
	}
	if list, err := s.Logins(t.Context(), ids); err != nil || len(list) != store.MaxPage/100 {
		t.Errorf("%d logins, %v", len(list), err)
	}
	if _, err := s.Logins(t.Context(), append(ids, store.ConnectionID{})); err == nil {
		t.Error("more than a page was answered")
	}
}
