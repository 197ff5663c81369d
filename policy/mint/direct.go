package mint

import (
	"time"

	"github.com/gatehouse-nats/gatehouse/policy"
)

// Direct returns a credential for a direct user's own key, for a decision on its sign-up. Servers admit
// its holder without asking anybody, so it carries all that the decision asks of a connection: addresses
// and types of connection, leaf nodes only where they are named. With a scoped key the template has to
// say these. It ends when the decision says; the type in u says nothing.
func Direct(d policy.Decision, u User, key *Key) (Credential, error) {
	switch {
	case !d.Allowed():
		return Credential{}, ErrRefused
	case d.Key == "" || d.Key != u.UserKey:
		return Credential{}, ErrDirect
	}
	uc, err := claims(d, u, key)
	if err != nil {
		return Credential{}, err
	}
	if d.ScopedKey == "" {
		for _, t := range d.Types {
			uc.AllowedConnectionTypes.Add(connectionTypes(t)...)
		}
		for _, p := range d.Source {
			uc.Src.Add(p.String())
		}
	}
	uc.Expires = d.Expires.Truncate(time.Second).Unix()
	return sign(uc, key)
}
