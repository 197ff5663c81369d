package policy

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"
)

var now = time.Unix(1_800_000_000, 0)

func templates(t testing.TB, subjects ...string) []Template {
	t.Helper()
	var list []Template
	for _, s := range subjects {
		tpl, err := ParseSubscription(s)
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, tpl)
	}
	return list
}

// expression is an [Expression] made of a function.
type expression func(claims map[string]any) (bool, error)

func (e expression) Holds(claims map[string]any) (bool, error) { return e(claims) }
func (e expression) Reads() ([]ClaimPath, bool) {
	return []ClaimPath{{raw: "acr", parts: []string{"acr"}}}, false
}
func (e expression) String() string { return `claims.acr == "gold"` }

// gold holds for one value of a claim, and has no answer without it.
var gold = expression(func(claims map[string]any) (bool, error) {
	acr, ok := claims["acr"]
	if !ok {
		return true, errors.New("not in the token: claim acr")
	}
	return acr == "gold", nil
})

// world is a small set of rules that the cases share.
func world(t testing.TB) *Rules {
	app, ops := &Account{Name: "APP", ID: "AAPP"}, &Account{Name: "OPS", ID: "AOPS"}
	reader := &Role{Name: "reader", Subscribe: PermissionRules{Allow: templates(t, "app.>", "{{inbox}}.>")}}
	writer := &Role{Name: "writer",
		Publish:   PermissionRules{Allow: templates(t, "app.{{claim.team}}.>"), Deny: templates(t, "app.*.secret")},
		Subscribe: PermissionRules{Allow: templates(t, "app.>"), Deny: templates(t, "app.private.>")},
	}
	bindings := []*Binding{
		{Name: "developers", Match: []Condition{condition(t, "groups", "dev", "team-*"), condition(t, "email_verified", true)}, Grant: Grant{app, writer}, TTL: time.Hour},
		{Name: "everyone", Match: []Condition{condition(t, "groups", "dev")}, Grant: Grant{app, reader}, TTL: 30 * time.Minute},
		{Name: "operators", Match: []Condition{condition(t, "groups", "ops")}, Grant: Grant{ops, reader}, TTL: time.Hour,
			Source: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}},
		{Name: "holders", Match: []Condition{condition(t, "groups", "other")}, Grant: Grant{ops, reader}, TTL: time.Hour, RequireKey: true},
		{Name: "browsers", Match: []Condition{condition(t, "groups", "web")}, Grant: Grant{app, reader}, TTL: time.Hour,
			ConnectionTypes: []ConnectionType{WebSocket, LeafNode}},
		{Name: "on call", Match: []Condition{condition(t, "groups", "call")}, When: gold, Grant: Grant{ops, reader}, TTL: time.Hour,
			Source: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}},
	}
	for _, b := range bindings {
		b.Issuer = "corp"
	}
	return &Rules{
		Version: "v1", Leeway: 10 * time.Second,
		Accounts: map[string]*Account{"APP": app, "OPS": ops},
		Bindings: map[string][]*Binding{"corp": bindings},
	}
}

func person(t testing.TB, claims string) *Identity {
	return &Identity{
		Issuer: "corp", IssuerURL: "https://login.example.com", Subject: "alice",
		IssuedAt: now.Add(-time.Minute), Expires: now.Add(2 * time.Hour), Claims: claimsOf(t, claims),
	}
}

const developer = `{"groups": ["dev"], "email_verified": true, "team": "blue"}`

