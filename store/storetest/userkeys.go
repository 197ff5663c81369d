package storetest

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/gatehouse-nats/gatehouse/policy"
	"github.com/gatehouse-nats/gatehouse/store"
)

var userKeyTests = map[string]func(*testing.T, store.Store){
	"AddAndRenew":          testAddUserKey,
	"NotMoreThanMost":      testMostUserKeys,
	"NotMoreAtOnce":        testMostUserKeysAtOnce,
	"KeyOfAnotherIdentity": testTakenUserKey,
	"LaterEndIsKept":       testUserKeyEnd,
	"HowItWasObtained":     testUserKeyObtained,
	"UserKeyFilters":       testUserKeyFilters,
	"UserKeysArePruned":    testPruneUserKeys,
}

var claimsTests = map[string]func(*testing.T, store.Store){
	"CompareAndSwap": testAccountClaims,
	"SavedAtOnce":    testAccountClaimsAtOnce,
}

func userKey(subject, key string) store.UserKey {
	return store.UserKey{
		Key: key, Account: "APP", AccountID: "A1", Issuer: issuer, Subject: subject, Name: "corp-" + subject,
		Issued: base, Expires: base.Add(24 * time.Hour),
	}
}

func add(t *testing.T, s store.Store, k store.UserKey, most int) {
	t.Helper()
	if err := s.AddUserKey(t.Context(), k, most); err != nil {
		t.Fatal(err)
	}
}

func userKeys(t *testing.T, s store.Store, f store.UserKeyFilter) []store.UserKey {
	t.Helper()
	list, err := pages(func(cursor string) ([]store.UserKey, string, error) {
		f.Cursor = cursor
		return s.UserKeys(t.Context(), f)
	})
	if err != nil {
		t.Fatal(err)
	}
	return list
}

func testAddUserKey(t *testing.T, s store.Store) {
	k := userKey("alice", "U1")
	k.Program = "nightly \x00"
	add(t, s, k, 1)
	k.Issued, k.Expires, k.Program = base.Add(time.Hour), base.Add(25*time.Hour), ""
	add(t, s, k, 1)
	if diff := cmp.Diff([]store.UserKey{k}, userKeys(t, s, store.UserKeyFilter{})); diff != "" {
		t.Error(diff)
	}
}

func testMostUserKeys(t *testing.T, s store.Store) {
	ended := userKey("alice", "U0")
	ended.Expires = base.Add(time.Minute)
	add(t, s, ended, 1)
	add(t, s, userKey("alice", "U1"), 2)
	add(t, s, userKey("alice", "U2"), 2)
	for _, k := range []store.UserKey{userKey("alice", "U3"), userKey("alice", "U0")} {
		if err := s.AddUserKey(t.Context(), k, 2); !errors.Is(err, store.ErrTooMany) {
			t.Errorf("%s: %v", k.Key, err)
		}
	}
	add(t, s, userKey("alice", "U1"), 1) // renewed, whatever the limit has become
	add(t, s, userKey("bob", "U4"), 2)
	elsewhere := userKey("alice", "U1")
	elsewhere.AccountID, elsewhere.Account = "A2", "OPS"
	add(t, s, elsewhere, 1)
	if err := s.AddUserKey(t.Context(), userKey("carol", "U5"), 0); !errors.Is(err, store.ErrTooMany) {
		t.Errorf("none are allowed: %v", err)
	}
	if n := len(userKeys(t, s, store.UserKeyFilter{})); n != 5 {
		t.Errorf("%d keys are kept", n)
	}
}

func testMostUserKeysAtOnce(t *testing.T, s store.Store) {
	var wg sync.WaitGroup
	results := make(chan error, 12)
	for i := range cap(results) {
		wg.Go(func() { results <- s.AddUserKey(t.Context(), userKey("alice", fmt.Sprint("U", i)), 3) })
	}
	wg.Wait()
	close(results)
	added := 0
	for err := range results {
		switch {
		case err == nil:
			added++
		case !errors.Is(err, store.ErrTooMany):
			t.Error(err)
		}
	}
	if n := len(userKeys(t, s, store.UserKeyFilter{})); added != 3 || n != 3 {
		t.Errorf("%d were added and %d are kept", added, n)
	}
}

