package gatehouse

import (
	"net"
	"sync"

	"github.com/nats-io/nats.go"
)

// dialer dials for one connection to NATS, and closes what it dialed before. nats.go leaves the network connection of an
// attempt to reconnect that failed to the garbage collector; until then the server takes it for a client that still waits, or
// admits one that nobody will ever use.
type dialer struct {
	options *nats.Options     // say how, unless given does
	given   nats.CustomDialer // the caller's; nil when there is none

	mu   sync.Mutex
	last net.Conn
}

// dialThrough has a dialer of the library make the connections of these options, and returns it.
func dialThrough(o *nats.Options) *dialer {
	d := &dialer{options: o, given: o.CustomDialer}
	o.CustomDialer = d
	return d
}

// Dial is a nats.CustomDialer.
func (d *dialer) Dial(network, address string) (net.Conn, error) {
	d.hangUp()
	conn, err := d.dial(network, address)
	if err != nil {
		return nil, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.last = conn
	return conn, nil
}

func (d *dialer) dial(network, address string) (net.Conn, error) {
	if d.given != nil {
		return d.given.Dial(network, address)
	}
	own := net.Dialer{Timeout: d.options.Timeout}
	if d.options.Dialer != nil {
		own = *d.options.Dialer
	}
	if d.options.AllowMultipathTCP != nil {
		own.SetMultipathTCP(*d.options.AllowMultipathTCP)
	}
	return own.Dial(network, address)
}

// hangUp closes what was dialed last.
func (d *dialer) hangUp() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.last != nil {
		_ = d.last.Close() // it is closed already where nats.go knows that it has failed
		d.last = nil
	}
}

// SkipTLSHandshake passes on what the caller's dialer says: nats.go asks for it.
func (d *dialer) SkipTLSHandshake() bool {
	skips, ok := d.given.(interface{ SkipTLSHandshake() bool })
	return ok && skips.SkipTLSHandshake()
}