func TestDecide(t *testing.T) {
	p := Principal{Issuer: "https://login.example.com", Subject: "alice"}
	block := Revocation{ID: "b1", Kind: Block, Target: Target{Principal: p}, At: now}
	logout := func(at time.Time) Revocation {
		return Revocation{ID: "l1", Kind: Logout, Target: Target{Principal: p}, At: at}
	}
	inside := netip.MustParseAddr("10.1.2.3")
	for _, c := range []struct {
		name    string
		claims  string
		conn    Connection
		mod     func(*Snapshot, *Identity)
		want    Reason
		account string
		binding []string
	}{
		{name: "two bindings to one account are united", claims: developer, conn: Connection{Type: Standard}, want: Allowed, account: "APP", binding: []string{"developers", "everyone"}},
		{name: "one condition of two is not enough", claims: `{"groups": ["team-x"], "team": "x"}`, conn: Connection{Type: Standard}, want: NoBinding},
		{name: "another issuer's bindings do not count", claims: developer, conn: Connection{Type: Standard}, mod: func(_ *Snapshot, id *Identity) { id.Issuer = "other" }, want: NoBinding},
		{name: "no claim", claims: `{}`, conn: Connection{Type: Standard}, want: NoBinding},
		{name: "source inside", claims: `{"groups": ["ops"]}`, conn: Connection{Type: Standard, Source: inside}, want: Allowed, account: "OPS", binding: []string{"operators"}},
		{name: "source inside, mapped", claims: `{"groups": ["ops"]}`, conn: Connection{Type: Standard, Source: netip.MustParseAddr("::ffff:10.1.2.3")}, want: Allowed, account: "OPS", binding: []string{"operators"}},
		{name: "source outside", claims: `{"groups": ["ops"]}`, conn: Connection{Type: Standard, Source: netip.MustParseAddr("192.0.2.1")}, want: SourceRefused},
		{name: "source unknown", claims: `{"groups": ["ops"]}`, conn: Connection{Type: Standard}, want: SourceRefused},
		{name: "connection type named", claims: `{"groups": ["web"]}`, conn: Connection{Type: WebSocket}, want: Allowed, account: "APP", binding: []string{"browsers"}},
		{name: "connection type not named", claims: `{"groups": ["web"]}`, conn: Connection{Type: Standard}, want: ConnectionTypeRefused},
		{name: "leaf nodes must be named", claims: developer, conn: Connection{Type: LeafNode}, want: ConnectionTypeRefused},
		{name: "leaf node named", claims: `{"groups": ["web"]}`, conn: Connection{Type: LeafNode}, want: Allowed, account: "APP", binding: []string{"browsers"}},
		{name: "when holds", claims: `{"groups": ["call"], "acr": "gold"}`, conn: Connection{Type: Standard, Source: inside}, want: Allowed, account: "OPS", binding: []string{"on call"}},
		{name: "when is false", claims: `{"groups": ["call"], "acr": "tin"}`, conn: Connection{Type: Standard, Source: inside}, want: NoBinding},
		{name: "when has no answer", claims: `{"groups": ["call"]}`, conn: Connection{Type: Standard, Source: inside}, want: ExpressionFailed},
		{name: "when holds, source outside", claims: `{"groups": ["call"], "acr": "gold"}`, conn: Connection{Type: Standard}, want: SourceRefused},
		{name: "when has no answer, source outside", claims: `{"groups": ["call"]}`, conn: Connection{Type: Standard}, want: ExpressionFailed},
		{name: "when is asked only where the claims match", claims: `{"groups": ["x"]}`, conn: Connection{Type: Standard, Source: inside}, want: NoBinding},
		{name: "when has no answer, another binding applies", claims: `{"groups": ["call", "dev"]}`, conn: Connection{Type: Standard, Source: inside}, want: Allowed, account: "APP", binding: []string{"everyone"}},
		{name: "when has no answer, another binding is for other addresses", claims: `{"groups": ["call", "ops"]}`, conn: Connection{Type: Standard}, want: SourceRefused},
		{name: "when has no answer, another binding is for other connections", claims: `{"groups": ["web", "call"]}`, conn: Connection{Type: Standard}, want: ConnectionTypeRefused},
		{name: "several accounts, none named", claims: `{"groups": ["dev", "ops"], "email_verified": true, "team": "blue"}`, conn: Connection{Type: Standard, Source: inside}, want: AccountAmbiguous},
		{name: "several accounts, one named", claims: `{"groups": ["dev", "ops"], "email_verified": true, "team": "blue"}`, conn: Connection{Type: Standard, Source: inside, Account: "OPS"}, want: Allowed, account: "OPS", binding: []string{"operators"}},
		{name: "account named that is not granted", claims: developer, conn: Connection{Type: Standard, Account: "OPS"}, want: AccountNotGranted},
		{name: "account named that is not there", claims: developer, conn: Connection{Type: Standard, Account: "SYS"}, want: AccountNotGranted},
		{name: "placeholder missing", claims: `{"groups": ["dev"], "email_verified": true}`, conn: Connection{Type: Standard}, want: ClaimUnsafe},
		{name: "placeholder unsafe", claims: `{"groups": ["dev"], "email_verified": true, "team": "*"}`, conn: Connection{Type: Standard}, want: ClaimUnsafe},
		{name: "unsafe in the other account only", claims: `{"groups": ["dev", "ops"], "email_verified": true, "team": "*"}`, conn: Connection{Type: Standard, Source: inside, Account: "OPS"}, want: Allowed, account: "OPS", binding: []string{"operators"}},
		{name: "blocked", claims: developer, conn: Connection{Type: Standard}, mod: func(s *Snapshot, _ *Identity) { s.Revocations = NewRevocations([]Revocation{block}) }, want: Blocked},
		{name: "somebody else is blocked", claims: developer, conn: Connection{Type: Standard}, mod: func(s *Snapshot, id *Identity) {
			s.Revocations = NewRevocations([]Revocation{block})
			id.Subject = "bob"
		}, want: Allowed, account: "APP", binding: []string{"developers", "everyone"}},
		{name: "logged out", claims: developer, conn: Connection{Type: Standard}, mod: func(s *Snapshot, _ *Identity) { s.Revocations = NewRevocations([]Revocation{logout(now)}) }, want: LoggedOut},
		{name: "logged out, token within the leeway", claims: developer, conn: Connection{Type: Standard}, mod: func(s *Snapshot, id *Identity) {
			s.Revocations = NewRevocations([]Revocation{logout(now.Add(-time.Minute))})
			id.IssuedAt = now.Add(-50 * time.Second)
		}, want: LoggedOut},
		{name: "logged in again after a logout", claims: developer, conn: Connection{Type: Standard}, mod: func(s *Snapshot, id *Identity) {
			s.Revocations = NewRevocations([]Revocation{logout(now.Add(-time.Minute))})
			id.IssuedAt = now.Add(-49 * time.Second)
		}, want: Allowed, account: "APP", binding: []string{"developers", "everyone"}},
		{name: "account suspended", claims: developer, conn: Connection{Type: Standard}, mod: func(s *Snapshot, _ *Identity) {
			s.Revocations = NewRevocations([]Revocation{{ID: "s", Kind: Suspension, Target: Target{Account: s.Rules.Accounts["APP"].ID}, At: now}})
		}, want: AccountSuspended},
		{name: "a signing key revoked", claims: developer, conn: Connection{Type: Standard}, mod: func(s *Snapshot, _ *Identity) {
			app := s.Rules.Accounts["APP"]
			app.SigningKeys = []string{"ANEW", "AOLD"}
			s.Revocations = NewRevocations([]Revocation{{ID: "k", Kind: SigningKey, Target: Target{Account: app.ID, Key: "ANEW"}, At: now}})
		}, want: Allowed, account: "APP", binding: []string{"developers", "everyone"}},
		{name: "every signing key revoked", claims: developer, conn: Connection{Type: Standard}, mod: func(s *Snapshot, _ *Identity) {
			app := s.Rules.Accounts["APP"]
			app.SigningKeys = []string{"AOLD"}
			s.Revocations = NewRevocations([]Revocation{{ID: "k", Kind: SigningKey, Target: Target{Account: app.ID, Key: "AOLD"}, At: now}})
		}, want: AccountUnready},
		{name: "stale", claims: developer, conn: Connection{Type: Standard}, mod: func(s *Snapshot, _ *Identity) { s.FreshUntil = now.Add(-time.Nanosecond) }, want: SnapshotStale},
		{name: "stale by the wall clock alone", claims: developer, conn: Connection{Type: Standard}, mod: func(s *Snapshot, _ *Identity) { s.FreshUntil = now.Add(-time.Second).Round(0) }, want: SnapshotStale},
		{name: "the issuer's name went to another URL", claims: developer, conn: Connection{Type: Standard}, mod: func(s *Snapshot, _ *Identity) {
			s.Rules.Issuers = map[string]string{"corp": "https://new.example.com"}
		}, want: SnapshotStale},
		{name: "verified beside other rules", claims: developer, conn: Connection{Type: Standard}, mod: func(s *Snapshot, id *Identity) {
			s.Rules.Version, id.Rules = "new", "old"
		}, want: SnapshotStale},
		{name: "verified beside these rules", claims: developer, conn: Connection{Type: Standard}, mod: func(s *Snapshot, id *Identity) {
			s.Rules.Version, id.Rules = "new", "new"
		}, want: Allowed, account: "APP", binding: []string{"developers", "everyone"}},
		{name: "fresh", claims: developer, conn: Connection{Type: Standard}, mod: func(s *Snapshot, _ *Identity) { s.FreshUntil = now }, want: Allowed, account: "APP", binding: []string{"developers", "everyone"}},
		{name: "token about to end", claims: developer, conn: Connection{Type: Standard}, mod: func(_ *Snapshot, id *Identity) { id.Expires = now.Add(-6 * time.Second) }, want: ExpiresTooSoon},
	} {
		t.Run(c.name, func(t *testing.T) {
			s, id := &Snapshot{Rules: world(t)}, person(t, c.claims)
			if c.mod != nil {
				c.mod(s, id)
			}
			d := Decide(s, id, c.conn, now, nil)
			if d.Reason() != c.want {
				t.Fatalf("%v, want %s", d.Refusal, c.want)
			}
			if c.want == Allowed && (d.Account.Name != c.account || !slices.Equal(d.Bindings, c.binding)) {
				t.Errorf("account %s by %v, want %s by %v", d.Account.Name, d.Bindings, c.account, c.binding)
			}
		})
	}
}

