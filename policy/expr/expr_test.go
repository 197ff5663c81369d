package expr

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/gatehouse-nats/gatehouse/policy"
)

func claimsOf(t testing.TB, text string) map[string]any {
	t.Helper()
	d := json.NewDecoder(strings.NewReader(text))
	d.UseNumber()
	var claims map[string]any
	if err := d.Decode(&claims); err != nil {
		t.Fatal(err)
	}
	return claims
}

func compile(t testing.TB, source string) *Expression {
	t.Helper()
	e, err := Compile(source)
	if err != nil {
		t.Fatalf("%s: %v", source, err)
	}
	return e
}

func TestHolds(t *testing.T) {
	const person = `{"sub": "alice", "groups": ["dev", "team-blue"], "amr": ["pwd", "mfa"], "level": 2, "half": 0.5,
		"email_verified": true, "realm": {"roles": ["a"], "tier": 1.0}, "nothing": null, "mixed": ["x", 1, null, ["y"], {"z": 1}],
		"https://example.com/roles": ["admin"], "a.b": "literal"}`
	for _, c := range []struct {
		when string
		want bool
		err  string
	}{
		{when: `claims.amr.exists(m, m == "mfa")`, want: true},
		{when: `"mfa" in claims.amr && !("guest" in claims.groups)`, want: true},
		{when: `claims.groups.all(g, g.startsWith("team-"))`, want: false},
		{when: `claims["https://example.com/roles"] == ["admin"]`, want: true},
		{when: `claims["a.b"] == "literal"`, want: true},
		{when: `claims.email_verified`, want: true},
		{when: `claims.realm.tier == 1 && claims.level > 1 && claims.half < 1`, want: true},
		{when: `claims.sub.matches("^[a-z]+$") && claims.sub.upperAscii() == "ALICE"`, want: true},
		{when: `claims.nothing == null`, want: true},

		{when: `has(claims.acr) && claims.acr == "gold"`, want: false},
		{when: `claims.?acr.orValue("none") == "none"`, want: true},
		{when: `claims.?realm.?roles.orValue([]).exists(r, r == "a")`, want: true},
		{when: `claims.acr == "gold"`, err: "not in the token: claim acr"},
		{when: `claims.realm.x.y == 1 || claims.z == 2`, err: "not in the token: claim realm.x.y, claim z"},
		{when: `claims.realm[claims.sub] == 1`, err: "it asks for the key of an object that is not there"},
		{when: `claims.sub.roles == 1`, err: "not in the token: claim sub.roles"},
		// CEL: what decides wins over what fails.
		{when: `claims.acr == "gold" || claims.level == 2`, want: true},
		{when: `claims.acr == "gold" && claims.level == 3`, want: false},

		{when: `claims.sub`, err: "it yields a text, not true or false"},
		{when: `claims.level`, err: "it yields a number, not true or false"},
		{when: `claims.realm`, err: "it yields an object, not true or false"},
		{when: `claims.amr`, err: "it yields a list, not true or false"},
		{when: `claims.nothing`, err: "it yields null, not true or false"},

		// An object, a mixed list, a text where a list belongs, a number where a text belongs.
		{when: `claims.realm == "a"`, want: false},
		{when: `claims.realm.exists(k, k == "roles")`, want: true},
		{when: `claims.mixed.exists(m, m == "x")`, want: true},
		{when: `claims.mixed.exists(m, m == "y")`, want: false},
		{when: `claims.mixed.exists(m, m.startsWith("q"))`, err: "a claim is not what it expects (mixed is a list)"},
		{when: `claims.sub.exists(m, m == "mfa")`, err: "a claim is not what it expects (sub is a text)"},
		{when: `"a" in claims.sub`, err: "a claim is not what it expects (sub is a text)"},
		{when: `claims.level.startsWith("2")`, err: "a claim is not what it expects (level is a number)"},
		{when: `claims.level == "2"`, want: false},
		{when: `claims.level < "3"`, err: "a claim is not what it expects (level is a number)"},
		{when: `claims.email_verified == "true"`, want: false},
		{when: `int(claims.sub) == 1`, err: "a claim is not what it expects (sub is a text)"},
		{when: `claims.level / 0 == 1`, err: "division by zero"},

		// The Cyrillic а looks like the Latin one and is another.
		{when: `claims.groups.exists(g, g == "teаm-blue")`, want: false},
		{when: `claims.groups.exists(g, g == "team-blue")`, want: true},
	} {
		got, err := compile(t, c.when).Holds(claimsOf(t, person))
		if got != c.want || fmt.Sprint(err) != c.err && (err != nil || c.err != "") {
			t.Errorf("%s: %v, %v; want %v, %s", c.when, got, err, c.want, c.err)
		}
	}
}

