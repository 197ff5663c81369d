package natsfacts

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"
)

// kick closes the connection that the request was for and returns the server's error
// text.
func kick(t *testing.T, d *deployment, r *request) string {
	t.Helper()
	return kickClient(t, d, r.Server.ID, r.ClientInformation.ID)
}

func kickClient(t *testing.T, d *deployment, serverID string, cid uint64) string {
	t.Helper()
	var reply server.ServerAPIResponse
	d.askOne(t, fmt.Sprintf("$SYS.REQ.SERVER.%s.KICK", serverID), server.KickClientReq{CID: cid}, &reply)
	if reply.Server == nil || reply.Server.ID != serverID {
		t.Errorf("kick on %s was answered by %+v", serverID, reply.Server)
	}
	if reply.Error == nil {
		return ""
	}
	return reply.Error.Description
}

// Fact: KICK with the (server id, cid) of a callout request closes exactly that
// connection, and the client, if let in again, is back with another cid. Closing live
// connections after a block rests on it, as does fencing a silent replica.
func TestKickClosesConnection(t *testing.T) {
	t.Parallel()
	d := onOneServer(t)
	app := d.newAccount(t, "APP")
	c := d.newCallout(t)
	c.answerWith(c.admit(app))
	disconnects := d.subscribe(t, "$SYS.ACCOUNT."+app.id+".DISCONNECT")
	watch := newWatch()
	c.login(t, watch.options()...)
	other := c.login(t)
	if got := kick(t, d, c.seen()[0]); got != "" {
		t.Errorf("kick error = %q, want none", got)
	}
	var event server.DisconnectEventMsg
	decode(t, next(t, disconnects).Data, &event)
	if event.Reason != "Kicked" || event.Client.ID != c.seen()[0].ClientInformation.ID {
		t.Errorf("disconnect of cid %d because of %q, want %d, Kicked", event.Client.ID, event.Reason, c.seen()[0].ClientInformation.ID)
	}
	await(t, watch.reconnects)
	if first, last := c.seen()[0], c.seen()[2]; first.ClientInformation.ID == last.ClientInformation.ID {
		t.Errorf("cid %d was used twice", first.ClientInformation.ID)
	}
	if !other.IsConnected() || other.Stats().Reconnects != 0 {
		t.Error("the other connection was closed too")
	}
}

// Fact: KICK of an unknown cid is an error with this text, and KICK on an unknown server
// has no responders at once. A sweep counts both as done.
func TestKickUnknown(t *testing.T) {
	t.Parallel()
	d := onOneServer(t)
	if got, want := kickClient(t, d, d.servers[0].ID(), 1<<40), "no such client or leafnode id"; got != want {
		t.Errorf("kick of an unknown cid: error = %q, want %q", got, want)
	}
	_, err := d.admin.Request(fmt.Sprintf("$SYS.REQ.SERVER.%s.KICK", foreignServer), []byte(`{"cid":1}`), patience)
	if !errors.Is(err, nats.ErrNoResponders) {
		t.Errorf("kick on an unknown server: %v, want %v", err, nats.ErrNoResponders)
	}
}

// Fact: removing the signing key that signed the user JWTs closes exactly those
// connections. Rotation keeps the old key in the claims until its users have moved.
func TestRemovedSigningKeyClosesItsConnections(t *testing.T) {
	t.Parallel()
	d := onOneServer(t)
	kept, err := nkeys.CreateAccount()
	check(t, err)
	app := d.newAccount(t, "APP", func(a *jwt.AccountClaims) { a.SigningKeys.Add(public(kept)) })
	c := d.newCallout(t)
	c.answerWith(c.admit(app))
	watch := newWatch()
	c.login(t, watch.options()...)
	c.answerWith(func(r *request) []byte {
		return c.sign(r, func(a *jwt.AuthorizationResponseClaims) { a.Jwt = userJWT(r, app, kept) })
	})
	stays := c.login(t)

	c.answerWith(c.refuse("key removed"))
	delete(app.claims.SigningKeys, public(app.signer))
	d.push(t, app)
	await(t, watch.closed)
	if err := stays.Flush(); err != nil || stays.Stats().Reconnects != 0 {
		t.Errorf("connection by the kept key: flush error %v, %d reconnects, want none", err, stays.Stats().Reconnects)
	}
}

// Fact: a push that revokes a direct user's key closes its connection and keeps it out.
// For direct users this is the block; a kick comes after it.
func TestPushedRevocationBlocksDirectUser(t *testing.T) {
	t.Parallel()
	d := onOneServer(t)
	app := d.newAccount(t, "APP")
	user := app.user("tool")
	watch := newWatch()
	app.connect(t, d.servers[0], user, append(watch.options(), nats.ReconnectWait(time.Millisecond))...)
	app.claims.Revoke(user.claims.Subject)
	d.push(t, app)
	if err := await(t, watch.errors); !errors.Is(err, nats.ErrAuthRevoked) {
		t.Errorf("connection ended with %v, want %v", err, nats.ErrAuthRevoked)
	}
	await(t, watch.closed) // refused twice
}

// Fact: a push that revokes every user of an account closes its callout connections too,
// but each is let in again when the callout admits it. A logout of an account is
// complete only with a denial in the decision.
func TestPushedRevocationOnlyDisconnectsCalloutUser(t *testing.T) {
	t.Parallel()
	d := onOneServer(t)
	app := d.newAccount(t, "APP")
	c := d.newCallout(t)
	c.answerWith(c.admit(app))
	watch := newWatch()
	c.login(t, watch.options()...)
	app.claims.RevokeAt(jwt.All, time.Now().Add(time.Hour))
	d.push(t, app)
	if err := await(t, watch.errors); !errors.Is(err, nats.ErrAuthRevoked) {
		t.Errorf("connection ended with %v, want %v", err, nats.ErrAuthRevoked)
	}
	await(t, watch.reconnects)
}
