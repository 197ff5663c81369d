package provision

import (
	"context"
	"net/http"
	"strings"

	"github.com/gatehouse-nats/gatehouse/api"
	"github.com/gatehouse-nats/gatehouse/policy"
)

// OnBehalf is whom a portal's backend says that it acts for.
type OnBehalf struct {
	given bool // the call names somebody, well or not
	owner api.Owner
}

// For names an identity: the issuer by its configured name or exact URL.
func For(issuer, subject string) OnBehalf {
	return OnBehalf{given: true, owner: api.Owner{Issuer: issuer, Subject: subject}}
}

// onBehalf reads the headers of a call that name somebody; several name nobody that could be acted for.
func onBehalf(values []string) OnBehalf {
	if len(values) == 0 {
		return OnBehalf{}
	}
	o := OnBehalf{given: true}
	if len(values) > 1 || decode([]byte(values[0]), &o.owner) != nil {
		o.owner = api.Owner{}
	}
	return o
}

// representable refuses calls on somebody's behalf of operations that know no such thing, which would be carried out for the backend itself.
func (op *operation) representable(c Caller) error {
	ofAccounts := strings.HasPrefix(op.name, "account.") || strings.HasPrefix(op.name, "member.")
	if !c.OnBehalf.given || op.access.everybody && ofAccounts {
		return nil
	}
	return badRequest("%s is not done on somebody's behalf: leave the header %s out", op.name, api.OnBehalfHeader)
}

// represent is [Service.party] for a backend that acts for somebody. It becomes no admin: it may do what they may, with the plans of its
// own bindings, and what takes claims of theirs they do not have, since nobody shows their token.
func (s *Service) represent(ctx context.Context, op string, p party) (party, error) {
	backend, acted, refused := s.represented(ctx, &p)
	if refused != nil {
		if err := s.noteRefused(operation{name: op}, p.Caller, backend, refused); err != nil {
			s.Logger.Error("a call that was refused could not be recorded", "op", op, "request_id", p.RequestID, "error", err)
		}
		return p, refused
	}
	p.Actor = backend.Name()
	if err := s.noteCall(operation{name: op}, p.Caller, backend); err != nil {
		return p, err
	}
	p.Identity, p.represented = acted, true
	return p, nil
}

// represented returns the backend and whom it acts for; the backend comes along with a refusal when the token is truly of it.
func (s *Service) represented(ctx context.Context, p *party) (backend, acted *policy.Identity, refused *api.Error) {
	state, now := s.State(), s.Now()
	switch {
	case p.Token == "" || isAdminToken(p.Token):
		return nil, nil, refuse(http.StatusForbidden, api.ReasonForbidden, "acting for others takes a token for administration of an issuer, and a binding with grant.on_behalf_of")
	case state == nil:
		return nil, nil, errNoState
	}
	call, cancel := context.WithTimeout(ctx, keysWait)
	defer cancel()
	backend, r := s.Tokens.VerifyAdmin(call, p.Token)
	if r != nil {
		return backend, nil, refusedToken(r)
	}
	plans, r := policy.OnBehalf(state, backend, p.Source, now, nil)
	if r != nil {
		if wait := s.rates.take(backend.Principal(), now); wait > 0 {
			return backend, nil, tooMany(wait)
		}
		refused := refusedIdentity(r)
		if r.Reason == policy.NoRights {
			refused.Message = "no binding with grant.on_behalf_of matches this identity, which acting for others takes: leave the header " + api.OnBehalfHeader + " out, or add such a binding; gatehouse explain says what the claims miss"
		}
		return backend, nil, refused
	}
	who, err := s.person(p.OnBehalf.owner)
	if err != nil {
		return backend, nil, refuse(http.StatusBadRequest, api.ReasonBadRequest, `the header %s names nobody: write {"issuer": NAME or URL, "subject": SUB}, once, of a configured issuer: %v`, api.OnBehalfHeader, err)
	}
	acted = &policy.Identity{IssuerURL: who.Issuer, Subject: who.Subject, TokenID: backend.TokenID, IssuedAt: now, Expires: backend.Expires, Claims: map[string]any{"sub": who.Subject}}
	for name, url := range s.Issuers() {
		if url == who.Issuer {
			acted.Issuer = name
		}
	}
	// Counted by whom it acts for: a backend has the calls of all of its people.
	if wait := s.rates.take(acted.Principal(), now); wait > 0 {
		return backend, nil, tooMany(wait)
	}
	if r := policy.Standing(state, acted, now); r != nil {
		return backend, nil, refusedIdentity(r)
	}
	p.plans, p.backend = plans, backend.Principal()
	return backend, acted, nil
}

// forNobody returns what a backend is told whose call names nobody and is refused: the header that is missing. Nobody else is told of it.
func (s *Service) forNobody(p party, backend *policy.Identity, refused *api.Error) *api.Error {
	state := s.State()
	if backend == nil || state == nil || refused.Reason != string(policy.NoRights) && refused.Reason != api.ReasonForbidden {
		return refused
	}
	if _, r := policy.OnBehalf(state, backend, p.Source, s.Now(), nil); r != nil {
		return refused
	}
	return refuse(http.StatusForbidden, refused.Reason, `this token acts for others, and the call names nobody: send the header %s: {"issuer": NAME or URL, "subject": SUB}`, api.OnBehalfHeader)
}
