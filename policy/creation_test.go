package policy

import (
	"errors"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nkeys"
	"pgregory.net/rapid"
)

func mustName(t testing.TB, s string) NameTemplate {
	t.Helper()
	name, err := ParseNameTemplate(s)
	if err != nil {
		t.Fatal(err)
	}
	return name
}

// creating is a set of rules with a binding for teams and one for people, beside one into an account of the configuration.
func creating(t testing.TB) *Rules {
	t.Helper()
	app := &Role{Name: "app", Publish: PermissionRules{Allow: templates(t, "{{account}}.{{name}}.>")}}
	lead := &Role{Name: "lead", Publish: PermissionRules{Allow: templates(t, "lead.>")}}
	valid := func(name string) error {
		if len(name) > 20 || strings.Trim(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-") != "" || strings.HasSuffix(name, "-") {
			return errors.New("no name")
		}
		return nil
	}
	shop := &Account{Name: "team-SHOP", ID: "ASHOP"}
	rules := &Rules{
		Issuers:  map[string]string{"corp": "https://login.example.com"},
		Accounts: map[string]*Account{"team-SHOP": shop},
		Plans: map[string]*Plan{
			"team": {Name: "team", Roles: map[string]*Role{"app": app, "lead": lead}, TTL: 10 * time.Minute, Direct: &Direct{TTL: time.Hour, Keys: 1}},
			"bare": {Name: "bare", Roles: map[string]*Role{}, TTL: time.Hour},
		},
		Bindings: map[string][]*Binding{"corp": {
			{Name: "shop", Issuer: "corp", Match: []Condition{condition(t, "groups", "shop")}, Grant: Grant{shop, app}, TTL: time.Hour},
		}},
		Creates: map[string][]*Binding{"corp": {
			{Name: "teams", Issuer: "corp", Match: []Condition{condition(t, "groups", "dev")}, TTL: time.Hour,
				Create: &Create{Plan: "team", Role: app, Name: mustName(t, "team-{{claim.team}}"), Valid: valid}},
			{Name: "leads", Issuer: "corp", Match: []Condition{condition(t, "groups", "lead")}, TTL: time.Minute, Source: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")},
				Create: &Create{Plan: "team", Role: lead, Name: mustName(t, "team-{{claim.team}}"), Valid: valid}},
			{Name: "people", Issuer: "corp", Match: []Condition{condition(t, "groups", "staff")}, TTL: time.Hour,
				Create: &Create{Plan: "team", Role: app, Name: mustName(t, "{{claim.user}}"), Own: true, Valid: valid}},
			{Name: "units", Issuer: "corp", Match: []Condition{condition(t, "groups", "unit")}, TTL: time.Hour,
				Create: &Create{Plan: "team", Role: app, Name: mustName(t, "team-{{claim.unit}}"), Valid: valid}},
		}},
	}
	rules.Index()
	return rules
}

// teamOrigin is what the binding for teams makes of a claim, written as JSON.
func teamOrigin(claim string) *Origin {
	return &Origin{Issuer: "https://login.example.com", Template: "team-{{claim.team}}", Claims: "[" + claim + "]"}
}

