package policy

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"
)

func TestGroupsOverage(t *testing.T) {
	t.Parallel()
	const distributed = `"_claim_names": {"groups": "src1"}, "_claim_sources": {"src1": {"endpoint": "https://graph.microsoft.com/v1.0/users/1/getMemberObjects"}}`
	for name, c := range map[string]struct {
		claims string
		want   Reason
	}{
		"groups elsewhere":                         {`{` + distributed + `}`, GroupsOverage},
		"groups too many for a short token":        {`{"hasgroups": true}`, GroupsOverage},
		"and the other condition holds":            {`{"email_verified": true, "hasgroups": true}`, GroupsOverage},
		"no groups at all":                         {`{"sub": "alice"}`, NoBinding},
		"an empty list":                            {`{"groups": []}`, NoBinding},
		"other groups, whatever is elsewhere":      {`{"groups": ["x"], ` + distributed + `}`, NoBinding},
		"another claim elsewhere":                  {`{"_claim_names": {"address": "src1"}}`, NoBinding},
		"hasgroups that says no":                   {`{"hasgroups": false}`, NoBinding},
		"hasgroups as a text":                      {`{"hasgroups": "true"}`, NoBinding},
		"claim names as a list":                    {`{"_claim_names": ["groups"]}`, NoBinding},
		"claim names with null":                    {`{"_claim_names": {"groups": null}}`, NoBinding},
		"the groups never come from the reference": {`{"_claim_names": {"groups": "dev"}, "_claim_sources": {"dev": {"JWT": "dev"}}}`, GroupsOverage},
	} {
		var trace Trace
		d := Decide(&Snapshot{Rules: world(t)}, person(t, c.claims), Connection{Type: Standard}, now, &trace)
		if d.Reason() != c.want {
			t.Errorf("%s: %v, want %s", name, d.Refusal, c.want)
			continue
		}
		said := false
		for _, v := range trace.Verdicts {
			said = said || strings.Contains(v.Why, "the issuer left it out")
		}
		if said != (c.want == GroupsOverage) {
			t.Errorf("%s: the verdicts say so: %v: %+v", name, said, trace.Verdicts)
		}
		if c.want == GroupsOverage && (!strings.Contains(d.Refusal.Detail, "binding developers") && !strings.Contains(d.Refusal.Detail, "binding everyone") || !strings.Contains(d.Refusal.Detail, "app roles")) {
			t.Errorf("%s: the detail %q names neither the binding nor what to do", name, d.Refusal.Detail)
		}
	}
}

// TestOverageIsNoReasonWhereABindingMatches gives an identity with too many groups what its
// other claims earn it, and keeps the reasons that are closer to an admission.
func TestOverageIsNoReasonWhereABindingMatches(t *testing.T) {
	t.Parallel()
	rules := world(t)
	app := rules.Bindings["corp"][1].Grant
	rules.Bindings["corp"] = append(rules.Bindings["corp"],
		&Binding{Name: "by role", Issuer: "corp", Match: []Condition{condition(t, "roles", "reader")}, Grant: app, TTL: time.Hour},
		&Binding{Name: "by websocket", Issuer: "corp", Match: []Condition{condition(t, "roles", "web")}, Grant: app, TTL: time.Hour, ConnectionTypes: []ConnectionType{WebSocket}})
	for role, want := range map[string]Reason{"reader": Allowed, "web": ConnectionTypeRefused, "none": GroupsOverage} {
		d := Decide(&Snapshot{Rules: rules}, person(t, `{"roles": ["`+role+`"], "hasgroups": true}`), Connection{Type: Standard}, now, nil)
		if d.Reason() != want {
			t.Errorf("role %s: %v, want %s", role, d.Refusal, want)
		}
	}
}

// TestTenThousandGroups decides for an identity with as many groups as a token of a MiB holds.
func TestTenThousandGroups(t *testing.T) {
	t.Parallel()
	const many = 10_000
	groups := make([]any, many)
	for i := range groups {
		groups[i] = fmt.Sprintf("aaaaaaaa-aaaa-aaaa-aaaa-%012d", i)
	}
	rules := world(t)
	grant := rules.Bindings["corp"][1].Grant
	var bindings []*Binding
	for i := range 100 {
		bindings = append(bindings, &Binding{
			Name: fmt.Sprintf("b%d", i), Issuer: "corp", Grant: grant, TTL: time.Hour,
			Match: []Condition{condition(t, "groups", fmt.Sprintf("*bbbbbbbb-*-%d", i), fmt.Sprintf("bbbbbbbb-%d", i))},
		})
	}
	last := &Binding{Name: "last", Issuer: "corp", Grant: grant, TTL: time.Hour, Match: []Condition{condition(t, "groups", groups[many-1])}}
	rules.Bindings["corp"] = append(bindings, last)
	id := person(t, `{}`)
	id.Claims = map[string]any{"groups": groups, "level": json.Number("1")}

	start := time.Now()
	d := Decide(&Snapshot{Rules: rules}, id, Connection{Type: Standard}, now, nil)
	took := time.Since(start)
	if !d.Allowed() || len(d.Bindings) != 1 || d.Bindings[0] != "last" {
		t.Fatalf("decided %+v", d)
	}
	// Two million comparisons take a tenth of a second; BenchmarkDecisions measures the like.
	t.Logf("%d groups and %d bindings took %s", many, len(rules.Bindings["corp"]), took)

	var trace Trace
	rules.Bindings["corp"] = bindings
	if d := Decide(&Snapshot{Rules: rules}, id, Connection{Type: Standard}, now, &trace); d.Reason() != NoBinding {
		t.Fatalf("decided %+v", d)
	}
	for _, v := range trace.Verdicts {
		if len(v.Why) > 300 {
			t.Fatalf("an explanation has %d bytes: %s", len(v.Why), v.Why[:100])
		}
	}
}

// TestOverageOfAnExpression says so where an expression has no answer because its claim was left out.
func TestOverageOfAnExpression(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		claims string
		want   Reason
	}{
		"the claim is elsewhere":           {`{"groups": ["call"], "_claim_names": {"acr": "src1"}}`, GroupsOverage},
		"another claim is elsewhere":       {`{"groups": ["call"], "_claim_names": {"address": "src1"}}`, ExpressionFailed},
		"both claims are elsewhere":        {`{"_claim_names": {"acr": "src1", "groups": "src1"}}`, GroupsOverage},
		"the claim is there and not right": {`{"groups": ["call"], "acr": "tin", "_claim_names": {"address": "src1"}}`, NoBinding},
	} {
		rules := world(t)
		bindings := rules.Bindings["corp"]
		onCall := bindings[len(bindings)-1]
		rules.Bindings["corp"] = []*Binding{onCall}
		onCall.Source = nil
		d := Decide(&Snapshot{Rules: rules}, person(t, c.claims), Connection{Type: Standard}, now, nil)
		if d.Reason() != c.want {
			t.Errorf("%s: %v, want %s", name, d.Refusal, c.want)
		}
	}
}