// An error must not show what claims hold: it is logged.
func TestErrorsShowNoValues(t *testing.T) {
	claims := claimsOf(t, `{"a": "hunter2", "m": {}, "l": []}`)
	for _, when := range []string{`claims.m[claims.a] == 1`, `int(claims.a) == 1`, `timestamp(claims.a) == timestamp(0)`, `duration(claims.a) == duration("1s")`,
		`claims.l[claims.a] == 1`, `bool(claims.a)`, `claims[claims.a] == 1`, `claims.a - 1 == 1`, `claims.a.charAt(99) == ""`} {
		if _, err := compile(t, when).Holds(claims); err == nil || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: error %v", when, err)
		}
	}
}

func TestNumbersAreNeverRounded(t *testing.T) {
	const claims = `{"one": 1, "dot": 1.0, "exp": 10e-1, "zero": -0.0, "tenth": 0.1, "nearly": 0.10000000000000000001, "big": 9007199254740993,
		"bigger": 9007199254740992.0, "max": 9223372036854775807, "over": 9223372036854775808, "unsigned": 18446744073709551615,
		"huge": 18446744073709551616, "hugedot": 184467440737095516160e-1, "huger": 18446744073709551617, "far": 1e400, "farther": 10e400, "same": 10e399,
		"tiny": 1e-400, "rounds": 1.8446744073709552e19, "absurd": 1e99999999999999999999, "list": [1, 1.0, 18446744073709551616]}`
	for when, want := range map[string]bool{
		`claims.one == 1 && claims.dot == 1 && claims.exp == 1 && claims.one == claims.dot`: true,
		`claims.one == 1.0 && claims.dot == 1.0 && claims.one == 1u`:                        true,
		`claims.dot in [1, 2] && claims.one in [1.0] && 1 in claims.list`:                   true,
		`claims.zero == 0 && claims.zero == 0.0 && !(claims.zero < 0)`:                      true,
		`claims.tenth == 0.1 && claims.tenth < 1 && claims.tenth > 0`:                       true,
		`claims.nearly == 0.1 || claims.nearly == claims.tenth`:                             false,
		`claims.big == 9007199254740993`:                                                    true,
		`claims.big == 9007199254740992 || claims.big == claims.bigger`:                     false,
		`claims.bigger == 9007199254740992 && claims.bigger < claims.big`:                   true,
		`claims.max == 9223372036854775807 && claims.max < claims.over`:                     true,
		`claims.max == claims.over`:                                                         false,
		`claims.over == 9223372036854775808u && claims.unsigned == 18446744073709551615u`:   true,
		`claims.rounds == claims.unsigned || claims.rounds == claims.huge`:                  false,
		`claims.unsigned == claims.huge || claims.huge == claims.huger`:                     false,
		`claims.huge == claims.hugedot && claims.huge in claims.list`:                       true,
		`claims.huge != claims.huger && claims.far == claims.same`:                          true,
		`claims.huge in [1, 2] || claims.huge == "18446744073709551616"`:                    false,
		`claims.far == claims.farther || claims.far == 1 || claims.tiny == 0`:               false,
		`claims.absurd == claims.far || claims.absurd == 1`:                                 false,
		`claims.list == [1, 1, 1]`:                                                          false,
		`claims.list.size() == 3 && claims.list[1] == 1`:                                    true,
	} {
		if got, err := compile(t, when).Holds(claimsOf(t, claims)); got != want || err != nil {
			t.Errorf("%s: %v, %v; want %v", when, got, err, want)
		}
	}
	for _, when := range []string{`claims.huge > 1`, `claims.nearly < 1`, `double(claims.far) > 1.0`, `string(claims.huge) != ""`, `claims.huge + 1 == 1`} {
		if got, err := compile(t, when).Holds(claimsOf(t, claims)); got || err == nil {
			t.Errorf("%s: %v, %v; want an error", when, got, err)
		}
	}
}

