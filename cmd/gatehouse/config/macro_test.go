package config

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/gatehouse-nats/gatehouse/policy"
)

// withRoles is small with other roles.
func withRoles(roles string) string {
	return strings.Replace(small, `  app: { publish: { allow: ["app.>"] } }`, roles, 1)
}

func subjects(list []policy.Template) []string {
	var all []string
	for _, t := range list {
		all = append(all, t.String())
	}
	return all
}

func TestMacrosJoinPermissions(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	c := f.mustLoad(withRoles(`
  app:
    inbox: private
    publish: { allow: [app.*], deny: [app.y] }
    subscribe: { allow: [app.z] }
    jetstream: { domain: hub, allow: list }
    streams: [{ name: ORDERS, allow: consume, protect: billing }]
    consumers: [{ stream: ORDERS, name: mine, allow: manage, filter: orders.new }]
    kv: [{ bucket: b, allow: [write], keys: a, no_rollup: true }]
    objects: [{ bucket: o, allow: [write] }]
`))
	if len(c.Warnings) > 0 {
		t.Errorf("warnings %v", c.Warnings)
	}
	role := c.Rules().Bindings["corp"][0].Grant.Role
	if diff := cmp.Diff([]string{"app.z", "{{inbox}}.>"}, subjects(role.Subscribe.Allow)); diff != "" {
		t.Error(diff)
	}
	allow := subjects(role.Publish.Allow)
	for _, want := range []string{
		"app.*", "$JS.API.INFO", "$JS.hub.API.STREAM.NAMES", "$JS.hub.API.CONSUMER.MSG.NEXT.ORDERS.*",
		"$JS.hub.API.CONSUMER.CREATE.ORDERS.mine.orders.new", "$KV.b.a", "$JS.hub.API.$KV.b.a", "$O.o.>",
	} {
		if !slices.Contains(allow, want) {
			t.Errorf("%s is missing in %v", want, allow)
		}
	}
	if deny := subjects(role.Publish.Deny); deny[0] != "app.y" || !slices.Contains(deny, "$JS.hub.API.CONSUMER.MSG.NEXT.ORDERS.billing") {
		t.Errorf("denied are %v", deny)
	}
}

func TestMacrosOfNothing(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	// Blocks of which every line is a comment are none.
	c := f.mustLoad(withRoles("\n  app:\n    publish: { allow: app.x }\n    jetstream:\n    streams:\n    # - { name: ORDERS }\n    kv:\n"))
	if got := subjects(c.Rules().Bindings["corp"][0].Grant.Role.Publish.Allow); !slices.Equal(got, []string{"app.x"}) {
		t.Errorf("allowed are %v", got)
	}
}

func TestMacroWarnings(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	c := f.mustLoad(withRoles(`
  app: { streams: [{ name: ORDERS, allow: consume, protect: audit }] }
  worker:
    inbox: private
    streams: [{ name: ORDERS, allow: [consume] }]
    consumers:
      - { stream: ORDERS, name: billing, allow: consume }
      - { stream: ORDERS, name: audit, allow: consume }
  elsewhere: { inbox: private, jetstream: { domain: hub }, streams: [{ name: ORDERS, allow: consume }] }
  reader: { inbox: private, streams: [{ name: ORDERS, allow: read }] }
`))
	var got []string
	for _, w := range c.Warnings {
		if !strings.Contains(w.Message, "no binding gives it") {
			got = append(got, w.Path+": "+w.Message)
		}
	}
	want := []string{
		"roles.app: may ask JetStream but not hear its answers: add inbox: private, unless another role of the same users has it",
		`roles.app.streams[0]: consume reaches consumer "billing" of role worker too, to change, delete and fetch from it: add it to protect`,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}
