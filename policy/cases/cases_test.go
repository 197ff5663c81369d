package cases

import (
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/gatehouse-nats/gatehouse/policy"
)

const url = "https://login.example.com"

var now = time.Unix(1_800_000_000, 0)

func template(t testing.TB, subjects ...string) []policy.Template {
	t.Helper()
	var list []policy.Template
	for _, s := range subjects {
		parsed, err := policy.ParseSubscription(s)
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, parsed)
	}
	return list
}

func world(t testing.TB) *policy.Rules {
	t.Helper()
	claim, err := policy.ParseClaimPath("groups")
	if err != nil {
		t.Fatal(err)
	}
	group := func(name string) []policy.Condition {
		glob, err := policy.ParseGlob(name)
		if err != nil {
			t.Fatal(err)
		}
		return []policy.Condition{{Claim: claim, Values: []policy.Value{{Text: &glob}}}}
	}
	app := &policy.Account{Name: "APP", ID: "AAPP"}
	role := &policy.Role{Name: "app", Publish: policy.PermissionRules{Allow: template(t, "app.>"), Deny: template(t, "app.secret")},
		Subscribe: policy.PermissionRules{Allow: template(t, "app.> workers", "news")}}
	return &policy.Rules{
		Leeway: time.Second, Issuers: map[string]string{"corp": url}, Accounts: map[string]*policy.Account{"APP": app},
		Bindings: map[string][]*policy.Binding{"corp": {
			{Name: "developers", Issuer: "corp", Match: group("dev"), Grant: policy.Grant{Account: app, Role: role}, TTL: time.Hour},
			{Name: "office", Issuer: "corp", Match: group("ops"), Grant: policy.Grant{Account: app, Role: role}, TTL: time.Hour,
				Source: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}},
		}},
	}
}

func login(groups ...any) Login {
	return Login{IssuerURL: url, Subject: "alice", Claims: map[string]any{"groups": groups}, Conn: policy.Connection{Type: policy.Standard}}
}

func TestRun(t *testing.T) {
	t.Parallel()
	rules := world(t)
	stranger := login("dev")
	stranger.IssuerURL = "https://other.example.com"
	near := login("ops")
	near.Conn.Source = netip.MustParseAddr("10.1.1.1")
	for name, c := range map[string]struct {
		login  Login
		expect Expect
		want   string // what the failures say, in order; empty: it passes
	}{
		"allowed": {login("dev"), Expect{
			Account: "APP", Roles: []string{"app"}, Bindings: []string{"developers"}, TTL: time.Hour,
			Publish:   Probe{Can: []string{"app.x"}, Cannot: []string{"app.secret", "x"}},
			Subscribe: Probe{Can: []string{"app.> workers", "news"}, Cannot: []string{"app.>", "app.x others"}},
		}, ""},
		"with whatever":        {login("dev"), Expect{}, ""},
		"refused":              {login("x"), Expect{Refuse: policy.NoBinding}, ""},
		"from elsewhere":       {login("ops"), Expect{Refuse: policy.SourceRefused}, ""},
		"from the office":      {near, Expect{Bindings: []string{"office"}}, ""},
		"an unknown issuer":    {stranger, Expect{Refuse: policy.IssuerUnknown}, ""},
		"refused for another":  {login("x"), Expect{Refuse: policy.SourceRefused}, "refused as no_binding"},
		"refused all the same": {login("x"), Expect{}, "refused as no_binding|wanted allowed"},
		"allowed though":       {login("dev"), Expect{Refuse: policy.NoBinding}, "allowed into account APP by developers, wanted refused as no_binding"},
		"all else": {login("dev"), Expect{
			Account: "OPS", Roles: []string{"b", "a"}, Bindings: []string{"office"}, TTL: time.Minute,
			Publish:   Probe{Can: []string{"app.secret"}, Cannot: []string{"app.x"}},
			Subscribe: Probe{Can: []string{"app.>"}, Cannot: []string{"news"}},
		}, "account is APP, wanted OPS|roles are app, wanted a, b|bindings are developers, wanted office|ttl is 1h0m0s, wanted 1m0s|" +
			"cannot publish to app.secret: allowed is app.>, denied app.secret|can publish to app.x|cannot subscribe to app.>|can subscribe to news"},
	} {
		got := strings.Join(Run(rules, Case{Login: c.login, Expect: c.expect}, now).Failures, "\n")
		if (got == "") != (c.want == "") {
			t.Errorf("%s: got %q, want %q", name, got, c.want)
		}
		for want := range strings.SplitSeq(c.want, "|") {
			if !strings.Contains(got, want) {
				t.Errorf("%s: %q lacks %q", name, got, want)
			}
		}
	}
}