// testTakenUserKey: a key that leads to one identity is not led away from it while it is valid.
func testTakenUserKey(t *testing.T, s store.Store) {
	add(t, s, userKey("mallory", "U1"), 1)
	if err := s.AddUserKey(t.Context(), userKey("alice", "U1"), 3); !errors.Is(err, store.ErrTaken) {
		t.Errorf("got %v", err)
	}
	if list := userKeys(t, s, store.UserKeyFilter{Key: "U1"}); len(list) != 1 || list[0].Subject != "mallory" {
		t.Errorf("it is kept as %v", list)
	}
	ended := userKey("mallory", "U2")
	ended.Expires = base.Add(time.Minute)
	add(t, s, ended, 3)
	add(t, s, userKey("alice", "U2"), 3)
	if list := userKeys(t, s, store.UserKeyFilter{Key: "U2"}); len(list) != 1 || list[0].Subject != "alice" {
		t.Errorf("it is kept as %v", list)
	}
}

// testUserKeyEnd: a user JWT that was given before lives on when a shorter one is given.
func testUserKeyEnd(t *testing.T, s store.Store) {
	never := time.Time{}
	for name, c := range map[string]struct{ first, second, want time.Time }{
		"longer":  {base.Add(24 * time.Hour), base.Add(48 * time.Hour), base.Add(48 * time.Hour)},
		"shorter": {base.Add(48 * time.Hour), base.Add(24 * time.Hour), base.Add(48 * time.Hour)},
		"never":   {base.Add(24 * time.Hour), never, never},
		"no more": {never, base.Add(24 * time.Hour), never},
	} {
		k := userKey("alice", name)
		k.Expires = c.first
		add(t, s, k, 10)
		k.Expires = c.second
		add(t, s, k, 10)
		if list := userKeys(t, s, store.UserKeyFilter{Key: name}); len(list) != 1 || !list[0].Expires.Equal(c.want) {
			t.Errorf("%s: %v, want %v", name, list, c.want)
		}
	}
}

// testUserKeyObtained: with which sessions and tokens a key got what has not ended is kept over renewals, and not of
// whoever had the key before.
func testUserKeyObtained(t *testing.T, s store.Store) {
	signUp := func(session string, issued, ends time.Duration) store.Obtained {
		return store.Obtained{Session: session, Token: "of " + session, Issued: base.Add(issued), Expires: base.Add(ends)}
	}
	keep := func(subject string, o store.Obtained) {
		k := userKey(subject, "U1")
		k.Issued, k.Expires, k.Obtained = o.Issued, o.Expires, []store.Obtained{o}
		add(t, s, k, 5)
	}
	check := func(when string, want ...store.Obtained) {
		t.Helper()
		list := userKeys(t, s, store.UserKeyFilter{Key: "U1"})
		if len(list) != 1 {
			t.Fatalf("%s: %d keys", when, len(list))
		}
		if diff := cmp.Diff(want, list[0].Obtained); diff != "" {
			t.Errorf("%s: %s", when, diff)
		}
	}
	// In the past, so that the key can be somebody else's afterwards.
	first, second := signUp("s1", -48*time.Hour, -24*time.Hour), signUp("s2 \x00", -40*time.Hour, -16*time.Hour)
	keep("mallory", first)
	keep("mallory", second)
	check("renewed in another session", first, second)
	again := signUp("s1", -30*time.Hour, -23*time.Hour)
	keep("mallory", again)
	check("renewed in the first", second, again)
	late := signUp("s3", -20*time.Hour, -time.Hour)
	keep("mallory", late)
	check("when one has ended", second, late)
	others := signUp("s4", 0, 24*time.Hour)
	keep("alice", others)
	check("of another identity", others)
	for i := range 40 {
		keep("alice", signUp(fmt.Sprint("many ", i), time.Duration(i+1)*time.Minute, 24*time.Hour))
	}
	list := userKeys(t, s, store.UserKeyFilter{Key: "U1"})[0].Obtained
	if n := len(list); n != 16 || !list[0].Untold || !list[0].Issued.Equal(base.Add(25*time.Minute)) || list[n-1].Session != "many 39" || list[1].Session != "many 25" {
		t.Errorf("of many are kept %+v", list)
	}
}