func TestFirstLogin(t *testing.T) {
	t.Parallel()
	rules := creating(t)
	bob := Principal{Issuer: "https://login.example.com", Subject: "bob"}
	member, err := NewMembership("m1", "app", bob, "", time.Time{})
	if err != nil {
		t.Fatal(err)
	}
	everybody, err := NewMembership("m2", "app", Principal{Issuer: bob.Issuer}, `{"team":["trap"]}`, time.Time{})
	if err != nil {
		t.Fatal(err)
	}
	account := func(name string) Account { return Account{Name: name, ID: "A" + name, SigningKeys: []string{"AK"}} }
	entries := []Entry{
		{Account: account("team-orders"), Plan: "team", State: "active", Open: true, Origin: teamOrigin(`"orders"`)},
		{Account: account("team-new"), Plan: "team", State: "creating", Coming: true, Origin: teamOrigin(`"new"`)},
		{Account: account("team-late"), Plan: "team", State: "active", Origin: teamOrigin(`"late"`)},
		{Account: account("team-gone"), Plan: "team", State: "deleting", Origin: teamOrigin(`"gone"`)},
		{Account: account("team-poor"), Plan: "bare", State: "active", Open: true, Origin: teamOrigin(`"poor"`)},
		{Account: account("team-trap"), Plan: "team", State: "active", Open: true, Members: []Membership{everybody}},
		{Account: account("team-7"), Plan: "team", State: "active", Open: true, Origin: teamOrigin(`"7"`)},
		{Account: account("bob"), Plan: "team", State: "active", Open: true, Members: []Membership{member},
			Origin: &Origin{Issuer: bob.Issuer, Template: "{{claim.user}}", Subject: "bob"}},
	}
	s := &Snapshot{Rules: rules, Accounts: NewDirectory(entries), Revocations: NewRevocations([]Revocation{
		{ID: "s1", Kind: Suspension, Target: Target{Account: "Ateam-gone"}},
	})}
	for name, c := range map[string]struct {
		sub, claims, account string
		source               string
		want                 Reason
		lands, creates       string
		begun                bool
	}{
		"a team that is there":              {sub: "bob", claims: `{"groups":"dev","team":"orders"}`, lands: "team-orders"},
		"named as well":                     {sub: "bob", claims: `{"groups":"dev","team":"orders"}`, account: "team-orders", lands: "team-orders"},
		"another one is named":              {sub: "bob", claims: `{"groups":"dev","team":"sales"}`, account: "team-orders", want: AccountNotGranted},
		"no such group":                     {sub: "bob", claims: `{"groups":"x","team":"orders"}`, want: NoBinding},
		"the first of a team":               {sub: "bob", claims: `{"groups":"dev","team":"sales"}`, want: AccountCreating, creates: "team-sales"},
		"the first, by name":                {sub: "bob", claims: `{"groups":"dev","team":"sales"}`, account: "team-sales", want: AccountCreating, creates: "team-sales"},
		"while it is made":                  {sub: "bob", claims: `{"groups":"dev","team":"new"}`, want: AccountCreating, creates: "team-new", begun: true},
		"not on every server":               {sub: "bob", claims: `{"groups":"dev","team":"late"}`, want: AccountUnready},
		"being deleted":                     {sub: "bob", claims: `{"groups":"dev","team":"gone"}`, want: AccountSuspended},
		"the plan has no such role":         {sub: "bob", claims: `{"groups":"dev","team":"poor"}`, want: AccountNotGranted},
		"somebody signed up for it":         {sub: "bob", claims: `{"groups":"dev","team":"trap"}`, want: AccountForeign},
		"and has a membership for it":       {sub: "bob", claims: `{"groups":"dev","team":"trap"}`, account: "team-trap", want: AccountForeign},
		"another case":                      {sub: "bob", claims: `{"groups":"dev","team":"Orders"}`, want: AccountForeign},
		"another case of the configuration": {sub: "bob", claims: `{"groups":"dev","team":"shop"}`, want: AccountForeign},
		"that of the configuration":         {sub: "bob", claims: `{"groups":"dev","team":"SHOP"}`, want: AccountForeign},
		"named, that of the configuration":  {sub: "bob", claims: `{"groups":"dev","team":"SHOP"}`, account: "team-SHOP", want: NoBinding},
		"a number for a text":               {sub: "bob", claims: `{"groups":"dev","team":7}`, want: AccountForeign},
		"the text":                          {sub: "bob", claims: `{"groups":"dev","team":"7"}`, lands: "team-7"},
		"a list":                            {sub: "bob", claims: `{"groups":"dev","team":["orders"]}`, want: ClaimUnsafe},
		"no claim":                          {sub: "bob", claims: `{"groups":"dev"}`, want: ClaimUnsafe},
		"an empty one":                      {sub: "bob", claims: `{"groups":"dev","team":""}`, want: ClaimUnsafe},
		"a look-alike":                      {sub: "bob", claims: `{"groups":"dev","team":"\u043erders"}`, want: ClaimUnsafe},
		"a wildcard":                        {sub: "bob", claims: `{"groups":"dev","team":"*"}`, want: ClaimUnsafe},
		"the Kelvin sign":                   {sub: "bob", claims: `{"groups":"dev","team":"\u212a"}`, want: ClaimUnsafe},
		"another binding of the same names": {sub: "bob", claims: `{"groups":"lead","team":"orders"}`, source: "10.1.1.1", lands: "team-orders"},
		"and from elsewhere":                {sub: "bob", claims: `{"groups":"lead","team":"orders"}`, want: SourceRefused},
		"other names, the same in the end":  {sub: "bob", claims: `{"groups":"unit","unit":"orders"}`, want: AccountForeign},
		"both, and none is there":           {sub: "bob", claims: `{"groups":["unit","dev"],"unit":"sales","team":"sales"}`, want: AccountAmbiguous},
		"two accounts":                      {sub: "bob", claims: `{"groups":["dev","staff"],"team":"orders","user":"bob"}`, want: AccountAmbiguous},
		"one of two":                        {sub: "bob", claims: `{"groups":["dev","staff"],"team":"orders","user":"bob"}`, account: "bob", lands: "bob"},
		"beside one of the configuration":   {sub: "bob", claims: `{"groups":["dev","shop"],"team":"sales"}`, want: AccountAmbiguous},
		"which is named":                    {sub: "bob", claims: `{"groups":["dev","shop"],"team":"sales"}`, account: "team-SHOP", lands: "team-SHOP"},
		"one's own":                         {sub: "bob", claims: `{"groups":"staff","user":"bob"}`, lands: "bob"},
		"another's own":                     {sub: "eve", claims: `{"groups":"staff","user":"bob"}`, want: AccountForeign},
		"another's own, named":              {sub: "eve", claims: `{"groups":"staff","user":"bob"}`, account: "bob", want: AccountForeign},
		"the first of one's own":            {sub: "eve", claims: `{"groups":"staff","user":"eve"}`, want: AccountCreating, creates: "eve"},
		"subjects take no dots":             {sub: "eve", claims: `{"groups":"staff","user":"e.e"}`, want: ClaimUnsafe},
	} {
		id := person(t, c.claims)
		id.Subject, id.IssuerURL = c.sub, bob.Issuer
		conn := Connection{Type: Standard, Account: c.account}
		if c.source != "" {
			conn.Source = netip.MustParseAddr(c.source)
		}
		var trace Trace
		d := Decide(s, id, conn, now, &trace)
		if again := Decide(s, id, conn, now, nil); again.Reason() != d.Reason() {
			t.Errorf("%s: %s, without a trace %s", name, d.Reason(), again.Reason())
		}
		got, creates := "", ""
		if d.Allowed() {
			got = d.Account.Name
		}
		if d.Create != nil {
			creates = d.Create.Name
		}
		if want := c.want; want == "" && got != c.lands || want != "" && d.Reason() != want || creates != c.creates || d.Create != nil && d.Create.Begun != c.begun {
			t.Errorf("%s: %s, lands in %q, creates %q; refusal %v", name, d.Reason(), got, creates, d.Refusal)
		}
		mayKnow := ""
		for _, l := range LedBy(s, id, conn.Source) {
			if e := s.Accounts.Named(l.Name); e != nil && e.Origin != nil && *e.Origin == l.Origin {
				mayKnow += l.Name
			}
		}
		if out := []Reason{NoBinding, SourceRefused, ClaimUnsafe, AccountForeign}; slices.Contains(out, d.Reason()) && mayKnow != "" {
			t.Errorf("%s: not let in, as %s, and led to %s", name, d.Reason(), mayKnow)
		}
		if strings.HasPrefix(c.lands, "team-") && c.account != "team-SHOP" && mayKnow != c.lands {
			t.Errorf("%s: lands in %s, and led to %q", name, c.lands, mayKnow)
		}
		if d.Create != nil && (len(d.Roles) == 0 || d.TTL > 10*time.Minute || d.Account.Name != creates || !d.Reason().Silent()) {
			t.Errorf("%s: would get %+v", name, d)
		}
	}
}

