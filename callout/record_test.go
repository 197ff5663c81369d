package callout

import (
	"strings"
	"testing"

	"github.com/gatehouse-nats/gatehouse/policy"
)

func TestRejectionKind(t *testing.T) {
	for reason, want := range map[string]string{
		"": timedOut,
		"Auth callout service returned an error: refused, see request 1":                    refusedByUs,
		"Could not register auth callout user: maximum account active connections exceeded": overLimit,
		`User JWT issuer "A" is not known`:                                                  rejected,
	} {
		if got := rejectionKind(reason); got != want {
			t.Errorf("%q is %s, want %s", reason, got, want)
		}
	}
}

func TestEntryKeepsTheClaimsThatTheRulesRead(t *testing.T) {
	path, err := policy.ParseClaimPath("groups")
	if err != nil {
		t.Fatal(err)
	}
	bindings := []*policy.Binding{{Match: []policy.Condition{{Claim: path}}, Grant: policy.Grant{Role: &policy.Role{}}}}
	rules := &policy.Rules{Recorded: map[string]*policy.ClaimSet{"corp": policy.NewClaimSet(bindings)}}
	list := func(n int) []any { return []any{strings.Repeat("g", n)} }
	for name, c := range map[string]struct {
		rules  *policy.Rules
		issuer string
		groups any
		want   string
		cut    bool
	}{
		"kept":                      {rules, "corp", list(3), `{"groups":["ggg"]}`, false},
		"as many as fit":            {rules, "corp", list(maxClaims - len(`{"groups":[""]}`)), `{"groups":["` + strings.Repeat("g", maxClaims-15) + `"]}`, false},
		"one byte too many":         {rules, "corp", list(maxClaims - len(`{"groups":[""]}`) + 1), "", true},
		"not to be recorded":        {&policy.Rules{}, "corp", list(3), "", false},
		"an issuer that is no more": {rules, "gone", list(3), "", false},
		"nothing was decided":       {nil, "corp", list(3), "", false},
	} {
		id := &policy.Identity{Issuer: c.issuer, Claims: map[string]any{"groups": c.groups, "phone": "555"}}
		got, cut := recorded(c.rules, id)
		if string(got) != c.want || cut != c.cut {
			t.Errorf("%s: got %.40q (%d bytes), %t", name, got, len(got), cut)
		}
	}
}
