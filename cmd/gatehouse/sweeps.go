package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/gatehouse-nats/gatehouse/cmd/gatehouse/config"
	"github.com/gatehouse-nats/gatehouse/policy"
	"github.com/gatehouse-nats/gatehouse/provision"
	"github.com/gatehouse-nats/gatehouse/resolver"
	"github.com/gatehouse-nats/gatehouse/store"
)

// leastTTL is the life that a credential of a replica with another configuration may have.
const leastTTL = 24 * time.Hour

// newSweeper returns what carries revocations out.
func (d *daemon) newSweeper() *resolver.Sweeper {
	o := resolver.SweeperOptions{
		Resolver: d.resolver, Records: logins{d.store}, Ledger: d.store, Replicas: d.group, State: d.mirror.Snapshot,
		MaxTTL: d.longest, Replica: d.replica, Logger: d.log,
	}
	if d.cfg.Load().NATS.Callout.Mode != config.ConfigMode {
		o.Claims = d.claims
	}
	return resolver.NewSweeper(o)
}

// longest returns the life of the longest credential that may exist.
func (d *daemon) longest() time.Duration {
	credential, direct := d.cfg.Load().Rules().Longest()
	return max(leastTTL, credential, direct)
}

// enforce has a revocation carried out that was just stored, or lifted.
func (d *daemon) enforce(r store.Revocation) {
	lifted := !r.LiftedAt.IsZero()
	d.group.Tell(r, lifted)
	if !lifted {
		d.sweeper.Start(r)
	}
}

// logins reads from the store how sessions began.
type logins struct {
	store store.Store
}

// Join sets the Login of each session of which one is recorded.
func (l logins) Join(ctx context.Context, list []policy.Session) error {
	var callout []*policy.Session
	accounts := map[string][]*policy.Session{} // with direct users
	for i := range list {
		if s := &list[i]; s.Direct() {
			accounts[s.Account] = append(accounts[s.Account], s)
		} else {
			callout = append(callout, s)
		}
	}
	for part := range slices.Chunk(callout, store.MaxPage) {
		if err := l.joinLogins(ctx, part); err != nil {
			return err
		}
	}
	for account, sessions := range accounts {
		if err := l.joinKeys(ctx, account, sessions); err != nil {
			return err
		}
	}
	return nil
}

func (l logins) joinLogins(ctx context.Context, sessions []*policy.Session) error {
	ids := make([]store.ConnectionID, len(sessions))
	for i, s := range sessions {
		ids[i] = store.ConnectionID{ServerID: s.ServerID, CID: s.CID}
	}
	entries, err := l.store.Logins(ctx, ids)
	if err != nil {
		return err
	}
	found := make(map[store.ConnectionID]*policy.Login, len(entries))
	for _, e := range entries {
		found[store.ConnectionID{ServerID: e.ServerID, CID: e.CID}] = loginOf(e)
	}
	for i, s := range sessions {
		s.Login = found[ids[i]]
	}
	return nil
}

// loginOf returns a recorded login; claims that cannot be read count as not recorded.
func loginOf(e store.AuditEntry) *policy.Login {
	l := &policy.Login{
		RequestID: e.ID, Replica: e.Replica, Principal: policy.Principal{Issuer: e.Issuer, Subject: e.Subject}, Session: e.SessionID, Token: e.TokenID,
		Issued: e.Issued, Expires: e.Expires, Bindings: e.Bindings, Roles: e.Roles, Display: e.Display,
	}
	if len(e.Claims) > 0 && !e.ClaimsCut {
		dec := json.NewDecoder(bytes.NewReader(e.Claims))
		dec.UseNumber()
		if dec.Decode(&l.Claims) != nil {
			l.Claims = nil
		}
	}
	return l
}

func (l logins) joinKeys(ctx context.Context, account string, sessions []*policy.Session) error {
	wanted := make(map[string][]*policy.Session, len(sessions))
	for _, s := range sessions {
		wanted[s.Name] = append(wanted[s.Name], s)
	}
	return l.eachKey(ctx, store.UserKeyFilter{AccountID: account}, func(k store.UserKey) {
		for _, s := range wanted[k.Key] {
			s.Login = &policy.Login{
				Principal: policy.Principal{Issuer: k.Issuer, Subject: k.Subject}, Issued: k.Issued, Expires: k.Expires, Program: k.Program,
			}
			if n := len(k.Obtained); n > 0 {
				s.Login.Session, s.Login.Token = k.Obtained[n-1].Session, k.Obtained[n-1].Token
			}
		}
	})
}

// Keys returns the public keys for which the identity was given user JWTs.
func (l logins) Keys(ctx context.Context, p policy.Principal) (keys []string, err error) {
	err = l.eachKey(ctx, store.UserKeyFilter{Principal: p}, func(k store.UserKey) { keys = append(keys, k.Key) })
	return keys, err
}

func (l logins) eachKey(ctx context.Context, f store.UserKeyFilter, do func(store.UserKey)) error {
	for {
		page, next, err := l.store.UserKeys(ctx, f)
		if err != nil {
			return err
		}
		for _, k := range page {
			do(k)
		}
		if next == "" {
			return nil
		}
		f.Cursor = next
	}
}

// connections is what operations ask of the servers.
type connections struct {
	resolver *resolver.Resolver
	logins   logins
}

// connections returns what operations ask of the servers; nil where there is no system user.
func (d *daemon) connections() provision.Servers {
	if d.system == nil {
		return nil
	}
	return connections{d.resolver, logins{d.store}}
}

// Connected returns the live connections of users, with what is recorded of them.
func (c connections) Connected(ctx context.Context, account, name string) ([]policy.Session, []string, error) {
	list, unanswered, err := c.resolver.Sessions(ctx, resolver.SessionFilter{Account: account, User: name})
	if err != nil {
		return nil, nil, err
	}
	if err := c.logins.Join(ctx, list); err != nil {
		return nil, nil, fmt.Errorf("the records of logins: %w", err)
	}
	return list, unanswered, nil
}

// Close closes connections.
func (c connections) Close(ctx context.Context, list []policy.Session) (closed int, unanswered []string) {
	servers, names := map[string][]uint64{}, map[string]string{}
	for _, s := range list {
		servers[s.ServerID] = append(servers[s.ServerID], s.CID)
		names[s.ServerID] = s.Server
	}
	for id, cids := range servers {
		n, err := c.resolver.KickAll(ctx, id, cids)
		closed += n
		if err != nil {
			unanswered = append(unanswered, names[id])
		}
	}
	return closed, unanswered
}
