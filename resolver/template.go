package resolver

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/jwt/v2"

	"github.com/gatehouse-nats/gatehouse/policy"
)

// Template returns the permissions in the template of the account's scoped signing key, as one of
// the servers has applied it; false when none has. Subjects may hold nats-server's {{…}} functions.
func (r *Resolver) Template(account, key string) (policy.Permissions, bool) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	for _, s := range r.servers {
		state := s.accounts[account]
		if state.Claims == nil {
			continue
		}
		if scope, ok := state.Claims.SigningKeys[key].(*jwt.UserScope); ok {
			return templatePermissions(scope.Template.Permissions), true
		}
	}
	return policy.Permissions{}, false
}

// templatePermissions returns permissions as policy has them, where an empty allow allows nothing:
// in claims it allows everything.
func templatePermissions(p jwt.Permissions) policy.Permissions {
	set := func(p jwt.Permission) policy.SubjectSet {
		if len(p.Allow) == 0 {
			p.Allow = jwt.StringList{">"}
		}
		return policy.SubjectSet{Allow: p.Allow, Deny: p.Deny}
	}
	return policy.Permissions{Publish: set(p.Pub), Subscribe: set(p.Sub), Respond: templateRespond(p.Resp)}
}

// templateRespond returns response permissions with nats-server's defaults (server/const.go) in the
// place of zeros, and the most there is in the place of no limit.
func templateRespond(p *jwt.ResponsePermission) policy.Respond {
	if p == nil {
		return policy.Respond{}
	}
	out := policy.Respond{Max: p.MaxMsgs, TTL: p.Expires}
	switch {
	case out.Max == 0:
		out.Max = 1
	case out.Max < 0:
		out.Max = math.MaxInt
	}
	switch {
	case out.TTL == 0:
		out.TTL = 2 * time.Minute
	case out.TTL < 0:
		out.TTL = math.MaxInt64
	}
	return out
}

// Warnings returns what the templates of the scoped signing keys promise and the servers do not
// keep, and how the servers are of another kind than is configured, sorted.
func (r *Resolver) Warnings() []string {
	r.mu.RLock()
	defer r.mu.RUnlock()
	var all []string
	for _, s := range r.servers {
		for id, need := range r.accounts {
			for _, key := range need.Scoped {
				state := s.accounts[id]
				if !state.Applied {
					continue
				}
				scope, ok := state.Claims.SigningKeys[key].(*jwt.UserScope)
				if !ok {
					continue
				}
				if limits := ignoredLimits(scope.Template, s.Version); len(limits) > 0 {
					all = append(all, fmt.Sprintf("server %s: the template of scoped signing key %s of account %s limits %s, to which nats-server %s does not hold users of the callout: update it to 2.15.3, or limit the account",
						s.Name, key, need.Name, strings.Join(limits, ", "), s.Version))
				}
			}
		}
	}
	if err := r.mismatch(); err != nil {
		all = append(all, err.Error())
	}
	slices.Sort(all)
	return all
}

// ignoredLimits returns the limits of a template that a server of the version does not hold callout
// users to: data none does, the others do 2.15.3, 2.14.10 and what came after (server/client.go,
// applyAccountLimits; server/auth_callout.go, validateSrc).
func ignoredLimits(template jwt.UserPermissionLimits, version string) []string {
	var limits []string
	if template.Data > 0 {
		limits = append(limits, "data")
	}
	if atLeast(version, 2, 15, 3) || !atLeast(version, 2, 15, 0) && atLeast(version, 2, 14, 10) {
		return limits
	}
	if len(template.Src) > 0 {
		limits = append(limits, "src")
	}
	if template.Subs >= 0 {
		limits = append(limits, "subs")
	}
	if template.Payload >= 0 {
		limits = append(limits, "payload")
	}
	return limits
}

// atLeast reports whether a version MAJOR.MINOR.PATCH, with or without a suffix, is that one or a later
// one; what is no version counts as older.
func atLeast(version string, wanted ...int) bool {
	version, _, _ = strings.Cut(version, "-")
	parts := strings.Split(version, ".")
	for i, w := range wanted {
		if i >= len(parts) {
			return false
		}
		n, err := strconv.Atoi(parts[i])
		if err != nil || n < w {
			return false
		}
		if n > w {
			return true
		}
	}
	return true
}