func TestDecideUnitesGrants(t *testing.T) {
	id := person(t, developer)
	d := Decide(&Snapshot{Rules: world(t)}, id, Connection{Type: Standard}, now, nil)
	inbox := InboxPrefix(id.IssuerURL, id.Subject)
	want := Permissions{
		Publish:   SubjectSet{Allow: []string{"app.blue.>"}, Deny: []string{"app.*.secret"}},
		Subscribe: SubjectSet{Allow: []string{inbox + ".>", "app.>"}, Deny: []string{"app.private.>"}},
	}
	if diff := cmp.Diff(want, d.Permissions, cmpopts.EquateEmpty()); diff != "" {
		t.Error(diff)
	}
	if d.TTL != 30*time.Minute || !d.Expires.Equal(now.Add(30*time.Minute)) {
		t.Errorf("ttl %s until %s, want the shortest of both bindings", d.TTL, d.Expires)
	}
	id.Expires = now.Add(time.Minute)
	if d := Decide(&Snapshot{Rules: world(t)}, id, Connection{Type: Standard}, now, nil); !d.Expires.Equal(now.Add(70 * time.Second)) {
		t.Errorf("expires %s after now, want the token's end and the leeway", d.Expires.Sub(now))
	}
}

// Of two roles' replies the more generous bound counts, each by itself.
func TestDecideUnitesReplies(t *testing.T) {
	rules := world(t)
	for _, b := range rules.Bindings["corp"] {
		b.Grant.Role = &Role{Name: b.Name}
	}
	decide := func() Respond {
		t.Helper()
		d := Decide(&Snapshot{Rules: rules}, person(t, developer), Connection{Type: Standard}, now, nil)
		if !d.Allowed() {
			t.Fatal(d.Refusal)
		}
		return d.Permissions.Respond
	}
	if got := decide(); got != (Respond{}) {
		t.Errorf("roles without respond may reply: %+v", got)
	}
	rules.Bindings["corp"][0].Grant.Role.Respond = Respond{Max: 5, TTL: time.Second}
	if got := decide(); got != (Respond{Max: 5, TTL: time.Second}) {
		t.Errorf("one role of two may reply: %+v", got)
	}
	rules.Bindings["corp"][1].Grant.Role.Respond = Respond{Max: 1, TTL: time.Minute}
	if got := decide(); got != (Respond{Max: 5, TTL: time.Minute}) {
		t.Errorf("both roles may reply: %+v", got)
	}
	rules.Bindings["corp"][2].Grant.Role.Respond = Respond{Max: 1000, TTL: time.Hour} // does not apply
	if got := decide(); got != (Respond{Max: 5, TTL: time.Minute}) {
		t.Errorf("a role that does not apply counts: %+v", got)
	}
}

