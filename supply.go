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

// supply asks a source for tokens, one call at a time. It keeps one that expires and asks for its successor
// ahead of time; each other is given out once.
type supply struct {
	source TokenSource
	life   context.Context // ends the calls
	random func(n int64) int64

	mu      sync.Mutex
	pending *call // under way, or ended and not claimed
	kept    kept
	refresh *time.Timer // of what is kept; nil before the first
}

// call is one call of the source.
type call struct {
	done  chan struct{} // closed once what follows is set
	token string
	err   error
	ended time.Time
}

// take returns the token for a login: the one at hand, else the source's next. One that is still valid also serves
// where the source fails or has not answered when ctx ends; the call goes on then and serves the next take.
// Errors wrap [ErrNoToken].
func (s *supply) take(ctx context.Context) (string, error) {
	if token, ok := s.atHand((*kept).saves); ok && !s.local() {
		return token, nil
	}
	c := s.call()
	var err error
	select {
	case <-c.done:
		s.claim(c)
		err = c.err
	case <-ctx.Done():
		err = fmt.Errorf("%w: it has not answered yet: %w", ErrNoToken, context.Cause(ctx))
	}
	if err == nil {
		s.atHand(func(k *kept, _ time.Time) bool { return k.raw == c.token })
		return c.token, nil
	}
	if token, ok := s.atHand((*kept).valid); ok {
		return token, nil
	}
	return "", err
}

// atHand returns the kept token if it is good enough, and notes that it is used.
func (s *supply) atHand(enough func(k *kept, now time.Time) bool) (string, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	if !enough(&s.kept, now) {
		return "", false
	}
	s.kept.use(now)
	return s.kept.raw, true
}

// doubt has the next take ask the source, since a token was refused. Envelopes are opened: the token is what was in it.
func (s *supply) doubt(token string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.kept.token == token {
		s.kept.doubted = true
	}
}

// local reports whether asking the source costs nothing, so that it is asked for each login and never ahead of time.
func (s *supply) local() bool {
	_, ok := s.source.(localSource)
	return ok
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
	s.keep(c)
}

// keep takes what a call came to as the token at hand, and sees to its successor.
func (s *supply) keep(c *call) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	fresh := c.err == nil && c.token != s.kept.raw
	if fresh {
		s.kept = keep(c.token, now)
	}
	if c.err == nil && s.kept.raw == c.token && s.pending == c {
		s.pending = nil // the next take finds it at hand
	}
	if !s.kept.valid(now) || s.local() || s.life.Err() != nil {
		return
	}
	pause := refreshAfter(s.kept.expires.Sub(now), fresh, s.random)
	if s.refresh != nil {
		s.refresh.Reset(pause)
		return
	}
	s.refresh = time.AfterFunc(pause, s.ahead)
	context.AfterFunc(s.life, func() { s.refresh.Stop() })
}

// ahead asks for the successor of the token at hand, for as long as that is valid: later ones are for the logins to ask for.
func (s *supply) ahead() {
	s.mu.Lock()
	valid := s.kept.valid(time.Now())
	s.mu.Unlock()
	if valid && s.life.Err() == nil {
		s.call()
	}
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
