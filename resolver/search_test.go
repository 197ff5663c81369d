package resolver

import (
	"slices"
	"testing"
	"time"

	"github.com/gatehouse-nats/gatehouse/policy"
)

const directKey = "UAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAABET7"

var (
	revokedAt = time.Date(2026, 1, 2, 12, 0, 0, 0, time.UTC)
	corpRules = &policy.Rules{Issuers: map[string]string{issuerName: issuer}}
)

func aimFor(kind policy.RevocationKind, t policy.Target, rules *policy.Rules) aim {
	return aimAt(policy.Revocation{ID: "1", Kind: kind, Target: t, At: revokedAt}, rules)
}

func TestJudge(t *testing.T) {
	t.Parallel()
	of := func(t policy.Target) policy.Target {
		t.Issuer = issuer
		return t
	}
	login := func(subject, session string, issued time.Time) *policy.Login {
		return &policy.Login{Principal: policy.Principal{Issuer: issuer, Subject: subject}, Session: session, Issued: issued}
	}
	before, after := revokedAt.Add(-time.Minute), revokedAt.Add(time.Minute)
	alice := policy.PrincipalName(issuerName, "alice")
	for name, c := range map[string]struct {
		kind    policy.RevocationKind
		target  policy.Target
		rules   *policy.Rules
		session policy.Session
		now     time.Time
		missing bool
		want    verdict
	}{
		"a block needs no record":                           {policy.Block, identity("alice"), corpRules, policy.Session{Name: alice, Since: after}, after, false, ended},
		"somebody else":                                     {policy.Block, identity("alice"), corpRules, policy.Session{Name: alice + "x", Since: before}, after, false, spared},
		"a logout of before the connection needs one":       {policy.Logout, identity("alice"), corpRules, policy.Session{Name: alice, Since: after}, after.Add(time.Second), false, undecided},
		"which is not waited for for ever":                  {policy.Logout, identity("alice"), corpRules, policy.Session{Name: alice, Since: after}, after.Add(recordTime), false, ended},
		"a logout of after it does not":                     {policy.Logout, identity("alice"), corpRules, policy.Session{Name: alice, Since: before}, revokedAt, false, ended},
		"a token of after the logout":                       {policy.Logout, identity("alice"), corpRules, policy.Session{Name: alice, Since: after, Login: login("alice", "", after)}, after, false, spared},
		"a token of before it, used late":                   {policy.Logout, identity("alice"), corpRules, policy.Session{Name: alice, Since: after, Login: login("alice", "", before)}, after, false, ended},
		"another login session":                             {policy.Logout, of(policy.Target{Session: "phone"}), corpRules, policy.Session{Name: alice, Since: before, Login: login("alice", "desk", before)}, after, false, spared},
		"a login session that is not known yet":             {policy.Logout, of(policy.Target{Session: "phone"}), corpRules, policy.Session{Name: alice, Since: revokedAt}, revokedAt.Add(time.Second), false, undecided},
		"a login session that was never recorded":           {policy.Logout, of(policy.Target{Session: "phone"}), corpRules, policy.Session{Name: alice, Since: before}, after, false, ended},
		"unless the records cannot be read now":             {policy.Logout, of(policy.Target{Session: "phone"}), corpRules, policy.Session{Name: alice, Since: before}, after, true, undecided},
		"an issuer without a name, by the record":           {policy.Block, of(policy.Target{}), nil, policy.Session{Name: alice, Since: before, Login: login("alice", "", before)}, after, false, ended},
		"a direct user of the identity, by the record":      {policy.Block, identity("alice"), corpRules, policy.Session{Name: directKey, Since: before, Login: login("alice", "", before)}, after, false, ended},
		"a direct user of nobody known":                     {policy.Block, identity("alice"), corpRules, policy.Session{Name: directKey, Since: before}, after, false, spared},
		"every user of an account":                          {policy.Logout, policy.Target{Account: "A"}, corpRules, policy.Session{Name: directKey, Account: "A", Since: before}, after, false, ended},
		"a direct user of an account, records unread":       {policy.Logout, policy.Target{Account: "A"}, corpRules, policy.Session{Name: directKey, Account: "A", Since: before}, after, true, undecided},
		"a suspension concerns direct users without record": {policy.Suspension, policy.Target{Account: "A"}, corpRules, policy.Session{Name: directKey, Account: "A", Since: before}, after, true, ended},
	} {
		a := aimFor(c.kind, c.target, c.rules)
		if got := a.judge(&c.session, 0, c.now, c.missing); got != c.want {
			t.Errorf("%s: verdict %d, want %d", name, got, c.want)
		}
	}
}

