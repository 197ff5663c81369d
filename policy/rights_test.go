package policy

import (
	"net/netip"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// administration is a set of rules whose bindings give rights.
func administration(t testing.TB) *Rules {
	rules := world(t)
	inside := []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}
	rules.Admins = map[string][]*Binding{"corp": {
		{Name: "security", Issuer: "corp", Match: []Condition{condition(t, "groups", "sec")}, Rights: []Right{RightRevoke, RightSessions}},
		{Name: "auditors", Issuer: "corp", Match: []Condition{condition(t, "groups", "audit")}, Rights: []Right{RightAudit, RightSessions}},
		{Name: "inside", Issuer: "corp", Match: []Condition{condition(t, "groups", "desk")}, Source: inside, Rights: []Right{RightExplain}},
		{Name: "gold", Issuer: "corp", Match: []Condition{condition(t, "groups", "call")}, When: gold, Rights: []Right{RightRevoke}},
		{Name: "browsers", Issuer: "corp", Match: []Condition{condition(t, "groups", "web")}, ConnectionTypes: []ConnectionType{WebSocket}, Rights: []Right{RightRevoke}},
		{Name: "holders", Issuer: "corp", Match: []Condition{condition(t, "groups", "held")}, RequireKey: true, Rights: []Right{RightRevoke}},
	}}
	return rules
}

func TestRights(t *testing.T) {
	p := Principal{Issuer: "https://login.example.com", Subject: "alice"}
	within, outside := netip.MustParseAddr("10.1.2.3"), netip.MustParseAddr("192.0.2.1")
	revoke := func(r Revocation) func(*Snapshot, *Identity) {
		return func(s *Snapshot, _ *Identity) { s.Revocations = NewRevocations([]Revocation{r}) }
	}
	for _, c := range []struct {
		name   string
		claims string
		source netip.Addr
		mod    func(*Snapshot, *Identity)
		want   []Right
		reason Reason
	}{
		{name: "one binding", claims: `{"groups": ["sec"]}`, want: []Right{RightRevoke, RightSessions}},
		{name: "several unite, each right once and in order", claims: `{"groups": ["audit", "sec"]}`, want: []Right{RightRevoke, RightSessions, RightAudit}},
		{name: "one that holds and one that does not", claims: `{"groups": ["audit", "desk"]}`, source: outside, want: []Right{RightSessions, RightAudit}},
		{name: "a binding to a role gives no right", claims: developer, reason: NoRights},
		{name: "no claim", claims: `{}`, reason: NoRights},
		{name: "another issuer's admins do not count", claims: `{"groups": ["sec"]}`, mod: func(_ *Snapshot, id *Identity) { id.Issuer = "other" }, reason: NoRights},
		{name: "source inside", claims: `{"groups": ["desk"]}`, source: within, want: []Right{RightExplain}},
		{name: "source outside", claims: `{"groups": ["desk"]}`, source: outside, reason: SourceRefused},
		{name: "source unknown", claims: `{"groups": ["desk"]}`, reason: SourceRefused},
		{name: "when holds", claims: `{"groups": ["call"], "acr": "gold"}`, want: []Right{RightRevoke}},
		{name: "when is false", claims: `{"groups": ["call"], "acr": "tin"}`, reason: NoRights},
		{name: "when has no answer", claims: `{"groups": ["call"]}`, reason: ExpressionFailed},
		{name: "a call is no WebSocket connection", claims: `{"groups": ["web"]}`, reason: ConnectionTypeRefused},
		{name: "a key is asked for", claims: `{"groups": ["held"]}`, reason: KeyRequired},
		{name: "a token that is bound proves nothing", claims: `{"groups": ["held", "sec"], "cnf": {"jkt": "x"}}`, reason: KeyProofMissing},
		{name: "groups were left out", claims: `{"_claim_names": {"groups": "src1"}}`, reason: GroupsOverage},
		{name: "blocked", claims: `{"groups": ["sec"]}`, mod: revoke(Revocation{ID: "b", Kind: Block, Target: Target{Principal: p}, At: now}), reason: Blocked},
		{name: "the issuer is blocked", claims: `{"groups": ["sec"]}`, mod: revoke(Revocation{ID: "b", Kind: Block, Target: Target{Principal: Principal{Issuer: p.Issuer}}, At: now}), reason: Blocked},
		{name: "blocked by a claim", claims: `{"groups": ["sec"]}`, mod: revoke(Revocation{ID: "b", Kind: Block, Target: Target{Principal: Principal{Issuer: p.Issuer}, Match: `{"groups":["sec"]}`}, At: now}), reason: Blocked},
		{name: "logged out", claims: `{"groups": ["sec"]}`, mod: revoke(Revocation{ID: "l", Kind: Logout, Target: Target{Principal: p}, At: now}), reason: LoggedOut},
		{name: "the token is logged out", claims: `{"groups": ["sec"]}`, mod: func(s *Snapshot, id *Identity) {
			id.TokenID = "jti-1"
			revoke(Revocation{ID: "l", Kind: Logout, Target: Target{Principal: Principal{Issuer: p.Issuer}, Token: "jti-1"}, At: now})(s, id)
		}, reason: LoggedOut},
		{name: "somebody else is blocked", claims: `{"groups": ["sec"]}`, mod: revoke(Revocation{ID: "b", Kind: Block, Target: Target{Principal: Principal{Issuer: p.Issuer, Subject: "bob"}}, At: now}), want: []Right{RightRevoke, RightSessions}},
		{name: "stale", claims: `{"groups": ["sec"]}`, mod: func(s *Snapshot, _ *Identity) { s.FreshUntil = now.Add(-time.Second) }, reason: SnapshotStale},
		{name: "the issuer was configured anew", claims: `{"groups": ["sec"]}`, mod: func(s *Snapshot, _ *Identity) { s.Rules.Issuers = map[string]string{"corp": "https://elsewhere"} }, reason: SnapshotStale},
		{name: "verified beside other rules", claims: `{"groups": ["sec"]}`, mod: func(_ *Snapshot, id *Identity) { id.Rules = "v0" }, reason: SnapshotStale},
	} {
		t.Run(c.name, func(t *testing.T) {
			s, id := &Snapshot{Rules: administration(t), Revocations: NewRevocations(nil)}, person(t, c.claims)
			if c.mod != nil {
				c.mod(s, id)
			}
			rights, r := Rights(s, id, c.source, now, nil)
			if !slices.Equal(rights, c.want) {
				t.Errorf("rights %v, want %v", rights, c.want)
			}
			switch {
			case r == nil && c.reason != "", r != nil && r.Reason != c.reason:
				t.Errorf("refused by %v, want %q", r, c.reason)
			case r == nil && len(rights) == 0:
				t.Error("neither rights nor a refusal")
			}
		})
	}
}

