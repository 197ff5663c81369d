package main

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

const macrosPolicy = `roles:
  team:
    inbox: private
    streams:
      - { name: ORDERS, allow: [write], subjects: ["orders.{{claim.team}}.>"] }
    consumers:
      - { stream: ORDERS, name: "{{claim.team}}-billing", allow: [consume] }
    kv:
      - { bucket: settings, allow: [read], keys: ["{{claim.team}}.>"] }
    objects:
      - { bucket: "files-{{claim.team}}", allow: [read, write] }
  operator:
    inbox: private
    jetstream: { allow: [manage] }
    kv: [{ bucket: settings, allow: [write] }]
bindings:
  - name: teams
    issuer: demo
    match: { groups: dev }
    grant: { account: APP, role: team }
  - name: operators
    issuer: demo
    match: { groups: ops }
    grant: { account: APP, role: operator }
`

// TestMacrosThroughTheCallout: what a team's macros promise works after a login with its token,
// and another team's things are out of reach.
func TestMacrosThroughTheCallout(t *testing.T) {
	w := newWorld(t, worldOptions{policy: macrosPolicy, jetStream: true})
	r := w.serve(serveOptions{})
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	login := func(claims map[string]any) (*nats.Conn, jetstream.JetStream) {
		t.Helper()
		claims["sub"] = someone()
		token := w.token("alice", claims)
		_, who, _ := r.ask(token)
		nc := w.login(token, nats.CustomInboxPrefix(who.Inbox), nats.ErrorHandler(func(*nats.Conn, *nats.Subscription, error) {}))
		js, err := jetstream.New(nc)
		must(t, err)
		return nc, js
	}

	_, ops := login(map[string]any{"groups": []string{"ops"}})
	_, err := ops.CreateStream(ctx, jetstream.StreamConfig{Name: "ORDERS", Subjects: []string{"orders.>"}})
	must(t, err)
	for _, team := range []string{"blue", "red"} {
		_, err := ops.CreateConsumer(ctx, "ORDERS", jetstream.ConsumerConfig{Durable: team + "-billing", FilterSubject: "orders." + team + ".>"})
		must(t, err)
		_, err = ops.CreateObjectStore(ctx, jetstream.ObjectStoreConfig{Bucket: "files-" + team})
		must(t, err)
	}
	settings, err := ops.CreateKeyValue(ctx, jetstream.KeyValueConfig{Bucket: "settings"})
	must(t, err)
	for _, key := range []string{"blue.colour", "red.colour"} {
		_, err := settings.PutString(ctx, key, key)
		must(t, err)
	}

	nc, blue := login(map[string]any{"groups": []string{"dev"}, "team": "blue"})
	_, err = blue.Publish(ctx, "orders.blue.new", []byte("order"))
	must(t, err)
	billing, err := blue.Consumer(ctx, "ORDERS", "blue-billing")
	must(t, err)
	order, err := billing.Next()
	must(t, err)
	must(t, order.DoubleAck(ctx))
	own, err := blue.KeyValue(ctx, "settings")
	must(t, err)
	watch, err := own.Watch(ctx, "blue.>")
	must(t, err)
	if e := <-watch.Updates(); e == nil || string(e.Value()) != "blue.colour" {
		t.Errorf("the watch shows %v", e)
	}
	must(t, watch.Stop())
	files, err := blue.ObjectStore(ctx, "files-blue")
	must(t, err)
	_, err = files.PutString(ctx, "a.txt", "text")
	must(t, err)
	if got, err := files.GetString(ctx, "a.txt"); err != nil || got != "text" {
		t.Errorf("the object is %q, %v", got, err)
	}
	if err := nc.LastError(); err != nil {
		t.Errorf("what the macros promise was refused: %v", err)
	}

	for _, subject := range []string{
		"orders.red.new", "$JS.API.CONSUMER.MSG.NEXT.ORDERS.red-billing", "$JS.ACK.ORDERS.red-billing.1.1.1.1.0",
		"$JS.API.DIRECT.GET.KV_settings.$KV.settings.red.colour", "$JS.API.CONSUMER.CREATE.KV_settings.x.$KV.settings.>", "$JS.API.CONSUMER.CREATE.KV_settings.x",
		"$JS.API.STREAM.MSG.GET.KV_settings", "$KV.settings.blue.colour", "$O.files-red.M.x", "$JS.API.STREAM.CREATE.MINE",
	} {
		before := nc.LastError()
		must(t, nc.Publish(subject, nil))
		must(t, nc.FlushTimeout(10*time.Second))
		if after := nc.LastError(); after == before || !errors.Is(after, nats.ErrPermissionViolation) || !strings.Contains(after.Error(), subject) {
			t.Errorf("%s is let through", subject)
		}
	}

	got := command(t, r.env, w.token("alice", map[string]any{"groups": []string{"dev"}, "team": "blue"}), "explain", "--live", "--token-file", "-")
	if !strings.Contains(got.out, "$JS.API.CONSUMER.CREATE.KV_settings.*.$KV.settings.blue.>") {
		t.Errorf("explain does not show what the macros stand for:\n%s%s", got.out, got.err)
	}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
