package resolver

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/nats-io/nkeys"

	"github.com/gatehouse-nats/gatehouse/account"
	"github.com/gatehouse-nats/gatehouse/store"
)

const (
	// claimsLease is the lease of whoever writes claims, and for how long it is held without a sign of life.
	claimsLease     = "claims"
	claimsLeaseLife = 5 * time.Second
	// pushEvery is the least time between two pushes for one account.
	pushEvery = time.Second
	// applyLimit is for how long servers are given to apply what was pushed.
	applyLimit = 5 * time.Second
	// firstRetry and mostRetry are between attempts for an account that servers do not take.
	firstRetry = time.Second
	mostRetry  = 10 * time.Second
	// parallelAccounts bounds the accounts that are worked on at once.
	parallelAccounts = 16
	// lookTimeout is for how long the first look at an account waits for a server, which may be frozen: those that
	// answer are given the claims meanwhile.
	lookTimeout = 300 * time.Millisecond
)

// The conditions that callers tell apart.
var (
	// ErrNotManaged says that there is no operator signing key to change claims with.
	ErrNotManaged = errors.New("there is no operator signing key, so that no account's claims can be changed: configure operator.signing_key, or gatehouse keys operator import FILE")
	// ErrUntrusted says that servers do not apply what the operator signing key signed.
	ErrUntrusted = errors.New("the servers do not trust the operator signing key")
)

// ClaimsStore keeps what the writer of claims needs.
type ClaimsStore interface {
	// Acquire takes or renews a lease for a holder, by the store's clock.
	Acquire(ctx context.Context, name, holder string, ttl time.Duration) (held bool, until time.Time, err error)
	// Release gives a lease up, if it is the holder's.
	Release(ctx context.Context, name, holder string) error
	// AccountClaims returns all that is kept.
	AccountClaims(ctx context.Context) ([]store.AccountClaims, error)
	// SaveAccountClaims keeps claims whose revision is one more than that of what is kept; otherwise
	// [store.ErrChanged].
	SaveAccountClaims(ctx context.Context, c store.AccountClaims) error
	// UserKeys lists the keys of direct users, a page at a time; an empty next cursor means the end.
	UserKeys(ctx context.Context, f store.UserKeyFilter) (page []store.UserKey, next string, err error)
}

// ClaimsOptions configure [Claims].
type ClaimsOptions struct {
	// Absent says that the servers have no operator: there are no claims, and so nothing that they would have to do.
	Absent   bool
	Resolver *Resolver
	Store    ClaimsStore
	// Revocations returns those in force that claims may have to carry out, given the direct users that there are:
	// none is missing that was stored before the call.
	Revocations func(context.Context, []store.UserKey) ([]store.Revocation, error)
	Holder      string               // of the lease: this replica
	Signer      func() nkeys.KeyPair // the operator signing key; nil while there is none
	Closed      func() Closed        // accounts that Gatehouse itself is in
	Leeway      time.Duration        // of tokens
	OnDrift     func(id, how string) // is told of each server that had other claims of an account; nil is nobody
	Interval    time.Duration        // between looks at the servers when nothing happens
	// Given returns the JWT of an account that others made and servers may fetch; "" when there is none. Nil gives none.
	Given func(id string) string
	// Records are those of self-service accounts; nil: there are none.
	Records AccountStore
	// Limits returns those of a plan, false when there is no plan of that name.
	Limits func(plan string) (account.Limits, bool)
}

// Claims keeps the claims of accounts as revocations ask for, on every server. One replica writes, which holds
// a lease; it looks at what is stored and at what the servers have, and pushes the difference, whatever made it.
// An account that no revocation asks to change, and none did before, is never written to.
type Claims struct {
	ClaimsOptions
	r    *Resolver
	log  *slog.Logger
	wake chan struct{}

	looked  time.Time      // when the accounts were last looked at
	workers sync.WaitGroup // one for each account at most
	slots   chan struct{}
	roster  *roster
	adopted adopted

	surveying sync.Mutex // held by whoever finds out what revocations ask

	mu       sync.Mutex
	holds    bool
	until    time.Time // the end of the lease, by our clock
	accounts map[string]*accountStatus
	deleted  map[string]bool // accounts that were seen to be
	proven   string          // public part of the signing key that a server has applied claims of
	distrust *distrust       // of the signing key that none has
	vetted   distrust        // the signing key and servers that were asked whether they trust it
	lastErr  error
}

// NewClaims returns a writer that does nothing until [Claims.Run].
func NewClaims(o ClaimsOptions) *Claims {
	if o.Interval <= 0 {
		o.Interval = DefaultInterval
	}
	if o.Given == nil {
		o.Given = func(string) string { return "" }
	}
	if o.OnDrift == nil {
		o.OnDrift = func(string, string) {}
	}
	c := &Claims{ClaimsOptions: o, r: o.Resolver, log: o.Resolver.log, wake: make(chan struct{}, 1), slots: make(chan struct{}, parallelAccounts), accounts: map[string]*accountStatus{}, deleted: map[string]bool{}, roster: newRoster()}
	o.Resolver.onClaimsChanged(c.Wake)
	if o.Records != nil && !o.Absent {
		o.Resolver.onRosterChanged(c)
	}
	return c
}

