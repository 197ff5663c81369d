package main

import (
	"bufio"
	"errors"
	"fmt"
	"maps"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/gatehouse-nats/gatehouse/api"
)

// load is clients that log in and leave, over and over.
type load struct {
	w         *world
	stopped   chan struct{}
	done      sync.WaitGroup
	refusals  atomic.Int64 // of the tokens that deserve one
	unfounded atomic.Int64 // of the others
	unserved  atomic.Int64 // logins without an answer

	mu       sync.Mutex
	admitted map[seen]bool
}

// startLoad starts clients, of whom one in four is somebody whom no binding names.
func (w *world) startLoad(clients int) *load {
	l := &load{w: w, stopped: make(chan struct{}), admitted: map[seen]bool{}}
	good, bad := w.token("alice", developer(someone())), w.token("carol", nil)
	for i := range clients {
		l.done.Go(func() {
			for {
				if i%4 == 3 {
					l.refused(bad)
				} else {
					l.login(good)
				}
				select {
				case <-l.stopped:
					return
				case <-time.After(20 * time.Millisecond):
				}
			}
		})
	}
	w.Cleanup(l.stop)
	return l
}

// stop returns when all clients have ended; a second time it does nothing.
func (l *load) stop() {
	select {
	case <-l.stopped:
	default:
		close(l.stopped)
	}
	l.done.Wait()
}

func (l *load) login(token string) {
	nc, err := l.w.dial(token, nats.Timeout(2*time.Second))
	switch {
	case err == nil:
		defer nc.Close()
		cid, err := nc.GetClientID()
		if err != nil {
			return // cut off already
		}
		l.mu.Lock()
		l.admitted[seen{nc.ConnectedServerId(), cid}] = true
		l.mu.Unlock()
	case errors.Is(err, nats.ErrAuthorization):
		l.unfounded.Add(1)
	default:
		l.unserved.Add(1)
	}
}

func (l *load) refused(token string) {
	nc, err := l.w.dial(token, nats.Timeout(2*time.Second))
	switch {
	case err == nil:
		nc.Close()
		l.w.Error("the load's refused client was admitted")
	case errors.Is(err, nats.ErrAuthorization):
		l.refusals.Add(1)
	}
}

func (l *load) count() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.admitted)
}

// awaitMore returns once that many more logins were admitted.
func (l *load) awaitMore(n int) {
	l.w.Helper()
	start := l.count()
	eventuallyWithin(l.w, 30*time.Second+time.Duration(n)*100*time.Millisecond, func() error {
		if got := l.count() - start; got < n {
			return fmt.Errorf("%d of %d more logins were admitted", got, n)
		}
		return nil
	})
}

// missing returns the admitted logins that have no audit entry.
func (l *load) missing(entries []api.AuditEntry) map[seen]bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	left := maps.Clone(l.admitted)
	for _, e := range entries {
		if e.Outcome == "allowed" {
			delete(left, seen{e.ServerID, e.CID})
		}
	}
	return left
}

// long reports whether the long form of a test is asked for (make prove).
func long() bool { return os.Getenv("GATEHOUSE_PROVE") == "1" }

// metric returns the sum of a metric's samples that have all of the labels, such as
// outcome="allowed".
func (r *replica) metric(name string, labels ...string) float64 {
	r.Helper()
	code, body, err := get(r.metrics + "/metrics")
	if err != nil || code != 200 {
		r.Fatalf("/metrics: %d, %v", code, err)
	}
	return sum(r, body, name, labels...)
}

func sum(t testing.TB, body, name string, labels ...string) (total float64) {
	t.Helper()
	lines := bufio.NewScanner(strings.NewReader(body))
	lines.Buffer(nil, 1<<20)
samples:
	for lines.Scan() {
		rest, ok := strings.CutPrefix(lines.Text(), name)
		if !ok || rest[0] != '{' && rest[0] != ' ' {
			continue
		}
		for _, l := range labels {
			if !strings.Contains(rest, l) {
				continue samples
			}
		}
		v, err := strconv.ParseFloat(rest[strings.LastIndexByte(rest, ' ')+1:], 64)
		if err != nil {
			t.Fatal(err)
		}
		total += v
	}
	return total
}
