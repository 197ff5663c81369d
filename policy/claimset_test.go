package policy

import (
	"bytes"
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"
)

// kept returns claims as they come back from the audit trail.
func kept(t interface{ Fatal(...any) }, claims map[string]any) map[string]any {
	text, err := json.Marshal(claims)
	if err != nil {
		t.Fatal(err)
	}
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.UseNumber()
	var out map[string]any
	if err := dec.Decode(&out); err != nil {
		t.Fatal(err)
	}
	return out
}

func setOf(t testing.TB, paths ...string) *ClaimSet {
	t.Helper()
	s := &ClaimSet{}
	for _, text := range paths {
		path, err := ParseClaimPath(text)
		if err != nil {
			t.Fatal(err)
		}
		s.add(path)
	}
	return s
}

func TestPick(t *testing.T) {
	t.Parallel()
	const token = `{"sub":"alice","phone":"555","groups":["dev",1,null],"realm":{"roles":["a"],"other":"x","deep":{"level":1.50,"more":"y"}},
		"realm.roles":"literal","https://example.com/roles":["z"],"kubernetes.io":{"namespace":"default","pod":{"name":"p"}},"a.b":"quoted not","text":"no object","nothing":null,"empty":{}}`
	for name, c := range map[string]struct {
		paths []string
		want  string
	}{
		"nothing is read":           {nil, `{}`},
		"top level":                 {[]string{"groups", "missing"}, `{"groups":["dev",1,null]}`},
		"nested, and literal":       {[]string{"realm.roles"}, `{"realm":{"roles":["a"]},"realm.roles":"literal"}`},
		"deeper":                    {[]string{"realm.deep.level", "realm.other"}, `{"realm":{"deep":{"level":1.50},"other":"x"}}`},
		"whole and part":            {[]string{"realm.deep", "realm.deep.level"}, `{"realm":{"deep":{"level":1.50,"more":"y"}}}`},
		"part and whole":            {[]string{"realm.deep.level", "realm.deep"}, `{"realm":{"deep":{"level":1.50,"more":"y"}}}`},
		"inside a dotted name":      {[]string{"kubernetes.io.namespace"}, `{"kubernetes.io":{"namespace":"default"}}`},
		"a quoted one":              {[]string{`"a.b"`, `realm."deep".level`}, `{"a.b":"quoted not","realm":{"deep":{"level":1.50}}}`},
		"namespaced":                {[]string{"https://example.com/roles"}, `{"https://example.com/roles":["z"]}`},
		"through what is no object": {[]string{"text.inner", "nothing.inner", "empty.inner", "groups.inner"}, `{"empty":{},"groups":null,"nothing":null,"text":null}`},
		"no more than is there":     {[]string{"realm.deep.none.x"}, `{"realm":{"deep":{}}}`},
	} {
		got, err := json.Marshal(setOf(t, c.paths...).Pick(claimsOf(t, token)))
		if err != nil || string(got) != c.want {
			t.Errorf("%s: got %s, %v, want %s", name, got, err, c.want)
		}
	}
}

// TestPickedClaimsReadAsTheToken is the law that deciding anew rests on.
func TestPickedClaimsReadAsTheToken(t *testing.T) {
	t.Parallel()
	names := rapid.SampledFrom([]string{"a", "b", "c", "a.b", "b.c", "a.b.c"})
	var value func(depth int) *rapid.Generator[any]
	value = func(depth int) *rapid.Generator[any] {
		scalar := rapid.SampledFrom([]any{"text", "", true, false, nil, json.Number("1"), json.Number("1.50"), json.Number("1e999"), []any{"x", json.Number("2"), nil}})
		if depth == 0 {
			return scalar
		}
		object := rapid.Map(rapid.MapOfN(names, value(depth-1), 0, 4), func(m map[string]any) any { return m })
		return rapid.OneOf(scalar, object, object)
	}
	rapid.Check(t, func(rt *rapid.T) {
		claims := rapid.MapOfN(names, value(3), 0, 5).Draw(rt, "claims")
		paths := rapid.SliceOfN(rapid.SampledFrom([]string{"a", "b", "a.b", "b.c", "a.b.c", "c.a.b", "a.a.a", `"a.b".c`, `a."b.c"`, `"a"`}), 0, 4).Draw(rt, "paths")
		picked := kept(rt, setOf(t, paths...).Pick(claims))
		for _, text := range paths {
			path, _ := ParseClaimPath(text)
			want, found := path.Lookup(claims)
			got, ok := path.Lookup(picked)
			if ok != found || !cmp.Equal(got, want) {
				rt.Fatalf("%s is %v (%t) in the token and %v (%t) in %v", text, want, found, got, ok, picked)
			}
		}
	})
}