// What a policy seems not to allow may be delivered all the same.
func TestWhatIsHeardThoughNobodyNamesIt(t *testing.T) {
	t.Parallel()
	d := allowed("APP", time.Hour, policy.SubjectSet{}, policy.SubjectSet{Allow: []string{"app.*", "app.x.status workers"}, Deny: []string{"app.*.*.>"}})
	got := strings.Join(Expect{Subscribe: Probe{Cannot: []string{"app.x.secret", "app.x.y.z", "app", "app.x.y workers"}}}.failures(d), "\n")
	if !strings.Contains(got, "is delivered app.x.secret by a subscription that ends in >") || strings.Contains(got, "app.x.y.z by") || strings.Contains(got, "app by") ||
		!strings.Contains(got, "is delivered app.x.y workers") {
		t.Errorf("got %s", got)
	}
}

// A login that would make an account is allowed what it would get there.
func TestCaseOfAFirstLogin(t *testing.T) {
	t.Parallel()
	rules := world(t)
	name, err := policy.ParseNameTemplate("team-{{claim.team}}")
	if err != nil {
		t.Fatal(err)
	}
	role := &policy.Role{Name: "member", Publish: policy.PermissionRules{Allow: template(t, "{{account}}.>")}}
	rules.Plans = map[string]*policy.Plan{"team": {Name: "team", Roles: map[string]*policy.Role{"member": role}, TTL: time.Minute}}
	rules.Creates = map[string][]*policy.Binding{"corp": {
		{Name: "teams", Issuer: "corp", TTL: time.Hour, Create: &policy.Create{Plan: "team", Role: role, Name: name}},
	}}
	of := func(team string) Login {
		return Login{IssuerURL: url, Subject: "alice", Claims: map[string]any{"team": team}, Conn: policy.Connection{Type: policy.Standard}}
	}
	r := Run(rules, Case{Login: of("a"), Expect: Expect{
		Account: "team-a", Roles: []string{"member"}, Bindings: []string{"teams"}, TTL: time.Minute, Publish: Probe{Can: []string{"team-a.x"}, Cannot: []string{"team-b.x"}},
	}}, now)
	if len(r.Failures) > 0 || r.Decision.Create == nil || r.Decision.Create.Name != "team-a" {
		t.Errorf("got %+v, failures %v", r.Decision, r.Failures)
	}
	if got := Unexercised(rules, []Result{r}); slices.Contains(got, "teams") {
		t.Errorf("unexercised are %v", got)
	}
	changes := Compare(r.Decision, of("b").Decide(rules, now, nil))
	if len(changes) == 0 || changes[0].Kind != Moves {
		t.Errorf("another account is %v", changes)
	}
}

func TestUnexercised(t *testing.T) {
	t.Parallel()
	rules := world(t)
	var results []Result
	if got := Unexercised(rules, results); !slices.Equal(got, []string{"developers", "office"}) {
		t.Errorf("without a case: %v", got)
	}
	// A case that is refused by a binding's source gets nothing by it.
	results = append(results, Run(rules, Case{Login: login("dev")}, now), Run(rules, Case{Login: login("ops")}, now))
	if got := Unexercised(rules, results); !slices.Equal(got, []string{"office"}) {
		t.Errorf("got %v", got)
	}
}

