package gatehouse

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/nats-io/nats.go"
)

// connectTimeout bounds one attempt on one server. It is above a server's own limit for a login
// (2 s, 3 s with TLS), so that the server's verdict arrives.
const connectTimeout = 5 * time.Second

// firstFor is how long a first connect that nobody answers is repeated when its context has no deadline.
const firstFor = time.Minute

// silence is how long after its login a refusal may only say that nobody answered the server. It says so once its own limit
// has passed (2 s, 3 s with TLS), also where no service runs; a refusal that comes sooner was given by somebody.
const silence = 1500 * time.Millisecond

// Connect connects to one of the servers in url (several are separated by commas) with tokens
// from source; the HTTP address of a service stands for the servers that it names, see [Discover]. The context bounds this first connect alone: the first token, all attempts, the pauses between them, and
// the question for the reason when they are refused. What no repetition helps is returned at once: without a server
// nats.ErrNoServers, without a token [ErrNoToken], after a refusal a [*RefusedError]. Where nobody answered in time, as
// when all clients log in at once, it tries again until ctx ends, or for a minute when that has no deadline.
//
// The connection then restores itself for as long as it is not closed, and [SpreadReconnects] says when. Each login
// takes a token that the source gave ahead of time, or asks it; see [TokenSource]. A login for which there is
// none is not sent to the server; it counts as a failed attempt, is reported to the error handler, and is tried again.
// The defaults are: no limit of reconnects, no end after repeated refusals (nats.IgnoreAuthErrorAbort), 5 s
// for an attempt, and the program's name as the connection's. [WithNATSOptions] changes them; with nats.CustomReconnectDelay
// or nats.ReconnectToServer among its options, they alone say when.
//
// When ctx ends early, an attempt that is under way is given up in the background, within its own timeout.
func Connect(ctx context.Context, url string, source TokenSource, opts ...Option) (*nats.Conn, error) {
	if source == nil {
		return nil, errors.New("gatehouse: the token source is nil")
	}
	url, opts, err := discovered(ctx, url, opts)
	if err != nil {
		return nil, err
	}
	cfg, err := newConfig(opts)
	if err != nil {
		return nil, err
	}
	life, end := context.WithCancel(context.WithoutCancel(ctx))
	l := &login{config: cfg, supply: &supply{source: source, life: life, random: rand.Int64N}, life: life, end: end}
	if cfg.whoami != nil {
		l.whoami = &whoami{base: cfg.whoami, http: cfg.httpClient}
	}
	nc, err := l.connect(ctx, url)
	if err != nil {
		end()
		return nil, err
	}
	return nc, nil
}

// login is what a connection logs in with, for as long as it lives.
type login struct {
	config config
	supply *supply
	whoami *whoami // nil when not configured
	life   context.Context
	end    context.CancelFunc

	inbox string // private inbox prefix, when asked for

	mu    sync.Mutex
	next  *envelope // of the first login, until it is used
	sent  envelope  // of the latest login
	at    time.Time // when that was
	asked time.Time // when whoami was last asked for a connection that lives
}

// connect makes the first login, and tries again where that helps.
func (l *login) connect(ctx context.Context, url string) (*nats.Conn, error) {
	if err := l.first(ctx); err != nil {
		return nil, err
	}
	start := time.Now()
	var last error
	for failures := 1; ; failures++ { // once the attempt has failed
		nc, err := l.attempt(ctx, url)
		if err == nil {
			return nc, nil
		}
		if ctx.Err() != nil {
			return nil, ended(ctx, cmp.Or(last, err))
		}
		last = l.failure(ctx, err)
		if !l.mayPass(err, last) || outOfTime(ctx, start) {
			return nil, last
		}
		pause := time.NewTimer(jitter(failures, rand.Int64N))
		select {
		case <-pause.C:
		case <-ctx.Done():
			pause.Stop()
			return nil, ended(ctx, last)
		}
	}
}

// outOfTime reports whether a first connect without a deadline has lasted for as long as it may.
func outOfTime(ctx context.Context, start time.Time) bool {
	_, bounded := ctx.Deadline()
	return !bounded && time.Since(start) > firstFor
}

