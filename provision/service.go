// Package provision holds the operations of administration and self-service, each defined
// once and served over HTTP and over the local socket with the same JSON.
package provision

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/gatehouse-nats/gatehouse/api"
	"github.com/gatehouse-nats/gatehouse/policy"
	"github.com/gatehouse-nats/gatehouse/store"
)

// Bounds of what callers send.
const (
	MaxReason = 1024 // bytes of the reason that an admin gives
	maxKey    = 128  // bytes of an idempotency key
)

// retryAfter is after how many seconds a call that could not be worked on is worth repeating.
const retryAfter = 1

// Tokens verifies tokens, waiting for the issuer's keys where that is needed. The identity
// comes along with a refusal when the signature verified.
type Tokens interface {
	VerifyWait(ctx context.Context, token string) (*policy.Identity, *policy.Refusal)
	// VerifyAdmin is for tokens that are made for administration.
	VerifyAdmin(ctx context.Context, token string) (*policy.Identity, *policy.Refusal)
}

// Records keeps audit entries of calls until the store has them.
type Records interface {
	Append(store.AuditEntry) error
}

// Options configure a [Service]. Tokens and Records may be nil where nobody brings a token (the command
// line with the store opened by itself); the fields from Refresh to
// Template too.
type Options struct {
	Store   store.Store
	Tokens  Tokens
	Logouts Logouts // nil: no issuer can log anybody out
	Records Records
	Signer  Signer                   // signs admin tokens; nil where there are none
	State   func() *policy.Snapshot  // may return nil: not loaded yet
	Issuers func() map[string]string // URLs of the configured issuers by name
	// Closed are the ids of the accounts in which nobody is placed: the callout's and the system's.
	Closed []string
	// Unmanaged says with which reason, and why, no account's claims can be changed; two empty texts when they can, or nil.
	Unmanaged func() (reason, why string)
	// Enforce has a revocation that was stored, or lifted, carried out; it does not wait for that.
	Enforce func(store.Revocation)
	Servers Servers // nil where connections can neither be seen nor closed
	// Refresh makes this replica see what was just stored before the call returns.
	Refresh func(context.Context) error
	Reload  func(context.Context) (api.Reloaded, error)
	Status  func() api.Status
	// Template returns the permissions in the template of an account's scoped signing key, false when
	// no server has shown them.
	Template func(account, key string) (policy.Permissions, bool)
	// Discovery says what everybody may know; nil: nobody is told anything.
	Discovery func() api.Discovery
	Web       func() Web // what calls over HTTP may come through; nil: no page, no proxy
	Direct    *Direct    // signs direct users up; nil where nobody is
	Accounts  *Accounts  // of sign-up; nil where there are none
	Served    *Served    // what servers that store no claims are given; nil where they do
	Keys      *Keys      // nil where they can be neither seen nor sealed anew
	Replica   string     // name of the replica, for the audit trail
	Logger    *slog.Logger
	Now       func() time.Time
}

// Service carries out operations. Its methods return errors of type *[api.Error].
type Service struct {
	Options
	history   chan struct{} // holds one for each read of the audit trail on behalf of whoami
	rates     rates
	founded   rates // sign-ups of accounts on behalf of others, by the backend
	proofs    proofs
	leaving   leaving
	foundings foundings
	turns     agenda         // of signing keys
	ending    agenda         // of accounts that are being deleted
	sampler   *store.Sampler // of refused calls
	polls     *store.Sampler // of calls that are repeated to see what has changed

	logoutChecks, logoutWaits slots
}

// New returns a service.
func New(o Options) *Service {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	s := &Service{
		Options: o, history: make(chan struct{}, historyReads),
		logoutChecks: make(slots, logoutChecks), logoutWaits: make(slots, logoutWaits),
	}
	s.sampler = store.NewSampler(store.SampleEvery, store.ByReason, s.keep)
	s.polls = store.NewSampler(pollsEvery, func(e store.AuditEntry) string { return e.Op + " " + e.Actor }, s.keep)
	return s
}

// Run records what was sampled, and lets logins make accounts, until ctx ends; it returns nil then.
func (s *Service) Run(ctx context.Context) error {
	s.foundings.begin(ctx)
	defer s.foundings.end()
	tick := time.NewTicker(store.SampleEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			s.sampler.Flush(s.Now().Add(store.SampleEvery))
			s.polls.Flush(s.Now().Add(pollsEvery))
			return nil
		case <-tick.C:
			s.sampler.Flush(s.Now())
			s.polls.Flush(s.Now())
		}
	}
}

func refuse(code int, reason, format string, args ...any) *api.Error {
	return &api.Error{Code: code, Reason: reason, Message: fmt.Sprintf(format, args...)}
}

// again is refuse for what may succeed when it is tried again.
func again(code int, reason, format string, args ...any) *api.Error {
	e := refuse(code, reason, format, args...)
	e.RetryAfter = retryAfter
	return e
}

func badRequest(format string, args ...any) *api.Error {
	return refuse(http.StatusBadRequest, api.ReasonBadRequest, format, args...)
}

// storeError turns an error of the store into one for callers; the text of the store's own
// error stays inside, but for conditions that the caller can act on.
func (s *Service) storeError(what string, err error) error {
	switch {
	case errors.Is(err, store.ErrNotFound):
		return refuse(http.StatusNotFound, api.ReasonNotFound, "%s: there is no revocation with that id: gatehouse revocations --all lists them", what)
	case errors.Is(err, store.ErrCursor):
		return badRequest("%s: the cursor is not one that this list gave: start again from the first page", what)
	case errors.Is(err, store.ErrConflict):
		return refuse(http.StatusConflict, api.ReasonConflict, "%s: the idempotency key was used before for another call: use a new one", what)
	default:
		s.Logger.Error("the store failed an operation", "op", what, "error", err)
		return again(http.StatusServiceUnavailable, api.ReasonUnavailable, "%s: the store is not available: call again, with the same idempotency key where one was given", what)
	}
}

// issuerURL returns the exact iss of a configured issuer, given by its name or by its URL.
func (s *Service) issuerURL(issuer string) (string, error) {
	if issuer == adminTokenName || issuer == AdminTokenIssuer {
		return AdminTokenIssuer, nil
	}
	issuers := s.Issuers()
	if issuer == "" {
		return "", badRequest("issuer is empty: give its name or its exact URL")
	}
	for name, url := range issuers {
		if issuer == name || issuer == url {
			return url, nil
		}
	}
	for _, url := range issuers {
		if strings.TrimSuffix(issuer, "/") == strings.TrimSuffix(url, "/") {
			return "", badRequest("issuer %.200q is not configured, but %q is: the slash at the end makes a difference", issuer, url)
		}
	}
	return "", badRequest("issuer %.200q is not configured: give its name or its exact URL", issuer)
}

// storedIssuerURL is [Service.issuerURL] for what is in the store already, which may be of an
// issuer that is not configured any more: such a one is given by its URL.
func (s *Service) storedIssuerURL(issuer string) (string, error) {
	url, err := s.issuerURL(issuer)
	if err != nil && strings.Contains(issuer, "://") {
		return issuer, nil
	}
	return url, err
}

// principalName returns the principal name under which servers show the identity; empty when
// its issuer is not configured.
func (s *Service) principalName(p policy.Principal) string {
	for name, url := range s.Issuers() {
		if url == p.Issuer {
			return policy.PrincipalName(name, p.Subject)
		}
	}
	return ""
}

func newID() string { return uuid.Must(uuid.NewV7()).String() }
