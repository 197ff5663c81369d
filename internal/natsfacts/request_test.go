package natsfacts

import (
	"errors"
	"regexp"
	"strings"
	"testing"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"
)

// Fact: the shape of a callout request. Gatehouse verifies aud, iss == server_id.id and
// sub, takes its deadline from exp − iat (2 s by default, in whole seconds), mints for
// user_nkey, and records (server id, cid).
func TestRequestClaims(t *testing.T) {
	t.Parallel()
	d := onOneServer(t)
	app := d.newAccount(t, "APP")
	c := d.newCallout(t)
	c.answerWith(c.admit(app))
	nc := c.login(t, nats.Name("probe"), nats.Token("token"))
	cid, err := nc.GetClientID()
	check(t, err)

	s, r := d.servers[0], c.seen()[0]
	for _, f := range []struct {
		field     string
		got, want any
	}{
		{"iss", r.Issuer, s.ID()},
		{"sub", r.Subject, c.id},
		{"aud", r.Audience, "nats-authorization-request"},
		{"nbf", r.NotBefore, int64(0)},
		{"server_id.id", r.Server.ID, s.ID()},
		{"server_id.name", r.Server.Name, s.Name()},
		{"server_id.version", r.Server.Version, server.VERSION},
		{"server_id.xkey", r.Server.XKey, ""},
		{"user_nkey is a user key", nkeys.IsValidPublicUserKey(r.UserNkey), true},
		{"request_nonce", r.RequestNonce, ""},
		{"client_info.id", r.ClientInformation.ID, cid},
		{"client_info.host", r.ClientInformation.Host, "127.0.0.1"},
		{"client_info.kind", r.ClientInformation.Kind, "Client"},
		{"client_info.type", r.ClientInformation.Type, "nats"},
		{"client_info.name", r.ClientInformation.Name, "probe"},
		{"client_info.name_tag", r.ClientInformation.NameTag, "sentinel"},
		{"headers", len(r.msg.Header), 0},
	} {
		if f.got != f.want {
			t.Errorf("%s = %v, want %v", f.field, f.got, f.want)
		}
	}
	// exp is rounded down before iat is taken, which may fall into the next second.
	if left := r.Expires - r.IssuedAt; left != 2 && left != 1 {
		t.Errorf("exp - iat = %d s, want 2", left)
	}
	if reply := regexp.MustCompile(`^\$SYS\._INBOX\.[A-Za-z0-9]+\.[A-Za-z0-9]+$`); !reply.MatchString(r.msg.Reply) {
		t.Errorf("reply subject = %q, want a system inbox", r.msg.Reply)
	}
}

// Fact: each CONNECT gets a user_nkey and a cid of its own. Gatehouse's records are
// keyed on (server id, cid), and a revocation of user_nkey cannot block the next login.
func TestRequestIdentifiesConnection(t *testing.T) {
	t.Parallel()
	d := onOneServer(t)
	app := d.newAccount(t, "APP")
	c := d.newCallout(t)
	c.answerWith(c.admit(app))
	c.login(t)
	c.login(t)
	first, second := c.seen()[0], c.seen()[1]
	if first.UserNkey == second.UserNkey || first.ClientInformation.ID == second.ClientInformation.ID {
		t.Errorf("two logins share user_nkey %s or cid %d", first.UserNkey, first.ClientInformation.ID)
	}
}

// Fact: with an xkey on the callout account the request is sealed for it, names the
// server's curve key in a header and in server_id.xkey, and the response may be sealed
// or plain. Gatehouse refuses plain requests when it has an xkey, and seals its answers.
func TestRequestSealedForXkey(t *testing.T) {
	t.Parallel()
	d := onOneServer(t)
	app := d.newAccount(t, "APP")
	c := makeCallout(t).sealed(t)
	c.join(t, d)
	c.listen(t)

	c.answerWith(c.admit(app))
	c.login(t)
	c.answerWith(c.seal(c.admit(app)))
	c.login(t)
	for i, r := range c.seen() {
		header := r.msg.Header.Get(server.AuthRequestXKeyHeader)
		if !nkeys.IsValidPublicCurveKey(header) || r.Server.XKey != header {
			t.Errorf("request %d: header %q, server_id.xkey %q, want the same curve key", i, header, r.Server.XKey)
		}
		if strings.HasPrefix(string(r.msg.Data), "eyJ") {
			t.Errorf("request %d is not sealed", i)
		}
	}
}

// Fact: when the response is sealed the server does not check who signed it. The xkey's
// seed is therefore as powerful as the key that signs responses, and is kept as one.
func TestSealedResponseSignerIsNotChecked(t *testing.T) {
	t.Parallel()
	d := onOneServer(t)
	app, stranger := d.newAccount(t, "APP"), d.newAccount(t, "STRANGER")
	c := makeCallout(t).sealed(t)
	c.join(t, d)
	c.listen(t)
	forged := func(r *request) []byte {
		return signResponse(r, stranger.identity, func(a *jwt.AuthorizationResponseClaims) {
			a.Jwt = userJWT(r, app, app.signer)
		})
	}
	c.answerWith(forged)
	if _, err := c.dial(t); !errors.Is(err, nats.ErrAuthorization) {
		t.Errorf("plain: connect error = %v, want %v", err, nats.ErrAuthorization)
	}
	c.answerWith(c.seal(forged))
	if _, err := c.dial(t); err != nil {
		t.Errorf("sealed: connect error = %v, want none", err)
	}
}