// Two bindings that make one name of different claims are refused whichever comes first.
func TestFirstLoginOfTwoOrigins(t *testing.T) {
	t.Parallel()
	rules := creating(t)
	id := person(t, `{"groups":["unit","dev"],"unit":"sales","team":"sales"}`)
	for range 2 {
		d := Decide(&Snapshot{Rules: rules}, id, Connection{Type: Standard}, now, nil)
		if d.Reason() != AccountAmbiguous || d.Create != nil {
			t.Errorf("got %+v", d)
		}
		list := rules.Creates["corp"]
		list[0], list[3] = list[3], list[0]
		rules.Index()
	}
}

// Whoever signs up as a direct user has no account made by that.
func TestSignUpCreatesNothing(t *testing.T) {
	t.Parallel()
	rules := creating(t)
	key, err := nkeys.CreateUser()
	if err != nil {
		t.Fatal(err)
	}
	s := &Snapshot{Rules: rules, Revocations: NewRevocations(nil)}
	d := Decide(s, person(t, `{"groups":"dev","team":"sales"}`), Connection{Account: "team-sales", SignUp: signUp(t, key)}, now, nil)
	if d.Reason() != AccountCreating || d.Create != nil {
		t.Errorf("got %s, creates %+v", d.Refusal, d.Create)
	}
}

