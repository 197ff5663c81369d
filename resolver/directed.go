package resolver

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nkeys"

	"github.com/gatehouse-nats/gatehouse/account"
	"github.com/gatehouse-nats/gatehouse/store"
)

// deliverDirected gives the JWTs to every server that stores none. A server changes only what it has loaded, so it is made to
// load each account first; one that fetches it when it is needed may be spared that for accounts that it has had.
func (r *Resolver) deliverDirected(ctx context.Context, fresh, light []*delivery) error {
	if r.kind == Memory {
		fresh, light = append(slices.Clone(fresh), light...), nil
	}
	if err := r.load(ctx, fresh); err != nil {
		return err
	}
	batch, servers := append(slices.Clone(fresh), light...), r.count()
	questions := make([]question, len(batch))
	for i, d := range batch {
		questions[i] = question{"$SYS.REQ.ACCOUNT." + d.account + ".CLAIMS.UPDATE", []byte(d.token)}
	}
	err := r.askAll(ctx, questions, func(i int, data []byte) bool { return batch[i].answered(data) >= servers })
	if err != nil {
		return err
	}
	return r.readApplied(ctx, batch)
}

// load has every server load the accounts, as far as it can.
func (r *Resolver) load(ctx context.Context, batch []*delivery) error {
	questions, servers := make([]question, len(batch)), r.count()
	for i, d := range batch {
		questions[i] = question{"$SYS.REQ.ACCOUNT." + d.account + ".CONNZ", []byte(`{"limit":1}`)}
	}
	left := make([]int, len(batch))
	return r.askAll(ctx, questions, func(i int, _ []byte) bool {
		left[i]++
		return left[i] >= servers
	})
}

// answered notes a server's answer to a push, and returns how many there are.
func (d *delivery) answered(data []byte) int {
	var p pushed
	if json.Unmarshal(data, &p) == nil && p.Error != nil {
		d.refused = append(d.refused, p.Server.Name+": "+strings.TrimSpace(p.Error.Description))
	} else {
		d.answers++
	}
	return d.answers + len(d.refused)
}

// lookDirected is [Claims.lookAt] for servers that store nothing: only what they have applied can be other than it is to be.
func (c *Claims) lookDirected(ctx context.Context, batch []*kept) error {
	var list []*delivery
	var of []*kept
	c.roster.mu.Lock()
	for _, k := range batch {
		if k.look != atNothing {
			list, of = append(list, &delivery{account: k.id}), append(of, k)
		}
	}
	c.roster.mu.Unlock()
	if c.r.kind == Memory {
		if err := c.r.load(ctx, list); err != nil {
			return err
		}
	}
	if err := c.r.readApplied(ctx, list); err != nil {
		return err
	}
	servers := c.r.count()
	c.roster.mu.Lock()
	defer c.roster.mu.Unlock()
	for i, d := range list {
		if k := of[i]; c.roster.accounts[k.id] == k && c.hold(k, d) && len(d.applied) >= servers && k.asked == k.taken {
			k.look = atNothing
		}
	}
	return nil
}

// hold reports whether all servers that said what they have applied of an account have what they are to have, and counts those
// that have not; roster.mu is held. One that fetches accounts has what it fetches.
func (c *Claims) hold(k *kept, d *delivery) bool {
	good := k.print != (print{})
	for _, token := range d.applied {
		if token != "" && printOf(token) == k.print || token == "" && c.r.kind == URL {
			continue
		}
		if how := c.differs(k, token); k.applied > 0 && k.print != (print{}) {
			c.OnDrift(k.id, string(how))
		}
		good = false
	}
	return good
}

// turn has some of the accounts looked at, others each time: servers that store nothing make nothing known of what they
// have, and one whose file is read anew has what that says.
func (r *roster) turn() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.checks.turn) == 0 {
		for id := range r.accounts {
			r.checks.turn = append(r.checks.turn, id)
		}
	}
	n := min(len(r.checks.turn), mostSampled)
	for _, id := range r.checks.turn[:n] {
		if k := r.accounts[id]; k != nil {
			r.lookAt(k, atApplied)
		}
	}
	r.checks.turn = r.checks.turn[n:]
}

// serve keeps the claims for servers that ask for them, before any is told of them. While no server was seen to trust the key, those
// of accounts that servers have had wait until one was: who starts anew could not use them.
func (c *Claims) serve(ctx context.Context, jobs []*job, public string) error {
	if c.r.kind.stores() {
		return nil
	}
	trusted := c.isProven(public) || c.r.applies(public)
	var list []store.ServedClaims
	for _, t := range jobs {
		if t.unfit == nil && (trusted || t.kept.applied == 0) {
			list = append(list, store.ServedClaims{Account: t.id, Revision: t.revision, Token: t.token})
		}
	}
	if len(list) == 0 {
		return nil
	}
	if err := c.ensureLease(ctx); err != nil {
		return err
	}
	if err := c.Records.Serve(ctx, claimsLease, c.Holder, list); !errors.Is(err, store.ErrChanged) {
		return err
	}
	return errOvertaken
}

