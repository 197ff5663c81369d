// Package callout answers nats-server's auth-callout requests: admit, open, verify,
// decide, mint, record, respond.
//
// A login is answered with a credential, refused with a constant text, or left unanswered.
// Silence is for whatever an honest client should try again: overload, a stale snapshot,
// keys that are not loaded. Refusals are final for many clients (nats.go closes after two),
// so they are given only where trying again with the same token cannot help.
package callout

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"runtime"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/micro"

	"github.com/gatehouse-nats/gatehouse/policy"
	"github.com/gatehouse-nats/gatehouse/policy/mint"
	"github.com/gatehouse-nats/gatehouse/store"
)

const (
	// requestSubject is where nats-server sends its requests (server/auth_callout.go).
	requestSubject = "$SYS.REQ.USER.AUTH"
	// patience is the longest that a request is worked on: nats-server waits for 2 s at least,
	// nats.go gives up after 2 s at most.
	patience = 1500 * time.Millisecond
	// answerTime is kept for the answer's way back when a server waits for less than that.
	answerTime = 500 * time.Millisecond
	// maxWaiting bounds the logins that wait for an issuer's keys, those that wait for a server to be found, for
	// an account to be read back, and for one to be made, each.
	maxWaiting = 1024
	// pendingLimit bounds what the client library buffers for one connection.
	pendingMessages = 16384
	pendingBytes    = 64 << 20
)

// Servers is what the callout asks of the resolver. None of it blocks.
type Servers interface {
	// Known reports whether the server belongs to the cluster; pending, when not nil, is
	// closed once an answer that is still awaited is there.
	Known(id string) (known bool, pending <-chan struct{})
	// Offset returns the server's clock less ours.
	Offset(id string) time.Duration
	// Reading has the server asked what it has applied of an account, when that is not known; what it returns is
	// then closed once it is, and nil otherwise.
	Reading(server string, account *policy.Account) <-chan struct{}
	// SigningKey returns the signing key to use for the account on that server; with scoped not
	// empty that one or none.
	SigningKey(server string, account *policy.Account, scoped string, now time.Time) (string, *policy.Refusal)
}

// Tokens turns a token into an identity without blocking. An identity comes along with a
// refusal when its signature verified; pending, when not nil, is closed once keys that are
// being loaded are there or will not come.
type Tokens interface {
	Verify(token string) (id *policy.Identity, r *policy.Refusal, pending <-chan struct{})
}

// Recorder keeps an audit entry so that it survives the end of this process.
type Recorder interface {
	Append(store.AuditEntry) error
}

// Options configure a [Service]. All but Sealer, Found, OnRejected, Logger, Now, Workers and Replica
// are needed.
type Options struct {
	Conns   []*nats.Conn // to the callout account; owned by the caller
	Account string       // whom requests are for: the callout account's id, or its issuer on servers without operator
	Closed  []string     // ids of the accounts where nobody is placed: the callout account, the system account
	Signer  *mint.Key    // signs responses: a signing key of the callout account
	Sealer  *Sealer      // nil: requests come unsealed; otherwise unsealed ones are not answered
	Servers Servers
	Tokens  Tokens
	Records Recorder
	Metrics *Metrics
	State   func() *policy.Snapshot // may return nil: not loaded yet
	Keys    func() *mint.Keyring

	// Found has the account made that a login leads to, without blocking: done is closed once the account is open or is not
	// to be, and refusal then says why, nil where nothing is known against it. Nil where no login makes any.
	Found func(id *policy.Identity, source netip.Addr, c *policy.Creation) (done <-chan struct{}, refusal func() *policy.Refusal)

	// OnRejected is told when a server did not accept an answer, as when a signing key was
	// taken from an account's claims; may be nil.
	OnRejected func()

	MaxToken int    // longest token in bytes
	Version  string // of this release, a semantic version
	Replica  string // names this replica in audit entries
	Workers  int    // logins worked on at once; default two for each CPU
	Logger   *slog.Logger
	Now      func() time.Time
}

// Service answers auth-callout requests.
type Service struct {
	Options
	queue    *queue
	throttle *throttle
	replays  *replays
	sampler  *store.Sampler

	inFlight                         atomic.Int64 // logins that have arrived and not ended
	forKeys, forServers, forAccounts atomic.Int64 // those that wait
	forFirst                         atomic.Int64 // those that wait for an account that is being made
	waiting                          sync.WaitGroup
	ended                            chan struct{} // closed when the service ends

	mu      sync.Mutex
	serving []micro.Service
	stopped bool
}

// New returns a service that answers once [Service.Run] runs.
func New(o Options) *Service {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.OnRejected == nil {
		o.OnRejected = func() {}
	}
	if o.Workers <= 0 {
		o.Workers = 2 * runtime.GOMAXPROCS(0)
	}
	s := &Service{
		Options:  o,
		throttle: newThrottle(),
		replays:  newReplays(o.Now()),
		ended:    make(chan struct{}),
	}
	s.sampler = store.NewSampler(store.SampleEvery, store.ByReason, s.keep)
	s.queue = newQueue(o.Now, s.dropped)
	o.Metrics.watch(s.queue, o.Now)
	return s
}