// Wake has the writer look now. It never blocks.
func (c *Claims) Wake() {
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

// Run keeps the claims until ctx ends; it returns nil then.
func (c *Claims) Run(ctx context.Context) error {
	timer := time.NewTimer(0)
	defer timer.Stop()
	defer c.release(ctx)
	defer c.workers.Wait()
	c.workers.Go(func() { c.keepAccounts(ctx) })
	for {
		woken := false
		select {
		case <-ctx.Done():
			return nil
		case <-c.wake:
			woken = true
		case <-timer.C:
		}
		timer.Reset(c.pass(ctx, woken))
	}
}

func (c *Claims) release(ctx context.Context) {
	if !c.setHolds(false) {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), requestTimeout)
	defer cancel()
	_ = c.Store.Release(ctx, claimsLease, c.Holder) // it ends by itself
}

func (c *Claims) setHolds(holds bool) (before bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	before, c.holds = c.holds, holds
	return before
}

// pass renews the lease, looks at every account once when that is due, and returns when to pass again.
func (c *Claims) pass(ctx context.Context, woken bool) time.Duration {
	if c.Signer() == nil || c.r.blind || !c.r.nc.IsConnected() {
		return min(c.Interval, claimsLeaseLife/2)
	}
	before := c.Status().Holder
	held, err := c.lease(ctx)
	if err == nil && held && c.roster.ready(c.Records) && (woken || !before || c.due()) {
		c.looked = time.Now()
		err = c.reconcile(ctx)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if err != nil && ctx.Err() == nil && (c.lastErr == nil || c.lastErr.Error() != err.Error()) {
		c.log.Error("account claims cannot be kept; trying again", "error", err)
	}
	c.lastErr = err
	if err != nil {
		return firstRetry
	}
	next := min(c.Interval, claimsLeaseLife/2)
	for _, a := range c.accounts {
		if !a.settled && !a.busy && held {
			next = min(next, max(time.Until(a.next), firstRetry/10))
		}
	}
	return next
}

// due reports whether it is time to look at the accounts although nothing has happened.
func (c *Claims) due() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.lastErr != nil || time.Since(c.looked) >= c.Interval {
		return true
	}
	for _, a := range c.accounts {
		if !a.settled && !a.busy && time.Now().After(a.next) {
			return true
		}
	}
	return false
}

// lease takes or renews the lease, and reports whether this replica holds it.
func (c *Claims) lease(ctx context.Context) (bool, error) {
	began := time.Now()
	c.mu.Lock()
	lapsed := c.holds && began.After(c.until)
	c.mu.Unlock()
	held, _, err := c.Store.Acquire(ctx, claimsLease, c.Holder, claimsLeaseLife)
	if err != nil {
		held = false
	}
	c.mu.Lock()
	c.until = began.Add(claimsLeaseLife)
	c.mu.Unlock()
	// One that was frozen may have it again, and another may have had it between.
	if before := c.setHolds(held); before != held || lapsed {
		c.roster.clear(held)
		c.disturb("")
		c.roster.stir()
		c.log.Info("who writes account claims has changed", "this_replica", held)
	}
	return held, err
}

// reconcile brings every account to what is asked.
func (c *Claims) reconcile(ctx context.Context) error {
	records, err := c.Store.AccountClaims(ctx)
	if err != nil {
		return err
	}
	wanted, err := c.survey(ctx)
	if err != nil {
		return err
	}
	known := map[string]store.AccountClaims{}
	for _, r := range records {
		known[r.Account] = r
	}
	for account := range wanted {
		if _, ok := known[account]; !ok {
			known[account] = store.AccountClaims{Account: account}
		}
	}
	deleted, err := c.deletedOf(ctx, slices.Collect(maps.Keys(known)))
	if err != nil {
		return err
	}
	maps.DeleteFunc(known, func(id string, _ store.AccountClaims) bool { return deleted[id] })
	if err := c.exhume(ctx, deleted); err != nil {
		return err
	}
	c.forget(known)
	for account, record := range known {
		if c.rests(account, record, wanted[account]) {
			continue
		}
		if a := c.begin(account, wanted[account]); a != nil {
			c.workers.Go(func() { c.work(ctx, a, record, wanted[account]) })
		}
	}
	return nil
}

// work settles one account, while others are worked on.
func (c *Claims) work(ctx context.Context, a *accountStatus, record store.AccountClaims, o overlay) {
	var err error
	select {
	case c.slots <- struct{}{}:
		if err = c.settle(ctx, a, record, o); err == nil {
			err = c.confirm(ctx, record.Account, o)
		}
		<-c.slots
	case <-ctx.Done():
		err = ctx.Err()
	}
	if c.note(ctx, record.Account, a, err) {
		c.Wake()
	}
}

// wanted returns what the revocations in force, and the records of adopted accounts, ask of each account.
func (c *Claims) wanted(ctx context.Context) (map[string]overlay, error) {
	asked := c.adopted.ask() // first, so that no record counts as carried out by revocations from before it
	keys, err := c.userKeys(ctx)
	if err != nil {
		return nil, err
	}
	revocations, err := c.Revocations(ctx, keys)
	if err != nil {
		return nil, err
	}
	wanted := asks(revocations, keys, c.Closed(), c.Leeway, c.r.now())
	lay(asked, wanted)
	return wanted, nil
}

// userKeys returns the keys of all direct users whose user JWTs have not ended.
func (c *Claims) userKeys(ctx context.Context) ([]store.UserKey, error) {
	var all []store.UserKey
	f := store.UserKeyFilter{ValidAt: c.r.now()}
	for {
		page, next, err := c.Store.UserKeys(ctx, f)
		if err != nil {
			return nil, err
		}
		if all = append(all, page...); next == "" {
			return all, nil
		}
		f.Cursor = next
	}
}
