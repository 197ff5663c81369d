package resolver

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/nats-io/nats.go"
	"golang.org/x/sync/errgroup"
)

// serverClaims is what one server has applied of an account's claims.
type serverClaims struct {
	server Server
	token  string
	found  *document // nil when it has none
}

func (h serverClaims) signedBy(key string) bool { return h.found != nil && h.found.issuer() == key }

func anyOf(held []serverClaims) bool {
	return slices.ContainsFunc(held, func(h serverClaims) bool { return h.found != nil })
}

func documents(held []serverClaims) []*document {
	list := make([]*document, len(held))
	for i, h := range held {
		list[i] = h.found
	}
	return list
}

// appliedEverywhere reads an account's claims back from every server that is known, anew. The error names the servers
// that did not answer, whose appliedEverywhere are left out.
func (r *Resolver) appliedEverywhere(ctx context.Context, account string) ([]serverClaims, error) {
	if !r.nc.IsConnected() {
		return nil, errDisconnected
	}
	servers := r.Servers()
	r.mu.RLock()
	unknown := r.unknown()
	r.mu.RUnlock()
	list, errs := make([]serverClaims, len(servers)), make([]error, len(servers), len(servers)+1)
	var g errgroup.Group
	for i, s := range servers {
		g.Go(func() error {
			list[i], errs[i] = r.appliedOn(ctx, s, account)
			return nil
		})
	}
	_ = g.Wait() // what failed is kept by server
	list = slices.DeleteFunc(list, func(h serverClaims) bool { return h.server.ID == "" })
	if unknown > 0 {
		errs = append(errs, fmt.Errorf("%d of %d servers are known", len(servers), len(servers)+unknown))
	}
	if len(servers) == 0 {
		errs = append(errs, errors.New("no server is known"))
	}
	return list, errors.Join(errs...)
}

func (r *Resolver) appliedOn(ctx context.Context, s Server, account string) (serverClaims, error) {
	state, err := r.read(ctx, s.ID, account)
	if err != nil {
		return serverClaims{}, fmt.Errorf("server %s did not say what it has: %w", s.Name, err)
	}
	if state.Token == "" {
		return serverClaims{server: s}, nil
	}
	found, err := parseDocument(state.Token)
	if err != nil {
		return serverClaims{}, fmt.Errorf("claims on server %s: %w", s.Name, err)
	}
	return serverClaims{s, state.Token, found}, nil
}

// lookup returns the account's claims as the servers' resolvers store them, of those that answer. Memory and URL
// resolvers store nothing.
func (r *Resolver) lookup(ctx context.Context, account string) ([]string, error) {
	r.mu.RLock()
	servers := max(r.active, len(r.servers))
	r.mu.RUnlock()
	var tokens []string
	err := r.gather(ctx, "$SYS.REQ.ACCOUNT."+account+".CLAIMS.LOOKUP", nil, func(data []byte) bool {
		tokens = append(tokens, string(data))
		return len(tokens) >= servers
	})
	if errors.Is(err, nats.ErrNoResponders) {
		return nil, nil
	}
	return tokens, err
}

// pushed is a server's answer to a push.
type pushed struct {
	Server serverInfo `json:"server"`
	Error  *struct {
		Description string `json:"description"`
	} `json:"error"`
}

// push gives every server an account's claims, and returns how many answered and what those said that refused them.
// That the others answered says only that they wrote them down.
func (r *Resolver) push(ctx context.Context, account, token string) (answers int, refused []string, err error) {
	r.mu.RLock()
	servers := max(r.active, len(r.servers))
	r.mu.RUnlock()
	take := func(data []byte) bool {
		var p pushed
		answers++
		if json.Unmarshal(data, &p) == nil && p.Error != nil {
			refused = append(refused, p.Server.Name+": "+strings.TrimSpace(p.Error.Description))
		}
		return answers >= servers
	}
	subject := "$SYS.REQ.CLAIMS.UPDATE"
	if stores, err := r.stores(ctx, account); err != nil {
		return 0, nil, err
	} else if !stores {
		subject = "$SYS.REQ.ACCOUNT." + account + ".CLAIMS.UPDATE" // changes what is loaded
	}
	err = r.gather(ctx, subject, []byte(token), take)
	return answers, refused, err
}

// stores reports whether the servers' resolvers store claims; memory and URL resolvers do not. Only LOOKUP tells:
// to pushes others listen too, this package among them.
func (r *Resolver) stores(ctx context.Context, account string) (bool, error) {
	err := r.gather(ctx, "$SYS.REQ.ACCOUNT."+account+".CLAIMS.LOOKUP", nil, func([]byte) bool { return true })
	if errors.Is(err, nats.ErrNoResponders) {
		return false, nil
	}
	return true, err
}

// serverIDs returns the ids of the servers that are known, as one text.
func (r *Resolver) serverIDs() string {
	var ids []string
	for _, s := range r.Servers() {
		ids = append(ids, s.ID)
	}
	slices.Sort(ids)
	return strings.Join(ids, " ")
}

// onClaimsChanged has f called when claims were pushed by anybody, or a server joined; before Run.
func (r *Resolver) onClaimsChanged(f func()) { r.changed = f }

// onRosterChanged has the keeper of self-service accounts told of what servers say; before Run.
func (r *Resolver) onRosterChanged(c *Claims) {
	r.packed, r.pushed = c.onPacked, c.onPush
	r.watch(c)
}
