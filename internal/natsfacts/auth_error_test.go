package natsfacts

import (
	"bytes"
	"testing"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
)

// Fact: a refused callout is published inside the callout account, with the error text
// of the response and the (server id, cid) of the request, and without the token; a
// callout that timed out has an empty reason. callout's own connection reads there what
// only the server knows: rejected responses and timeouts. The texts of other reasons are
// those of TestResponsesRefused.
func TestAuthErrorEvent(t *testing.T) {
	t.Parallel()
	d := onOneServer(t)
	c := d.newCallout(t)
	events := subscribe(t, c.service, authErrorSubject)
	for _, tc := range []struct {
		name   string
		answer answer
		want   string
	}{
		{"refused", c.refuse("blocked"), "Auth callout service returned an error: blocked"},
		{"timed out", nil, ""},
	} {
		c.answerWith(tc.answer)
		c.dial(t, nats.Token("secret"))
		msg := next(t, events)
		var event server.DisconnectEventMsg
		decode(t, msg.Data, &event)
		seen := c.seen()
		r := seen[len(seen)-1]
		for _, f := range []struct {
			field     string
			got, want any
		}{
			{"reason", event.Reason, tc.want},
			{"server.id", event.Server.ID, r.Server.ID},
			{"client.id", event.Client.ID, r.ClientInformation.ID},
			{"client.acc", event.Client.Account, c.id},
			{"client.jwt", event.Client.Jwt, c.sentinel},
		} {
			if f.got != f.want {
				t.Errorf("%s: %s = %v, want %v", tc.name, f.field, f.got, f.want)
			}
		}
		if bytes.Contains(msg.Data, []byte("secret")) {
			t.Errorf("%s: the event contains the token: %s", tc.name, msg.Data)
		}
	}
}

// Fact: the system account gets an event of the same connection, whose reason is
// constant. The texts are to be had only inside the callout account.
func TestSystemAuthErrorHasNoText(t *testing.T) {
	t.Parallel()
	d := onOneServer(t)
	c := d.newCallout(t)
	events := d.subscribe(t, "$SYS.SERVER."+d.servers[0].ID()+".CLIENT.AUTH.ERR")
	c.answerWith(c.refuse("blocked"))
	c.dial(t)
	r := c.seen()[0]
	for {
		var event server.DisconnectEventMsg
		decode(t, next(t, events).Data, &event)
		if event.Client.ID != r.ClientInformation.ID {
			continue // of another test
		}
		if event.Reason != "Authentication Failure" {
			t.Errorf("reason = %q, want %q", event.Reason, "Authentication Failure")
		}
		return
	}
}
