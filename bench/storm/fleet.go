package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/gatehouse-nats/gatehouse"
)

// What the clients of a burst are.
const (
	bare    = "bare"      // connections that wait -retry between tries
	library = "gatehouse" // connections of Gatehouse's client library, which waits as it likes
)

// fleet is clients of the library that are connected, lose their connections all at once and restore them.
type fleet struct {
	mu    sync.Mutex
	conns []*nats.Conn
	lines map[*line]struct{} // what the connections run over

	back  atomic.Int64 // clients that are connected again
	dials atomic.Int64
	all   chan struct{} // closed when all are back
	began time.Time     // when the connections were cut; zero before
}

// connectFleet connects all clients of the burst.
func (l *load) connectFleet() error {
	l.fleet = &fleet{lines: map[*line]struct{}{}, all: make(chan struct{})}
	var wg sync.WaitGroup
	var next, missed atomic.Int64
	for range *conc {
		wg.Go(func() {
			for {
				i := int(next.Add(1)) - 1
				if i >= *burst {
					return
				}
				if !l.join(i) {
					missed.Add(1)
				}
			}
		})
	}
	wg.Wait()
	if missed.Load() > 0 {
		return fmt.Errorf("%d of %d clients did not get in before the measurement", missed.Load(), *burst)
	}
	return nil
}

// join connects a client, in a few tries.
func (l *load) join(i int) bool {
	f := l.fleet
	for range showTries {
		nc, err := gatehouse.Connect(context.Background(), l.world.NatsURL, gatehouse.StaticToken(l.token(i)),
			gatehouse.WithSentinel([]byte(l.world.SentinelJWT)), gatehouse.WithNATSOptions(
				nats.SetCustomDialer(f),
				nats.ReconnectHandler(func(*nats.Conn) { l.returned() }),
				nats.ReconnectErrHandler(func(_ *nats.Conn, err error) { l.count(err) }),
				nats.ErrorHandler(func(*nats.Conn, *nats.Subscription, error) {}),
				nats.ReconnectBufSize(-1), // nothing is published
			))
		if err == nil {
			f.mu.Lock()
			f.conns = append(f.conns, nc)
			f.mu.Unlock()
			return true
		}
	}
	return false
}

// Dial is a nats.CustomDialer that knows its connections.
func (f *fleet) Dial(network, address string) (net.Conn, error) {
	f.dials.Add(1)
	nc, err := net.DialTimeout(network, address, *timeout)
	if err != nil {
		return nil, err
	}
	line := &line{Conn: nc, fleet: f}
	f.mu.Lock()
	f.lines[line] = struct{}{}
	f.mu.Unlock()
	return line, nil
}

// line is a connection that its fleet can cut.
type line struct {
	net.Conn
	fleet *fleet
}

// Close closes the connection and has the fleet forget it.
func (c *line) Close() error {
	c.fleet.mu.Lock()
	delete(c.fleet.lines, c)
	c.fleet.mu.Unlock()
	return c.Conn.Close()
}

// returned notes that a client is connected again.
func (l *load) returned() {
	l.admitted(time.Since(l.fleet.began))
	if l.fleet.back.Add(1) == int64(*burst) {
		close(l.fleet.all)
	}
}

// cutFleet ends all connections at once and waits until the clients are back or out of time.
func (l *load) cutFleet() {
	f := l.fleet
	f.mu.Lock()
	f.dials.Store(0)
	f.began = time.Now()
	for c := range f.lines {
		_ = c.Conn.Close()
	}
	f.mu.Unlock()
	select {
	case <-f.all:
	case <-time.After(stormLimit):
	}
	l.retries.Store(max(0, f.dials.Load()-int64(*burst)))
	for _, nc := range f.conns {
		switch {
		case nc.IsClosed():
			l.lost.Add(1)
			l.failed(errors.New("lost: the client closed for good"))
		case !nc.IsConnected():
			l.failed(errors.New("gave up"))
		}
	}
}

// letGo closes what is still connected.
func (l *load) letGo() {
	for _, c := range l.held {
		c.Close()
	}
	if l.fleet == nil {
		return
	}
	for _, nc := range l.fleet.conns {
		nc.Close()
	}
}
