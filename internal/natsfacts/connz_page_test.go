package natsfacts

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
)

// Fact: a server's answer to CONNZ is not held to max_payload, not over a route either. Every connection of a
// server can be asked for at once.
func TestConnzAnswerMayExceedMaxPayload(t *testing.T) {
	t.Parallel()
	d := onThreeServers(t)
	app := d.newAccount(t, "APP")
	const connections, name = 400, 3000
	user := app.user("tool")
	for range connections {
		app.connect(t, d.servers[2], user, nats.Name(strings.Repeat("n", name)), nats.NoReconnect())
	}
	msg := d.ask(t, fmt.Sprintf("$SYS.REQ.SERVER.%s.CONNZ", d.servers[2].ID()),
		server.ConnzOptions{Username: true, Account: app.id, Limit: 1 << 16}, 1)[0]
	var reply struct{ Data server.Connz }
	decode(t, msg.Data, &reply)
	if len(msg.Data) <= int(d.admin.MaxPayload()) || len(reply.Data.Conns) != connections {
		t.Errorf("%d bytes for %d connections, want more than max_payload (%d) for %d", len(msg.Data), len(reply.Data.Conns), d.admin.MaxPayload(), connections)
	}
}

// Fact: an answer above max_pending ends the connection that asked. Whoever may connect can give its connections
// long names, so the limit of a page is made smaller when an answer does not come.
func TestConnzAnswerAboveMaxPendingEndsTheAsker(t *testing.T) {
	t.Parallel()
	d := newPrivate(t)
	app, err := makeAccount("APP")
	check(t, err)
	token, err := app.claims.Encode(d.signer)
	check(t, err)
	s := d.startServer(t, fmt.Sprintf("server_name: small\nmax_payload: 50000\nmax_pending: 100000\n%sresolver: MEMORY\n", d.trust(token)))
	user := app.user("tool")
	for range 40 {
		app.connect(t, s, user, nats.Name(strings.Repeat("n", 3000)), nats.NoReconnect())
	}
	ask := func(limit int) error {
		_, err := d.admin.Request(fmt.Sprintf("$SYS.REQ.SERVER.%s.CONNZ", s.ID()),
			encode(t, server.ConnzOptions{Username: true, Account: app.id, Limit: limit}), 2*time.Second)
		return err
	}
	if err := ask(20); err != nil {
		t.Fatalf("an answer below max_pending: %v", err)
	}
	if err := ask(40); !errors.Is(err, nats.ErrTimeout) && !errors.Is(err, nats.ErrConnectionClosed) && !errors.Is(err, nats.ErrConnectionReconnecting) {
		t.Errorf("an answer above max_pending: %v, want none", err)
	}
	if err := poll(func() error {
		if s.NumSlowConsumers() == 0 {
			return errors.New("no slow consumer")
		}
		return nil
	}); err != nil {
		t.Error(err)
	}
}
