package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gatehouse-nats/gatehouse/bench/rig"
)

const (
	startLimit = 60 * time.Second // for the service to admit its first client
	warmLogins = 200
	stormLimit = 90 * time.Second // after which a client of a storm tries no more
)

// load is the clients' side of a measurement and what became of them.
type load struct {
	world  *rig.World
	tokens []string
	bad    []string // by client, empty for one whose token is good; without one nil
	warm   string
	fleet  *fleet // with -client gatehouse

	fails, retries, lost, badIn, badOut, disturbed atomic.Int64

	mu        sync.Mutex
	latencies []time.Duration
	quiet     []time.Duration // before the background began
	held      []*rig.Conn
	errs      map[string]int
}

// newLoad signs all tokens beforehand: that is no part of what is measured.
func newLoad(w *rig.World) *load {
	count := *tokens
	if count == 0 {
		count = max(*n, *burst)
	}
	l := &load{
		world:     w,
		tokens:    make([]string, count),
		warm:      w.Token(*alg, "warm", time.Hour, nil),
		latencies: make([]time.Duration, 0, max(*n, *burst)),
		errs:      map[string]int{},
	}
	for i := range l.tokens {
		l.tokens[i] = w.Token(*alg, fmt.Sprintf("user-%d", i), time.Hour, nil)
	}
	l.signBad()
	return l
}

// signBad makes the bad tokens of -bad.
func (l *load) signBad() {
	switch {
	case *bad == 0:
	case *burst > 0:
		for i := range firstGood() {
			l.bad = append(l.bad, l.badToken(i))
		}
	default:
		l.bad = make([]string, *n)
		for i := range l.bad {
			if isBad(i) {
				l.bad[i] = l.badToken(i)
			}
		}
	}
}

func (l *load) connect(token string) (*rig.Conn, error) { return l.connectFrom(nil, token) }

func (l *load) connectFrom(local net.IP, token string) (*rig.Conn, error) {
	return rig.ConnectFrom(local, l.world.NatsURL, map[string]any{"jwt": l.world.SentinelJWT, "auth_token": token}, *timeout)
}

func (l *load) token(i int) string { return l.tokens[i%len(l.tokens)] }

// warmUp waits until the service admits a first client and lets a few more in.
func (l *load) warmUp(ctx context.Context) error {
	for deadline := time.Now().Add(startLimit); ; {
		c, err := l.connect(l.warm)
		if err == nil {
			c.Close()
			break
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("the service admitted no client within %s: %w", startLimit, err)
		}
		select {
		case <-ctx.Done():
			return errors.New("interrupted")
		case <-time.After(200 * time.Millisecond):
		}
	}
	for range warmLogins {
		if c, err := l.connect(l.warm); err == nil {
			c.Close()
		}
	}
	return nil
}

// steady makes n logins, with conc clients connecting at any time.
func (l *load) steady() {
	var wg sync.WaitGroup
	var next atomic.Int64
	for range *conc {
		wg.Go(func() {
			for {
				i := int(next.Add(1)) - 1
				if i >= *n {
					return
				}
				if *bad > 0 && l.bad[i] != "" {
					l.tryBad(i)
					continue
				}
				start := time.Now()
				c, err := l.connect(l.token(i))
				if err != nil {
					l.failed(err)
					continue
				}
				took := time.Since(start)
				c.Close()
				l.admitted(took)
			}
		})
	}
	wg.Wait()
}

// storm sends all clients at once; each tries until it is in, lost or out of time.
func (l *load) storm() {
	begin := time.Now()
	var wg sync.WaitGroup
	for i := range *burst {
		wg.Go(func() {
			if i < len(l.bad) {
				l.tryBad(i)
			} else {
				l.tryUntilIn(i, begin)
			}
		})
	}
	wg.Wait()
}

func (l *load) tryBad(i int) {
	c, err := l.connect(l.bad[i])
	if err != nil {
		l.badOut.Add(1)
		return
	}
	l.badIn.Add(1)
	c.Close()
}

func (l *load) tryUntilIn(i int, begin time.Time) {
	start := time.Now()
	refused := 0
	for {
		c, err := l.connect(l.token(i))
		if err == nil {
			l.admitted(time.Since(start))
			if *stay {
				l.hold(c)
			} else {
				c.Close()
			}
			return
		}
		l.retries.Add(1)
		// nats.go closes for good when the same authorization error comes twice in a row.
		if !strings.Contains(err.Error(), "Authorization Violation") {
			refused = 0
		} else if refused++; refused == 2 {
			l.lost.Add(1)
			l.failed(errors.New("lost: refused twice in a row"))
			return
		}
		l.count(err)
		if time.Since(begin) > stormLimit {
			l.failed(errors.New("gave up"))
			return
		}
		time.Sleep(*retry + time.Duration(rand.Int64N(int64(100*time.Millisecond))))
	}
}

func (l *load) admitted(took time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.latencies = append(l.latencies, took)
}

func (l *load) hold(c *rig.Conn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.held = append(l.held, c)
}

func (l *load) failed(err error) {
	l.fails.Add(1)
	l.count(err)
}

func (l *load) count(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.errs[kind(err)]++
}

// kind names an error without the addresses in it.
func kind(err error) string {
	var ne net.Error
	if errors.As(err, &ne) && ne.Timeout() {
		return "timeout"
	}
	var oe *net.OpError
	if errors.As(err, &oe) {
		return oe.Op + ": " + oe.Err.Error()
	}
	return err.Error()
}