func TestReads(t *testing.T) {
	for _, c := range []struct {
		when  string
		paths []string
		whole bool
	}{
		{`true`, nil, false},
		{`claims.amr.exists(m, m == "mfa") && claims.amr.size() > 1`, []string{"amr"}, false},
		{`claims.realm.roles == [] || claims["realm"]["tier"] == 1 || claims.?a.?b.hasValue()`, []string{"realm.roles", "realm.tier", "a"}, false},
		{`claims.?a.b.orValue(1) == 1 && claims.c.?d.hasValue()`, []string{"a", "c"}, false},
		{`has(claims.a.b) && .claims.c == 1 && claims[?"d"].hasValue()`, []string{"a.b", "c", "d"}, false},
		{`claims["https://example.com/roles"].admin || claims["a.b"].c`, []string{`"https://example.com/roles".admin`, `"a.b".c`}, false},
		{`claims.a["b.c"].d == 1`, []string{`a."b.c".d`}, false},
		{`claims.a["b{c"].d == 1 || claims.b["c\"d"] == 1 || claims.c[""] == 1`, []string{"a", "b", "c"}, false},
		{`claims.list[0].name == "x" && claims.list.exists(e, e.id == claims.sub)`, []string{"list", "sub"}, false},
		{`claims.all(k, claims[k] == 1)`, nil, true},
		{`claims[claims.key] == 1`, []string{"key"}, true},
		{`claims.size() == 1`, nil, true},
		{`"a" in claims`, nil, true},
		{`[claims].exists(c, c.a == 1)`, nil, true},
		{`{"x": claims}.x.a == 1`, nil, true},
		{`claims["a{b"] == 1`, nil, true},
	} {
		paths, whole := compile(t, c.when).Reads()
		var got []string
		for _, p := range paths {
			got = append(got, p.String())
		}
		slices.Sort(got)
		slices.Sort(c.paths)
		if !slices.Equal(got, c.paths) || whole != c.whole {
			t.Errorf("%s reads %q, whole %v; want %q, %v", c.when, got, whole, c.paths, c.whole)
		}
	}
}

func TestRefusedExpressions(t *testing.T) {
	for when, want := range map[string]string{
		`claim.groups == 1`:                     `1:1: there is no "claim": did you mean claims?`,
		`claims.a == 1 && now() > 1`:            `1:21: there is no "now": an expression sees the claims of the token, as claims.NAME, and CEL's own functions`,
		"claims.a == 1 &&\n  groups.size() > 1": `2:3: there is no "groups": an expression sees the claims of the token, as claims.NAME, and CEL's own functions`,
		`claims.groups.exist(g, true)`:          `1:20: there is no "exist": did you mean exists?`,
		`1 + 1`:                                 `yields a number, not true or false: compare it with something`,
		`"x"`:                                   `yields a text, not true or false: compare it with something`,
		`claims`:                                `yields an object, not true or false: compare it with something`,
		`claims.?a`:                             `yields a value of type optional_type(dyn), not true or false: compare it with something`,
		`claims.a == 1 && "a" == 1`:             `1:22: compares or combines what does not belong together: found no matching overload for '_==_' applied to '(string, int)'`,
		`claims.a = 1`:                          `1:10: is not an expression: = compares nothing: write ==`,
		`claims.a == 'x`:                        `1:13: is not an expression: token recognition error at: ''x'`,
		`claims.a &&`:                           `1:12: is not an expression: it ends before it is complete`,
		`claims.a.matches("(")`:                 `1:18: is not a pattern (RE2 syntax) that matches takes`,
		`claims.a.matches(claims.b)`:            `1:17: the pattern of matches must be written out: one from a claim would be chosen by whoever makes the token`,
		`claims.a == 9007199254740992.0`:        `1:13: would be compared rounded: write a whole number of this size without a dot and an exponent`,
		`timestamp(claims.a).getHours("Europe/Berlin") == 1`:                                 `1:29: getHours is not available, since it depends on the host's time zones: compare the numbers of seconds that claims such as auth_time hold`,
		`claims.a.replace("", claims.b) == "x"`:                                              `1:17: replace is not available, since its result may be far longer than the claims: compare their parts instead`,
		`claims.a.exists(x, claims.a.exists(y, claims.a.exists(z, x == z)))`:                 `1:54: is too costly: exists, all, map and filter may be nested 2 deep`,
		strings.Repeat("!(", 400) + "true" + strings.Repeat(")", 400):                        `is nested too deeply: write it with fewer brackets and operators in one another`,
		`claims.a == "` + strings.Repeat("x", MaxSize) + `"`:                                 `has 2062 bytes, the most are 2048: move what all share into match, or split the binding`,
		`claims.a == "` + strings.Repeat("é", 10) + `" && claim`:                             `1:29: there is no "claim": did you mean claims?`,
		`google.protobuf.Struct{fields: {"a": google.protobuf.Value{string_value: 1}}} == 1`: `1:72: expected type of field 'string_value' is 'string' but provided type is 'int'`,
	} {
		_, err := Compile(when)
		if err == nil || err.Error() != want {
			t.Errorf("%.60s: %v\nwant %s", when, err, want)
		}
	}
}

