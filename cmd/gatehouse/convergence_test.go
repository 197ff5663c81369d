package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nkeys"
	authb "github.com/synadia-io/jwt-auth-builder.go"

	"github.com/gatehouse-nats/gatehouse/account"
	"github.com/gatehouse-nats/gatehouse/cmd/gatehouse/config"
	"github.com/gatehouse-nats/gatehouse/policy"
	"github.com/gatehouse-nats/gatehouse/store"
)

var (
	intervalLine   = regexp.MustCompile(`(?m)^  interval: "(.*)"$`)
	resolverFolder = regexp.MustCompile(`(?s)\nresolver \{.*?\n  dir: "(.*?)"\n`)
)

// convergenceLimit is more than any machine needs to repair what it has to.
const convergenceLimit = 5 * time.Minute

// exchangeEvery has servers exchange the claims that they store in another interval.
func (w *world) exchangeEvery(interval string, confs []string) {
	w.Helper()
	for _, conf := range confs {
		before := content(w, conf)
		after := intervalLine.ReplaceAllString(before, fmt.Sprintf("  interval: %q", interval))
		if err := os.WriteFile(conf, []byte(after), 0o600); err != nil {
			w.Fatal(err)
		}
	}
}

// jwtFolder returns the folder in which a server stores account JWTs.
func (w *world) jwtFolder(server int) string {
	w.Helper()
	conf := filepath.Join(w.dir, w.set.ServerFile(server))
	found := resolverFolder.FindStringSubmatch(content(w, conf))
	if found == nil {
		w.Fatalf("%s names no folder of a resolver", conf)
	}
	return found[1]
}

// stored returns the account JWTs that a server stores, by account.
func (w *world) stored(server int) map[string]string {
	w.Helper()
	files, err := filepath.Glob(filepath.Join(w.jwtFolder(server), "*.jwt"))
	if err != nil {
		w.Fatal(err)
	}
	all := map[string]string{}
	for _, file := range files {
		token, err := os.ReadFile(file)
		if err != nil {
			w.Fatal(err)
		}
		all[strings.TrimSuffix(filepath.Base(file), ".jwt")] = string(token)
	}
	return all
}

// says returns what an account JWT says, without what each signature makes anew.
func says(token string) string {
	claims, err := jwt.DecodeAccountClaims(token)
	if err != nil {
		return err.Error()
	}
	claims.Issuer, claims.IssuedAt, claims.ID, claims.Audience = "", 0, "", ""
	text, err := json.Marshal(claims)
	if err != nil {
		return err.Error()
	}
	return string(text)
}

// population are accounts of sign-up, and one that nats auth made and Gatehouse adopted, on three servers.
type population struct {
	*replica
	nats    *natsCLI
	ids     []string // of sign-up
	adopted string
}

// populate starts a service on a store that has that many accounts, and returns when they are active.
func (w *world) populate(t *testing.T, accounts int, o serveOptions) *population {
	t.Helper()
	p := &population{nats: newNATSCLI(t, w.dir, "--server", w.set.ClientURL(), "--creds", filepath.Join(w.dir, "offline", "emergency-system.creds"))}
	s := w.store()
	p.ids = w.fill(s, 0, accounts)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	// nats auth add has no option for the key of a strict operator: the library beneath it has.
	p.adopted = w.natsAuth().change("legacy", func(a authb.Account) error { return a.Limits().SetMaxConnections(7) }).Subject()
	p.replica = w.serve(o)
	p.must("account", "adopt", "legacy", "--plan", "free", "--owner-issuer", "demo", "--owner-subject", "alice")
	p.must("account", "update", "legacy", "--subscriptions", "50")
	p.holds(p.adopted, "the limit", func(c *jwt.AccountClaims) bool { return c.Limits.Subs == 50 })
	return p
}

// fill stores accounts that no server has yet, with sealed keys, and returns their ids. They are named by number.
func (w *world) fill(s store.Store, from, accounts int) (ids []string) {
	w.Helper()
	cfg, err := config.Load(w.config(), []string{"HOME=" + w.dir})
	if err != nil {
		w.Fatal(err)
	}
	k := &keeper{TB: w, store: s, ring: cfg.Seal()}
	for i := from; i < from+accounts; i++ {
		id, _ := accountKey(w)
		now := time.Now().UTC().Truncate(time.Microsecond)
		owner := account.Person{Principal: policy.Principal{Issuer: w.provider.Issuer(), Subject: fmt.Sprintf("owner-%d", i)}}
		a, row := k.add(account.Account{
			ID: id, Name: fmt.Sprintf("filled-%d", i), State: account.Creating, Plan: "free", Created: now, Owner: owner,
			Members: []account.Member{{ID: fmt.Sprint(i), Role: "app", Person: owner, Accepted: now}},
		}, account.Current)
		k.save(a, row)
		ids = append(ids, id)
	}
	return ids
}

