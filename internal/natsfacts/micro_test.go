package natsfacts

import (
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/micro"
)

// serveMicro answers the callout's requests with a micro service on a connection of its
// own; entered is called at the start of each.
func (c *callout) serveMicro(t *testing.T, entered func()) {
	t.Helper()
	nc := c.connect(t, c.deployment.servers[0], c.serviceUser)
	service, err := micro.AddService(nc, micro.Config{Name: "facts", Version: "1.0.0"})
	check(t, err)
	t.Cleanup(func() { service.Stop() })
	check(t, service.AddEndpoint("auth", micro.HandlerFunc(func(r micro.Request) {
		entered()
		r.Respond(c.reply(t, &nats.Msg{Reply: r.Reply(), Header: nats.Header(r.Headers()), Data: r.Data()}))
	}), micro.WithEndpointSubject(requestSubject)))
	check(t, nc.Flush())
	c.awaitInterest(t)
}

// Fact: a micro endpoint may listen on $SYS.REQ.USER.AUTH, and its default queue group
// gives each request to one instance only. Replicas share the logins this way.
func TestMicroServesCallouts(t *testing.T) {
	t.Parallel()
	d := onOneServer(t)
	app := d.newAccount(t, "APP")
	c := makeCallout(t)
	c.join(t, d)
	c.answerWith(c.admit(app))
	var handled atomic.Int64
	for range 3 {
		c.serveMicro(t, func() { handled.Add(1) })
	}
	const logins = 20
	for range logins {
		c.login(t)
	}
	if got := handled.Load(); got != logins {
		t.Errorf("three instances handled %d requests, want each of the %d once", got, logins)
	}
}

// Fact: micro runs the handler of an endpoint strictly one request after the other. The
// callout handler therefore only enqueues, and workers decide.
func TestMicroHandlerIsSequential(t *testing.T) {
	t.Parallel()
	d := onOneServer(t)
	app := d.newAccount(t, "APP")
	c := makeCallout(t)
	c.join(t, d)
	c.answerWith(c.admit(app))

	const logins = 4
	arrivals, err := c.service.SubscribeSync(requestSubject)
	check(t, err)
	allArrived := make(chan struct{})
	var active, most atomic.Int64
	c.serveMicro(t, func() {
		most.Store(max(most.Load(), active.Add(1)))
		<-allArrived
		active.Add(-1)
	})
	var wg sync.WaitGroup
	for range logins {
		wg.Go(func() {
			if _, err := c.dial(t); err != nil {
				t.Error(err)
			}
		})
	}
	for range logins {
		next(t, arrivals)
	}
	close(allArrived)
	wg.Wait()
	if got := most.Load(); got != 1 {
		t.Errorf("%d requests were in the handler at once, want 1", got)
	}
}

// Fact: these permissions are all that the service's user needs in the callout account.
// init gives it no more.
func TestServicePermissions(t *testing.T) {
	t.Parallel()
	d := onOneServer(t)
	app := d.newAccount(t, "APP")
	c := makeCallout(t)
	user := c.serviceUser.claims
	user.Sub.Allow.Add(requestSubject, authErrorSubject, "$SRV.>")
	user.Resp = &jwt.ResponsePermission{MaxMsgs: 1, Expires: 5 * time.Second}
	user.Pub.Deny.Add(">")
	c.join(t, d)
	events := subscribe(t, c.service, authErrorSubject)
	c.serveMicro(t, func() {})

	c.answerWith(c.admit(app))
	c.login(t)
	c.answerWith(c.refuse("blocked"))
	c.dial(t)
	next(t, events)
	if err := c.service.LastError(); err != nil {
		t.Errorf("service connection: %v", err)
	}
}
