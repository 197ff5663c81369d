package natsfacts

import (
	"errors"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
)

// Fact: a callout nobody answers ends after the server's authorization timeout, 2 s by
// default, whether the service is silent or there is none: no responders is not noticed.
// Gatehouse uses silence for what a client should retry, and has to decide well within 2
// s.
func TestSilenceLastsUntilTimeout(t *testing.T) {
	t.Parallel()
	d := onOneServer(t)
	silent := d.newCallout(t)
	absent := makeCallout(t)
	absent.join(t, d)
	for name, c := range map[string]*callout{"silent service": silent, "no service": absent} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			begin := time.Now()
			_, err := c.dial(t)
			if took := time.Since(begin); took < 1900*time.Millisecond || took > 5*time.Second {
				t.Errorf("connect took %v, want about 2s", took)
			}
			if !errors.Is(err, nats.ErrAuthorization) {
				t.Errorf("connect error = %v, want %v", err, nats.ErrAuthorization)
			}
		})
	}
}

// Fact: a server without peers that looks for an unknown account waits 1.9 s, and a
// response that names one makes it wait in the loop that reads all responses of that
// service connection: every other login on it stalls. Gatehouse never answers with an
// account that the servers have not confirmed.
func TestUnknownAccountStallsServiceConnection(t *testing.T) {
	t.Parallel()
	d := onOneServer(t)
	app := d.newAccount(t, "APP")
	unknown, err := makeAccount("UNKNOWN")
	check(t, err)
	c := d.newCallout(t)
	named := make(chan struct{})
	c.answerWith(func(r *request) []byte {
		if r.ConnectOptions.Token == "unknown" {
			defer close(named)
			return c.admit(unknown)(r)
		}
		return c.admit(app)(r)
	})
	c.login(t) // the account is loaded from here on
	refused := make(chan error, 1)
	begin := time.Now()
	go func() {
		_, err := c.dial(t, nats.Token("unknown"))
		refused <- err
	}()
	await(t, named)
	c.login(t, nats.Token("good"))
	if took := time.Since(begin); took < time.Second {
		t.Errorf("login behind an unknown account took %v, want it stalled for more than 1s", took)
	}
	if err := await(t, refused); !errors.Is(err, nats.ErrAuthorization) {
		t.Errorf("connect error = %v, want %v", err, nats.ErrAuthorization)
	}
}

// Fact: a longer timeout of the server does not help nats.go: the server's first PING, 2
// s after the CONNECT, ends the handshake. exp − iat of the request follows the timeout.
// So Gatehouse's deadline is the smaller of 1.5 s and what the request leaves.
func TestLongerTimeoutDoesNotHelpClients(t *testing.T) {
	t.Parallel()
	d := newPrivate(t)
	d.startServer(t, d.config("patient", t.TempDir(), false)+"authorization { timeout: 4 }\n")
	c := d.newCallout(t)
	begin := time.Now()
	_, err := c.dial(t)
	if want := "nats: expected 'PONG', got 'PING'"; err == nil || err.Error() != want {
		t.Errorf("connect error = %v, want %s", err, want)
	}
	if took := time.Since(begin); took < 1900*time.Millisecond || took > 4*time.Second {
		t.Errorf("connect took %v, want 2s to 2.5s", took)
	}
	r := c.seen()[0]
	if left := r.Expires - r.IssuedAt; left != 4 && left != 3 {
		t.Errorf("exp - iat = %d s, want 4", left)
	}
}
