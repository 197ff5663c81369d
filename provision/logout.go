package provision

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"mime"
	"net/http"
	"strconv"

	"github.com/gatehouse-nats/gatehouse/api"
	"github.com/gatehouse-nats/gatehouse/policy"
	"github.com/gatehouse-nats/gatehouse/store"
)

// Bounds of logout tokens at work at once. Anybody may send some, and providers seldom send one twice:
// those that need nothing but a signature verified queue, and only those that wait for an issuer's keys,
// as tokens with made-up key ids do, are turned away.
const (
	logoutChecks = 4
	logoutWaits  = 32
)

// opLogout names logouts by an issuer in the audit trail.
const opLogout = "backchannel-logout"

// logoutReason is the reason of the revocations that issuers ask for.
const logoutReason = "logged out at the provider"

// Logouts verifies logout tokens of the issuer with a name, without waiting: without an answer the
// channel is closed when it is worth trying again.
type Logouts interface {
	VerifyLogout(issuer, token string) (*policy.LogoutToken, *policy.Refusal, <-chan struct{})
}

// logoutError is the body of an answer that is not a success (Back-Channel Logout 1.0 section 2.8). It
// tells nothing: who sends a token that is refused need not be the issuer.
type logoutError struct {
	Error string `json:"error"`
}

// takeLogout serves what issuers call to log somebody out.
func (s *Service) takeLogout(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), handlerTimeout)
	defer cancel()
	c := s.publicCaller(r)
	c.RequestID = newID()
	code := http.StatusOK
	if refused := s.logOut(ctx, c, r.PathValue("issuer"), logoutToken(w, r)); refused != nil {
		code = refused.Code
		// Anybody can cause it at will: it is counted and sampled.
		if err := s.noteRefused(operation{name: opLogout}, c, nil, refused); err != nil {
			s.Logger.Error("a logout that was refused could not be recorded", "request_id", c.RequestID, "error", err)
		}
	}
	answerLogout(w, code)
}

func answerLogout(w http.ResponseWriter, code int) {
	w.Header().Set("Cache-Control", "no-store")
	body := logoutError{"invalid_request"}
	switch code {
	case http.StatusOK:
		w.WriteHeader(code)
		return
	case http.StatusServiceUnavailable:
		w.Header().Set("Retry-After", strconv.Itoa(retryAfter))
		body.Error = "temporarily_unavailable"
	}
	data, err := encode(body)
	if err != nil {
		panic(err) // it is constant
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(code)
	_, _ = w.Write(data) // a client that is gone cannot be told
}

// logoutToken returns the logout token of a request, "" when there is not exactly one.
func logoutToken(w http.ResponseWriter, r *http.Request) string {
	kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if r.Method != http.MethodPost || err != nil || kind != "application/x-www-form-urlencoded" {
		return ""
	}
	r.Body = http.MaxBytesReader(w, r.Body, maxBody)
	if r.ParseForm() != nil || len(r.PostForm["logout_token"]) != 1 {
		return ""
	}
	return r.PostForm.Get("logout_token")
}

// logOut stores what a logout token asks for, or returns why it does not.
func (s *Service) logOut(ctx context.Context, c Caller, issuer, raw string) *api.Error {
	token, r := s.verifyLogout(ctx, issuer, raw)
	if r != nil {
		return refusedLogout(r)
	}
	asked := store.Revocation{Revocation: token.Revocation(newID(), s.now()), Reason: logoutReason, Actor: token.Actor()}
	if state := s.State(); state != nil {
		// What somebody got for a key of their own outlives their tokens, and would be good again.
		_, direct := state.Rules.Longest()
		if ends := s.now().Add(direct + 2*state.Rules.Leeway); ends.After(asked.Until) {
			asked.Until = ends
		}
	}
	stored, existing, err := s.revoke(ctx, asked, logoutKey(token), c.RequestID)
	e, _ := errors.AsType[*api.Error](err)
	switch {
	case e != nil && e.Reason == api.ReasonConflict, stored.ID != "" && !existing && stored.ID != asked.ID:
		return refuse(http.StatusBadRequest, api.ReasonConflict, "the logout token was used before: each is good for once")
	case stored.ID == "":
		return e
	}
	// It is stored, and so done, even where this replica could not read it back: the feed brings it.
	return nil
}

// refusedLogout answers a logout token that ends nothing: the issuer is to try again where that can help.
func refusedLogout(r *policy.Refusal) *api.Error {
	if r.Reason.Silent() {
		return again(http.StatusServiceUnavailable, string(r.Reason), "%s", r.Detail)
	}
	return refuse(http.StatusBadRequest, string(r.Reason), "%s", r.Detail)
}

// verifyLogout waits for the issuer's keys for a bounded time.
func (s *Service) verifyLogout(ctx context.Context, issuer, raw string) (*policy.LogoutToken, *policy.Refusal) {
	ctx, cancel := context.WithTimeout(ctx, keysWait)
	defer cancel()
	for {
		token, refused, pending := s.checkLogout(ctx, issuer, raw)
		if pending == nil {
			return token, refused
		}
		if !s.logoutWaits.take() {
			return nil, policy.Refuse(policy.Overloaded, "%d logout tokens already wait for keys", logoutWaits)
		}
		select {
		case <-pending:
			s.logoutWaits.give()
		case <-ctx.Done():
			s.logoutWaits.give()
			return nil, policy.Refuse(policy.KeysUnavailable, "the issuer's keys were not loaded in time: %v", context.Cause(ctx))
		}
	}
}

// checkLogout verifies a logout token when it is its turn.
func (s *Service) checkLogout(ctx context.Context, issuer, raw string) (*policy.LogoutToken, *policy.Refusal, <-chan struct{}) {
	select {
	case s.logoutChecks <- struct{}{}:
		defer s.logoutChecks.give()
		return s.Logouts.VerifyLogout(issuer, raw)
	case <-ctx.Done():
		return nil, policy.Refuse(policy.Overloaded, "too many logout tokens at once"), nil
	}
}

// logoutKey returns the idempotency key that a logout token takes up: each is good for once.
func logoutKey(t *policy.LogoutToken) string {
	sum := sha256.Sum256([]byte(t.Principal.Issuer + "\x00" + t.TokenID))
	return opLogout + ":" + hex.EncodeToString(sum[:])
}
