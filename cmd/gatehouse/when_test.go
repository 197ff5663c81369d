package main

import (
	"encoding/json"
	"fmt"
	"maps"
	"strings"
	"testing"
)

// whenPolicy asks for a second factor in one binding, and for too much work in another.
const whenPolicy = `roles:
  developer:
    publish: { allow: ["app.>"] }
    subscribe: { allow: ["app.>", "{{inbox}}.>"] }
bindings:
  - name: second-factor
    issuer: demo
    match: { groups: dev }
    when: '"mfa" in claims.amr'
    grant: { account: APP, role: developer }
  - name: endless
    issuer: demo
    match: { groups: many }
    when: claims.groups.exists(g, claims.groups.exists(h, g + h == "x"))
    grant: { account: APP, role: developer }
`

// nested returns lists in lists, so many deep.
func nested(depth int) json.RawMessage {
	return json.RawMessage(strings.Repeat("[", depth) + strings.Repeat("]", depth))
}

// TestWhen logs in to real servers with claims of every bad shape that an expression may meet:
// only what it asks for lets anybody in.
func TestWhen(t *testing.T) {
	t.Parallel()
	w := newWorld(t, worldOptions{policy: whenPolicy})
	r := w.serve(serveOptions{})
	many := []string{"many"}
	for i := range 1000 {
		many = append(many, fmt.Sprintf("g%d", i))
	}
	for name, c := range map[string]struct {
		claims map[string]any
		reason string // empty: admitted
		says   string
	}{
		"what it asks for":           {map[string]any{"amr": []string{"pwd", "mfa"}}, "", ""},
		"something else":             {map[string]any{"amr": []string{"pwd"}}, "no_binding", ""},
		"nothing":                    {nil, "expression_failed", "claim amr"},
		"a text for a list":          {map[string]any{"amr": "mfa"}, "expression_failed", "amr is a text"},
		"a number for a list":        {map[string]any{"amr": 1}, "expression_failed", "amr is a number"},
		"an object, whose key it is": {map[string]any{"amr": map[string]any{"x": 1}}, "no_binding", ""},
		"a mixed list":               {map[string]any{"amr": []any{1, nil, []any{"mfa"}, "pwd"}}, "no_binding", ""},
		"a look-alike":               {map[string]any{"amr": []string{"mfа"}}, "no_binding", ""}, // Cyrillic а
		"more work than is done":     {map[string]any{"groups": many}, "expression_failed", "100000 steps"},
		"lists in lists":             {map[string]any{"amr": []string{"mfa"}, "x": nested(1000)}, "token_malformed", "nested more than 32 deep"},
		"a name twice":               {map[string]any{"amr": []string{"mfa"}, "x": json.RawMessage(`{"a":1,"a":2}`)}, "token_malformed", `names "a" twice`},
	} {
		t.Run(name, func(t *testing.T) {
			claims := map[string]any{"sub": someone(), "groups": []string{"dev"}}
			maps.Copy(claims, c.claims)
			token := w.token("alice", claims)
			if c.reason == "" {
				w.login(token)
				return
			}
			w.mustBeRefused(token)
			got := command(t, r.env, token, "explain", "--token-file", "-")
			if text := got.out + got.err; !strings.Contains(text, c.reason) || !strings.Contains(text, c.says) {
				t.Errorf("explain says\n%s\nwant %s with %q", text, c.reason, c.says)
			}
		})
	}
}
