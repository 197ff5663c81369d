package resolver

import (
	"slices"
	"time"

	"github.com/nats-io/jwt/v2"

	"github.com/gatehouse-nats/gatehouse/policy"
)

// holding is what one server has applied of an account, by its own time.
type holding struct {
	AccountState
	server string
	now    time.Time
}

// SigningKeyOfAll returns the first of the account's signing keys that every server of the cluster has
// applied in its claims, or the scoped one when scoped is not empty: a direct user may connect to any of
// them. The template of a scoped one must keep leaf nodes out unless the user may be one. Otherwise it
// says why there is none: [policy.AccountUnready], [policy.AccountExpired] or [policy.DirectNotGranted].
func (r *Resolver) SigningKeyOfAll(account *policy.Account, scoped string, leafNodes bool, now time.Time) (string, *policy.Refusal) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	if unknown := r.unknown(); r.blind || len(r.servers) == 0 || unknown > 0 {
		return "", policy.Refuse(policy.AccountUnready, "%d servers have answered, and %d are in the cluster: a direct user may connect to each of them", len(r.servers), len(r.servers)+unknown)
	}
	all := make([]holding, 0, len(r.servers))
	for _, s := range r.servers {
		state, ok := s.accounts[account.ID]
		if !ok {
			state, ok = r.keys.get(s.ID, account.ID, time.Now())
		}
		if !ok {
			return "", policy.Refuse(policy.AccountUnready, "account %s has not been read back from server %s yet", account.Name, s.Name)
		}
		all = append(all, holding{state, s.Name, now.Add(r.offset(s))})
	}
	return commonKey(all, account, scoped, leafNodes)
}

// commonKey is [Resolver.SigningKeyOfAll] of what the servers hold.
func commonKey(all []holding, account *policy.Account, scoped string, leafNodes bool) (string, *policy.Refusal) {
	own := *account
	for _, h := range all {
		key, refusal := h.signingKey(&own, scoped, h.server, h.now)
		switch {
		case refusal != nil:
			return "", refusal
		case scoped != "" && !leafNodes && h.admitsLeafNodes(key):
			return "", policy.Refuse(policy.DirectNotGranted, "the template of scoped signing key %s of account %s lets direct users be leaf nodes on server %s, each of which connects a whole account: give it allowed_connection_types without LEAFNODE and LEAFNODE_WS",
				key, account.Name, h.server)
		}
		// What this server lacks is no candidate on the others.
		own.SigningKeys = slices.DeleteFunc(slices.Clone(own.SigningKeys), func(key string) bool { return !h.signs(key) })
	}
	if scoped != "" {
		return scoped, nil
	}
	return own.SigningKeys[0], nil
}

// admitsLeafNodes reports whether users of the scoped signing key may connect as leaf nodes. Only a
// callout keeps those out where the template does not say.
func (s AccountState) admitsLeafNodes(scoped string) bool {
	scope, ok := s.Claims.SigningKeys[scoped].(*jwt.UserScope)
	if !ok {
		return true
	}
	types := scope.Template.AllowedConnectionTypes
	return len(types) == 0 || types.Contains(jwt.ConnectionTypeLeafnode) || types.Contains(jwt.ConnectionTypeLeafnodeWS)
}