// retry_after says when a token issued then will be admitted.
func TestLogoutRetryAfter(t *testing.T) {
	s, id := &Snapshot{Rules: world(t)}, person(t, developer)
	at := now.Add(300 * time.Millisecond)
	s.Revocations = NewRevocations([]Revocation{{ID: "l", Kind: Logout, Target: Target{Principal: Principal{id.IssuerURL, id.Subject}}, At: at}})
	id.IssuedAt = now
	d := Decide(s, id, Connection{Type: Standard}, at, nil)
	if d.Reason() != LoggedOut || d.Refusal.RetryAfter <= 0 {
		t.Fatalf("%v with retry after %s", d.Refusal, d.Refusal.RetryAfter)
	}
	id.IssuedAt = at.Add(d.Refusal.RetryAfter).Truncate(time.Second)
	if d := Decide(s, id, Connection{Type: Standard}, id.IssuedAt, nil); !d.Allowed() {
		t.Errorf("a token from %s after the logout is refused: %v", id.IssuedAt.Sub(at), d.Refusal)
	}
}

func TestTraceNamesWhatFailed(t *testing.T) {
	var trace Trace
	Decide(&Snapshot{Rules: world(t)}, person(t, developer), Connection{Type: Standard}, now, &trace)
	want := []Verdict{
		{"developers", true, "gives role writer in account APP"},
		{"everyone", true, "gives role reader in account APP"},
		{"operators", false, `claim groups is ["dev"], wanted "ops"`},
		{"holders", false, `claim groups is ["dev"], wanted "other"`},
		{"browsers", false, `claim groups is ["dev"], wanted "web"`},
		{"on call", false, `claim groups is ["dev"], wanted "call"`},
	}
	if diff := cmp.Diff(want, trace.Verdicts); diff != "" {
		t.Error(diff)
	}
}

