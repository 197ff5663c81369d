package natsfacts

import (
	"errors"
	"testing"
	"time"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nats.go"
)

// responder hears requests on its subject and may publish nothing but replies.
type responder struct {
	nc       *nats.Conn
	requests *nats.Subscription
	asker    *nats.Conn // may do everything in the account
}

func newResponder(t *testing.T, resp jwt.ResponsePermission, edits ...func(*jwt.UserClaims)) *responder {
	t.Helper()
	d := onOneServer(t)
	app := d.newAccount(t, "APP")
	c := d.newCallout(t)
	c.answerWith(c.admit(app, append([]func(*jwt.UserClaims){func(u *jwt.UserClaims) {
		u.Sub.Allow.Add("svc.>")
		u.Pub.Deny.Add(">") // what mint writes where nothing is allowed
		u.Resp = &resp
	}}, edits...)...))
	r := &responder{nc: c.login(t), asker: app.connect(t, d.servers[0], app.user("asker"))}
	r.requests = subscribe(t, r.nc, "svc.>")
	return r
}

// ask has the responder get a request whose reply subject the asker listens on.
func (r *responder) ask(t *testing.T, reply string) (request *nats.Msg, replies *nats.Subscription) {
	t.Helper()
	replies = subscribe(t, r.asker, reply)
	check(t, r.asker.PublishRequest("svc.time", reply, nil))
	return next(t, r.requests), replies
}

// published publishes and reports whether the server let it.
func published(t *testing.T, nc *nats.Conn, subject string) bool {
	t.Helper()
	before := nc.LastError()
	check(t, nc.Publish(subject, []byte("reply")))
	check(t, nc.Flush())
	after := nc.LastError()
	if after != before && !errors.Is(after, nats.ErrPermissionViolation) {
		t.Fatal(after)
	}
	return after == before
}

// Fact: a response permission counts replies to each message, and a deny of everything does
// not stop them. roles.NAME.respond rests on it, and so does a responder to private inboxes.
func TestRepliesAreCounted(t *testing.T) {
	t.Parallel()
	r := newResponder(t, jwt.ResponsePermission{MaxMsgs: 2, Expires: time.Minute})
	_, replies := r.ask(t, "_INBOX_abc.1")
	for range 2 {
		if !published(t, r.nc, "_INBOX_abc.1") {
			t.Error("a reply within the bounds was refused")
		}
		next(t, replies)
	}
	if published(t, r.nc, "_INBOX_abc.1") {
		t.Error("a third reply went through")
	}
	if published(t, r.nc, "_INBOX_abc.2") {
		t.Error("an inbox that nobody named could be published to")
	}
	r.ask(t, "_INBOX_abc.3")
	if !published(t, r.nc, "_INBOX_abc.3") {
		t.Error("the first reply to another message was refused")
	}
}

// Fact: a reply after the response permission's ttl is refused.
func TestRepliesExpire(t *testing.T) {
	t.Parallel()
	r := newResponder(t, jwt.ResponsePermission{MaxMsgs: 10, Expires: time.Nanosecond})
	r.ask(t, "_INBOX_abc.1")
	if published(t, r.nc, "_INBOX_abc.1") {
		t.Error("a reply after the ttl went through")
	}
}

// Fact: zero is no bound of nothing: it means one reply within two minutes. Below zero is no
// bound at all. mint writes neither.
func TestResponseBoundsOfZero(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		max    int
		second bool
	}{{0, false}, {-1, true}} {
		r := newResponder(t, jwt.ResponsePermission{MaxMsgs: tc.max})
		r.ask(t, "_INBOX_abc.1")
		if !published(t, r.nc, "_INBOX_abc.1") {
			t.Errorf("max %d: the first reply was refused", tc.max)
		}
		if got := published(t, r.nc, "_INBOX_abc.1"); got != tc.second {
			t.Errorf("max %d: a second reply was allowed: %t, want %t", tc.max, got, tc.second)
		}
	}
}

// Fact: the reply subject is whatever the message names. Who hears a subject that it may also
// publish to can name one itself, and then publish there whatever its permissions deny. The
// configuration warns of such roles.
func TestWhoAsksItselfMayPublishAnywhere(t *testing.T) {
	t.Parallel()
	r := newResponder(t, jwt.ResponsePermission{MaxMsgs: 1, Expires: time.Minute}, func(u *jwt.UserClaims) {
		u.Pub = jwt.Permission{Allow: jwt.StringList{"svc.>"}, Deny: jwt.StringList{"secret.>"}}
	})
	if published(t, r.nc, "secret.a") {
		t.Error("a denied subject could be published to without more")
	}
	check(t, r.nc.PublishRequest("svc.time", "secret.b", nil))
	next(t, r.requests)
	if !published(t, r.nc, "secret.b") {
		t.Error("the server refused: the warning of the configuration can go")
	}
}