// undirected says why an account is not as it is to be on servers that store nothing; nil when it is.
func (c *Claims) undirected(t *job, missing []string, complete bool) error {
	switch {
	case len(t.refused) > 0:
		return fmt.Errorf("servers refuse the claims: %s", strings.Join(t.refused, "; "))
	case t.answers == 0:
		return errors.New("no server answers a push of claims to what it has loaded")
	case len(missing) > 0 && c.r.kind == Memory:
		return fmt.Errorf("%s do not have it: write what gatehouse account preload prints into their resolver_preload, and reload them", strings.Join(missing, ", "))
	case len(missing) > 0:
		return fmt.Errorf("%s could not fetch it: resolver in their files must be URL(…/jwt/v1/accounts/) of a service that reads this store, and operator.signing_key one that they trust", strings.Join(missing, ", "))
	case !complete:
		return errIncomplete
	case t.answers < c.r.count():
		return errSilent
	default:
		return nil
	}
}

// entomb closes accounts that are deleted on servers that drop none: nobody connects to them any more. With all it reads which
// these are, as for servers that have come with what their files had of them.
func (c *Claims) entomb(ctx context.Context) error {
	r := c.roster
	signer := c.Signer()
	r.mu.Lock()
	all, gone := r.checks.unburied, slices.Clone(r.checks.gone)
	wait := signer == nil || !all && (len(gone) == 0 || time.Since(r.checks.buried) < firstRetry)
	if !wait {
		r.checks.unburied = false
	}
	r.mu.Unlock()
	if wait {
		return nil
	}
	f := store.AccountFilter{State: account.Deleted, Limit: store.MaxPage}
	if !all {
		gone = gone[:min(len(gone), store.MaxPage)]
		f = store.AccountFilter{IDs: gone, Deleted: true, Limit: store.MaxPage}
	}
	open, err := c.closeAll(ctx, f, signer)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.checks.buried = time.Now()
	if err != nil {
		r.checks.unburied = r.checks.unburied || all
		return err
	}
	// What was deleted meanwhile is not done, nor is a server that has come.
	r.checks.gone = slices.DeleteFunc(r.checks.gone, func(id string) bool { return slices.Contains(gone, id) && !slices.Contains(open, id) })
	r.dig(open...)
	switch {
	case len(r.checks.gone) > len(open):
		time.AfterFunc(firstRetry, r.stir)
	case len(open) > 0:
		time.AfterFunc(mostRetry, r.stir)
	}
	return nil
}

// closeAll closes the deleted ones of the accounts, and returns those that a server has otherwise.
func (c *Claims) closeAll(ctx context.Context, f store.AccountFilter, signer nkeys.KeyPair) (open []string, err error) {
	for {
		page, next, err := c.Records.Accounts(ctx, f)
		if err != nil {
			return nil, err
		}
		for part := range slices.Chunk(page, mostAtOnce) {
			left, err := c.close(ctx, part, signer)
			if err != nil {
				return nil, err
			}
			open = append(open, left...)
		}
		if f.Cursor = next; next == "" {
			return open, nil
		}
	}
}

// close gives servers claims that let nobody into the deleted ones of the accounts, and returns those that a server has otherwise.
func (c *Claims) close(ctx context.Context, page []account.Account, signer nkeys.KeyPair) (open []string, err error) {
	var batch []*delivery
	for i := range page {
		if page[i].State != account.Deleted {
			continue
		}
		token, err := tombstone(&page[i], signer)
		if err != nil {
			return nil, err
		}
		batch = append(batch, &delivery{account: page[i].ID, token: token})
	}
	if len(batch) == 0 {
		return nil, nil
	}
	if err := c.ensureLease(ctx); err != nil {
		return nil, err
	}
	if err := c.r.deliverDirected(ctx, nil, batch); err != nil {
		return nil, err
	}
	for _, d := range batch {
		if missing, _ := c.r.lackingOf(d, true); len(missing) > 0 {
			open = append(open, d.account)
		}
	}
	return open, nil
}

// tombstone returns claims of a deleted account: no key signs its users, and nobody connects.
func tombstone(a *account.Account, signer nkeys.KeyPair) (string, error) {
	claims := jwt.NewAccountClaims(a.ID)
	claims.Name, claims.Type, claims.Version = a.Name, jwt.AccountClaim, 2
	claims.Limits.Conn, claims.Limits.LeafNodeConn = 0, 0
	payload, err := json.Marshal(claims)
	if err != nil {
		return "", err
	}
	d, err := parsePayload(payload)
	if err != nil {
		return "", err
	}
	return d.sign(signer, max(a.Issued+1, a.Updated.Unix()), a.Revision)
}
