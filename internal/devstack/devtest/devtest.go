// Package devtest gives tests real nats-servers, in process or as processes that can be killed and frozen, and the demo
// OIDC provider. What it starts ends with the test.
package devtest

import (
	"io"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/gatehouse-nats/gatehouse/internal/devstack"
)

// StartProvider starts a demo OIDC provider that is closed at the end of the test. What it logs goes to the test's
// output unless opts says otherwise.
func StartProvider(t testing.TB, opts devstack.ProviderOptions) *devstack.Provider {
	t.Helper()
	if opts.Log == nil {
		opts.Log = Log(t)
	}
	p, err := devstack.StartProvider(opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	})
	return p
}

// Token mints a token of the provider's user for the audience nats, valid for an hour. Entries of extra replace or join
// its claims; see devstack.Keys.MintToken.
func Token(t testing.TB, p *devstack.Provider, user string, extra map[string]any) string {
	t.Helper()
	token, err := p.Token(user, devstack.Audience, time.Hour, extra)
	if err != nil {
		t.Fatal(err)
	}
	return token
}

// Ports reserves n free ports; see devstack.ReservePorts.
func Ports(t testing.TB, n int) []int {
	t.Helper()
	ports, err := devstack.ReservePorts(n)
	if err != nil {
		t.Fatal(err)
	}
	return ports
}

// Log returns a logger that writes to the test's output, shown when the test fails, and nowhere once the test has ended.
func Log(t testing.TB) *slog.Logger {
	w := &testWriter{to: t.Output()}
	t.Cleanup(w.close)
	return slog.New(slog.NewTextHandler(w, nil))
}

// testWriter guards a test's output, which panics when something is written after the test.
type testWriter struct {
	mu sync.Mutex
	to io.Writer
}

func (w *testWriter) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.to.Write(p)
}

func (w *testWriter) close() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.to = io.Discard
}
