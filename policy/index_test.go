package policy

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// answer is an expression that holds, does not hold or fails, by the claim that it is named for.
type answer string

func (a answer) Holds(claims map[string]any) (bool, error) {
	switch claims[string(a)] {
	case nil:
		return false, errors.New("no such claim: " + string(a))
	default:
		return claims[string(a)] == "yes", nil
	}
}
func (a answer) Reads() ([]ClaimPath, bool) {
	path, _ := ParseClaimPath(string(a))
	return []ClaimPath{path}, false
}
func (a answer) String() string { return string(a) }

var (
	indexedPaths = rapid.SampledFrom([]string{"groups", "groups", "a", "a.b", `a."b"`, `"a.b"`, "a.b.c", "roles", "sub"})
	wantedValues = rapid.SampledFrom([]any{"x", "y", "z", "yes", "", `\*`, "x*", "*", true, false, json.Number("1"), json.Number("1.0")})
)

// anyConditions may hold a claim twice, a value twice, values of several kinds, and none.
func anyConditions(t *testing.T, rt *rapid.T) []Condition {
	var all []Condition
	for range rapid.IntRange(0, 3).Draw(rt, "conditions") {
		values := rapid.SliceOfN(wantedValues, 0, 3)
		if rapid.Bool().Draw(rt, "texts") {
			values = rapid.SliceOfN(rapid.SampledFrom([]any{"x", "y", "z", "yes", ""}), 1, 3)
		}
		all = append(all, condition(t, indexedPaths.Draw(rt, "path"), values.Draw(rt, "values")...))
	}
	return all
}

func anyClaims(rt *rapid.T) map[string]any {
	scalar := rapid.SampledFrom([]any{"x", "y", "z", "yes", "no", "*", "", true, false, nil, json.Number("1"), json.Number("1e0"), json.Number("1e999")})
	list := rapid.Map(rapid.SliceOfN(rapid.OneOf(scalar, rapid.Just[any]([]any{"x"}), rapid.Just[any](map[string]any{"x": "x"})), 0, 30), func(l []any) any { return l })
	object := rapid.Map(rapid.MapOfN(rapid.SampledFrom([]string{"b", "c", "b.c"}), rapid.OneOf(scalar, list), 0, 2), func(m map[string]any) any { return m })
	claims := rapid.MapOfN(rapid.SampledFrom([]string{"groups", "a", "a.b", "roles", "sub", "team"}), rapid.OneOf(scalar, list, list, object), 0, 6).Draw(rt, "claims")
	if rapid.Bool().Draw(rt, "too long") {
		out := map[string]any{}
		for _, name := range rapid.SliceOfN(rapid.SampledFrom([]string{"groups", "a", "a.b", "roles", "sub"}), 0, 3).Draw(rt, "left out") {
			out[name] = "src1"
			delete(claims, name)
		}
		claims["_claim_names"] = out
		if rapid.Bool().Draw(rt, "hasgroups") {
			claims["hasgroups"] = rapid.SampledFrom([]any{true, false, "true"}).Draw(rt, "is")
		}
	}
	return claims
}

func anyBindings(t *testing.T, rt *rapid.T, label string) []*Binding {
	accounts := []*Account{{Name: "APP", ID: "A"}, {Name: "OPS", ID: "B"}}
	roles := []*Role{{Name: "plain", Publish: PermissionRules{Allow: templates(t, "app.>")}}, {Name: "team", Publish: PermissionRules{Allow: templates(t, "app.{{claim.team}}", "app.{{claim.sub}}")}}}
	list := make([]*Binding, rapid.IntRange(0, 20).Draw(rt, label))
	for i := range list {
		b := &Binding{Name: fmt.Sprintf("%s%d", label, i), Issuer: "corp", Match: anyConditions(t, rt), TTL: time.Duration(1+i) * time.Hour, RequireKey: rapid.IntRange(0, 2).Draw(rt, "key") == 0,
			Grant:  Grant{rapid.SampledFrom(accounts).Draw(rt, "account"), rapid.SampledFrom(roles).Draw(rt, "role")},
			Rights: []Right{rapid.SampledFrom(AllRights()).Draw(rt, "right")}, SignUp: []string{rapid.SampledFrom([]string{"free", "paid"}).Draw(rt, "plan")}}
		if rapid.IntRange(0, 3).Draw(rt, "asks") == 0 {
			b.When = answer(rapid.SampledFrom([]string{"groups", "roles", "sub", "none"}).Draw(rt, "when"))
		}
		if rapid.IntRange(0, 4).Draw(rt, "from") == 0 {
			b.Source = []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}
		}
		if rapid.IntRange(0, 4).Draw(rt, "by") == 0 {
			b.ConnectionTypes = []ConnectionType{WebSocket}
		}
		list[i] = b
	}
	return list
}

