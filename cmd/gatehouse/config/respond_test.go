package config

import (
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-nats/gatehouse/policy"
)

func TestRespond(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	for name, test := range map[string]struct {
		role string
		want policy.Respond
	}{
		"left out":            {`{ subscribe: { allow: svc.> } }`, policy.Respond{}},
		"nats-server's ttl":   {`{ subscribe: { allow: svc.> }, respond: { max: 1 } }`, policy.Respond{Max: 1, TTL: 2 * time.Minute}},
		"both":                {`{ subscribe: { allow: svc.> }, respond: { max: 1000, ttl: 1h } }`, policy.Respond{Max: 1000, TTL: time.Hour}},
		"smallest of bounds":  {`{ subscribe: { allow: svc.> }, respond: { max: 1, ttl: 1s } }`, policy.Respond{Max: 1, TTL: time.Second}},
		"beside what it asks": {`{ publish: { allow: svc.b }, subscribe: { allow: svc.a }, respond: { max: 1, ttl: 1s } }`, policy.Respond{Max: 1, TTL: time.Second}},
	} {
		c := f.mustLoad(strings.Replace(small, `app: { publish: { allow: ["app.>"] } }`, "app: "+test.role, 1))
		if got := c.Rules().Bindings["corp"][0].Grant.Role.Respond; got != test.want || len(c.Warnings) != 0 {
			t.Errorf("%s: %+v, warnings %v, want %+v", name, got, c.Warnings, test.want)
		}
	}
}

func TestRespondWarnsOfRolesThatAskThemselves(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	c := f.mustLoad(strings.Replace(small, `app: { publish: { allow: ["app.>"] } }`,
		`app: { publish: { allow: ["x", "app.{{claim.team}}.>"] }, subscribe: { allow: "app.*.new workers" }, respond: { max: 1 } }`, 1))
	if len(c.Warnings) != 1 || c.Warnings[0].Path != "roles.app.respond" || !strings.Contains(c.Warnings[0].Message, `publish "app.{{claim.team}}.>" and hears it as "app.*.new workers"`) {
		t.Errorf("warnings %v", c.Warnings)
	}
}