// Whom a list of aims ends is found as if each were tried on everybody.
func TestCandidatesMissNobody(t *testing.T) {
	t.Parallel()
	aims := []aim{
		aimFor(policy.Block, identity("alice"), corpRules),
		aimFor(policy.Block, identity("bob"), nil), // an issuer that has no name any more
		aimFor(policy.Block, policy.Target{Principal: policy.Principal{Issuer: issuer}}, corpRules),
		aimFor(policy.Logout, policy.Target{Account: "A"}, corpRules),
		aimFor(policy.UserKey, policy.Target{Account: "B", Key: directKey}, corpRules),
	}
	login := func(subject string) *policy.Login {
		return &policy.Login{Principal: policy.Principal{Issuer: issuer, Subject: subject}, Issued: revokedAt.Add(-time.Hour)}
	}
	q := newSearch(aims)
	ends := 0
	for _, s := range []policy.Session{
		{Name: policy.PrincipalName(issuerName, "alice"), Account: "B"}, {Name: "old-bob", Account: "B", Login: login("bob")},
		{Name: directKey, Account: "B"}, {Name: directKey, Account: "C", Login: login("alice")}, {Name: "other-carol", Account: "A"}, {Name: "other-carol", Account: "B"},
	} {
		var found []int
		q.candidates(&s, func(i int) { found = append(found, i) })
		for i, a := range aims {
			if a.Ends(&s, a.issuer, 0) {
				ends++
				if !slices.Contains(found, i) {
					t.Errorf("%s of %v is no candidate for %s", s.Name, s.Login, a.Target)
				}
			}
		}
	}
	if ends < 8 {
		t.Errorf("only %d pairs: the test tries nothing", ends)
	}
}

func TestFilters(t *testing.T) {
	t.Parallel()
	many := make([]aim, mostAsks+1)
	for i := range many {
		many[i] = aimFor(policy.Block, identity(string(rune('a'+i))), corpRules)
	}
	alice := policy.PrincipalName(issuerName, "alice")
	for name, c := range map[string]struct {
		aims []aim
		keys []string
		want []SessionFilter
	}{
		"one identity, by its name and its keys": {[]aim{aimFor(policy.Block, identity("alice"), corpRules)}, []string{directKey}, []SessionFilter{{User: alice}, {User: directKey}}},
		"a name is asked for once":               {[]aim{aimFor(policy.Block, identity("alice"), corpRules), aimFor(policy.Logout, identity("alice"), corpRules)}, nil, []SessionFilter{{User: alice}}},
		"an account that is kept apart":          {[]aim{aimFor(policy.Logout, policy.Target{Account: "A"}, corpRules)}, nil, []SessionFilter{{Account: "A"}}},
		"an account that servers may not know":   {[]aim{aimFor(policy.Logout, policy.Target{Account: "B"}, corpRules)}, nil, []SessionFilter{{}}},
		"an issuer":                              {[]aim{aimFor(policy.Block, policy.Target{Principal: policy.Principal{Issuer: issuer}}, corpRules)}, nil, []SessionFilter{{}}},
		"an identity whose name is not known":    {[]aim{aimFor(policy.Block, identity("alice"), nil)}, nil, []SessionFilter{{}}},
		"a key":                                  {[]aim{aimFor(policy.UserKey, policy.Target{Account: "A", Key: directKey}, corpRules)}, nil, []SessionFilter{{User: directKey}}},
		"an activation ends nothing":             {[]aim{aimFor(policy.Activation, policy.Target{Account: "A", Key: "B", Export: "x"}, corpRules)}, nil, []SessionFilter{}},
		"many":                                   {many, nil, []SessionFilter{{}}},
	} {
		got := newSearch(c.aims).filters(c.keys, func(account string) bool { return account == "A" })
		slices.SortFunc(got, func(a, b SessionFilter) int { return len(a.User) - len(b.User) })
		if !slices.Equal(got, c.want) {
			t.Errorf("%s: asked for %v, want %v", name, got, c.want)
		}
	}
}
