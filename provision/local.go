package provision

import (
	"context"
	"net/netip"
	"slices"

	"github.com/gatehouse-nats/gatehouse/api"
	"github.com/gatehouse-nats/gatehouse/policy"
)

// ExplainLive says what a token would get from this replica now, revocations included.
func (s *Service) ExplainLive(ctx context.Context, c Caller, req api.ExplainRequest) (api.Explanation, error) {
	if err := c.admin(); err != nil {
		return api.Explanation{}, err
	}
	if req.Subject != "" {
		return s.explainRecorded(ctx, req)
	}
	conn, err := Connection(req.Source, req.ConnectionType, req.Account)
	if err != nil {
		return api.Explanation{}, err
	}
	if req.Claims != nil {
		return api.Explanation{}, badRequest("claims without a token are explained by gatehouse explain --claims, which needs no service")
	}
	id, r, admin := s.verifyEither(ctx, req.Token)
	// For an admin the detail says more than the reason's general meaning.
	if id == nil {
		e := unverified(r)
		e.Message = r.Detail
		return api.Explanation{}, e
	}
	state := s.State()
	if state == nil && (r == nil || admin) {
		return api.Explanation{}, errNoState
	}
	if admin {
		return ExplainAdmin(state, id, conn, s.Now()), nil
	}
	if r != nil {
		out := api.Explanation{Identity: identity(id), Decision: refusal(r), Verdicts: []api.Verdict{}}
		out.Message = r.Detail
		return out, nil
	}
	out := Explain(state, id, conn, s.Now())
	out.Decision = s.templated(out.Decision)
	return out, nil
}

// Connection returns the facts of a connection as a caller describes it: an address or none,
// a connection type (standard when empty), and the account that the client would name. A token
// that is bound to a key is taken to come with the proof of it.
func Connection(source, connectionType, account string) (policy.Connection, error) {
	conn := policy.Connection{Type: policy.Standard, Account: account, ProofGiven: true}
	if source != "" {
		addr, err := netip.ParseAddr(source)
		if err != nil {
			return conn, badRequest("source %.100q is not an IP address", source)
		}
		conn.Source = addr
	}
	if connectionType != "" {
		conn.Type = policy.ConnectionType(connectionType)
		if !slices.Contains(policy.ConnectionTypes(), conn.Type) {
			return conn, badRequest("connection type %.40q is not one: use %v", connectionType, policy.ConnectionTypes())
		}
	}
	return conn, nil
}

// ReloadConfig puts the configuration file in force, or refuses it and keeps what is.
func (s *Service) ReloadConfig(ctx context.Context, c Caller, _ struct{}) (api.Reloaded, error) {
	if err := c.admin(); err != nil {
		return api.Reloaded{}, err
	}
	out, err := s.Reload(ctx)
	if err != nil {
		return out, badRequest("the configuration was refused and the one before stays in force:\n%v", err)
	}
	s.Logger.Info("configuration reloaded", "actor", c.Actor, "rules", out.Version, "changed", out.Changed)
	return out, nil
}

// ShowStatus says how this replica is.
func (s *Service) ShowStatus(_ context.Context, c Caller, _ struct{}) (api.Status, error) {
	if err := c.admin(); err != nil {
		return api.Status{}, err
	}
	return s.Status(), nil
}
