package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"regexp"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/gatehouse-nats/gatehouse/account"
	"github.com/gatehouse-nats/gatehouse/api"
	"github.com/gatehouse-nats/gatehouse/cmd/gatehouse/config"
	"github.com/gatehouse-nats/gatehouse/policy"
	"github.com/gatehouse-nats/gatehouse/resolver"
	"github.com/gatehouse-nats/gatehouse/store"
)

// newClaims returns the writer of account claims, which writes nothing while there is no operator signing key.
func (d *daemon) newClaims() *resolver.Claims {
	drift := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "gatehouse_claims_drift_total",
		Help: "Servers found with other account claims than they were to have: absent, older, foreign (others made them), or stored (other than applied).",
	}, []string{"how"})
	d.registry.MustRegister(drift)
	for _, how := range resolver.Drifts() {
		drift.WithLabelValues(how) // there from the start, for alerts
	}
	return resolver.NewClaims(resolver.ClaimsOptions{
		Absent:   d.cfg.Load().NATS.Callout.Mode == config.ConfigMode,
		Resolver: d.resolver, Store: d.store, Revocations: d.claimed, Holder: d.replica, Leeway: d.leeway,
		Signer: d.operatorKey, Closed: d.ownAccounts, OnDrift: func(id, how string) {
			drift.WithLabelValues(how).Inc()
			d.drifted(id, how)
		},
		Records: d.store, Limits: d.limits, Given: d.givenClaims,
	})
}

// limits returns those of a plan of the configuration.
func (d *daemon) limits(plan string) (account.Limits, bool) {
	p, ok := d.cfg.Load().Plans()[plan]
	if !ok {
		return account.Limits{}, false
	}
	return p.Limits, true
}

// ownAccounts returns the accounts that Gatehouse itself is in, with the public keys of its users there.
func (d *daemon) ownAccounts() resolver.Closed {
	nats := d.cfg.Load().NATS
	return resolver.Closed{
		nats.Callout.Creds.Account(): {nats.Callout.Creds.User()},
		nats.System.Creds.Account():  {nats.System.Creds.User()},
	}
}

// claimed returns the revocations in force that account claims may have to carry out: those of accounts and what is
// in them, and those of whoever owns a key.
func (d *daemon) claimed(ctx context.Context, keys []store.UserKey) ([]store.Revocation, error) {
	if err := d.mirror.Refresh(ctx); err != nil {
		return nil, err
	}
	state := d.mirror.Snapshot()
	if state == nil {
		return nil, errors.New("the state was never read from the store")
	}
	owners, sessions := map[policy.Principal]bool{}, map[string]bool{}
	tokens, untold := map[string]bool{}, false
	for _, k := range keys {
		owners[policy.Principal{Issuer: k.Issuer, Subject: k.Subject}], owners[policy.Principal{Issuer: k.Issuer}] = true, true
		for _, o := range k.Obtained {
			sessions[o.Session], tokens[o.Token], untold = true, true, untold || o.Untold
		}
	}
	concerns := func(r policy.Revocation) bool {
		switch { // providers end a session for each logout, so that there may be many
		case r.Issuer == "":
			return true
		case !owners[r.Principal]:
			return false
		case r.Scope() == policy.OfSession:
			return untold || sessions[r.Session]
		case r.Scope() == policy.OfToken:
			return untold || tokens[r.Token]
		default:
			return true
		}
	}
	var all []store.Revocation
	for _, r := range state.Revocations.All(concerns) {
		all = append(all, store.Revocation{Revocation: r})
	}
	return all, nil
}

// claimsStatus says how account claims stand.
func (d *daemon) claimsStatus() api.ClaimsStatus {
	s, resolver := d.claims.Status(), ""
	if d.served(d.cfg.Load()) != nil {
		resolver = d.cfg.Load().NATS.Resolver.Type
	}
	for i, line := range s.Problems {
		s.Problems[i] = accountID.ReplaceAllStringFunc(line, d.named)
	}
	return api.ClaimsStatus{
		Resolver:  resolver,
		Unmanaged: d.unmanaged(), Writer: s.Holder, Accounts: s.Accounts, Settled: s.Settled, Problems: s.Problems,
		SelfService: s.SelfService, Waiting: s.Waiting, Unknown: s.Unknown, Gone: s.Gone,
	}
}

// accountID is the public key of an account in a text.
var accountID = regexp.MustCompile(`\bA[A-Z2-7]{55}\b`)

// named returns the name of an account with its id after it, as far as the configuration or a record has one.
func (d *daemon) named(id string) string {
	for name, a := range d.cfg.Load().Accounts {
		if a.ID == id {
			return name + " (" + id + ")"
		}
	}
	if state := d.mirror.Snapshot(); state != nil {
		if e := state.Accounts.ID(id); e != nil {
			return e.Account.Name + " (" + id + ")"
		}
	}
	return id
}

// forgetful says what servers are like that store no claims, by nats.resolver.type.
var forgetful = map[string]string{
	config.URLResolver:    "servers store no claims (nats.resolver.type: url): they fetch each account once, are told of changes, and fetch anew when they start",
	config.MemoryResolver: "servers store no claims (nats.resolver.type: memory): one that starts has what its file preloads, until it is told what changed since",
}

// printAccounts tells people of accounts that are not as they are to be.
func printAccounts(w io.Writer, s api.ClaimsStatus) {
	if s.Resolver != "" {
		fmt.Fprintln(w, forgetful[s.Resolver])
	}
	for _, line := range s.Problems {
		fmt.Fprintln(w, "account claims:", printable(line))
	}
	if s.SelfService > 0 {
		fmt.Fprintf(w, "self-service: %s, of which %d wait to be confirmed on every server\n", count(s.SelfService, "account"), s.Waiting)
	}
	for _, id := range s.Unknown {
		fmt.Fprintf(w, "unknown account %s: servers store it, and it is neither configured nor one of sign-up\n", printable(id))
	}
	for _, id := range s.Gone {
		fmt.Fprintf(w, "deleted account %s: servers store it still\n", printable(id))
	}
}