// ended returns the error of a first connect whose context has ended, with what became of the last attempt.
func ended(ctx context.Context, last error) error {
	if cause := context.Cause(ctx); !errors.Is(last, cause) {
		return fmt.Errorf("gatehouse: connect to NATS: %w; the last attempt: %w", cause, last)
	}
	return last
}

// attempt tries each server once.
func (l *login) attempt(ctx context.Context, url string) (*nats.Conn, error) {
	l.mu.Lock()
	l.at = time.Time{}
	l.mu.Unlock()
	type result struct {
		nc  *nats.Conn
		err error
	}
	done := make(chan result, 1)
	go func() { // nats.go knows no context
		nc, err := nats.Connect(url, l.options()...)
		done <- result{nc, err}
	}()
	select {
	case r := <-done:
		return r.nc, r.err
	case <-ctx.Done():
		l.end()
		go func() {
			if r := <-done; r.nc != nil {
				r.nc.Close()
			}
		}()
		return nil, fmt.Errorf("gatehouse: connect to NATS: %w", context.Cause(ctx))
	}
}

// first takes the token of the first login before anything is dialed: a server would not wait for it.
func (l *login) first(ctx context.Context) error {
	e, err := l.take(ctx)
	if err != nil {
		return err
	}
	if l.config.privateInbox {
		if l.inbox, err = inboxPrefix(e.Token); err != nil {
			return err
		}
	}
	l.next = &e
	return nil
}

// take returns a fresh token with the account to ask for.
func (l *login) take(ctx context.Context) (envelope, error) {
	token, err := l.supply.take(ctx)
	if err != nil {
		return envelope{}, err
	}
	e, err := openEnvelope(token)
	if l.config.account != "" {
		e.Account = l.config.account
	}
	return e, err
}

// options returns the defaults, the caller's options, and the authentication on top.
func (l *login) options() []nats.Option {
	opts := []nats.Option{
		nats.Name(filepath.Base(os.Args[0])),
		nats.MaxReconnects(-1),
		nats.Timeout(connectTimeout),
		nats.IgnoreAuthErrorAbort(),
	}
	if l.inbox != "" {
		opts = append(opts, nats.CustomInboxPrefix(l.inbox))
	}
	return append(append(opts, l.config.nats...), l.authenticate)
}

// authenticate is a nats.Option.
func (l *login) authenticate(o *nats.Options) error {
	if o.Token != "" || o.TokenHandler != nil || o.UserJWT != nil || o.Nkey != "" {
		return errors.New("gatehouse: the NATS options must not authenticate: the token source does, with WithSentinel for a sentinel")
	}
	o.TokenHandler = l.token
	if err := l.sign(o); err != nil {
		return err
	}

	closed := o.ClosedCB
	o.ClosedCB = func(nc *nats.Conn) {
		l.end()
		if closed != nil {
			closed(nc)
		}
	}
	o.AsyncErrorCB = l.explainTo(o.AsyncErrorCB)
	d := dialThrough(o)
	if o.ReconnectToServerCB == nil && o.CustomReconnectDelayCB == nil {
		spread(o, d)
	}
	return nil
}

// sign sets the callbacks that nats.go calls for each login before the token handler. Unlike the handler
// they may fail: the CONNECT is not sent then, and the error goes to the error handler (nats.go, connectProto
// and sendConnect). Beside a JWT that is empty nats.go signs nothing, so that a key which has to sign
// without a sentinel is given to it by its name.
func (l *login) sign(o *nats.Options) error {
	key, sentinel := l.config.key, l.config.sentinel
	switch {
	case !key.given():
		o.UserJWT, o.SignatureCB = l.prepare, sentinel.sign
	case sentinel.read != nil:
		o.UserJWT, o.SignatureCB = l.prepare, key.sign
	default:
		public, err := key.public()
		if err != nil {
			return err
		}
		o.Nkey = public
		o.SignatureCB = func(nonce []byte) ([]byte, error) {
			if _, err := l.prepare(); err != nil {
				return nil, err
			}
			return key.sign(nonce)
		}
	}
	return nil
}

