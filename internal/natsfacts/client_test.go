package natsfacts

import (
	"errors"
	"testing"

	"github.com/nats-io/nats.go"
)

// Fact: nats.go gives up for good when the same server refuses it twice in a row. A
// refusal therefore is final for such clients, and Gatehouse answers overload with
// silence.
func TestClientClosesAfterTwoRefusals(t *testing.T) {
	t.Parallel()
	d := onOneServer(t)
	app := d.newAccount(t, "APP")
	c := d.newCallout(t)
	c.answerWith(c.admit(app))
	watch := newWatch()
	nc := c.login(t, watch.options()...)
	c.answerWith(c.refuse("blocked"))
	kick(t, d, c.seen()[0])
	await(t, watch.closed)
	if got := len(c.seen()); got != 3 {
		t.Errorf("callouts = %d, want 1 login and 2 refusals", got)
	}
	if got := nc.LastError(); !errors.Is(got, nats.ErrAuthorization) {
		t.Errorf("last error = %v, want %v", got, nats.ErrAuthorization)
	}
}

// Fact: with IgnoreAuthErrorAbort nats.go keeps trying past any number of refusals. The
// client library sets it, so that an outage does not end programs.
func TestIgnoreAuthErrorAbortKeepsTrying(t *testing.T) {
	t.Parallel()
	d := onOneServer(t)
	app := d.newAccount(t, "APP")
	c := d.newCallout(t)
	c.answerWith(c.admit(app))
	watch := newWatch()
	c.login(t, append(watch.options(), nats.IgnoreAuthErrorAbort(), nats.MaxReconnects(-1))...)
	c.answerWith(func(r *request) []byte {
		if len(c.seen()) <= 4 {
			return c.refuse("blocked")(r)
		}
		return c.admit(app)(r)
	})
	kick(t, d, c.seen()[0])
	await(t, watch.reconnects)
	if got := len(c.seen()); got != 5 {
		t.Errorf("callouts = %d, want 1 login, 3 refusals and 1 login", got)
	}
}

// Fact: the token handler runs anew for each reconnect. The client library renews the
// OIDC token there.
func TestTokenHandlerRunsForEachConnect(t *testing.T) {
	t.Parallel()
	d := onOneServer(t)
	app := d.newAccount(t, "APP")
	c := d.newCallout(t)
	c.answerWith(c.admit(app))
	tokens := make(chan string, 2)
	tokens <- "first"
	tokens <- "second"
	watch := newWatch()
	c.login(t, append(watch.options(), nats.TokenHandler(func() string { return <-tokens }))...)
	kick(t, d, c.seen()[0])
	await(t, watch.reconnects)
	for i, want := range []string{"first", "second"} {
		if got := c.seen()[i].ConnectOptions.Token; got != want {
			t.Errorf("token of connect %d = %q, want %q", i, got, want)
		}
	}
}

// Fact: on its first connect nats.go walks the whole pool, which grows by the servers
// that each INFO names: one refused connect with one URL is one callout per server of
// the cluster, each with another server id, cid and user_nkey. Rate limits and audit
// rows expect it.
func TestRefusedConnectTriesEveryServer(t *testing.T) {
	t.Parallel()
	d := onThreeServers(t)
	c := d.newCallout(t)
	c.answerWith(c.refuse("no"))
	if _, err := c.dial(t, nats.Token("token")); !errors.Is(err, nats.ErrAuthorization) {
		t.Errorf("connect error = %v, want %v", err, nats.ErrAuthorization)
	}
	servers, users := map[string]bool{}, map[string]bool{}
	for _, r := range c.seen() {
		servers[r.Server.ID], users[r.UserNkey] = true, true
	}
	if got := len(c.seen()); got != 3 || len(servers) != 3 || len(users) != 3 {
		t.Errorf("callouts = %d from %d servers for %d user_nkeys, want 3 of each", got, len(servers), len(users))
	}
}
