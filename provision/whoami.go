package provision

import (
	"context"
	"fmt"
	"math"
	"net/http"
	"slices"
	"time"

	"github.com/gatehouse-nats/gatehouse/api"
	"github.com/gatehouse-nats/gatehouse/policy"
	"github.com/gatehouse-nats/gatehouse/store"
)

// Bounds of whoami. A client library that was refused waits about five seconds for the answer.
const (
	keysWait     = 3 * time.Second // for the issuer's keys
	historyWait  = time.Second     // for the last refusal
	historyReads = 2               // at once, so that callers cannot keep the store from its other readers
)

// Whoami decides anew for the caller's token and adds the identity's last recorded refusal.
// A token whose signature does not verify gets the reason and nothing else.
func (s *Service) Whoami(ctx context.Context, c Caller, req api.WhoamiRequest) (api.Whoami, error) {
	if c.Token == "" {
		return api.Whoami{}, refuse(http.StatusUnauthorized, api.ReasonUnauthenticated, "send the token in the header Authorization: Bearer …")
	}
	id, r, admin := s.verifyEither(ctx, c.Token)
	if id == nil {
		return api.Whoami{}, unverified(r)
	}
	if wait := s.rates.take(id.Principal(), s.Now()); wait > 0 {
		return api.Whoami{}, tooMany(wait)
	}
	state := s.State()
	if state == nil && (r == nil || admin) {
		return api.Whoami{}, errNoState
	}
	out := api.Whoami{Identity: identity(id), RequestID: c.RequestID}
	if r != nil {
		out.Decision = refusal(r)
	} else {
		conn := policy.Connection{Source: c.Source, Type: policy.Standard, Account: req.Account, ProofGiven: true}
		out.Decision = s.templated(Decision(policy.Decide(state, id, conn, s.Now(), nil)))
	}
	if r == nil || admin {
		out.Administration = Administration(state, id, admin, c.Source, s.Now(), nil)
		if admin {
			out.Message = notForLogins
		}
	}
	last, err := s.lastRefusal(ctx, id)
	if err != nil {
		// What the token gets now matters more than what happened before.
		s.Logger.Warn("whoami could not read the last refusal", "request_id", c.RequestID, "error", err)
	}
	out.LastRefusal = last
	return out, nil
}

// errNoState answers while there is nothing to decide with.
var errNoState = again(http.StatusServiceUnavailable, api.ReasonUnavailable, "the state has not been loaded from the store yet: try again")

// verify waits for the issuer's keys for a bounded time.
func (s *Service) verify(ctx context.Context, token string) (*policy.Identity, *policy.Refusal) {
	ctx, cancel := context.WithTimeout(ctx, keysWait)
	defer cancel()
	return s.Tokens.VerifyWait(ctx, token)
}

func unverified(r *policy.Refusal) *api.Error {
	e := refuse(http.StatusUnauthorized, string(r.Reason), "the token is refused")
	if r.Reason.Silent() {
		e.Code, e.RetryAfter = http.StatusServiceUnavailable, retryAfter
	}
	if known, ok := api.Explain(string(r.Reason)); ok {
		e.Message = known.Meaning + " " + known.Remedy
	}
	return e
}

// lastRefusal returns the newest recorded login of the identity that was not admitted.
func (s *Service) lastRefusal(ctx context.Context, id *policy.Identity) (*api.LastRefusal, error) {
	ctx, cancel := context.WithTimeout(ctx, historyWait)
	defer cancel()
	select {
	case s.history <- struct{}{}:
		defer func() { <-s.history }()
	case <-ctx.Done():
		return nil, fmt.Errorf("wait for other calls: %w", context.Cause(ctx))
	}
	var last *store.AuditEntry
	for _, outcome := range []policy.Outcome{policy.OutcomeRefused, policy.OutcomeSilent} {
		page, _, err := s.Store.Audit(ctx, store.AuditFilter{
			Kind: store.LoginEntry, Outcome: string(outcome), Limit: 1,
			Principal: policy.Principal{Issuer: id.IssuerURL, Subject: id.Subject},
		})
		if err != nil {
			return nil, err
		}
		if len(page) > 0 && (last == nil || page[0].At.After(last.At)) {
			last = &page[0]
		}
	}
	if last == nil {
		return nil, nil
	}
	out := &api.LastRefusal{At: last.At, Reason: last.Reason, RequestID: last.ID, Source: last.Source, Server: last.ServerName}
	if known, ok := api.Explain(last.Reason); ok {
		out.Message = known.Meaning + " " + known.Remedy
	}
	return out, nil
}