// TestIndexDecidesAsASearchDoes is the law of the index: grants, permissions and the words of refusals are the same
// with it, without it, and while every binding is looked at for a trace.
func TestIndexDecidesAsASearchDoes(t *testing.T) {
	t.Parallel()
	reached := map[Reason]int{}
	rapid.Check(t, func(rt *rapid.T) {
		searched := &Rules{Plans: map[string]*Plan{"free": {Name: "free"}, "paid": {Name: "paid"}}}
		for label, of := range map[string]*map[string][]*Binding{"binding": &searched.Bindings, "admin": &searched.Admins, "lobby": &searched.Lobby, "signup": &searched.SignUps} {
			if label == "binding" || rapid.Bool().Draw(rt, "some") {
				*of = map[string][]*Binding{"corp": anyBindings(t, rt, label)}
			}
		}
		indexed := *searched
		indexed.indexFrom(1)
		for range 8 {
			reached[sameByIndex(t, rt, &Snapshot{Rules: searched}, &Snapshot{Rules: &indexed})]++
		}
	})
	for _, r := range append(misses, Allowed, GroupsOverage, AccountAmbiguous) {
		if reached[r] == 0 {
			t.Errorf("no login was decided as %s: the law says nothing of it", r)
		}
	}
}

// sameByIndex decides on a login by rules without an index and with one, and returns the reason.
func sameByIndex(t *testing.T, rt *rapid.T, s, x *Snapshot) Reason {
	id := person(t, `{}`)
	id.Claims = anyClaims(rt)
	conn := Connection{Type: rapid.SampledFrom(ConnectionTypes()).Draw(rt, "type"), Account: rapid.SampledFrom([]string{"", "", "APP", LobbyName}).Draw(rt, "named")}
	if rapid.Bool().Draw(rt, "inside") {
		conn.Source = netip.MustParseAddr("10.1.2.3")
	}
	want := Decide(s, id, conn, now, nil)
	if got := Decide(x, id, conn, now, nil); !cmp.Equal(got, want) {
		rt.Fatalf("with an index: %s", cmp.Diff(want, got))
	}
	var ofSearch, ofIndex Trace
	Decide(s, id, conn, now, &ofSearch)
	if got := Decide(x, id, conn, now, &ofIndex); !cmp.Equal(got, want) || !cmp.Equal(ofIndex, ofSearch) {
		rt.Fatalf("with a trace: %s%s", cmp.Diff(want, got), cmp.Diff(ofSearch, ofIndex))
	}
	for name, ask := range map[string]func(*Snapshot) (any, *Refusal){
		"rights":   func(s *Snapshot) (any, *Refusal) { return pair(Rights(s, id, conn.Source, now, nil)) },
		"sign-ups": func(s *Snapshot) (any, *Refusal) { return pair(SignUps(s, id, conn.Source, now, nil)) },
	} {
		wanted, why := ask(s)
		if got, r := ask(x); !cmp.Equal(got, wanted) || !cmp.Equal(r, why) {
			rt.Fatalf("%s: %v, %v with an index, %v, %v without", name, got, r, wanted, why)
		}
	}
	return want.Reason()
}

func pair[T any](v T, r *Refusal) (any, *Refusal) { return v, r }

// TestIndexFindsAllThatMatch: whatever matches is a candidate, each binding at most once and in order.
func TestIndexFindsAllThatMatch(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		rules := &Rules{Bindings: map[string][]*Binding{"corp": anyBindings(t, rt, "binding")}}
		list := rules.Bindings["corp"]
		rules.indexFrom(1)
		x := rules.index(list)
		if len(list) == 0 {
			return
		}
		claims := anyClaims(rt)
		found := x.candidates(nil, claims, false)
		for i, b := range list {
			if b.mismatch(newLookup(claims, 1)) == nil && (len(found) == 0 || found[0] != b) {
				rt.Fatalf("binding %d matches and comes not next: %v", i, found)
			}
			if len(found) > 0 && found[0] == b {
				found = found[1:]
			}
		}
		if len(found) > 0 {
			rt.Fatalf("candidates that are not in order: %v", found)
		}
	})
}

