package natsfacts

import (
	"encoding/json"
	"testing"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
)

// Fact: a callout user's CONNECT event carries (server.id, client.id) of its callout
// request, the user JWT's name as user, and the key that signed it, but neither the
// user's key nor a JWT. Late arrivals of a blocked identity are found, and kicked, by
// these.
func TestConnectEvent(t *testing.T) {
	t.Parallel()
	d := onOneServer(t)
	app := d.newAccount(t, "APP")
	c := d.newCallout(t)
	c.answerWith(c.admit(app))
	events := d.subscribe(t, "$SYS.ACCOUNT."+app.id+".CONNECT")
	c.login(t, nats.Name("probe"), nats.UserInfo("mallory", "password"))

	msg := next(t, events)
	var event server.ConnectEventMsg
	decode(t, msg.Data, &event)
	r := c.seen()[0]
	for _, f := range []struct {
		field     string
		got, want any
	}{
		{"type", event.Type, "io.nats.server.advisory.v1.client_connect"},
		{"server.id", event.Server.ID, r.Server.ID},
		{"client.id", event.Client.ID, r.ClientInformation.ID},
		{"client.acc", event.Client.Account, app.id},
		{"client.user", event.Client.User, "alice"},
		{"client.name", event.Client.Name, "probe"},
		{"client.host", event.Client.Host, "127.0.0.1"},
		{"client.issuer_key", event.Client.IssuerKey, public(app.signer)},
		{"client.name_tag", event.Client.NameTag, "APP"},
		{"client.kind", event.Client.Kind, "Client"},
		{"client.client_type", event.Client.ClientType, "nats"},
		{"client.jwt", event.Client.Jwt, ""},
	} {
		if f.got != f.want {
			t.Errorf("%s = %v, want %v", f.field, f.got, f.want)
		}
	}
}

// Fact: without a name in the user JWT, events and CONNZ show the user that the client
// sent, which it may choose freely. mint always sets the name.
func TestUserWithoutNameIsSpoofable(t *testing.T) {
	t.Parallel()
	d := onOneServer(t)
	app := d.newAccount(t, "APP")
	c := d.newCallout(t)
	c.answerWith(c.admit(app, func(u *jwt.UserClaims) { u.Name = "" }))
	events := d.subscribe(t, "$SYS.ACCOUNT."+app.id+".CONNECT")
	c.login(t, nats.UserInfo("mallory", "password"))
	var event server.ConnectEventMsg
	decode(t, next(t, events).Data, &event)
	if event.Client.User != "mallory" {
		t.Errorf("client.user = %q, want the client's own %q", event.Client.User, "mallory")
	}
}

// Fact: the user JWT's name is also the user that the client itself is shown.
func TestUserInfoShowsName(t *testing.T) {
	t.Parallel()
	d := onOneServer(t)
	app := d.newAccount(t, "APP")
	c := d.newCallout(t)
	c.answerWith(c.admit(app))
	info := userInfo(t, c.login(t))
	if info.UserID != "alice" || info.Account != app.id || info.AccountName != "APP" {
		t.Errorf("USER.INFO = %+v, want alice in APP", info)
	}
}

// Fact: a DISCONNECT event names the same connection and adds the reason.
func TestDisconnectEvent(t *testing.T) {
	t.Parallel()
	d := onOneServer(t)
	app := d.newAccount(t, "APP")
	c := d.newCallout(t)
	c.answerWith(c.admit(app))
	events := d.subscribe(t, "$SYS.ACCOUNT."+app.id+".DISCONNECT")
	c.login(t).Close()
	var event server.DisconnectEventMsg
	msg := next(t, events)
	decode(t, msg.Data, &event)
	r := c.seen()[0]
	if event.Server.ID != r.Server.ID || event.Client.ID != r.ClientInformation.ID || event.Reason != "Client Closed" {
		t.Errorf("event = server %s, cid %d, %q, want %s, %d, Client Closed",
			event.Server.ID, event.Client.ID, event.Reason, r.Server.ID, r.ClientInformation.ID)
	}
	var raw struct {
		Client map[string]json.RawMessage `json:"client"`
	}
	decode(t, msg.Data, &raw)
	for _, field := range []string{"jwt", "tags", "nonce"} {
		if value, ok := raw.Client[field]; ok {
			t.Errorf("client.%s = %s, want none", field, value)
		}
	}
}