// TestDecidingAnew: what was picked decides as the token did, whatever the connection.
func TestDecidingAnew(t *testing.T) {
	t.Parallel()
	rules := world(t)
	set := NewClaimSet(rules.Bindings["corp"])
	rapid.Check(t, func(rt *rapid.T) {
		id, conn := randomIdentity(rt), randomConnection(rt)
		id.Claims["phone"] = "555-not-read"
		if rapid.Bool().Draw(rt, "overage") {
			delete(id.Claims, "groups")
			id.Claims[rapid.SampledFrom([]string{"_claim_names", "hasgroups"}).Draw(rt, "stand-in")] =
				rapid.SampledFrom([]any{true, map[string]any{"groups": "src1"}}).Draw(rt, "value")
		}
		again := *id
		again.Claims = kept(rt, set.Pick(id.Claims))
		if text, _ := json.Marshal(again.Claims); strings.Contains(string(text), "not-read") {
			rt.Fatalf("a claim that no rule reads is kept: %s", text)
		}
		s := &Snapshot{Rules: rules}
		first, second := Decide(s, id, conn, now, nil), Decide(s, &again, conn, now, nil)
		if diff := cmp.Diff(first, second, cmpopts.EquateEmpty()); diff != "" {
			rt.Fatal(diff)
		}
	})
}

// A role with a scoped signing key reads claims for its tags alone.
func TestDecidingAnewOnTags(t *testing.T) {
	t.Parallel()
	rules := scopedWorld(t)
	id := person(t, `{"groups": "jobs", "team": "blue"}`)
	again := *id
	again.Claims = kept(t, NewClaimSet(rules.Bindings["corp"]).Pick(id.Claims))
	d := Decide(&Snapshot{Rules: rules}, &again, Connection{Type: Standard}, now, nil)
	if !slices.Equal(d.Tags, []string{"kind:job", "team:blue"}) {
		t.Errorf("tags %q, %v", d.Tags, d.Refusal)
	}
}

func BenchmarkPick(b *testing.B) {
	set := NewClaimSet(world(b).Bindings["corp"])
	id := person(b, `{"sub":"alice","iss":"https://login.example.com","aud":["nats"],"exp":1800003600,"iat":1800000000,
		"groups":["dev","team-x"],"email_verified":true,"team":"blue","email":"alice@example.com","name":"Alice"}`)
	id.Expires = now.Add(time.Hour)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := json.Marshal(set.Pick(id.Claims)); err != nil {
			b.Fatal(err)
		}
	}
}

func TestBeyond(t *testing.T) {
	t.Parallel()
	small, large := setOf(t, "groups", "team"), setOf(t, "team", "groups", "level", "a.b")
	for name, c := range map[string]struct {
		s, other *ClaimSet
		want     string
	}{
		"more":           {large, small, "a.b level"},
		"less":           {small, large, ""},
		"than nothing":   {small, nil, "groups team"},
		"nothing":        {nil, small, ""},
		"both whole":     {&ClaimSet{whole: true}, &ClaimSet{whole: true}, ""},
		"the whole":      {&ClaimSet{whole: true}, large, "every claim"},
		"than the whole": {large, &ClaimSet{whole: true}, ""},
	} {
		if got := strings.Join(c.s.Beyond(c.other), " "); got != c.want {
			t.Errorf("%s: %q", name, got)
		}
	}
}
