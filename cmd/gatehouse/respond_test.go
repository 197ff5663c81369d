package main

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/gatehouse-nats/gatehouse/api"
)

const respondPolicy = `roles:
  asker:
    publish: { allow: ["svc.time"] }
    subscribe: { allow: ["{{inbox}}.>"] }
  clock:
    subscribe: { allow: ["svc.time"] }
    respond: { max: 1, ttl: 5s }
bindings:
  - name: people
    issuer: demo
    match: { groups: dev }
    grant: { account: APP, role: asker }
  - name: clocks
    issuer: demo
    match: { groups: clocks }
    grant: { account: APP, role: clock }
`

// TestResponderAnswersPrivateInboxes: who may publish nothing answers a request whose inbox
// nobody else may use, once.
func TestResponderAnswersPrivateInboxes(t *testing.T) {
	w := newWorld(t, worldOptions{policy: respondPolicy})
	r := w.serve(serveOptions{})

	clockToken := w.token("alice", map[string]any{"sub": someone(), "groups": []string{"clocks"}})
	violations := make(chan error, 4)
	clock := w.login(clockToken, nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) { violations <- err }))
	if _, err := clock.Subscribe("svc.time", func(m *nats.Msg) {
		for range 2 {
			if err := m.Respond([]byte("noon")); err != nil {
				t.Error(err)
			}
		}
	}); err != nil {
		t.Fatal(err)
	}
	if err := clock.Flush(); err != nil {
		t.Fatal(err)
	}

	askerToken := w.token("alice", developer(someone()))
	_, who, _ := r.ask(askerToken)
	asker := w.login(askerToken, nats.CustomInboxPrefix(who.Inbox))
	if m, err := asker.Request("svc.time", nil, 10*time.Second); err != nil || string(m.Data) != "noon" {
		t.Fatalf("the answer is %v, %v", m, err)
	}
	select {
	case err := <-violations:
		if !errors.Is(err, nats.ErrPermissionViolation) {
			t.Errorf("got %v, want a permissions violation", err)
		}
	case <-time.After(10 * time.Second):
		t.Error("the second reply to one request was let through")
	}
	if _, who, _ := r.ask(clockToken); who.Permissions == nil || who.Permissions.Respond == nil || *who.Permissions.Respond != (api.Respond{Max: 1, TTL: "5s"}) {
		t.Errorf("whoami shows %+v", who.Permissions)
	}
	got := command(t, r.env, clockToken, "explain", "--live", "--token-file", "-")
	if !strings.Contains(got.out, "replies    up to 1 to each message, within 5s") {
		t.Errorf("explain does not show what the role may reply:\n%s%s", got.out, got.err)
	}
}
