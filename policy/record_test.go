package policy

import (
	"strings"
	"testing"
)

func TestRecordKeepsTheClaimsThatTheRulesRead(t *testing.T) {
	path, err := ParseClaimPath("groups")
	if err != nil {
		t.Fatal(err)
	}
	bindings := []*Binding{{Match: []Condition{{Claim: path}}, Grant: Grant{Role: &Role{}}}}
	rules := &Rules{Recorded: map[string]*ClaimSet{"corp": NewClaimSet(bindings)}}
	list := func(n int) []any { return []any{strings.Repeat("g", n)} }
	for name, c := range map[string]struct {
		rules  *Rules
		issuer string
		groups any
		want   string
		cut    bool
	}{
		"kept":                      {rules, "corp", list(3), `{"groups":["ggg"]}`, false},
		"as many as fit":            {rules, "corp", list(maxRecorded - len(`{"groups":[""]}`)), `{"groups":["` + strings.Repeat("g", maxRecorded-15) + `"]}`, false},
		"one byte too many":         {rules, "corp", list(maxRecorded - len(`{"groups":[""]}`) + 1), "", true},
		"not to be recorded":        {&Rules{}, "corp", list(3), "", false},
		"an issuer that is no more": {rules, "gone", list(3), "", false},
	} {
		id := &Identity{Issuer: c.issuer, Claims: map[string]any{"groups": c.groups, "phone": "555"}}
		got, cut := c.rules.Record(id)
		if string(got) != c.want || cut != c.cut {
			t.Errorf("%s: got %.40q (%d bytes), %t", name, got, len(got), cut)
		}
	}
}