// TestOriginLaw has nobody led into an account by a binding who brings other claims than it was made of, whatever the claims
// are and however alike their names.
func TestOriginLaw(t *testing.T) {
	t.Parallel()
	rules := creating(t)
	value := rapid.OneOf(
		rapid.SampledFrom([]string{`"a"`, `"A"`, `"a-b"`, `"-a"`, `7`, `"7"`, `-7`, `"07"`, `["a"]`, `null`, `true`, `{}`, `"\uff41"`, `"a "`, `"\u017f"`, `"\u212a"`}),
		rapid.Map(rapid.StringMatching(`[a-bA-B0-1-]{1,3}`), func(s string) string { return `"` + s + `"` }),
	)
	rapid.Check(t, func(rt *rapid.T) {
		first, second := value.Draw(rt, "first"), value.Draw(rt, "second")
		login := func(s *Snapshot, claim string) Decision {
			return Decide(s, person(t, `{"groups":"dev","team":`+claim+`}`), Connection{Type: Standard}, now, nil)
		}
		s := &Snapshot{Rules: rules, Revocations: NewRevocations(nil)}
		d := login(s, first)
		if d.Create == nil {
			return
		}
		origin := d.Create.Origin
		s.Accounts = NewDirectory([]Entry{{
			Account: Account{Name: d.Create.Name, ID: "A1", SigningKeys: []string{"AK"}}, Plan: "team", State: "active", Open: true, Origin: &origin,
		}})
		if d := login(s, first); !d.Allowed() || d.Account.ID != "A1" {
			rt.Fatalf("%s does not get into its own account: %v", first, d.Refusal)
		}
		other := login(s, second)
		if other.Allowed() != (first == second) {
			rt.Fatalf("%s made the account, and %s gets %s", first, second, other.Reason())
		}
		if other.Create != nil && strings.EqualFold(other.Create.Name, d.Create.Name) {
			rt.Fatalf("%s made account %s, and %s would make %s", first, d.Create.Name, second, other.Create.Name)
		}
	})
}

func TestParseNameTemplate(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"team": "team", "{{ name }}": "{{name}}", "a-{{claim.x.y}}-b": "a-{{claim.x.y}}-b", "": "",
		"{{account}}": "!", "{{inbox}}": "!", "{{claim.}}": "!", "{{": "!", "{{x}}": "!",
	} {
		got, err := ParseNameTemplate(text)
		switch {
		case want == "!" && !errors.Is(err, ErrNameTemplate):
			t.Errorf("%q: %v", text, err)
		case want != "!" && (err != nil || got.String() != want):
			t.Errorf("%q is %q, %v", text, got, err)
		}
	}
}