func allowed(account string, ttl time.Duration, publish, subscribe policy.SubjectSet) policy.Decision {
	return policy.Decision{
		Account: &policy.Account{Name: account, ID: "A" + account}, Roles: []string{"app"}, Bindings: []string{"developers"}, TTL: ttl,
		Permissions: policy.Permissions{Publish: publish, Subscribe: subscribe},
	}
}

func responding(most int, within time.Duration) policy.Decision {
	d := allowed("APP", time.Hour, policy.SubjectSet{Allow: []string{"app.>"}}, policy.SubjectSet{Allow: []string{"app.>"}})
	d.Permissions.Respond = policy.Respond{Max: most, TTL: within}
	return d
}

func direct(ttl time.Duration, keys int) policy.Decision {
	set := policy.SubjectSet{Allow: []string{"app.>"}}
	d := allowed("APP", time.Hour, set, set)
	d.Direct = &policy.Direct{TTL: ttl, Keys: keys}
	return d
}

func TestCompare(t *testing.T) {
	t.Parallel()
	set := func(allow ...string) policy.SubjectSet { return policy.SubjectSet{Allow: allow} }
	refused := func(r policy.Reason) policy.Decision { return policy.Decision{Refusal: policy.Refuse(r, "why")} }
	base := allowed("APP", time.Hour, set("app.>"), set("app.>"))
	for name, c := range map[string]struct {
		before, after policy.Decision
		want          string // kind and what, in order
	}{
		"the same":               {base, base, ""},
		"both refused":           {refused(policy.NoBinding), refused(policy.NoBinding), ""},
		"refused for another":    {refused(policy.NoBinding), refused(policy.SourceRefused), "is refused for another reason: source_refused: why, before no_binding"},
		"gains":                  {refused(policy.NoBinding), base, "gains access: account APP as app by developers, before no_binding"},
		"loses":                  {base, refused(policy.NoBinding), "loses access: no_binding: why, before account APP as app by developers"},
		"another account":        {base, allowed("OPS", time.Hour, set("app.>"), set("app.>")), "gets into another account: account OPS, before APP"},
		"another ttl":            {base, allowed("APP", time.Minute, set("app.>"), set("app.>")), "logs in for another time: ttl 1m0s, before 1h0m0s"},
		"narrower":               {base, allowed("APP", time.Hour, set("app.red.>"), set("app.>")), "may do less: publish +app.red.> -app.> (no longer app.red)"},
		"wider":                  {base, allowed("APP", time.Hour, set("app.>"), set(">")), "may do more: subscribe +> -app.> (now app)"},
		"both":                   {base, allowed("APP", time.Hour, set("x"), set("app.>")), "may do more: publish +x -app.> (now x)|may do less: publish +x -app.> (no longer app.x)"},
		"only written otherwise": {base, allowed("APP", time.Hour, set("app.*.>", "app.*"), set("app.>", "app.x")), ""},
		"a deny":                 {base, allowed("APP", time.Hour, policy.SubjectSet{Allow: []string{"app.>"}, Deny: []string{"app.x"}}, set("app.>")), "may do less: publish +deny app.x (no longer app.x)"},
		"a deny of nothing":      {base, allowed("APP", time.Hour, policy.SubjectSet{Allow: []string{"app.>"}, Deny: []string{"y"}}, set("app.>")), ""},
		"an end that is opened": {allowed("APP", time.Hour, set("x"), policy.SubjectSet{Allow: []string{"app.*"}, Deny: []string{"app.*.>"}}),
			allowed("APP", time.Hour, set("x"), policy.SubjectSet{Allow: []string{"app.*", "app.x.y workers"}, Deny: []string{"app.*.*.>"}}), "may do more: subscribe +app.x.y workers +deny app.*.*.> -deny app.*.> (now app.x.y)"},
		"a queue group":   {base, allowed("APP", time.Hour, set("app.>"), set("app.> g")), "may do less: subscribe +app.> g -app.> (no longer app.x)"},
		"replies":         {base, responding(5, time.Second), "may do more: respond 5 times within 1s, before never"},
		"no replies":      {responding(5, time.Second), base, "may do less: respond never, before 5 times within 1s"},
		"other replies":   {responding(5, time.Second), responding(1, time.Minute), "may do more: respond 1 times within 1m0s, before 5 times within 1s|may do less: respond 1 times within 1m0s, before 5 times within 1s"},
		"direct users":    {base, direct(time.Hour, 2), "may do more: direct users by 2 keys for 1h0m0s each, before none"},
		"no direct users": {direct(time.Hour, 2), base, "may do less: direct users none, before by 2 keys for 1h0m0s each"},
		"other terms":     {direct(time.Hour, 2), direct(time.Minute, 2), "may do less: direct users by 2 keys for 1m0s each, before by 2 keys for 1h0m0s each"},
		"any queue group": {base, allowed("APP", time.Hour, set("app.>"), set("app.>", "app.> >")), ""},
	} {
		var got []string
		for _, change := range Compare(c.before, c.after) {
			got = append(got, string(change.Kind)+": "+change.What)
		}
		if text := strings.Join(got, "|"); text != c.want {
			t.Errorf("%s:\n got %s\nwant %s", name, text, c.want)
		}
	}
}