// Whatever the claims are, an evaluation ends soon: its cost is bounded, not its time, so that a
// slow machine decides the same.
func TestCostIsBounded(t *testing.T) {
	groups := make([]any, 10_000)
	for i := range groups {
		groups[i] = fmt.Sprintf("group-%d", i)
	}
	claims := map[string]any{"groups": groups, "some": groups[:1000], "big": strings.Repeat("x", 16<<10), "deep": []any{groups}}
	for _, when := range []string{
		`claims.groups.exists(g, claims.groups.exists(h, g + h == "x"))`,
		`claims.groups.exists(g, claims.groups == claims.groups && false)`,
		`claims.groups.exists(g, claims.deep == claims.deep && false)`,
		`claims.groups.exists(g, g in claims.groups && false)`,
		`claims.groups.exists(g, claims.groups in claims.deep && false)`,
		`claims.groups.exists(g, (claims.big + claims.big + claims.big + claims.big).size() == 0)`,
		`claims.groups.exists(g, claims.big.size() == 0 || claims.big > claims.big)`,
		`claims.groups.exists(g, claims.big.split("").size() == 0)`,
		`claims.groups.exists(g, claims.big.matches("(x|xx)*y"))`,
		`claims.groups.map(g, claims.groups.map(h, claims.groups)) == []`,
		`claims.some.exists(g, {"a": claims.some} == {"a": claims.some} && false)`,
		// What fails costs as well: exists goes on after it.
		`claims.some.exists(g, double(claims.big) == 1.0)`,
		`claims.some.exists(g, int(claims.big) == 1 || uint(claims.big) == 1u || bool(claims.big))`,
		`claims.some.exists(g, timestamp(claims.big) == timestamp(0) || duration(claims.big) == duration("1s"))`,
	} {
		e := compile(t, when)
		holds, err := e.Holds(claims)
		if holds || err == nil || err.Error() != "it would take over 100000 steps for these claims" {
			t.Errorf("%s: %v, %v", when, holds, err)
		}
	}
	if holds, err := compile(t, `claims.groups.exists(g, g == "group-9999")`).Holds(claims); !holds || err != nil {
		t.Errorf("one pass over 10,000 groups: %v, %v", holds, err)
	}
}