// TestIndexIsOfTheListThatItWasMadeFrom: a list that was put in the place of another, or grown, is searched.
func TestIndexIsOfTheListThatItWasMadeFrom(t *testing.T) {
	t.Parallel()
	rules := world(t)
	decide := func() Decision {
		return Decide(&Snapshot{Rules: rules}, person(t, developer), Connection{Type: Standard}, now, nil)
	}
	list := rules.Bindings["corp"]
	rules.Bindings["corp"] = append(make([]*Binding, 0, 100), list[2:]...)
	rules.indexFrom(1)
	if d := decide(); d.Reason() != NoBinding {
		t.Fatalf("without its bindings: %v", d.Reason())
	}
	rules.Bindings["corp"] = append(rules.Bindings["corp"], list[:2]...)
	if d := decide(); !d.Allowed() {
		t.Errorf("with its bindings in the same place: %v", d.Refusal)
	}
	rules.Bindings["corp"] = list
	if d := decide(); !d.Allowed() {
		t.Errorf("with another list: %v", d.Refusal)
	}
	rules.Bindings["corp"] = nil
	if d := decide(); d.Reason() != NoBinding {
		t.Errorf("with no list: %v", d.Reason())
	}
}

// TestIndexOfRepeatedGroups: a token that names a group over and over is decided as one that names it once.
func TestIndexOfRepeatedGroups(t *testing.T) {
	t.Parallel()
	rules := world(t)
	grant := rules.Bindings["corp"][1].Grant
	var list []*Binding
	for i := range 1000 {
		list = append(list, &Binding{Name: fmt.Sprint("b", i), Match: []Condition{condition(t, "groups", "all")}, Grant: grant, TTL: time.Hour})
	}
	rules.Bindings["corp"] = list
	rules.Index()
	groups := make([]any, 10_000)
	for i := range groups {
		groups[i] = "all"
	}
	claims := map[string]any{"groups": groups}
	if found := rules.index(list).find(nil, claims, false); len(found) > 2*len(list) {
		t.Errorf("%d positions were found in a list of %d", len(found), len(list))
	}
	id := person(t, `{}`)
	id.Claims = claims
	if d := Decide(&Snapshot{Rules: rules}, id, Connection{Type: Standard}, now, nil); len(d.Bindings) != len(list) {
		t.Errorf("%d bindings apply, want %d: %v", len(d.Bindings), len(list), d.Refusal)
	}
}

// TestIndexFindsWhatTheIssuerLeftOut: of bindings that ask for claims that are not in the token, the first that nothing
// else keeps from applying is found, whatever the index took together.
func TestIndexFindsWhatTheIssuerLeftOut(t *testing.T) {
	t.Parallel()
	found := 0
	rapid.Check(t, func(rt *rapid.T) {
		list := make([]*Binding, rapid.IntRange(1, 12).Draw(rt, "bindings"))
		for i := range list {
			b := &Binding{Name: fmt.Sprint("b", i), Match: []Condition{condition(t, "groups", rapid.SampledFrom([]string{"x", "y", "z"}).Draw(rt, "group"))}}
			for _, claim := range []string{"roles", "env", "level"} {
				if rapid.Bool().Draw(rt, claim) {
					b.Match = append(b.Match, condition(t, claim, rapid.SliceOfN(rapid.SampledFrom([]any{"x", "y", "x*", true, json.Number("1")}), 1, 2).Draw(rt, "values")...))
				}
			}
			if rapid.IntRange(0, 2).Draw(rt, "asks") == 0 {
				b.When = answer(rapid.SampledFrom([]string{"sub", "env", "groups", "none"}).Draw(rt, "when"))
			}
			list[i] = b
		}
		rules := &Rules{Bindings: map[string][]*Binding{"corp": list}}
		rules.indexFrom(1)
		for range 8 {
			value := rapid.SampledFrom([]any{"x", "y", "yes", "xx", true, json.Number("1"), []any{"y", "x"}})
			claims := rapid.MapOfN(rapid.SampledFrom([]string{"roles", "env", "level", "sub"}), value, 0, 4).Draw(rt, "claims")
			claims["_claim_names"] = map[string]any{"groups": "src1", rapid.SampledFrom([]string{"roles", "env", "level"}).Draw(rt, "also"): "src1"}
			want, got := overage(list, nil, claims), overage(list, rules.index(list), claims)
			if got != want {
				rt.Fatalf("found %v, want %v", got, want)
			}
			if want != nil && want != list[0] {
				found++
			}
		}
	})
	if found == 0 {
		t.Error("never was another than the first binding found: the law says nothing")
	}
}