// settled waits until the claims of all accounts are as they are to be.
func (p *population) settled() {
	p.Helper()
	eventuallyWithin(p, convergenceLimit, func() error {
		code, body, err := get(p.metrics + "/metrics")
		if err != nil || code != 200 {
			return fmt.Errorf("/metrics: %d, %w", code, err)
		}
		kept, waiting := sum(p, body, "gatehouse_accounts_self_service"), sum(p, body, "gatehouse_accounts_waiting")
		others, settled := sum(p, body, "gatehouse_claims_accounts"), sum(p, body, "gatehouse_claims_settled")
		if kept != float64(len(p.ids)) || waiting > 0 || others != settled || p.adopted != "" && others == 0 {
			return fmt.Errorf("%v of %d accounts are kept, %v wait; %v of %v others are settled", kept, len(p.ids), waiting, settled, others)
		}
		return nil
	})
}

// agreed returns what every server is to say of the accounts, which is what all of them store.
func (p *population) agreed() map[string]string {
	p.Helper()
	p.settled()
	want := map[string]string{}
	for id, token := range p.stored(0) {
		want[id] = says(token)
	}
	for _, id := range append(slices.Clone(p.ids), p.adopted) {
		if want[id] == "" {
			p.Fatalf("the first server does not store account %s", id)
		}
	}
	p.converged(want, p.ids)
	return want
}

// converged waits until every server stores one and the same JWT of each account that says what it is to say, and has
// applied that of some of those accounts where it has loaded them, and returns when that was first seen.
func (p *population) converged(want map[string]string, loaded []string) (at time.Time) {
	p.Helper()
	loaded = append(slices.Clone(loaded[:min(len(loaded), 16)]), p.adopted)
	good := map[string]bool{} // JWTs that say what they are to say
	eventuallyWithin(p, convergenceLimit, func() error {
		first := p.stored(0)
		for server := range p.servers {
			if server > 0 && !maps.Equal(first, p.stored(server)) {
				return fmt.Errorf("server %d stores others than the first", server)
			}
		}
		for id, wanted := range want {
			token := first[id]
			if !good[token] && says(token) != wanted {
				return fmt.Errorf("account %s says\n%s, want\n%s", id, says(token), wanted)
			}
			good[token] = true
		}
		at = time.Now()
		for _, id := range loaded {
			for _, claims := range p.claims(id) { // of the servers that have loaded it
				claims.Issuer, claims.IssuedAt, claims.ID, claims.Audience = "", 0, "", ""
				if text, err := json.Marshal(claims); err != nil || !bytes.Equal(text, []byte(want[id])) {
					return fmt.Errorf("a server has applied others of account %s (%w)", id, err)
				}
			}
		}
		return nil
	})
	return at
}

func (p *population) drifts(how string) float64 {
	p.Helper()
	return p.metric("gatehouse_claims_drift_total", fmt.Sprintf("how=%q", how))
}

// within reports how long a repair took, and fails the test in the long form when that is over one interval and two seconds.
func (p *population) within(what string, took, interval time.Duration) {
	p.Helper()
	p.Logf("interval %s, %d accounts: %s repaired after %s", interval, len(p.ids)+1, what, took.Round(time.Millisecond))
	if long() && took > interval+2*time.Second {
		p.Errorf("%s took %s to repair", what, took)
	}
}

// TestProveConvergence empties the folder of one server and rolls back that of another while they are stopped, has a rival
// overwrite claims, and nats auth change an adopted account: all is repaired and counted, and that change stays. The long form has
// more accounts, shorter intervals too, and a bar of one interval and two seconds.
func TestProveConvergence(t *testing.T) {
	t.Parallel()
	accounts := map[time.Duration]int{10 * time.Second: 20} // by interval; this one is that of init
	if long() {
		accounts = map[time.Duration]int{10 * time.Second: 1000, 2 * time.Second: 200}
	}
	for interval, n := range accounts {
		t.Run(interval.String(), func(t *testing.T) {
			w := newWorld(t, worldOptions{servers: 3, policy: accountPolicy, interval: interval.String()})
			p := w.populate(t, n, serveOptions{process: true})
			p.repairsFolders(interval)
			p.overrulesRival(interval)
			p.keepsOthersChange(interval)
		})
	}
}