// Run answers requests until ctx ends, then leaves the queue group, finishes what it has
// and returns nil. It returns an error when it cannot join the queue group.
func (s *Service) Run(ctx context.Context) error {
	var workers sync.WaitGroup
	for range s.Workers {
		workers.Go(s.work)
	}
	defer func() {
		s.queue.close()
		workers.Wait()
		close(s.ended)
		s.waiting.Wait()
		s.sampler.Flush(s.Now().Add(store.SampleEvery))
	}()
	rejections, err := s.listenForRejections()
	if err != nil {
		return err
	}
	defer func() { _ = rejections.Unsubscribe() }()
	if err := s.Serve(true); err != nil {
		return err
	}
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			s.sampler.Flush(s.Now())
		case <-ctx.Done():
			s.leave()
			s.finish()
			return nil
		}
	}
}

// Serve joins the queue group on every connection, or leaves it while the replica should
// not be asked, such as when its clock is off.
func (s *Service) Serve(on bool) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.stopped, on == (len(s.serving) > 0):
		return nil
	case !on:
		return s.stopServing()
	}
	for _, nc := range s.Conns {
		svc, err := s.serveOn(nc)
		if err != nil {
			return errors.Join(fmt.Errorf("callout: join the queue group of %s: %w", requestSubject, err), s.stopServing())
		}
		s.serving = append(s.serving, svc)
	}
	return nil
}

// Serving reports whether the service is in the queue group.
func (s *Service) Serving() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.serving) > 0
}

func (s *Service) serveOn(nc *nats.Conn) (micro.Service, error) {
	svc, err := micro.AddService(nc, micro.Config{
		Name:        "gatehouse",
		Version:     s.Version,
		Description: "Answers auth-callout requests with the OIDC tokens of the clients",
		Metadata:    map[string]string{"replica": s.Replica},
		ErrorHandler: func(_ micro.Service, e *micro.NATSError) {
			s.Logger.Warn("the callout's connection reported an error", "subject", e.Subject, "error", e.Description)
		},
	})
	if err != nil {
		return nil, err
	}
	err = svc.AddEndpoint("callout", micro.HandlerFunc(s.arrive),
		micro.WithEndpointSubject(requestSubject),
		micro.WithEndpointPendingLimits(pendingMessages, pendingBytes))
	if err != nil {
		return nil, errors.Join(err, svc.Stop())
	}
	return svc, nil
}

// stopServing stops every endpoint; s.mu is held.
func (s *Service) stopServing() error {
	var errs []error
	for _, svc := range s.serving {
		errs = append(errs, svc.Stop())
	}
	s.serving = nil
	return errors.Join(errs...)
}

// leave stops taking requests for good and returns when the servers know.
func (s *Service) leave() {
	s.mu.Lock()
	s.stopped = true
	err := s.stopServing()
	s.mu.Unlock()
	if err != nil {
		s.Logger.Warn("the callout left its queue group with an error", "error", err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	for _, nc := range s.Conns {
		if nc.IsConnected() {
			_ = nc.FlushWithContext(ctx) // a server that does not answer sends no requests either
		}
	}
}

// finish waits for the logins that have arrived, as long as their clients do.
func (s *Service) finish() {
	deadline := time.NewTimer(patience)
	defer deadline.Stop()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-deadline.C:
			return
		case <-tick.C:
		}
		if s.inFlight.Load() == 0 {
			return
		}
	}
}

// arrive queues a request; it runs on the connection's own goroutine and must not wait.
func (s *Service) arrive(req micro.Request) {
	now := s.Now()
	s.inFlight.Add(1)
	s.queue.add(&login{req: req, arrived: now, deadline: now.Add(patience)})
}

func (s *Service) work() {
	for l := s.queue.next(); l != nil; l = s.queue.next() {
		s.handle(l)
	}
}

// handle takes a login one step further. A panic ends that login in silence, not the process.
func (s *Service) handle(l *login) {
	defer func() {
		if p := recover(); p != nil {
			s.panicked(p)
			s.end(l, policy.Refuse(policy.Internal, "panic"))
		}
	}()
	if !l.opened {
		if r := s.open(l); r != nil {
			s.end(l, r)
			return
		}
		l.throttled = s.throttle.spent(l.source, s.Now())
		s.queue.addOpened(l)
		return
	}
	wait, r := s.login(l)
	if wait != nil {
		s.park(l, wait)
		return
	}
	s.end(l, r)
}

func (s *Service) panicked(p any) {
	s.Logger.Error("a login made the service panic; it was not answered", "panic", fmt.Sprint(p), "stack", string(debug.Stack()))
}

// park lets a login wait aside, so that it holds no worker, and queues it again afterwards.
func (s *Service) park(l *login, w *wait) {
	if w.count.Add(1) > maxWaiting {
		w.count.Add(-1)
		s.end(l, policy.Refuse(policy.Overloaded, "%d logins wait already for %s", maxWaiting, w.what))
		return
	}
	s.waiting.Go(func() {
		defer w.count.Add(-1)
		timer := time.NewTimer(l.deadline.Sub(s.Now()))
		defer timer.Stop()
		select {
		case <-w.done:
		case <-s.ended:
			s.end(l, policy.Refuse(policy.Overloaded, "the service stopped"))
			return
		case <-timer.C:
			s.end(l, policy.Refuse(w.late, "waited for %s until the client gave up", w.what))
			return
		}
		s.queue.addOpened(l)
	})
}

// dropped ends a login that the queue gave up.
func (s *Service) dropped(l *login, why dropReason) {
	switch why {
	case droppedFull:
		s.end(l, policy.Refuse(policy.Overloaded, "the queue is full"))
	case droppedThrottled:
		s.end(l, policy.Refuse(policy.SourceThrottled, "too many logins from this source were refused"))
	default:
		s.end(l, policy.Refuse(policy.RequestLate, "no worker was free in time"))
	}
}