// The trace of a question names what each binding would give.
func TestRightsAreTraced(t *testing.T) {
	var trace Trace
	s := &Snapshot{Rules: administration(t), Revocations: NewRevocations(nil)}
	Rights(s, person(t, `{"groups": ["audit"]}`), netip.Addr{}, now, &trace)
	if len(trace.Verdicts) != len(s.Rules.Admins["corp"]) {
		t.Fatalf("%d verdicts", len(trace.Verdicts))
	}
	if v := trace.Verdicts[1]; !v.Applies || v.Why != "gives tokens for administration the rights audit, sessions" {
		t.Errorf("%+v", v)
	}
}

// Adding a revocation never gives a right.
func TestRevocationsNeverGiveRights(t *testing.T) {
	rules := administration(t)
	groups := []string{"sec", "audit", "desk", "call", "web", "held", "x"}
	rapid.Check(t, func(r *rapid.T) {
		id := person(t, `{"acr": "gold"}`)
		id.Subject, id.TokenID, id.SessionID = rapid.SampledFrom([]string{"alice", "bob"}).Draw(r, "subject"), "jti", "sid"
		id.Claims["groups"] = rapid.Map(rapid.SliceOf(rapid.SampledFrom(groups)), func(list []string) any {
			out := []any{}
			for _, g := range list {
				out = append(out, g)
			}
			return out
		}).Draw(r, "groups")
		draw := func(label string) Revocation {
			target := Target{Principal: Principal{Issuer: id.IssuerURL}}
			switch rapid.IntRange(0, 3).Draw(r, label+" scope") {
			case 0:
				target.Subject = rapid.SampledFrom([]string{"alice", "bob", "carol"}).Draw(r, label+" subject")
			case 1:
				target.Match = `{"groups":["` + rapid.SampledFrom(groups).Draw(r, label+" group") + `"]}`
			case 2:
				target.Issuer = rapid.SampledFrom([]string{id.IssuerURL, "https://elsewhere.example.com"}).Draw(r, label+" issuer")
			case 3:
				return Revocation{ID: label, Kind: Logout, Target: Target{Principal: Principal{Issuer: id.IssuerURL}, Token: rapid.SampledFrom([]string{"jti", "other"}).Draw(r, label+" token")}, At: now}
			}
			return Revocation{ID: label, Kind: Block, Target: target, At: now}
		}
		var list []Revocation
		for i := range rapid.IntRange(0, 3).Draw(r, "revocations") {
			list = append(list, draw(string(rune('a'+i))))
		}
		source := rapid.SampledFrom([]netip.Addr{{}, netip.MustParseAddr("10.1.1.1")}).Draw(r, "source")
		before, _ := Rights(&Snapshot{Rules: rules, Revocations: NewRevocations(list)}, id, source, now, nil)
		after, _ := Rights(&Snapshot{Rules: rules, Revocations: NewRevocations(append(list, draw("new")))}, id, source, now, nil)
		for _, right := range after {
			if !slices.Contains(before, right) {
				r.Fatalf("the new revocation gave %s: before %v, after %v", right, before, after)
			}
		}
	})
}