// Explain says what an identity would get on a connection and what became of each binding.
func Explain(state *policy.Snapshot, id *policy.Identity, conn policy.Connection, now time.Time) api.Explanation {
	var trace policy.Trace
	d := policy.Decide(state, id, conn, now, &trace)
	out := api.Explanation{Identity: identity(id), Decision: Decision(d)}
	// For an admin the detail says more than the reason's general meaning.
	if d.Refusal != nil {
		out.Message = d.Refusal.Detail
	}
	out.Administration = Administration(state, id, false, conn.Source, now, &trace)
	out.Verdicts = verdicts(trace)
	return out
}

func verdicts(t policy.Trace) []api.Verdict {
	out := []api.Verdict{}
	for _, v := range t.Verdicts {
		// A binding that gives rights lets into the lobby as well: what it asks for is said once.
		if v := api.Verdict(v); !slices.Contains(out, v) {
			out = append(out, v)
		}
	}
	return out
}

func identity(id *policy.Identity) api.Identity {
	out := api.Identity{
		Name: id.Name(), Issuer: id.Issuer, IssuerURL: id.IssuerURL, Subject: id.Subject,
		Expires: id.Expires.UTC(), Inbox: policy.InboxPrefix(id.IssuerURL, id.Subject),
	}
	if key := id.BoundKey(); key != nil {
		out.BoundTo = key.String()
	}
	return out
}

// Decision returns what the wire shows of a decision.
func Decision(d policy.Decision) api.Decision {
	if !d.Allowed() {
		out := refusal(d.Refusal)
		if out.Creates = creates(d.Create); d.Create != nil {
			out.Message = d.Refusal.Detail
		}
		return out
	}
	out := api.Decision{
		Creates: creates(d.Create),
		Allowed: true, Reason: string(policy.Allowed),
		Account: d.Account.Name, AccountID: d.Account.ID,
		Roles: d.Roles, Bindings: d.Bindings,
		ScopedKey: d.ScopedKey, Tags: d.Tags,
		Expires: d.Expires.UTC(), TTL: d.TTL.String(),
	}
	if d.ScopedKey == "" {
		out.Permissions = permissions(d.Permissions)
	}
	return out
}

// creates returns what the wire shows of an account that a login makes.
func creates(c *policy.Creation) *api.Creation {
	if c == nil {
		return nil
	}
	return &api.Creation{Account: c.Name, Plan: c.Plan, Binding: c.Binding}
}

// templated adds the permissions of a scoped signing key's template, as far as a server has shown them.
func (s *Service) templated(d api.Decision) api.Decision {
	if d.ScopedKey == "" || s.Template == nil {
		return d
	}
	if p, ok := s.Template(d.AccountID, d.ScopedKey); ok {
		d.Permissions = permissions(p)
	}
	return d
}

func permissions(p policy.Permissions) *api.Permissions {
	out := &api.Permissions{Publish: api.SubjectSet(p.Publish), Subscribe: api.SubjectSet(p.Subscribe)}
	if p.Respond.Max > 0 {
		out.Respond = &api.Respond{Max: p.Respond.Max, TTL: p.Respond.TTL.String()}
	}
	return out
}

func refusal(r *policy.Refusal) api.Decision {
	out := api.Decision{Reason: string(r.Reason), RetryAfter: int(math.Ceil(r.RetryAfter.Seconds()))}
	if known, ok := api.Explain(string(r.Reason)); ok {
		out.Message = known.Meaning + " " + known.Remedy
	}
	return out
}
