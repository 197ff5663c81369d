package resolver

import (
	"cmp"
	"context"
	"encoding/json"
	"slices"
	"strings"

	"github.com/nats-io/jwt/v2"
)

// Trust is whose signatures one server takes under account claims, as its operator JWTs say.
type Trust struct {
	Server string // its name
	// Keys are the keys that it takes; none when it does not say, as one with trusted_keys in place of an operator.
	Keys []string
	// Identity are the identity keys of its operators, and Strict says that it takes signing keys alone.
	Identity []string
	Strict   bool
}

// Trusts reports whether the server takes what the key signs; known is false when it does not say.
func (t Trust) Trusts(key string) (trusts, known bool) {
	return slices.Contains(t.Keys, key), len(t.Keys) > 0
}

// Trust asks every server whose account claims it takes, and returns the answers by the servers' names. A server that is known and
// does not answer in time says nothing.
func (r *Resolver) Trust(ctx context.Context) ([]Trust, error) {
	if r.blind {
		return nil, ErrNoSystemUser
	}
	if !r.nc.IsConnected() {
		return nil, errDisconnected
	}
	var list []Trust
	servers := r.count()
	err := r.gather(ctx, "$SYS.REQ.SERVER.PING.VARZ", nil, func(data []byte) bool {
		var v varz
		if json.Unmarshal(data, &v) == nil && v.Server.ID != "" {
			list = append(list, v.trust())
		}
		return len(list) >= servers
	})
	for _, s := range r.Servers() {
		if !slices.ContainsFunc(list, func(t Trust) bool { return t.Server == s.Name }) {
			list = append(list, Trust{Server: s.Name})
		}
	}
	slices.SortFunc(list, func(a, b Trust) int { return cmp.Compare(a.Server, b.Server) })
	return list, err
}

// varz is what a server says of its operators.
type varz struct {
	Server serverInfo `json:"server"`
	Data   struct {
		Operators []string `json:"trusted_operators_jwt"`
	} `json:"data"`
}

func (v varz) trust() Trust {
	t := Trust{Server: v.Server.Name}
	for _, token := range v.Data.Operators {
		operator, err := jwt.DecodeOperatorClaims(strings.TrimSpace(token))
		if err != nil {
			continue
		}
		t.Identity = append(t.Identity, operator.Subject)
		t.Keys = append(t.Keys, operator.SigningKeys...)
		if t.Strict = operator.StrictSigningKeyUsage; !t.Strict {
			t.Keys = append(t.Keys, operator.Subject)
		}
	}
	return t
}

// vet returns [ErrUntrusted] when a server says that it does not trust the key, before anything of it is pushed. Servers are asked
// once about a key, until others come: where they do not say, it is found out by what they apply.
func (c *Claims) vet(ctx context.Context, public string) error {
	about := distrust{public, c.r.serverIDs()}
	c.mu.Lock()
	asked := c.vetted == about
	c.mu.Unlock()
	if asked {
		return nil
	}
	list, err := c.r.Trust(ctx)
	if err != nil {
		return err
	}
	said := 0
	for _, t := range list {
		trusts, known := t.Trusts(public)
		if known && !trusts {
			c.suspect(public)
			c.log.Error("nothing is pushed that the operator signing key signs", "server", t.Server, "error", untrusted(public))
			return untrusted(public)
		}
		if known {
			said++
		}
	}
	if said > 0 && said == c.r.count() {
		c.prove(public)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.vetted = about
	return nil
}

// trustedKey reports whether every server that says whom it trusts trusts the key, and at least one does.
func (c *Claims) trustedKey(ctx context.Context, key string) bool {
	list, err := c.r.Trust(ctx)
	return err == nil && len(list) > 0 && !slices.ContainsFunc(list, func(t Trust) bool { trusts, _ := t.Trusts(key); return !trusts })
}

// suspect notes that the servers that there are do not trust the key.
func (c *Claims) suspect(public string) {
	ids := c.r.serverIDs()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.distrust = &distrust{public, ids}
}

// isDistrusted reports whether the servers that there are do not trust the key.
func (c *Claims) isDistrusted(public string) bool {
	ids := c.r.serverIDs()
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.distrust != nil && *c.distrust == (distrust{public, ids})
}
