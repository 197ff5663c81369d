package gatehouse

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
)

const (
	// sourceTimeout bounds a call of the token source.
	sourceTimeout = 30 * time.Second
	// loginWait is how long a login waits for its token. A server gives a client 2 s from the
	// TCP handshake to its CONNECT (nats-server server/const.go, AUTH_TIMEOUT).
	loginWait = 1500 * time.Millisecond
	// unclaimedFor is how long the token of a login that stopped waiting is kept for the next.
	unclaimedFor = time.Minute
)

// supply asks a source for tokens, one call at a time, and gives each out once.
type supply struct {
	source TokenSource
	life   context.Context // ends the calls

	mu      sync.Mutex
	pending *call // under way, or ended and not claimed
}

// call is one call of the source.
type call struct {
	done  chan struct{} // closed once what follows is set
	token string
	err   error
	ended time.Time
}

// take returns the next token. When ctx ends first, the call goes on and serves the next take.
// Errors wrap [ErrNoToken].
func (s *supply) take(ctx context.Context) (string, error) {
	c := s.call()
	select {
	case <-c.done:
		s.claim(c)
		return c.token, c.err
	case <-ctx.Done():
		return "", fmt.Errorf("%w: it has not answered yet: %w", ErrNoToken, context.Cause(ctx))
	}
}

// call returns the call to wait for, a new one when there is none that could still serve.
func (s *supply) call() *call {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.pending == nil || s.pending.useless() {
		s.pending = &call{done: make(chan struct{})}
		go s.ask(s.pending)
	}
	return s.pending
}

// useless reports whether the call ended in a way that a new one would do better.
func (c *call) useless() bool {
	select {
	case <-c.done:
		return c.err != nil || time.Since(c.ended) > unclaimedFor
	default:
		return false
	}
}

func (s *supply) claim(c *call) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.pending == c {
		s.pending = nil
	}
}

func (s *supply) ask(c *call) {
	defer close(c.done)
	ctx, cancel := context.WithTimeout(s.life, sourceTimeout)
	defer cancel()
	token, err := s.source.Token(ctx)
	c.token, c.err, c.ended = token, checkToken(token, err), time.Now()
}

// checkToken returns what keeps the source's answer from being sent.
func checkToken(token string, err error) error {
	switch {
	case err != nil:
		// nothing to add
	case token == "":
		err = errors.New("it gave an empty one")
	case len(token) > maxToken:
		err = fmt.Errorf("it gave one of %d bytes, at most %d can be sent", len(token), maxToken)
	default:
		return nil
	}
	return fmt.Errorf("%w: %w", ErrNoToken, err)
}