func TestTraceOfWhen(t *testing.T) {
	for claims, want := range map[string]string{
		`{"groups": "call", "acr": "tin"}`:  `when is false: claims.acr == "gold"`,
		`{"groups": "call"}`:                `when has no answer: not in the token: claim acr`,
		`{"groups": "call", "acr": "gold"}`: `the claims match, but the client's address is not in source`,
	} {
		var trace Trace
		d := Decide(&Snapshot{Rules: world(t)}, person(t, claims), Connection{Type: Standard}, now, &trace)
		if got := trace.Verdicts[len(trace.Verdicts)-1]; got != (Verdict{Binding: "on call", Why: want}) {
			t.Errorf("%s: %+v, want %s", claims, got, want)
		}
		if d.Reason() == ExpressionFailed && d.Refusal.Detail != "when of binding on call has no answer: not in the token: claim acr" {
			t.Errorf("%s: detail %q", claims, d.Refusal.Detail)
		}
	}
}

// randomIdentity draws claims that meet the bindings of world in all mixtures.
func randomIdentity(t *rapid.T) *Identity {
	groups := rapid.SliceOf(rapid.SampledFrom([]any{"dev", "ops", "web", "team-x", "call", "other"})).Draw(t, "groups")
	id := &Identity{
		Issuer: "corp", IssuerURL: "https://login.example.com", Subject: rapid.SampledFrom([]string{"alice", "bob"}).Draw(t, "subject"),
		SessionID: rapid.SampledFrom([]string{"", "s1", "s2"}).Draw(t, "sid"), TokenID: rapid.SampledFrom([]string{"", "t1", "t2"}).Draw(t, "jti"),
		IssuedAt: now.Add(-time.Duration(rapid.IntRange(0, 100).Draw(t, "age")) * time.Second),
		Expires:  now.Add(time.Duration(rapid.IntRange(-20, 4000).Draw(t, "life")) * time.Second),
		Claims: map[string]any{
			"groups": groups, "email_verified": rapid.Bool().Draw(t, "verified"),
			"team":  rapid.SampledFrom([]any{"blue", "red", "*", nil}).Draw(t, "team"),
			"nonce": rapid.SampledFrom([]any{"ordinary", "UAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAABET7"}).Draw(t, "nonce"),
		},
	}
	if acr := rapid.SampledFrom([]any{"gold", "tin", nil}).Draw(t, "acr"); acr != nil {
		id.Claims["acr"] = acr
	}
	return id
}

func randomConnection(t *rapid.T) Connection {
	return Connection{
		Source:  rapid.SampledFrom([]netip.Addr{{}, netip.MustParseAddr("10.9.9.9"), netip.MustParseAddr("2001:db8::1")}).Draw(t, "source"),
		Type:    rapid.SampledFrom(ConnectionTypes()).Draw(t, "type"),
		Account: rapid.SampledFrom([]string{"", "APP", "OPS", "NONE"}).Draw(t, "account"),

		ProofGiven: rapid.Bool().Draw(t, "proof"),
	}
}

