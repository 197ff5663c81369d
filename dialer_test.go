package gatehouse

import (
	"net"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nats.go"
)

// counted is a nats.CustomDialer that counts its connections.
type counted struct {
	open, most, dials atomic.Int64
}

func (c *counted) Dial(network, address string) (net.Conn, error) {
	conn, err := net.Dial(network, address)
	if err != nil {
		return nil, err
	}
	c.dials.Add(1)
	if n := c.open.Add(1); n > c.most.Load() {
		c.most.Store(n)
	}
	return &countedConn{Conn: conn, of: c}, nil
}

func (c *counted) SkipTLSHandshake() bool { return true }

type countedConn struct {
	net.Conn
	of     *counted
	closed atomic.Bool
}

func (c *countedConn) Close() error {
	if !c.closed.Swap(true) {
		c.of.open.Add(-1)
	}
	return c.Conn.Close()
}

func TestConnectClosesWhatFailed(t *testing.T) {
	t.Parallel()
	for name, pace := range map[string]nats.Option{
		"with its own pace":      func(*nats.Options) error { return nil },
		"with the caller's pace": nats.CustomReconnectDelay(func(int) time.Duration { return time.Millisecond }),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := startSystem(t, systemOptions{defaultSentinel: true, loginTime: 5 * time.Second})
			s.onLogin(func(n int, _ jwt.ConnectOptions) verdict { return verdict{ignore: n == 2} })
			restored, again := reconnected()
			var dialed counted
			nc, err := s.connectWithin(long, s.url, counting(), restored,
				WithNATSOptions(nats.SetCustomDialer(&dialed), nats.Timeout(time.Second), pace))
			must(t, err)
			s.kick(nc)
			select { // the pauses are longer than what other tests wait for
			case <-again:
			case <-time.After(long):
				t.Fatal("no reconnect after the attempt that nobody answered")
			}
			if dialed.dials.Load() < 3 || dialed.most.Load() > 1 {
				t.Errorf("of %d connections %d were open at a time", dialed.dials.Load(), dialed.most.Load())
			}
		})
	}
}

func TestSpreadReconnectsRestoresAnyConnection(t *testing.T) {
	t.Parallel()
	s := startSystem(t, systemOptions{})
	option := SpreadReconnects()
	again := make(chan struct{}, 10)
	for range 2 { // each has its own pace
		nc, err := nats.Connect(s.url, nats.UserJWTAndSeed(s.direct(t)), nats.MaxReconnects(-1), option,
			nats.ReconnectHandler(func(*nats.Conn) { again <- struct{}{} }))
		must(t, err)
		defer closeAndWait(t, nc)
		s.kick(nc)
		receive(t, "a reconnect", again)
	}
}

func TestDialerPassesOnWhatTheCallersSays(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		given nats.CustomDialer
		skips bool
	}{{&counted{}, true}, {&net.Dialer{}, false}, {nil, false}} {
		o := nats.Options{CustomDialer: tc.given}
		if got := dialThrough(&o).SkipTLSHandshake(); got != tc.skips {
			t.Errorf("%T: %v", tc.given, got)
		}
	}
}
