package gatehouse

import (
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
)

const (
	firstDelay = 4 * time.Second
	delayGrows = 3 // times, with each failure
	maxDelay   = 30 * time.Second
	// holdFor is how long a connection must have held for the failures before it to be forgotten.
	holdFor = 30 * time.Second
)

// SpreadReconnects returns the option of nats.go with which [Connect] restores connections: for programs that
// log in without it, such as direct users. Any number of connections may be made with one.
//
// Before each attempt it pauses for any part of a bound (full jitter), also before the first, so that the many
// that lost their connection in the same instant do not come back in step. The bound is four seconds at first
// and three times as long, up to half a minute, with each attempt that reached a server, and each round of servers of which
// none was reached. It is four seconds again once a connection has held for half a minute. The attempts go to the servers in turn.
//
// The network connection of an attempt that failed is closed, which nats.go leaves to the garbage collector.
//
// It sets nats.ReconnectToServer, which takes precedence over nats.CustomReconnectDelay and nats.ReconnectWait, and
// a nats.CustomDialer, which uses one that was set before.
func SpreadReconnects() nats.Option {
	return func(o *nats.Options) error {
		spread(o, dialThrough(o))
		return nil
	}
}

// spread gives the attempts of a connection their pace.
func spread(o *nats.Options, d *dialer) {
	p := &pace{random: rand.Int64N}
	o.ReconnectToServerCB = func(servers []nats.Server, info nats.ServerInfo) (*nats.Server, time.Duration) {
		d.hangUp()
		return p.next(servers, info)
	}
}

// delayBound returns the longest pause before an attempt after so many that failed: it grows threefold
// from four seconds to half a minute.
func delayBound(failures int) time.Duration {
	bound := firstDelay
	for ; failures > 0 && bound < maxDelay; failures-- {
		bound *= delayGrows
	}
	return min(bound, maxDelay)
}

// jitter returns any part of [delayBound]. random returns a number in [0, n).
func jitter(failures int, random func(n int64) int64) time.Duration {
	return time.Duration(random(int64(delayBound(failures))))
}

// pace says where and when a connection that was lost is tried again.
type pace struct {
	random func(n int64) int64 // in [0, n)

	mu         sync.Mutex
	failures   int       // that have made the bound longer
	unreached  int       // attempts in a row that reached no server
	server     string    // tried last; empty before the first attempt
	at         time.Time // when it was
	connection connection
}

// connection names one that a server has told the client about in its INFO.
type connection struct {
	server string
	client uint64
}

// next is a nats.ReconnectToServerHandler: nats.go calls it before each attempt, with its own lock held.
func (p *pace) next(servers []nats.Server, info nats.ServerInfo) (*nats.Server, time.Duration) {
	if len(servers) == 0 {
		return nil, 0
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	last := slices.IndexFunc(servers, func(s nats.Server) bool { return s.URL.String() == p.server })
	now, told := time.Now(), connection{info.ID, info.CID}
	reached := told != p.connection
	p.connection = told
	switch {
	case p.server == "":
		last = 0 // nats.go connects to the first that it can, in this order
	case last >= 0 && servers[last].Reconnects == 0: // nats.go counts the attempts since the last one that succeeded
		p.unreached = 0
		if p.failures++; now.Sub(p.at) >= holdFor {
			p.failures = 0
		}
	case reached:
		p.failures++
		p.unreached = 0
	default:
		if p.unreached++; p.unreached%len(servers) == 0 {
			p.failures++
		}
	}
	server := &servers[(last+1)%len(servers)]
	delay := jitter(p.failures, p.random)
	p.server, p.at = server.URL.String(), now.Add(delay)
	return server, delay
}
