package devstack

import (
	"context"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/zitadel/oidc/v3/pkg/oidc"
)

const jwksPath = "/keys"

// outage stands in front of the provider: it delays or refuses answers on demand and counts what key consumers fetch.
type outage struct {
	next http.Handler

	discoveries atomic.Int64
	jwks        atomic.Int64

	mu      sync.Mutex
	delay   time.Duration
	down    bool
	changed chan struct{} // closed when delay or down changes
}

func newOutage(next http.Handler) *outage {
	return &outage{next: next, changed: make(chan struct{})}
}

func (o *outage) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch r.URL.Path {
	case oidc.DiscoveryEndpoint:
		o.discoveries.Add(1)
	case jwksPath:
		o.jwks.Add(1)
	}
	if !o.admit(r.Context()) {
		panic(http.ErrAbortHandler) // cuts the connection without an answer, as a dead server does
	}
	o.next.ServeHTTP(w, r)
}

// admit waits out the delay, as it is at each moment, and reports whether to answer.
func (o *outage) admit(ctx context.Context) bool {
	arrived := time.Now()
	for {
		o.mu.Lock()
		left, down, changed := o.delay-time.Since(arrived), o.down, o.changed
		o.mu.Unlock()
		if down || left <= 0 {
			return !down
		}
		timer := time.NewTimer(left)
		select {
		case <-timer.C:
		case <-changed:
		case <-ctx.Done():
			timer.Stop()
			return false
		}
		timer.Stop()
	}
}

func (o *outage) set(change func()) {
	o.mu.Lock()
	defer o.mu.Unlock()
	change()
	close(o.changed)
	o.changed = make(chan struct{})
}
