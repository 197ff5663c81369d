package policy

import (
	"net/netip"
	"reflect"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func glob(t testing.TB, s string) Glob {
	t.Helper()
	g, err := ParseGlob(s)
	if err != nil {
		t.Fatal(err)
	}
	return g
}

func TestGlobCovers(t *testing.T) {
	for _, c := range []struct {
		outer, inner string
		want         bool
	}{
		{"*", "*", true}, {"*", "", true}, {"a", "a", true}, {"a", "b", false}, {"a*", "ab*", true}, {"ab*", "a*", false},
		{"*a*", "ba*c", true}, {"a*b", "a*c*b", true}, {"a*c*b", "a*b", false}, {"**", "a*", true}, {"a", "a*", false}, {`\*`, "*", false}, {"*", `\*`, true},
		{"а", "a", false}, {"\xff", "*", false}, {"*\xff*", "*", false},
	} {
		if got := glob(t, c.outer).Covers(glob(t, c.inner)); got != c.want {
			t.Errorf("%q covers %q: %v, want %v", c.outer, c.inner, got, c.want)
		}
	}
}

// What covers another matches all that it matches; and where it does not, it is not for nothing.
func TestGlobCoversIsWhatMatches(t *testing.T) {
	pattern := rapid.StringMatching(`[ab*]{0,5}`)
	rapid.Check(t, func(rt *rapid.T) {
		outer, _ := ParseGlob(pattern.Draw(rt, "outer"))
		inner, _ := ParseGlob(pattern.Draw(rt, "inner"))
		covers := outer.Covers(inner)
		for text := range texts("abz", 6) {
			if inner.Match(text) && !outer.Match(text) {
				if covers {
					rt.Fatalf("%q covers %q, but does not match %q", outer, inner, text)
				}
				return
			}
		}
		if !covers {
			rt.Fatalf("%q matches all that %q does, and does not cover it", outer, inner)
		}
	})
}

// texts yields every text of up to n of the letters.
func texts(letters string, n int) func(func(string) bool) {
	return func(yield func(string) bool) {
		level := []string{""}
		for range n + 1 {
			var next []string
			for _, s := range level {
				if !yield(s) {
					return
				}
				for _, c := range letters {
					next = append(next, s+string(c))
				}
			}
			level = next
		}
	}
}

func TestTemplateCovers(t *testing.T) {
	for _, c := range []struct {
		outer, inner string
		want         bool
	}{
		{"a.b", "a.b", true}, {"a.*", "a.b", true}, {"a.*", "a.*", true}, {"a.b", "a.*", false}, {"a.>", "a.b.c", true}, {"a.>", "a", false},
		{"a.>", "a.>", true}, {"a.*", "a.>", false}, {"a.*.>", "a.>", false}, {">", "*.>", true}, {"*.>", ">", false}, {"a.*.>", "a.b.>", true},
		{"a.{{name}}", "a.{{name}}", true}, {"a.*", "a.{{name}}", true}, {"a.{{name}}", "a.*", false}, {"a.{{name}}", "a.x", false},
		{"a.{{claim.x.y}}", "a.{{claim.x.y}}.b", false}, {"a.{{claim.x}}", "a.{{claim.y}}", false}, {"a.x-{{name}}", "a.x-{{name}}", true}, {"{{inbox}}.>", "{{inbox}}.a", true},
		{"_INBOX.>", "{{inbox}}.>", false}, {"a.>", "a.b q", true}, {"a.> q", "a.b q", true}, {"a.> q", "a.b", false}, {"a.> q", "a.b r", false},
	} {
		outer, inner := templates(t, c.outer)[0], templates(t, c.inner)[0]
		if got := outer.Covers(inner); got != c.want {
			t.Errorf("%q covers %q: %v, want %v", c.outer, c.inner, got, c.want)
		}
	}
}

func TestShadowedBy(t *testing.T) {
	app, ops := &Account{Name: "APP"}, &Account{Name: "OPS"}
	role := &Role{Name: "r", Publish: PermissionRules{Allow: templates(t, "app.>", "own.{{claim.team}}"), Deny: templates(t, "app.secret")}}
	prefixes := func(list ...string) (all []netip.Prefix) {
		for _, s := range list {
			all = append(all, netip.MustParsePrefix(s))
		}
		return all
	}
	wide := Binding{Name: "wide", Issuer: "corp", Match: []Condition{condition(t, "groups", "dev", "team-*")}, Grant: Grant{app, role}, TTL: time.Hour}
	for name, c := range map[string]struct {
		wide, narrow func(*Binding)
		within, want bool
	}{
		"the same":                             {within: true, want: true},
		"fewer values":                         {narrow: func(b *Binding) { b.Match = []Condition{condition(t, "groups", "dev")} }, within: true, want: true},
		"a narrower pattern":                   {narrow: func(b *Binding) { b.Match = []Condition{condition(t, "groups", "team-a*")} }, within: true, want: true},
		"one more condition":                   {narrow: func(b *Binding) { b.Match = append(slices.Clone(b.Match), condition(t, "x", true)) }, within: true, want: true},
		"another value":                        {narrow: func(b *Binding) { b.Match = []Condition{condition(t, "groups", "dev", "ops")} }},
		"a value of another kind":              {narrow: func(b *Binding) { b.Match = []Condition{condition(t, "groups", true)} }},
		"another claim":                        {narrow: func(b *Binding) { b.Match = []Condition{condition(t, "roles", "dev")} }},
		"no condition":                         {narrow: func(b *Binding) { b.Match = nil }},
		"beside everyone":                      {wide: func(b *Binding) { b.Match = nil }, within: true, want: true},
		"another issuer":                       {narrow: func(b *Binding) { b.Issuer = "other" }},
		"with when":                            {narrow: func(b *Binding) { b.When = gold }, within: true, want: true},
		"beside one with when":                 {wide: func(b *Binding) { b.When = gold }},
		"both with when":                       {wide: func(b *Binding) { b.When = gold }, narrow: func(b *Binding) { b.When = gold }, within: true, want: true},
		"with source":                          {narrow: func(b *Binding) { b.Source = prefixes("10.1.0.0/16") }, within: true, want: true},
		"a source inside":                      {wide: func(b *Binding) { b.Source = prefixes("10.0.0.0/8") }, narrow: func(b *Binding) { b.Source = prefixes("10.1.0.0/16") }, within: true, want: true},
		"a source outside":                     {wide: func(b *Binding) { b.Source = prefixes("10.1.0.0/16") }, narrow: func(b *Binding) { b.Source = prefixes("10.0.0.0/8") }},
		"beside one with source":               {wide: func(b *Binding) { b.Source = prefixes("10.1.0.0/16") }},
		"with require_key":                     {narrow: func(b *Binding) { b.RequireKey = true }, within: true, want: true},
		"beside one with require_key":          {wide: func(b *Binding) { b.RequireKey = true }},
		"limits the type":                      {narrow: func(b *Binding) { b.ConnectionTypes = []ConnectionType{MQTT} }, within: true},
		"both limit the type":                  {wide: func(b *Binding) { b.ConnectionTypes = []ConnectionType{MQTT, Standard} }, narrow: func(b *Binding) { b.ConnectionTypes = []ConnectionType{MQTT} }, within: true, want: true},
		"leaf nodes":                           {narrow: func(b *Binding) { b.ConnectionTypes = []ConnectionType{LeafNode} }},
		"a longer ttl":                         {narrow: func(b *Binding) { b.TTL = 2 * time.Hour }, within: true, want: true},
		"a shorter ttl":                        {narrow: func(b *Binding) { b.TTL = time.Minute }, within: true},
		"permits direct users":                 {narrow: func(b *Binding) { b.Direct = &Direct{TTL: time.Hour, Keys: 1} }, within: true, want: true},
		"beside one that permits direct users": {wide: func(b *Binding) { b.Direct = &Direct{TTL: time.Hour, Keys: 1} }, within: true},
		"both permit direct users": {wide: func(b *Binding) { b.Direct = &Direct{TTL: time.Hour, Keys: 1} }, narrow: func(b *Binding) { b.Direct = &Direct{TTL: time.Hour, Keys: 1} },
			within: true, want: true},
		"fewer keys of direct users": {wide: func(b *Binding) { b.Direct = &Direct{TTL: time.Hour, Keys: 2} }, narrow: func(b *Binding) { b.Direct = &Direct{TTL: time.Hour, Keys: 1} },
			within: true},
		"a shorter ttl of direct users": {wide: func(b *Binding) { b.Direct = &Direct{TTL: time.Hour, Keys: 1} }, narrow: func(b *Binding) { b.Direct = &Direct{TTL: time.Minute, Keys: 1} },
			within: true},
		"a source of direct users": {wide: func(b *Binding) { b.Direct = &Direct{TTL: time.Hour, Keys: 1} },
			narrow: func(b *Binding) { b.Direct, b.Source = &Direct{TTL: time.Hour, Keys: 1}, prefixes("10.1.0.0/16") }, within: true},
		"fewer types of direct users": {wide: func(b *Binding) {
			b.Direct, b.ConnectionTypes = &Direct{TTL: time.Hour, Keys: 1}, []ConnectionType{MQTT, Standard}
		}, narrow: func(b *Binding) {
			b.Direct, b.ConnectionTypes = &Direct{TTL: time.Hour, Keys: 1}, []ConnectionType{MQTT}
		}, within: true},
		"another account": {narrow: func(b *Binding) { b.Grant.Account = ops }, within: true},
		"a smaller role": {narrow: func(b *Binding) {
			b.Grant.Role = &Role{Name: "s", Publish: PermissionRules{Allow: templates(t, "app.x")}}
		}, within: true, want: true},
		"a role that ends in *": {narrow: func(b *Binding) {
			b.Grant.Role = &Role{Name: "s", Publish: PermissionRules{Allow: templates(t, "app.*")}}
		}, within: true},
		"a larger role": {narrow: func(b *Binding) { b.Grant.Role = &Role{Name: "s", Publish: PermissionRules{Allow: templates(t, "x")}} }, within: true},
		"a role that subscribes": {narrow: func(b *Binding) {
			b.Grant.Role = &Role{Name: "s", Subscribe: PermissionRules{Allow: templates(t, "app.x")}}
		}, within: true},
		"a role that denies more": {narrow: func(b *Binding) {
			b.Grant.Role = &Role{Name: "s", Publish: PermissionRules{Deny: templates(t, "app.y")}}
		}, within: true},
		"a role that may refuse": {narrow: func(b *Binding) {
			b.Grant.Role = &Role{Name: "s", Publish: PermissionRules{Allow: templates(t, "app.{{claim.x}}")}}
		}, within: true},
		"a role with the same claim": {narrow: func(b *Binding) {
			b.Grant.Role = &Role{Name: "s", Publish: PermissionRules{Allow: templates(t, "own.{{claim.team}}")}}
		}, within: true, want: true},
		"a role that may reply": {narrow: func(b *Binding) { b.Grant.Role = &Role{Name: "s", Respond: Respond{Max: 1, TTL: time.Second}} }, within: true},
	} {
		a, b := wide, wide
		b.Name = "narrow"
		if c.wide != nil {
			c.wide(&a)
		}
		if c.narrow != nil {
			c.narrow(&b)
		}
		if got := b.Within(&a); got != c.within {
			t.Errorf("%s: within is %v, want %v", name, got, c.within)
		}
		if got := b.ShadowedBy(&a); got != c.want {
			t.Errorf("%s: shadowed is %v, want %v", name, got, c.want)
		}
	}
}

// A binding that is shadowed can go: nobody gets more or less, though a refusal may name another reason.
func TestShadowedBindingsChangeNothing(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		rules := world(t)
		all := rules.Bindings["corp"]
		copied := *all[rapid.IntRange(0, len(all)-1).Draw(rt, "of")]
		copied.Name = "copy"
		change := rapid.SampledFrom([]func(){
			func() {}, func() { copied.Match = append(slices.Clone(copied.Match), condition(t, "team", "blue")) }, func() { copied.Match = nil },
			func() { copied.TTL *= 2 }, func() { copied.TTL /= 2 }, func() { copied.When = gold }, func() { copied.When = nil },
			func() { copied.Source = []netip.Prefix{netip.MustParsePrefix("10.9.0.0/16")} }, func() { copied.Source = nil },
			func() { copied.ConnectionTypes = []ConnectionType{WebSocket} }, func() { copied.ConnectionTypes = nil },
			func() { copied.Grant.Role = all[rapid.IntRange(0, len(all)-1).Draw(rt, "role")].Grant.Role },
		})
		for range rapid.IntRange(0, 3).Draw(rt, "changes") {
			change.Draw(rt, "change")()
		}
		if !slices.ContainsFunc(all, copied.ShadowedBy) {
			return
		}
		id, conn := randomIdentity(rt), randomConnection(rt)
		before := Decide(&Snapshot{Rules: rules}, id, conn, now, nil)
		rules.Bindings["corp"] = append(slices.Clone(all), &copied)
		after := Decide(&Snapshot{Rules: rules}, id, conn, now, nil)
		after.Bindings = slices.DeleteFunc(after.Bindings, func(name string) bool { return name == "copy" })
		if len(before.Roles) < len(after.Roles) {
			after.Roles = before.Roles // a role that adds nothing
		}
		// Which of several reasons to refuse is named does not matter.
		if before.Allowed() != after.Allowed() || before.Reason().Silent() != after.Reason().Silent() ||
			before.Allowed() && !reflect.DeepEqual(before, after) {
			rt.Fatalf("%+v without, %+v with the shadowed binding %+v", before, after, copied)
		}
	})
}
