// Package provision holds the operations of administration and self-service, each defined
// once and served over HTTP and over the local socket with the same JSON.
package provision

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"time"

	"github.com/google/uuid"

	"github.com/gatehouse-nats/gatehouse/api"
	"github.com/gatehouse-nats/gatehouse/policy"
	"github.com/gatehouse-nats/gatehouse/store"
)

// Bounds of what callers send.
const (
	MaxReason  = 1024 // bytes of the reason that an admin gives
	MaxSubject = 1024 // bytes of a subject
	maxKey     = 128  // bytes of an idempotency key
)

// Tokens verifies tokens, waiting for the issuer's keys where that is needed. The identity
// comes along with a refusal when the signature verified.
type Tokens interface {
	VerifyWait(ctx context.Context, token string) (*policy.Identity, *policy.Refusal)
}

// Options configure a [Service]. Tokens may be nil where nobody brings one (the command
// line with the store opened by itself); Refresh, Reload and Status too.
type Options struct {
	Store   store.Store
	Tokens  Tokens
	State   func() *policy.Snapshot  // may return nil: not loaded yet
	Issuers func() map[string]string // URLs of the configured issuers by name
	// Refresh makes this replica see what was just stored before the call returns.
	Refresh func(context.Context) error
	Reload  func(context.Context) (api.Reloaded, error)
	Status  func() api.Status
	Logger  *slog.Logger
	Now     func() time.Time
}

// Service carries out operations. Its methods return errors of type *[api.Error].
type Service struct{ Options }

// New returns a service.
func New(o Options) *Service {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return &Service{o}
}

// Caller is who calls an operation, as the transport found out.
type Caller struct {
	// Actor names a caller with the rights of an admin, for the audit trail: the peer of the
	// local socket. Empty for everybody else.
	Actor     string
	Token     string // bearer token, may be empty
	Source    netip.Addr
	RequestID string
}

// admin refuses callers without the rights of an admin.
func (c Caller) admin() error {
	if c.Actor == "" {
		return refuse(http.StatusForbidden, api.ReasonForbidden, "this operation is for admins: call it on the host, through the local socket")
	}
	return nil
}

func refuse(code int, reason, format string, args ...any) *api.Error {
	return &api.Error{Code: code, Reason: reason, Message: fmt.Sprintf(format, args...)}
}

func badRequest(format string, args ...any) *api.Error {
	return refuse(http.StatusBadRequest, api.ReasonBadRequest, format, args...)
}

// storeError turns an error of the store into one for callers; the text of the store's own
// error stays inside, but for conditions that the caller can act on.
func (s *Service) storeError(what string, err error) error {
	switch {
	case errors.Is(err, store.ErrNotFound):
		return refuse(http.StatusNotFound, api.ReasonNotFound, "%s: not found", what)
	case errors.Is(err, store.ErrConflict):
		return refuse(http.StatusConflict, api.ReasonConflict, "%s: the idempotency key was used before for another call: use a new one", what)
	default:
		s.Logger.Error("the store failed an operation", "op", what, "error", err)
		return refuse(http.StatusServiceUnavailable, api.ReasonUnavailable, "%s: the store is not available; nothing is known to have changed: call again with the same idempotency key", what)
	}
}

// issuerURL returns the exact iss of an issuer given by its configured name or by its URL.
// Revocations may name an issuer that is not configured any more, by its URL.
func (s *Service) issuerURL(issuer string) (string, error) {
	issuers := s.Issuers()
	if url, ok := issuers[issuer]; ok {
		return url, nil
	}
	for _, url := range issuers {
		if url == issuer {
			return url, nil
		}
	}
	return "", badRequest("issuer %.200q is not configured: give its name or its exact URL", issuer)
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
