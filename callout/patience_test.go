package callout

import (
	"testing"
	"time"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nats.go"

	"github.com/gatehouse-nats/gatehouse/policy"
)

// A login that waits for an issuer's keys holds no worker, and is decided on once they are there.
func TestLoginWaitsForKeys(t *testing.T) {
	t.Parallel()
	s, f := member(t, withWorkers(1))
	keys := make(chan struct{})
	loaded := false // written before keys is closed, read by the only worker after
	const waiting = secret + "waiting"
	s.tokens.set(waiting, func() (*policy.Identity, *policy.Refusal, <-chan struct{}) {
		select {
		case <-keys:
			loaded = true
			return valid("alice", "dev")()
		default:
			return nil, nil, keys
		}
	})
	c := f.claims(t, waiting)
	f.send(t, f.seal(t, f.sign(t, c)))
	eventually(t, func() error { return check(s.forKeys.Load() == 1, "the login does not wait") })
	if f.answered(t, secret+"alice").Jwt == "" {
		t.Error("another login was not admitted meanwhile")
	}
	close(keys)
	if got := f.next(t); got.Subject != c.UserNkey || got.Jwt == "" {
		t.Errorf("the login that waited got %+v", got)
	}
	if !loaded || s.forKeys.Load() != 0 || s.ended(policy.RequestReplayed, "") != 0 {
		t.Errorf("loaded %t, %d wait", loaded, s.forKeys.Load())
	}
}

// A login whose keys never come ends in silence when its client gives up.
func TestKeysNeverCome(t *testing.T) {
	t.Parallel()
	s := startSystem(t)
	s.tokens.set(secret+"waiting", func() (*policy.Identity, *policy.Refusal, <-chan struct{}) { return nil, nil, make(chan struct{}) })
	started := time.Now()
	if _, err := s.dial(t, nats.Token(secret+"waiting")); err == nil {
		t.Error("admitted without keys")
	}
	if d := time.Since(started); d < patience {
		t.Errorf("the client was answered after %s: want silence until its server gives up", d)
	}
	if e := s.records.only(t, policy.KeysUnavailable); e.Outcome != "silent" || s.forKeys.Load() != 0 {
		t.Errorf("entry %+v, %d wait", e, s.forKeys.Load())
	}
	eventually(t, func() error {
		return check(s.rejections(timedOut) == 1, "the server's report of the timeout was not counted")
	})
}

// The same for a server that is being looked for.
func TestLoginWaitsForServer(t *testing.T) {
	t.Parallel()
	found := make(chan struct{})
	stub := &serverTable{}
	stub.known = func(id string) (bool, <-chan struct{}) {
		select {
		case <-found:
			return true, nil
		default:
			return false, found
		}
	}
	s := startSystem(t, withServers(stub), withWorkers(1))
	done := make(chan error, 1)
	go func() {
		nc, err := nats.Connect(s.server.ClientURL(), nats.Token(secret+"alice"), nats.NoReconnect())
		if err == nil {
			nc.Close()
		}
		done <- err
	}()
	eventually(t, func() error { return check(s.forServers.Load() == 1, "the login does not wait") })
	if s.tokens.times(secret+"alice") != 0 {
		t.Error("the token was looked at before the server is known")
	}
	close(found)
	if err := await(t, done); err != nil {
		t.Error(err)
	}
}

// Those that wait are bounded; one too many is left to try again.
func TestWaitingIsBounded(t *testing.T) {
	t.Parallel()
	s, f := member(t)
	s.tokens.set(secret+"waiting", func() (*policy.Identity, *policy.Refusal, <-chan struct{}) { return nil, nil, make(chan struct{}) })
	s.forKeys.Store(maxWaiting)
	f.send(t, f.request(t, secret+"waiting", nil))
	s.awaitEnd(t, policy.Overloaded, "", 1)
	f.silence(t, "overload")
	if got := s.forKeys.Load(); got != maxWaiting {
		t.Errorf("%d wait", got)
	}
}

// Nothing is minted, nor is a token looked at, for a client that has given up.
func TestLateRequests(t *testing.T) {
	t.Parallel()
	s, f := member(t, withWorkers(1))
	entered, release := make(chan struct{}), make(chan struct{})
	const slow, late = secret + "slow", secret + "alice"
	s.tokens.set(slow, func() (*policy.Identity, *policy.Refusal, <-chan struct{}) {
		close(entered)
		<-release
		return valid("alice", "dev")()
	})
	f.send(t, f.request(t, slow, nil))
	await(t, entered)
	for range 5 {
		f.send(t, f.request(t, late, nil))
	}
	eventually(t, func() error {
		n, _ := s.queue.depth()
		return check(n == 5, "%d requests wait", n)
	})
	s.clock.advance(patience + time.Millisecond)
	close(release)
	s.awaitEnd(t, policy.RequestLate, "", 5)     // the ones that waited
	s.awaitEnd(t, policy.RequestLate, "corp", 1) // the one whose answer took too long
	f.silence(t, "late")
	if n := s.tokens.times(late); n != 0 {
		t.Errorf("the tokens of %d late requests were looked at", n)
	}
	if f.answered(t, late).Jwt == "" {
		t.Error("a request in time was not admitted")
	}
}

// A login that takes too long to record is not answered, though the server may wait for longer: it may have been
// revoked since.
func TestSlowRecord(t *testing.T) {
	t.Parallel()
	s, f := member(t, withWorkers(1))
	s.records.mu.Lock()
	s.records.during = func() { s.clock.advance(patience + time.Millisecond) }
	s.records.mu.Unlock()
	f.send(t, f.request(t, secret+"alice", func(c *jwt.AuthorizationRequestClaims) { c.Expires = c.IssuedAt + 60 }))
	s.awaitEnd(t, policy.RequestLate, "corp", 1)
	f.silence(t, "late")
	if e := s.records.only(t, policy.Allowed); e.Subject != "alice" {
		t.Errorf("recorded as %+v", e)
	}
}

// A server that waits for less than usual leaves less time to work on its requests.
func TestShortServerTimeout(t *testing.T) {
	t.Parallel()
	s, f := member(t, withWorkers(1))
	entered, release := make(chan struct{}), make(chan struct{})
	s.tokens.set(secret+"slow", func() (*policy.Identity, *policy.Refusal, <-chan struct{}) {
		close(entered)
		<-release
		return valid("alice", "dev")()
	})
	f.send(t, f.request(t, secret+"slow", func(c *jwt.AuthorizationRequestClaims) { c.Expires = c.IssuedAt + 1 }))
	await(t, entered)
	s.clock.advance(answerTime + 100*time.Millisecond)
	close(release)
	s.awaitEnd(t, policy.RequestLate, "corp", 1)
	f.silence(t, "late")
}
