package policy

import (
	"encoding/json"
	"regexp"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func TestGlob(t *testing.T) {
	for _, c := range []struct {
		pattern, text string
		want          bool
	}{
		{"dev", "dev", true},
		{"dev", "Dev", false},
		{"dev", "devs", false},
		{"", "", true},
		{"", "x", false},
		{"*", "", true},
		{"*", "anything\nat all", true},
		{"team-*", "team-", true},
		{"team-*", "team-blue", true},
		{"team-*", "xteam-blue", false},
		{"*-admin", "nats-admin", true},
		{"*-admin", "nats-admins", false},
		{"a*b*c", "aXbYc", true},
		{"a*b*c", "abc", true},
		{"a*b*c", "acb", false},
		{"ab*ba", "aba", false}, // the two ends must not share a letter
		{"a**b", "ab", true},
		{`a\*b`, "a*b", true},
		{`a\*b`, "axb", false},
		{`a\\b`, `a\b`, true},
		{"dev?", "devs", false},
		{"[a-z]", "b", false},
	} {
		g, err := ParseGlob(c.pattern)
		if err != nil {
			t.Fatalf("ParseGlob(%q): %v", c.pattern, err)
		}
		if got := g.Match(c.text); got != c.want {
			t.Errorf("%q matches %q = %v, want %v", c.pattern, c.text, got, c.want)
		}
	}
	if _, err := ParseGlob(`dev\`); err == nil {
		t.Error("a pattern that ends in a backslash was accepted")
	}
}

// A pattern means the same as the regular expression that it stands for.
func TestGlobIsItsRegexp(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		pattern := rapid.StringMatching(`[ab*]{0,8}`).Draw(t, "pattern")
		text := rapid.StringMatching(`[ab]{0,10}`).Draw(t, "text")
		g, err := ParseGlob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		re := regexp.MustCompile(`\A` + strings.ReplaceAll(regexp.QuoteMeta(pattern), `\*`, `.*`) + `\z`)
		if g.Match(text) != re.MatchString(text) {
			t.Fatalf("%q matches %q = %v, the regular expression says otherwise", pattern, text, g.Match(text))
		}
	})
}

// FuzzGlob expects that a pattern means the regular expression that it stands for, whatever bytes
// it holds.
func FuzzGlob(f *testing.F) {
	for _, c := range [][2]string{{"team-*", "team-a"}, {"*", ""}, {"a**b", "ab"}, {`\*`, "*"}, {`a\`, "a"}, {"ä*\xff", "ä\xff"}, {"*a*b*c*", "xaxbxc"}} {
		f.Add(c[0], c[1])
	}
	f.Fuzz(func(t *testing.T, pattern, text string) {
		g, err := ParseGlob(pattern)
		if err != nil {
			if !strings.HasSuffix(pattern, `\`) {
				t.Fatalf("%q: %v", pattern, err)
			}
			return
		}
		if g.Match(text) != reference(pattern, text) {
			t.Fatalf("%q matches %q = %v, the definition says otherwise", pattern, text, g.Match(text))
		}
	})
}

// reference matches by the definition of a pattern: slowly, with a table.
func reference(pattern, text string) bool {
	type token struct {
		star bool
		c    byte
	}
	var tokens []token
	for i := 0; i < len(pattern); i++ {
		if pattern[i] == '*' {
			tokens = append(tokens, token{star: true})
			continue
		}
		if pattern[i] == '\\' {
			i++
		}
		tokens = append(tokens, token{c: pattern[i]})
	}
	// at[j] says that the tokens so far match the first j bytes.
	at := make([]bool, len(text)+1)
	at[0] = true
	for _, tok := range tokens {
		next := make([]bool, len(text)+1)
		for j := range next {
			switch {
			case tok.star:
				next[j] = at[j] || j > 0 && next[j-1]
			default:
				next[j] = j > 0 && at[j-1] && text[j-1] == tok.c
			}
		}
		at = next
	}
	return at[len(text)]
}

// claimsOf decodes claims as the verifier does.
func claimsOf(t testing.TB, text string) map[string]any {
	t.Helper()
	dec := json.NewDecoder(strings.NewReader(text))
	dec.UseNumber()
	var claims map[string]any
	if err := dec.Decode(&claims); err != nil {
		t.Fatal(err)
	}
	return claims
}

func textValue(t testing.TB, pattern string) Value {
	t.Helper()
	g, err := ParseGlob(pattern)
	if err != nil {
		t.Fatal(err)
	}
	return Value{Text: &g}
}

func condition(t testing.TB, path string, values ...any) Condition {
	t.Helper()
	p, err := ParseClaimPath(path)
	if err != nil {
		t.Fatal(err)
	}
	c := Condition{Claim: p}
	for _, v := range values {
		switch v := v.(type) {
		case string:
			c.Values = append(c.Values, textValue(t, v))
		case bool:
			c.Values = append(c.Values, Value{Bool: &v})
		case json.Number:
			n, ok := ParseNumber(string(v))
			if !ok {
				t.Fatalf("%s is not a number", v)
			}
			c.Values = append(c.Values, Value{Number: n})
		}
	}
	return c
}

func TestCondition(t *testing.T) {
	claims := claimsOf(t, `{
		"groups": ["dev", "team-blue", 7, ["nested"], {"x": 1}, null],
		"email_verified": true, "level": 3, "big": 1e999999999, "ratio": 0.5, "none": null, "name": "3",
		"realm_access": {"roles": ["nats-user"]}, "a.b": "literal", "a": {"b": "nested", "c": "deep"},
		"https://example.com/roles": ["admin"], "https://example.com/app": {"plan": "gold"},
		"kubernetes.io": {"namespace": "ops", "pod": {"name": "web-0"}}, "kubernetes": {"io": {"namespace": "forged", "uid": "7"}},
		"resource_access": {"my.client": {"roles": ["owner"]}, "my": {"client": {"roles": ["forged"]}}},
		"object": {"dev": true}, "empty": []
	}`)
	for _, c := range []struct {
		name string
		cond Condition
		want bool
	}{
		{"list holds a value", condition(t, "groups", "ops", "dev"), true},
		{"list holds none", condition(t, "groups", "ops"), false},
		{"list by glob", condition(t, "groups", "team-*"), true},
		{"number in a list", condition(t, "groups", json.Number("7")), true},
		{"a list in the list does not count", condition(t, "groups", "nested"), false},
		{"truth value", condition(t, "email_verified", true), true},
		{"other truth value", condition(t, "email_verified", false), false},
		{"text is no truth value", condition(t, "email_verified", "true"), false},
		{"number", condition(t, "level", json.Number("3")), true},
		{"number in another writing", condition(t, "level", json.Number("3.0")), true},
		{"number with exponent", condition(t, "ratio", json.Number("5e-1")), true},
		{"text is no number", condition(t, "level", "3"), false},
		{"number is no text", condition(t, "name", json.Number("3")), false},
		{"huge exponent costs nothing", condition(t, "big", json.Number("1")), false},
		{"null", condition(t, "none", "*"), false},
		{"missing", condition(t, "absent", "*"), false},
		{"nested path", condition(t, "realm_access.roles", "nats-user"), true},
		{"literal name wins", condition(t, "a.b", "literal"), true},
		{"so that the nested one is hidden", condition(t, "a.b", "nested"), false},
		{"nested where no literal is", condition(t, "a.c", "deep"), true},
		{"namespaced", condition(t, "https://example.com/roles", "admin"), true},
		{"inside a namespaced one", condition(t, "https://example.com/app.plan", "gold"), true},
		{"inside a name with dots", condition(t, "kubernetes.io.namespace", "ops"), true},
		{"deeper inside it", condition(t, "kubernetes.io.pod.name", "web-0"), true},
		{"the longest name hides shorter ones", condition(t, "kubernetes.io.namespace", "forged"), false},
		{"also for what it does not hold", condition(t, "kubernetes.io.uid", "*"), false},
		{"nothing inside a text", condition(t, "a.b.c", "*"), false},
		{"an inner name with dots is split", condition(t, "resource_access.my.client.roles", "owner"), false},
		{"unless it is quoted", condition(t, `resource_access."my.client".roles`, "owner"), true},
		{"quoted at the top", condition(t, `"kubernetes.io".namespace`, "ops"), true},
		{"quotes make the other parts whole names", condition(t, `a."b"`, "nested"), true},
		{"quoted and not there", condition(t, `"kubernetes".namespace`, "*"), false},
		{"object", condition(t, "object", "*"), false},
		{"path into a list", condition(t, "groups.0", "dev"), false},
		{"empty list", condition(t, "empty", "*"), false},
	} {
		if got := c.cond.Match(claims); got != c.want {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
	}
}

func TestParseClaimPath(t *testing.T) {
	for _, bad := range []string{"", ".", "a.", ".a", "a..b", "a{b", "a}b", "a\nb", "a\x00", strings.Repeat("a", MaxClaimPath+1),
		`"`, `""`, `"a`, `a"`, `a"b"`, `"a"b`, `"a".`, `."a"`, `a.""`, `"a"."b`, `"a""b"`} {
		if _, err := ParseClaimPath(bad); err == nil {
			t.Errorf("path %q was accepted", bad)
		}
	}
	for _, good := range []string{"sub", "a.b.c", "https://example.com/a.b", "a b", "urn:zitadel:iam:org:id", `"a.b".c`, `a."b.c"`, `"a b"`} {
		if _, err := ParseClaimPath(good); err != nil {
			t.Errorf("path %q: %v", good, err)
		}
	}
}

// FuzzParseClaimPath expects that a path finds the claim that its quoted parts spell out, and
// never panics on claims that it does not fit.
func FuzzParseClaimPath(f *testing.F) {
	for _, s := range []string{"sub", "a.b.c", `a."b.c".d`, "https://example.com/a.b", `"`, "a..b", "kubernetes.io.namespace"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		p, err := ParseClaimPath(s)
		if err != nil {
			return
		}
		var nested any = "found"
		for i := len(p.parts) - 1; i >= 0; i-- {
			nested = map[string]any{p.parts[i]: nested}
		}
		if v, ok := p.Lookup(nested.(map[string]any)); !ok || v != "found" {
			t.Errorf("path %q does not find %v", s, nested)
		}
		if v, ok := p.Lookup(map[string]any{s: "literal"}); !p.exact && (!ok || v != "literal") {
			t.Errorf("path %q does not find its literal name", s)
		}
		if _, ok := p.Lookup(nil); ok {
			t.Errorf("path %q finds something in no claims", s)
		}
	})
}