func (p *population) repairsFolders(interval time.Duration) {
	p.Helper()
	p.settled()
	old := filepath.Join(p.dir, "old")
	if err := os.CopyFS(old, os.DirFS(p.jwtFolder(1))); err != nil {
		p.Fatal(err)
	}
	before := p.agreed()
	p.edit(func(yaml string) string { return strings.Replace(yaml, "connections: 20", "connections: 30", 1) })
	p.must("account", "update", "legacy", "--subscriptions", "60")
	eventuallyWithin(p, convergenceLimit, func() error {
		for id, token := range p.stored(0) {
			if says(token) == before[id] && (id == p.adopted || slices.Contains(p.ids, id)) {
				return fmt.Errorf("account %s is as it was", id)
			}
		}
		return nil
	})
	want := p.agreed()
	drifts := map[string]float64{"absent": p.drifts("absent"), "older": p.drifts("older")}
	for _, server := range p.servers[1:] {
		server.Stop()
	}
	for server, with := range map[int]string{1: old, 2: p.TempDir()} {
		if err := os.RemoveAll(p.jwtFolder(server)); err != nil {
			p.Fatal(err)
		}
		if err := os.CopyFS(p.jwtFolder(server), os.DirFS(with)); err != nil {
			p.Fatal(err)
		}
	}
	began := time.Now()
	for _, server := range p.servers[1:] {
		server.Start()
	}
	took := p.converged(want, p.ids).Sub(began)
	p.within("an empty and an older folder", took, interval)
	for i := range min(4, len(p.ids)) { // whoever comes now has a restarted server load it
		p.mustEnterAccount(1+i%2, fmt.Sprintf("filled-%d", i), p.personFile(fmt.Sprintf("owner-%d", i)))
	}
	p.converged(want, p.ids)
	counted := 0.0
	for how, n := range drifts {
		now := p.drifts(how) - n
		counted += now
		p.Logf("counted as %s: %v", how, now)
	}
	if counted == 0 && took < interval { // servers also give each other what they lack, from which an emptied one may have the older
		p.Error("no drift is counted")
	}
}

// overrulesRival has somebody who has the operator's key overwrite an account.
func (p *population) overrulesRival(interval time.Duration) {
	p.Helper()
	want, id, drifts := p.agreed(), p.ids[len(p.ids)/2], p.drifts("foreign")
	claims, err := jwt.DecodeAccountClaims(p.stored(0)[id])
	if err != nil {
		p.Fatal(err)
	}
	claims.SigningKeys, claims.Limits.Conn, claims.Audience = nil, 1, ""
	operator, err := nkeys.FromSeed([]byte(p.set.OperatorSigningKey.Reveal()))
	if err != nil {
		p.Fatal(err)
	}
	token, err := claims.Encode(operator)
	if err != nil {
		p.Fatal(err)
	}
	began := time.Now()
	if err := p.push(token); err != nil {
		p.Fatal(err)
	}
	eventually(p, func() error {
		if p.drifts("foreign") == drifts {
			return fmt.Errorf("no drift is counted as foreign")
		}
		return nil
	})
	p.within("an account that a rival wrote", p.converged(want, []string{id}).Sub(began), interval)
}

// keepsOthersChange has nats auth, which knows nothing of what Gatehouse added, change an adopted account.
func (p *population) keepsOthersChange(interval time.Duration) {
	p.Helper()
	before := p.claims(p.adopted)[0]
	if before.Limits.Conn != 7 || before.Limits.Subs != 60 || len(before.SigningKeys) != 1 {
		p.Fatalf("the adopted account has %+v and the keys %v", before.Limits, before.SigningKeys.Keys())
	}
	p.nats.must("auth", "account", "edit", "legacy", "--connections", "9", "--payload", "1024", "--subscriptions", "5")
	began := time.Now()
	p.nats.must("auth", "account", "push", "legacy")
	p.holds(p.adopted, "both changes", func(c *jwt.AccountClaims) bool {
		return c.Limits.Conn == 9 && c.Limits.Payload == 1024 && c.Limits.Subs == 60 && maps.Equal(c.SigningKeys, before.SigningKeys)
	})
	p.within("an adopted account that nats auth changed", time.Since(began), interval)
	p.agreed()
}