// Finding out what an operation costs must not cost more than the operation.
func TestWeighingStops(t *testing.T) {
	groups := make([]any, 10_000)
	for i := range groups {
		groups[i] = "x"
	}
	if got := weight(map[string]any{"a": groups}, 64); got != 64 {
		t.Errorf("went through %d entries, where 64 tell enough", got)
	}
	for _, c := range []struct {
		a, b any
		want uint64
	}{{groups, []any{}, 0}, {[]any{"x"}, groups, 1}, {groups, groups, 10_000}, {groups[:65], groups, 65}} {
		if got := lighter(c.a, c.b); got != c.want {
			t.Errorf("the lighter one has %d, want %d", got, c.want)
		}
	}
}

func TestTheSameClaimsGiveTheSameAnswer(t *testing.T) {
	e := compile(t, `claims.roles.map(r, r)[0] == "a" && claims.map(k, k)[0] == "a"`)
	claims := claimsOf(t, `{"a": 1, "roles": {"b": 1, "a": 1, "c": 1, "d": 1, "e": 1, "f": 1, "g": 1, "h": 1, "i": 1}}`)
	for range 100 {
		if holds, err := e.Holds(claims); !holds || err != nil {
			t.Fatalf("%v, %v: objects are not gone through in order", holds, err)
		}
	}
}

// FuzzExpression holds that no expression and no claims make Compile or Holds panic, that an
// answer is the same each time, and that only claims which Reads names decide it.
func FuzzExpression(f *testing.F) {
	for _, when := range []string{
		`claims.amr.exists(m, m == "mfa")`, `claims.?acr.orValue("x") in ["x", 1, 1.5, 2u]`, `claims[claims.key].a["b.c"] == {"x": [1]}`,
		`has(claims.a.b) ? claims.a.b : "x".matches("^(a|b)*$")`, `claims.all(k, claims[k] == claims.list.filter(e, e > 1).map(e, e * 2))`,
		`timestamp(claims.iat) < timestamp("2020-01-01T00:00:00Z") + duration("1h")`, `claims.s.split(",")[0].trim() == b"x"`,
		`google.protobuf.Value{number_value: 1.0} == claims.n`, `claims.x.`, `has(claims.a.b.c) || !has(claims.a.b)`, `claims.a.?b.c.orValue(1) == 1`, `"b" in claims.a`, `"\u0000" + r'\' == claims`,
	} {
		f.Add(when, `{"a": "no object", "amr": null}`)
		f.Add(when, `{"amr": ["mfa"], "a": {"b": true, "b.c": 1}, "key": "a", "iat": 1, "n": 1.0, "list": [1, 2e99], "s": " x,y"}`)
	}
	f.Fuzz(func(t *testing.T, when, text string) {
		e, err := Compile(when)
		if err != nil {
			return
		}
		d := json.NewDecoder(strings.NewReader(text))
		d.UseNumber()
		var claims map[string]any
		if d.Decode(&claims) != nil {
			return
		}
		// CEL turns a panic into an error, and Holds does not repeat what CEL says.
		if _, _, err := e.program.Eval(map[string]any{variable: claims}); err != nil && strings.Contains(err.Error(), "internal error") {
			t.Fatal(err)
		}
		holds, err := e.Holds(claims)
		if again, other := e.Holds(claims); again != holds || (other == nil) != (err == nil) {
			t.Fatalf("%v, %v and then %v, %v", holds, err, again, other)
		}
		read := policy.NewClaimSet([]*policy.Binding{{When: e, Grant: policy.Grant{Role: &policy.Role{}}}}).Pick(claims)
		if less, other := e.Holds(read); less != holds || (other == nil) != (err == nil) {
			t.Fatalf("%v, %v, but of the claims that it reads %v, %v", holds, err, less, other)
		}
	})
}

func BenchmarkHolds(b *testing.B) {
	for _, n := range []int{10, 1000} {
		var groups []any
		for i := range n {
			groups = append(groups, fmt.Sprintf("group-%d", i))
		}
		claims := map[string]any{"groups": groups}
		for name, when := range map[string]string{"in": `"x" in claims.groups`, "exists": `claims.groups.exists(g, g == "x")`} {
			e := compile(b, when)
			b.Run(fmt.Sprintf("%s/%d", name, n), func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					if holds, err := e.Holds(claims); holds || err != nil {
						b.Fatal(holds, err)
					}
				}
			})
		}
	}
}