func TestOrderOfBindingsIsIrrelevant(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		id, conn := randomIdentity(rt), randomConnection(rt)
		rules := world(t)
		a := Decide(&Snapshot{Rules: rules}, id, conn, now, nil)
		shuffled := slices.Clone(rules.Bindings["corp"])
		seed := rapid.Uint64().Draw(rt, "seed")
		rand.New(rand.NewPCG(seed, seed)).Shuffle(len(shuffled), reflect.Swapper(shuffled))
		other := *rules
		other.Bindings = map[string][]*Binding{"corp": shuffled}
		b := Decide(&Snapshot{Rules: &other}, id, conn, now, nil)
		if a.Reason() != b.Reason() || a.Allowed() && !reflect.DeepEqual(a, b) {
			rt.Fatalf("%+v in one order, %+v in another", a, b)
		}
	})
}

func TestRevocationNeverAdmits(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		id, conn := randomIdentity(rt), randomConnection(rt)
		var rs []Revocation
		for i := range rapid.IntRange(0, 4).Draw(rt, "n") {
			rs = append(rs, Revocation{
				ID: fmt.Sprint(i), Kind: rapid.SampledFrom(RevocationKinds()).Draw(rt, "kind"),
				Target: randomTarget(rt),
				At:     now.Add(-time.Duration(rapid.IntRange(0, 200).Draw(rt, "at")) * time.Second),
			})
		}
		without := Decide(&Snapshot{Rules: world(t), Revocations: NewRevocations(rs[:len(rs)/2])}, id, conn, now, nil)
		with := Decide(&Snapshot{Rules: world(t), Revocations: NewRevocations(rs)}, id, conn, now, nil)
		if with.Allowed() && !without.Allowed() {
			rt.Fatalf("more revocations admit: %v before, %v after", without.Refusal, with)
		}
	})
}

// randomTarget returns one of any scope that may or may not concern the identity of [randomIdentity].
func randomTarget(rt *rapid.T) Target {
	one := Principal{"https://login.example.com", rapid.SampledFrom([]string{"alice", "bob"}).Draw(rt, "who")}
	issuer := Principal{Issuer: one.Issuer}
	return rapid.SampledFrom([]Target{
		{Principal: one}, {Principal: issuer}, {Principal: issuer, Session: "s1"}, {Principal: issuer, Token: "t1"},
		{Principal: issuer, Match: `{"groups":["dev"]}`}, {Principal: issuer, Match: `{"groups":["o*"]}`, Account: "AAPP"}, {Principal: issuer, Match: "not a match"},
		{Account: "AAPP"}, {Account: "AAPP", Key: "AKEY"},
	}).Draw(rt, "target")
}

func TestReasonsAnswerOrStaySilent(t *testing.T) {
	for r, want := range map[Reason]Outcome{
		Allowed: OutcomeAllowed, Blocked: OutcomeRefused, TokenExpired: OutcomeRefused, Overloaded: OutcomeSilent,
		SnapshotStale: OutcomeSilent, KeysUnavailable: OutcomeSilent, Reason(""): OutcomeSilent,
	} {
		if got := r.Outcome(); got != want {
			t.Errorf("%q ends %s, want %s", r, got, want)
		}
	}
}

func BenchmarkDecide(b *testing.B) {
	s, id, conn := &Snapshot{Rules: world(b)}, person(b, developer), Connection{Type: Standard}
	b.ReportAllocs()
	for b.Loop() {
		if d := Decide(s, id, conn, now, nil); !d.Allowed() {
			b.Fatal(d.Refusal)
		}
	}
}

// A plain subscription must not be narrowed by one with a queue group from another role.
func TestQueueGroupsDoNotNarrowPlainSubscriptions(t *testing.T) {
	for _, c := range []struct{ allow, want []string }{
		{[]string{"jobs.>"}, []string{"jobs.>"}},
		{[]string{"jobs.> workers"}, []string{"jobs.> workers"}},
		{[]string{"jobs.>", "app.>", "jobs.> workers"}, []string{"app.>", "app.> >", "jobs.>", "jobs.> >", "jobs.> workers"}},
	} {
		rules := world(t)
		for _, b := range rules.Bindings["corp"] {
			b.Grant.Role = &Role{Name: "r", Subscribe: PermissionRules{Allow: templates(t, c.allow...)}}
		}
		d := Decide(&Snapshot{Rules: rules}, person(t, developer), Connection{Type: Standard}, now, nil)
		if !slices.Equal(d.Permissions.Subscribe.Allow, c.want) {
			t.Errorf("%v gives %v, want %v", c.allow, d.Permissions.Subscribe.Allow, c.want)
		}
	}
}
