package policy

import (
	"errors"
	"strings"
	"testing"
	"unicode"

	"pgregory.net/rapid"
)

func TestParseTemplate(t *testing.T) {
	for _, good := range []string{
		"app", "app.>", ">", "*", "app.*.x", "app.{{claim.team}}.>", "{{claim.team}}.x", "app.team-{{claim.team}}",
		"{{inbox}}.>", "{{ name }}.x", "{{account}}", "$JS.API.>", "app.{{claim.realm_access.team}}", "app.{{claim.https://example.com/team}}",
	} {
		if _, err := ParseTemplate(good); err != nil {
			t.Errorf("template %q: %v", good, err)
		}
	}
	for _, bad := range []string{
		"", ".", "a.", ".a", "a..b", "a b", "a\tb", "a\nb", "a\x00", "a.>.b", "a*", "a.b>", "a.x{{claim.a}}*", "{{claim.a}}>",
		"{{", "a.{{claim.team}", "{{}}", "{{claim.}}", "{{claim}}", "{{user}}", "{{claim.a..b}}", "{{name()}}", "a\u00a0b", "a\u200bb", "\xff",
		strings.Repeat("a", MaxSubject+1),
	} {
		if _, err := ParseTemplate(bad); !errors.Is(err, ErrTemplate) {
			t.Errorf("template %q: error %v, want ErrTemplate", bad, err)
		}
	}
}

func TestParseSubscription(t *testing.T) {
	for _, good := range []string{"app.> workers", "app.{{claim.team}} q.1", "app"} {
		if _, err := ParseSubscription(good); err != nil {
			t.Errorf("subscription %q: %v", good, err)
		}
	}
	for _, bad := range []string{"app.> ", " app", "app a b", "app {{name}}", "app q*x"} {
		if _, err := ParseSubscription(bad); !errors.Is(err, ErrTemplate) {
			t.Errorf("subscription %q: error %v, want ErrTemplate", bad, err)
		}
	}
}

func TestRender(t *testing.T) {
	id := &Identity{Issuer: "corp", IssuerURL: "https://login.example.com", Subject: "a.b", Claims: claimsOf(t, `{
		"team": "blue", "dots": "a.b", "star": "*", "gt": ">", "blank": "a b", "newline": "a\nb", "nul": "a\u0000b", "empty": "",
		"nbsp": "a\u00a0b", "zero": "a\u200bb", "bidi": "a\u202eb", "quote": "O'Brien", "dollar": "$JS", "under": "_INBOX", "umlaut": "müller",
		"number": 42, "fraction": 4.5, "exponent": 1e3, "bool": true, "null": null, "list": ["blue"], "object": {"x": "y"}, "braces": "{{name}}",
		"long": "`+strings.Repeat("x", 129)+`", "nested": {"team": "red"}
	}`)}
	for _, c := range []struct{ template, want string }{
		{"app.>", "app.>"},
		{"app.{{claim.team}}.>", "app.blue.>"},
		{"app.t-{{claim.team}}-x", "app.t-blue-x"},
		{"app.{{claim.nested.team}}", "app.red"},
		{"app.{{claim.number}}", "app.42"},
		{"app.{{claim.quote}}", "app.O'Brien"},
		{"app.{{claim.umlaut}}", "app.müller"},
		{"app.{{claim.braces}}", "app.{{name}}"}, // never parsed again
		{"app.{{claim.dollar}}", "app.$JS"},
		{"{{name}}.x", "corp-a=2Eb.x"},
		{"{{account}}.x", "APP.x"},
		{"{{inbox}}.>", InboxPrefix(id.IssuerURL, id.Subject) + ".>"},
		{"app.{{claim.team}} q", "app.blue q"},
		// Everything that could change the subject's shape is refused.
		{"app.{{claim.dots}}", ""}, {"app.{{claim.star}}", ""}, {"app.{{claim.gt}}", ""}, {"app.{{claim.blank}}", ""},
		{"app.{{claim.newline}}", ""}, {"app.{{claim.nul}}", ""}, {"app.{{claim.empty}}", ""}, {"app.{{claim.nbsp}}", ""},
		{"app.{{claim.zero}}", ""}, {"app.{{claim.bidi}}", ""}, {"app.{{claim.long}}", ""}, {"app.{{claim.absent}}", ""},
		{"app.{{claim.fraction}}", ""}, {"app.{{claim.exponent}}", ""}, {"app.{{claim.bool}}", ""}, {"app.{{claim.null}}", ""},
		{"app.{{claim.list}}", ""}, {"app.{{claim.object}}", ""},
		// A claim must not name the server's own subjects.
		{"{{claim.dollar}}.>", ""}, {"{{claim.under}}.>", ""},
	} {
		tpl, err := ParseSubscription(c.template)
		if err != nil {
			t.Fatalf("%q: %v", c.template, err)
		}
		got, r := tpl.render(id, &Account{Name: "APP"})
		if got != c.want || (r == nil) != (c.want != "") {
			t.Errorf("%q renders %q (%v), want %q", c.template, got, r, c.want)
		}
		if r != nil && r.Reason != ClaimUnsafe {
			t.Errorf("%q: reason %s, want %s", c.template, r.Reason, ClaimUnsafe)
		}
	}
}

// Whatever a claim holds, a rendered subject has the tokens of its template.
func TestRenderKeepsShape(t *testing.T) {
	tpl, err := ParseTemplate("app.{{claim.team}}.x-{{claim.team}}.>")
	if err != nil {
		t.Fatal(err)
	}
	rapid.Check(t, func(t *rapid.T) {
		team := rapid.OneOf(rapid.String(), rapid.StringMatching(`[a.*> $_"{}-]{0,6}`)).Draw(t, "team")
		subject, r := tpl.render(&Identity{Issuer: "corp", Claims: map[string]any{"team": team}}, &Account{Name: "APP"})
		if r != nil {
			return
		}
		tokens := strings.Split(subject, ".")
		if len(tokens) != 4 || tokens[0] != "app" || tokens[1] != team || tokens[2] != "x-"+team || tokens[3] != ">" {
			t.Fatalf("claim %q gave %q", team, subject)
		}
		if strings.ContainsAny(team, "*>") || strings.ContainsFunc(team, unicode.IsSpace) || strings.ContainsFunc(team, unicode.IsControl) {
			t.Fatalf("claim %q was let through", team)
		}
	})
}

func FuzzParseTemplate(f *testing.F) {
	for _, s := range []string{"app.>", "app.{{claim.team}}.>", "{{", "}}{{", "a b", "{{claim.a.b}} q"} {
		f.Add(s, "value")
	}
	f.Fuzz(func(t *testing.T, s, value string) {
		tpl, err := ParseSubscription(s)
		if err != nil {
			return
		}
		claims := map[string]any{}
		for _, p := range tpl.Claims() {
			claims[p.String()] = value
		}
		subject, r := tpl.render(&Identity{Issuer: "corp", Subject: value, Claims: claims}, &Account{Name: "APP"})
		if r != nil {
			return
		}
		name, queue, _ := strings.Cut(subject, " ")
		if err := checkSubject(name); err != nil {
			t.Fatalf("%q with %q renders %q: %v", s, value, subject, err)
		}
		if strings.Count(name, ".") != strings.Count(strings.ReplaceAll(tpl.join(func(segment) string { return "x" }), " ", ""), ".") {
			t.Fatalf("%q with %q renders %q: another number of tokens", s, value, subject)
		}
		if strings.Contains(queue, "{{") {
			t.Fatalf("queue group %q", queue)
		}
	})
}
