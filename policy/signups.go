package policy

import (
	"net/netip"
	"slices"
	"time"
)

// SignUps returns the plans, sorted, that the identity may sign up for an account under when it calls from source at
// now, at least one; or why it may not. Another revocation never gives a plan. The trace may be nil.
//
// A token that is bound to a key gets none, as in [Rights]: a call does not prove that it holds the key.
func SignUps(s *Snapshot, id *Identity, source netip.Addr, now time.Time, trace *Trace) ([]string, *Refusal) {
	bindings, r := calls(s, s.Rules.SignUps[id.Issuer], id, source, now, trace)
	if r != nil {
		if r.Reason == NoBinding {
			r = Refuse(NoSignUp, "no binding with grant.sign_up matches the claims")
		}
		return nil, r
	}
	return plansOf(s, bindings)
}

// OnBehalf returns the plans, sorted, that a backend may sign others up under, which may be none, or why it may not act
// for others. Its identity must be that of a token for administration.
func OnBehalf(s *Snapshot, id *Identity, source netip.Addr, now time.Time, trace *Trace) ([]string, *Refusal) {
	bindings, r := calls(s, s.Rules.Admins[id.Issuer], id, source, now, trace)
	if r != nil && r.Reason != NoBinding {
		return nil, r
	}
	bindings = slices.DeleteFunc(bindings, func(b *Binding) bool { return !b.OnBehalf })
	if len(bindings) == 0 {
		return nil, Refuse(NoRights, "no binding with grant.on_behalf_of matches the claims")
	}
	plans, _ := plansOf(s, bindings)
	return plans, nil
}

// calls returns the bindings that apply to a call, which is no connection.
func calls(s *Snapshot, bindings []*Binding, id *Identity, source netip.Addr, now time.Time, trace *Trace) ([]*Binding, *Refusal) {
	if r := Standing(s, id, now); r != nil {
		return nil, r
	}
	if id.BoundKey() != nil {
		return nil, Refuse(KeyProofMissing, "the token is bound to a key, and calls prove none: get one that is not bound")
	}
	return applicable(s.Rules, bindings, id, false, Connection{Source: source, Type: Standard}, trace)
}

func plansOf(s *Snapshot, bindings []*Binding) ([]string, *Refusal) {
	var plans []string
	for _, b := range bindings {
		for _, plan := range b.SignUp {
			if s.Rules.Plans[plan] != nil {
				plans = append(plans, plan)
			}
		}
	}
	slices.Sort(plans)
	if plans = slices.Compact(plans); len(plans) == 0 {
		return nil, Refuse(NoSignUp, "the plans of the bindings that match are not in the configuration")
	}
	return plans, nil
}
