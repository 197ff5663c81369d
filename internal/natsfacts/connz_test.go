package natsfacts

import (
	"fmt"
	"testing"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nats-server/v2/server"
)

// connz is the connections of the deployment's first server that the filter finds.
func (d *deployment) connz(t *testing.T, filter server.ConnzOptions) *server.Connz {
	t.Helper()
	var reply struct{ Data server.Connz }
	d.askOne(t, fmt.Sprintf("$SYS.REQ.SERVER.%s.CONNZ", d.servers[0].ID()), filter, &reply)
	return &reply.Data
}

// Fact: CONNZ with auth finds a callout user's connections by the user JWT's name and
// account, with the cid of the callout request and the key that signed, and no JWT. The
// sweep for a blocked identity asks exactly this.
func TestConnzFindsCalloutUserByName(t *testing.T) {
	t.Parallel()
	d := onOneServer(t)
	app := d.newAccount(t, "APP")
	c := d.newCallout(t)
	c.answerWith(c.admit(app))
	c.login(t)
	c.answerWith(c.admit(app, func(u *jwt.UserClaims) { u.Name = "bob" }))
	c.login(t)

	found := d.connz(t, server.ConnzOptions{Username: true, User: "alice", Account: app.id}).Conns
	if len(found) != 1 {
		t.Fatalf("found %d connections, want 1", len(found))
	}
	conn := found[0]
	for _, f := range []struct {
		field     string
		got, want any
	}{
		{"cid", conn.Cid, c.seen()[0].ClientInformation.ID},
		{"authorized_user", conn.AuthorizedUser, "alice"},
		{"account", conn.Account, app.id},
		{"issuer_key", conn.IssuerKey, public(app.signer)},
		{"name_tag", conn.NameTag, "APP"},
		{"jwt", conn.JWT, ""},
	} {
		if f.got != f.want {
			t.Errorf("%s = %v, want %v", f.field, f.got, f.want)
		}
	}
}

// Fact: CONNZ shows a direct user by its public key, and its name finds nothing. Every
// search looks for names and keys.
func TestConnzFindsDirectUserByKey(t *testing.T) {
	t.Parallel()
	d := onOneServer(t)
	app := d.newAccount(t, "APP")
	user := app.user("tool")
	app.connect(t, d.servers[0], user)
	for filter, want := range map[string]int{"tool": 0, user.claims.Subject: 1} {
		if got := len(d.connz(t, server.ConnzOptions{Username: true, User: filter, Account: app.id}).Conns); got != want {
			t.Errorf("user %s: found %d connections, want %d", filter, got, want)
		}
	}
}

// Fact: since v2.15.3 total counts the connections that the filter finds; before it
// ignored the user filter. A sweep does not read it: it asks with a large limit and until
// nothing is found.
func TestConnzTotalCountsMatches(t *testing.T) {
	t.Parallel()
	d := onOneServer(t)
	app := d.newAccount(t, "APP")
	c := d.newCallout(t)
	c.answerWith(c.admit(app))
	c.login(t)
	c.login(t)
	for user, want := range map[string]int{"nobody": 0, "alice": 2} {
		page := d.connz(t, server.ConnzOptions{Username: true, User: user, Account: app.id})
		if len(page.Conns) != want || page.Total != want || page.Limit != 1024 {
			t.Errorf("%s: found %d, total %d, limit %d, want %d, %d and 1024", user, len(page.Conns), page.Total, page.Limit, want, want)
		}
	}
}
