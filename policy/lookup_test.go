package policy

import (
	"encoding/json"
	"testing"

	"pgregory.net/rapid"
)

// A lookup for many bindings answers as the condition itself does.
func TestLookupMeetsWhatMatches(t *testing.T) {
	values := rapid.SampledFrom([]any{"dev", "team-*", `\*`, "", "a.b", true, false, json.Number("7"), json.Number("1.5")})
	scalar := rapid.SampledFrom([]any{"dev", "team-x", "*", "", true, false, json.Number("7"), json.Number("1.50"), json.Number("7e0"), nil, []any{"dev"}, map[string]any{"dev": true}})
	rapid.Check(t, func(rt *rapid.T) {
		claims := map[string]any{"a": rapid.OneOf(scalar, rapid.Map(rapid.SliceOfN(scalar, 0, 5), func(l []any) any { return l })).Draw(rt, "claim")}
		if rapid.Bool().Draw(rt, "nested") {
			claims = map[string]any{"a": claims}
		}
		few, many := newLookup(claims, 1), newLookup(claims, manyBindings)
		for range 3 { // the second time it knows the claim
			c := condition(t, rapid.SampledFrom([]string{"a", "a.a", "b"}).Draw(rt, "path"), rapid.SliceOfN(values, 1, 3).Draw(rt, "values")...)
			want := c.Match(claims)
			if got := many.meets(&c); got != want {
				rt.Fatalf("among many bindings %v, want %v: %v in %v", got, want, c, claims)
			}
			if got := few.meets(&c); got != want {
				rt.Fatalf("among few bindings %v, want %v: %v in %v", got, want, c, claims)
			}
		}
	})
}