// TestCompareIsFair: what somebody gains one way, they lose the other way.
func TestCompareIsFair(t *testing.T) {
	t.Parallel()
	subject := rapid.SampledFrom([]string{"a", "a.b", "a.*", "a.>", "*.b", ">", "a.b g", "a.> h"})
	decision := rapid.Custom(func(t *rapid.T) policy.Decision {
		if rapid.IntRange(0, 4).Draw(t, "refused") == 0 {
			return policy.Decision{Refusal: policy.Refuse(policy.NoBinding, "why")}
		}
		list := rapid.SliceOfN(subject, 0, 3)
		plain := rapid.SliceOfN(rapid.SampledFrom([]string{"a", "a.b", "a.*", "a.>"}), 0, 3)
		return allowed(rapid.SampledFrom([]string{"APP", "OPS"}).Draw(t, "account"), rapid.SampledFrom([]time.Duration{1, 2}).Draw(t, "ttl"),
			policy.SubjectSet{Allow: plain.Draw(t, "allow"), Deny: plain.Draw(t, "deny")}, policy.SubjectSet{Allow: list.Draw(t, "allow"), Deny: list.Draw(t, "deny")})
	})
	opposite := map[Kind]Kind{Gains: Loses, Loses: Gains, Wider: Narrower, Narrower: Wider, Moves: Moves, Lives: Lives, Refused: Refused}
	kinds := func(changes []Change, of func(Kind) Kind) (list []string) {
		for _, c := range changes {
			list = append(list, string(of(c.Kind))+strings.Fields(c.What)[0])
		}
		slices.Sort(list)
		return list
	}
	rapid.Check(t, func(rt *rapid.T) {
		a, b := decision.Draw(rt, "a"), decision.Draw(rt, "b")
		if changes := Compare(a, a); changes != nil {
			rt.Fatalf("nothing changed, and yet %v", changes)
		}
		there, back := Compare(a, b), Compare(b, a)
		if a.Allowed() != b.Allowed() {
			if len(there) != 1 || len(back) != 1 || opposite[there[0].Kind] != back[0].Kind {
				rt.Fatalf("%v there and %v back", there, back)
			}
			return
		}
		if got, want := kinds(back, func(k Kind) Kind { return opposite[k] }), kinds(there, func(k Kind) Kind { return k }); !slices.Equal(got, want) {
			rt.Fatalf("%v there and %v back", there, back)
		}
	})
}
