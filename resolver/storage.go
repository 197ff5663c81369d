package resolver

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"golang.org/x/sync/errgroup"
)

// Storage is what an account has in JetStream.
type Storage struct {
	Streams    int
	Bytes      uint64   // of the largest replica of each stream
	Unanswered []string // names of servers that did not say what they have
}

// Storage asks every server what the account has in JetStream. Without any server it is an error.
func (r *Resolver) Storage(ctx context.Context, account string) (Storage, error) {
	var out Storage
	if r.blind {
		return out, ErrNoSystemUser
	}
	servers := r.Servers()
	switch {
	case !r.nc.IsConnected():
		return out, errDisconnected
	case len(servers) == 0:
		return out, errors.New("no server is known yet")
	case !r.complete():
		out.Unanswered = append(out.Unanswered, "a server that is not known yet")
	}
	found, failed := make([]map[string]uint64, len(servers)), make([]error, len(servers))
	var g errgroup.Group
	for i, s := range servers {
		g.Go(func() error {
			found[i], failed[i] = r.streams(ctx, s.ID, account)
			return nil
		})
	}
	_ = g.Wait() // what failed is kept by server
	largest := map[string]uint64{}
	for i, s := range servers {
		if failed[i] != nil {
			r.log.Warn("a server did not say what an account stores", "server", s.Name, "account", account, "error", failed[i])
			out.Unanswered = append(out.Unanswered, s.Name)
		}
		for name, bytes := range found[i] {
			largest[name] = max(largest[name], bytes)
		}
	}
	for _, bytes := range largest {
		out.Bytes += bytes
	}
	out.Streams = len(largest)
	return out, ctx.Err()
}

// jsz is the part of a server's answer to JSZ that is needed (nats-server, server/monitor.go). A server without JetStream, or
// one that has nothing of the account, shows no account.
type jsz struct {
	Server serverInfo `json:"server"`
	Data   *struct {
		Accounts []struct {
			ID      string `json:"id"` // its name is that of its claims, once the server has those
			Streams []struct {
				Name  string `json:"name"`
				State struct {
					Bytes uint64 `json:"bytes"`
				} `json:"state"`
			} `json:"stream_detail"`
		} `json:"account_details"`
	} `json:"data"`
	Error *struct {
		Description string `json:"description"`
	} `json:"error"`
}

// streams returns the bytes of the account's streams that a server has a replica of, by name.
func (r *Resolver) streams(ctx context.Context, server, account string) (map[string]uint64, error) {
	body, err := json.Marshal(struct {
		Account string `json:"account"`
		Streams bool   `json:"streams"`
	}{account, true})
	if err != nil {
		return nil, err
	}
	// Not as connections are asked for: a system user from before may not ask this, which says nothing of the server.
	data, err := r.request(ctx, "$SYS.REQ.SERVER."+server+".JSZ", body)
	if err != nil {
		return nil, err
	}
	var answer jsz
	switch err := json.Unmarshal(data, &answer); {
	case err != nil:
		return nil, fmt.Errorf("JSZ of server %s: %w", server, err)
	case answer.Error != nil:
		return nil, fmt.Errorf("JSZ of server %s: %s", server, answer.Error.Description)
	case answer.Data == nil || answer.Server.ID != server:
		return nil, fmt.Errorf("JSZ of server %s: server %q answered with something else", server, answer.Server.ID)
	}
	found := map[string]uint64{}
	for _, a := range answer.Data.Accounts {
		if a.ID != account {
			continue
		}
		for _, s := range a.Streams {
			found[s.Name] = s.State.Bytes
		}
	}
	return found, nil
}

// HasAccount reports whether any server has, or stores, claims of the account, whoever made them. Servers that do not answer are an
// error unless another one has it.
func (r *Resolver) HasAccount(ctx context.Context, account string) (bool, error) {
	if r.blind {
		return false, ErrNoSystemUser
	}
	tokens, err := r.lookup(ctx, account)
	if err != nil {
		return false, err
	}
	if slices.ContainsFunc(tokens, func(token string) bool { return token != "" }) {
		return true, nil
	}
	list, err := r.appliedEverywhere(ctx, account)
	if slices.ContainsFunc(list, func(c serverClaims) bool { return c.token != "" }) {
		return true, nil
	}
	return false, err
}
