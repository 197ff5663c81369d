package policy

import "testing"

func TestOverlaps(t *testing.T) {
	for _, c := range []struct {
		a, b string
		want bool
	}{
		{"app.x", "app.x", true},
		{"app.x", "app.y", false},
		{"app.x", "app.x.y", false},
		{"app.*", "app.x", true},
		{"app.*", "app.x.y", false},
		{"app.>", "app.x.y", true},
		{"app.>", "app", false},
		{"*.x", "app.*", true},
		{">", "app", true},
		{"app.{{claim.team}}", "app.x", true},
		{"app.t-{{claim.team}}.>", "app.x.y", true},
		{"app.{{claim.team}}", "svc.x", false},
		{"{{inbox}}.>", "app.>", false},
		{"{{inbox}}.>", "{{claim.team}}.>", false}, // which may not begin with _
		{"{{inbox}}.>", "{{name}}.>", false},
		{"{{inbox}}.>", "_INBOX_abc.x", true},
		{"{{inbox}}.>", "_{{claim.team}}.x", true},
		{"{{inbox}}.>", "{{inbox}}.x", true},
		{"{{inbox}}.>", "*.x", true},
		{"x{{inbox}}.>", "x{{name}}.y", true},
		{"{{inbox}}.>", ">", true},
	} {
		a, b := templates(t, c.a)[0], templates(t, c.b)[0]
		if a.Overlaps(b) != c.want || b.Overlaps(a) != c.want {
			t.Errorf("%s and %s: %t and %t, want %t", c.a, c.b, a.Overlaps(b), b.Overlaps(a), c.want)
		}
	}
}