func testUserKeyFilters(t *testing.T, s store.Store) {
	alice, program, bob, other := userKey("alice", "U1"), userKey("alice", "U2"), userKey("bob", "U3"), userKey("alice", "U1")
	program.Program = "nightly"
	bob.Expires = time.Time{}
	other.AccountID, other.Account = "A2", "OPS"
	for i, k := range []*store.UserKey{&alice, &program, &bob, &other} {
		k.Issued = base.Add(time.Duration(i/2) * time.Minute) // two of a time
		add(t, s, *k, 5)
	}
	for name, c := range map[string]struct {
		filter store.UserKeyFilter
		want   []store.UserKey // newest first, then by key
	}{
		"all":      {store.UserKeyFilter{}, []store.UserKey{bob, other, program, alice}},
		"owner":    {store.UserKeyFilter{Principal: policy.Principal{Issuer: issuer, Subject: "alice"}}, []store.UserKey{other, program, alice}},
		"issuer":   {store.UserKeyFilter{Principal: policy.Principal{Issuer: issuer}}, []store.UserKey{bob, other, program, alice}},
		"account":  {store.UserKeyFilter{AccountID: "A1"}, []store.UserKey{bob, program, alice}},
		"key":      {store.UserKeyFilter{Key: "U1"}, []store.UserKey{other, alice}},
		"program":  {store.UserKeyFilter{Program: "nightly"}, []store.UserKey{program}},
		"valid":    {store.UserKeyFilter{ValidAt: base.Add(time.Hour), AccountID: "A2"}, []store.UserKey{other}},
		"for ever": {store.UserKeyFilter{ValidAt: base.Add(24 * time.Hour)}, []store.UserKey{bob}},
		"nobody":   {store.UserKeyFilter{Principal: policy.Principal{Issuer: issuer, Subject: "carol"}}, nil},
	} {
		for _, limit := range []int{0, 1} {
			c.filter.Limit = limit
			if diff := cmp.Diff(c.want, userKeys(t, s, c.filter)); diff != "" {
				t.Errorf("%s, by %d: %s", name, limit, diff)
			}
		}
	}
	if _, _, err := s.UserKeys(t.Context(), store.UserKeyFilter{Cursor: "x"}); !errors.Is(err, store.ErrCursor) {
		t.Errorf("a cursor of nothing: %v", err)
	}
}

func testPruneUserKeys(t *testing.T, s store.Store) {
	ended, valid, never := userKey("alice", "U1"), userKey("alice", "U2"), userKey("alice", "U3")
	ended.Expires, never.Expires = base.Add(time.Minute), time.Time{}
	for _, k := range []store.UserKey{ended, valid, never} {
		add(t, s, k, 5)
	}
	if err := s.PruneFeed(t.Context(), base.Add(time.Hour)); err != nil {
		t.Fatal(err)
	}
	var left []string
	for _, k := range userKeys(t, s, store.UserKeyFilter{}) {
		left = append(left, k.Key)
	}
	if slices.Sort(left); !slices.Equal(left, []string{"U2", "U3"}) {
		t.Errorf("left: %v", left)
	}
}

func testAccountClaims(t *testing.T, s store.Store) {
	b := store.AccountClaims{Account: "B", Base: "base", Desired: "one", Revision: 1}
	a := store.AccountClaims{Account: "A", Desired: "x", Revision: 1}
	for _, c := range []store.AccountClaims{b, a} {
		if err := s.SaveAccountClaims(t.Context(), c); err != nil {
			t.Fatal(err)
		}
	}
	for name, revision := range map[string]int64{"again": 1, "ahead": 3, "none": 0, "below": -1} {
		c := b
		c.Desired, c.Revision = "other", revision
		if err := s.SaveAccountClaims(t.Context(), c); !errors.Is(err, store.ErrChanged) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := s.SaveAccountClaims(t.Context(), store.AccountClaims{Account: "C", Revision: 2}); !errors.Is(err, store.ErrChanged) {
		t.Errorf("the second of an account that has no first: %v", err)
	}
	b.Base, b.Desired, b.Revision = "base 2", "two", 2
	if err := s.SaveAccountClaims(t.Context(), b); err != nil {
		t.Fatal(err)
	}
	got, err := s.AccountClaims(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]store.AccountClaims{a, b}, got); diff != "" {
		t.Error(diff)
	}
}

func testAccountClaimsAtOnce(t *testing.T, s store.Store) {
	for revision := range int64(3) {
		var wg sync.WaitGroup
		results := make(chan error, 8)
		for i := range cap(results) {
			wg.Go(func() {
				results <- s.SaveAccountClaims(t.Context(), store.AccountClaims{Account: "A", Desired: fmt.Sprint(i), Revision: revision + 1})
			})
		}
		wg.Wait()
		close(results)
		saved := 0
		for err := range results {
			switch {
			case err == nil:
				saved++
			case !errors.Is(err, store.ErrChanged):
				t.Error(err)
			}
		}
		if saved != 1 {
			t.Errorf("revision %d was saved %d times", revision+1, saved)
		}
	}
}
