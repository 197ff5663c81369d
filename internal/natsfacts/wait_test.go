package natsfacts

import (
	"testing"
	"time"

	"github.com/nats-io/nats.go"
)

// patience bounds every wait for something that is expected to happen soon. It is far
// above what the servers need, for busy machines.
const patience = 10 * time.Second

// poll repeats f until it succeeds and returns its last error when it does not in time.
func poll(f func() error) error {
	deadline := time.Now().Add(patience)
	for {
		err := f()
		if err == nil || time.Now().After(deadline) {
			return err
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// subscribe listens to a subject; the server knows the subscription on return.
func subscribe(t *testing.T, nc *nats.Conn, subject string) *nats.Subscription {
	t.Helper()
	sub, err := nc.SubscribeSync(subject)
	check(t, err)
	check(t, nc.Flush())
	return sub
}

// next returns the next message, which has to come.
func next(t *testing.T, sub *nats.Subscription) *nats.Msg {
	t.Helper()
	msg, err := sub.NextMsg(patience)
	if err != nil {
		t.Fatalf("%s: %v", sub.Subject, err)
	}
	return msg
}

// await returns the next value of the channel, which has to come.
func await[T any](t *testing.T, values <-chan T) T {
	t.Helper()
	select {
	case v := <-values:
		return v
	case <-time.After(patience):
		t.Fatal("nothing came in time")
		panic("unreachable")
	}
}

// watch collects what happens to a connection.
type watch struct {
	errors     chan error
	reconnects chan struct{}
	closed     chan struct{}
}

func newWatch() *watch {
	return &watch{errors: make(chan error, 64), reconnects: make(chan struct{}, 64), closed: make(chan struct{}, 1)}
}

func (w *watch) options() []nats.Option {
	return []nats.Option{
		nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) { w.errors <- err }),
		nats.ReconnectHandler(func(*nats.Conn) { w.reconnects <- struct{}{} }),
		nats.ClosedHandler(func(*nats.Conn) { w.closed <- struct{}{} }),
	}
}