// prepare gets the token of a login and returns the sentinel's JWT. nats.go holds the
// connection's lock meanwhile.
func (l *login) prepare() (string, error) {
	if err := l.life.Err(); err != nil {
		return "", fmt.Errorf("gatehouse: the connection is closed: %w", err)
	}
	l.mu.Lock()
	e := l.next
	l.next = nil
	l.mu.Unlock()
	if e == nil {
		fresh, err := l.fresh()
		if err != nil {
			return "", err
		}
		e = &fresh
	}
	l.mu.Lock()
	l.sent, l.at = *e, time.Now()
	l.mu.Unlock()
	return l.config.sentinel.jwt()
}

// fresh takes a token of the same identity as before, where that matters.
func (l *login) fresh() (envelope, error) {
	ctx, cancel := context.WithTimeout(l.life, loginWait)
	defer cancel()
	e, err := l.take(ctx)
	if err != nil || l.inbox == "" {
		return e, err
	}
	inbox, err := inboxPrefix(e.Token)
	if err == nil && inbox != l.inbox {
		l.supply.doubt(e.Token)
		err = fmt.Errorf("%w: its token now speaks of another identity, which may not use this connection's private inbox", ErrNoToken)
	}
	return e, err
}

// token returns what [login.prepare] has got.
func (l *login) token() string { return l.latest().encode() }

func (l *login) latest() envelope {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.sent
}

// since returns the time since the latest login was sent; less than 0 when none was sent in this attempt.
func (l *login) since() time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.at.IsZero() {
		return -1
	}
	return time.Since(l.at)
}

// mayPass reports whether trying again may help after an error of nats.go, of which told was made.
func (l *login) mayPass(err, told error) bool {
	var timeout net.Error
	refusal, ok := errors.AsType[*RefusedError](told)
	switch {
	case ok:
		return refusal.unanswered
	case errors.Is(err, nats.ErrNoServers):
		return l.since() >= 0 // one was reached, before another that was not
	case errors.As(err, &timeout) && timeout.Timeout():
		return true
	case errors.Is(err, io.EOF), errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
		return true
	default: // nats.go has no values for these
		text := strings.ToLower(err.Error())
		return strings.Contains(text, "got 'ping'") || strings.Contains(text, "authentication timeout") ||
			strings.Contains(text, "maximum connections exceeded")
	}
}

// failure returns what the caller of Connect should know of an error of nats.go.
func (l *login) failure(ctx context.Context, err error) error {
	switch {
	case refused(err) && l.since() >= l.config.silence:
		return notAnswered(err)
	case refused(err):
		return l.whoami.explain(ctx, err, l.latest())
	case strings.Contains(err.Error(), "maximum control line exceeded"):
		return fmt.Errorf("gatehouse: %w: the token is longer than the servers read: set max_control_line to 65536 there", err)
	case errors.Is(err, nats.ErrNkeysNotSupported):
		return ErrNoNonce
	case errors.Is(err, ErrNoToken), errors.Is(err, ErrNoNonce):
		return err
	default:
		return fmt.Errorf("gatehouse: connect to NATS: %w", err)
	}
}

// explainTo returns an error handler that passes refusals on with their reason, and all else as it is. That nobody
// answered is no reason to ask the service, which may have too much to do as it is.
func (l *login) explainTo(next nats.ErrHandler) nats.ErrHandler {
	if next == nil {
		next = logError
	}
	return func(nc *nats.Conn, sub *nats.Subscription, err error) {
		if !refused(err) || l.since() >= l.config.silence {
			next(nc, sub, err)
			return
		}
		refused := l.latest()
		l.supply.doubt(refused.Token)
		if l.whoami == nil || !l.mayAsk(time.Now()) {
			next(nc, sub, err)
			return
		}
		go func() { // an answer that takes its time must not hold up nats.go's other callbacks
			explained := l.whoami.explain(l.life, err, refused)
			if l.life.Err() == nil {
				next(nc, sub, explained)
			}
		}()
	}
}

// mayAsk reports whether whoami has not been asked for a while, and notes that it is asked now.
func (l *login) mayAsk(now time.Time) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if now.Sub(l.asked) < askEvery {
		return false
	}
	l.asked = now
	return true
}

// logError stands in for nats.go's own default handler, which writes to standard error.
func logError(_ *nats.Conn, sub *nats.Subscription, err error) {
	if sub != nil {
		slog.Warn("NATS connection", "error", err, "subject", sub.Subject)
		return
	}
	slog.Warn("NATS connection", "error", err)
}
