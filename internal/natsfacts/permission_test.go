package natsfacts

import (
	"slices"
	"testing"
	"time"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nats.go"
)

// Fact: where app.* may be subscribed to, a subscription to app.> passes as well, and is delivered
// all of it (server/sublist.go, matchLevel: > is looked up like any token). With app.*.> denied it is
// delivered no more than app.*. So policy denies what lies below an allowed subject that ends in *.
func TestStarAtTheEndLetsSubscribeToAll(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		deny []string
		want []string
	}{
		"app.* is allowed":             {nil, []string{"app.one", "app.one.two", "end"}},
		"app.* is, and app.*.> denied": {[]string{"app.*.>"}, []string{"app.one", "end"}},
	} {
		d := onOneServer(t)
		app := d.newAccount(t, "APP")
		co := d.newCallout(t)
		co.answerWith(co.admit(app, func(u *jwt.UserClaims) {
			u.Sub.Allow.Add("app.*", "end")
			u.Sub.Deny.Add(c.deny...)
		}))
		violations := make(chan error, 1)
		nc := co.login(t, nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) { violations <- err }))
		got := make(chan *nats.Msg, 8)
		for _, subject := range []string{"app.>", "end"} {
			_, err := nc.ChanSubscribe(subject, got)
			check(t, err)
		}
		check(t, nc.Flush())
		for _, subject := range []string{"app.one", "app.one.two", "end"} {
			check(t, nc.Publish(subject, nil))
		}
		var subjects []string
		for !slices.Contains(subjects, "end") {
			select {
			case m := <-got:
				subjects = append(subjects, m.Subject)
			case err := <-violations:
				t.Fatal(err)
			case <-time.After(10 * time.Second):
				t.Fatalf("%s: delivered only %v", name, subjects)
			}
		}
		if !slices.Equal(subjects, c.want) {
			t.Errorf("%s: delivered %v, want %v", name, subjects, c.want)
		}
	}
}
