package resolver

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
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
	// mostClaims bounds an account JWT in bytes: the library reads no longer one (jwt/v2, decoder.go).
	mostClaims = 1 << 20
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
	ErrNotManaged = errors.New("operator.signing_key is not configured, so that no account's claims can be changed")
	// ErrClaimsFull says that an account's claims have no room for what is asked.
	ErrClaimsFull = errors.New("the account's claims are full")
	// ErrUntrusted says that servers do not apply what the operator signing key signed.
	ErrUntrusted = errors.New("the servers do not trust operator.signing_key")
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

	mu       sync.Mutex
	holds    bool
	until    time.Time // the end of the lease, by our clock
	accounts map[string]*accountStatus
	proven   string    // public part of the signing key that a server has applied claims of
	distrust *distrust // of the signing key that none has
	lastErr  error
}

// accountStatus is how an account stands; guarded by Claims.mu.
type accountStatus struct {
	asked   overlay // by the last pass
	busy    bool    // has a worker
	settled bool    // every server that is known has applied what it is to have
	problem error
	retry   time.Duration
	next    time.Time // when to look again
	pushed  time.Time // when it last was
	refused *attempt  // the last push, when servers did not all take it
}

// attempt is a push to certain servers.
type attempt struct {
	want    *document
	servers string
	next    time.Time // when to make the same again
}

// distrust remembers that servers do not trust a key: nothing is pushed with it before either changes.
type distrust struct {
	key     string
	servers string
}

// NewClaims returns a writer that does nothing until [Claims.Run].
func NewClaims(o ClaimsOptions) *Claims {
	if o.Interval <= 0 {
		o.Interval = DefaultInterval
	}
	if o.OnDrift == nil {
		o.OnDrift = func(string, string) {}
	}
	c := &Claims{ClaimsOptions: o, r: o.Resolver, log: o.Resolver.log, wake: make(chan struct{}, 1), slots: make(chan struct{}, parallelAccounts), accounts: map[string]*accountStatus{}, roster: newRoster()}
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
	held, _, err := c.Store.Acquire(ctx, claimsLease, c.Holder, claimsLeaseLife)
	if err != nil {
		held = false
	}
	c.mu.Lock()
	c.until = began.Add(claimsLeaseLife)
	c.mu.Unlock()
	if before := c.setHolds(held); before != held {
		c.roster.clear(held)
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
	wanted, err := c.wanted(ctx)
	if err != nil {
		return err
	}
	c.ask(wanted)
	known := map[string]store.AccountClaims{}
	for _, r := range records {
		known[r.Account] = r
	}
	for account := range wanted {
		if _, ok := known[account]; !ok {
			known[account] = store.AccountClaims{Account: account}
		}
	}
	c.forget(known)
	for account, record := range known {
		if a := c.begin(account, wanted[account]); a != nil {
			c.workers.Go(func() { c.work(ctx, a, record, wanted[account]) })
		}
	}
	return nil
}

// begin notes what is asked of an account and returns its status for a worker; nil when it has one, which sees
// that something else is asked.
func (c *Claims) begin(account string, o overlay) *accountStatus {
	c.mu.Lock()
	defer c.mu.Unlock()
	a := c.accounts[account]
	if a == nil {
		a = &accountStatus{}
		c.accounts[account] = a
	}
	a.asked = o
	if a.busy {
		return nil
	}
	a.busy = true
	return a
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

// errOvertaken says that something else is asked of an account than what is being done.
var errOvertaken = errors.New("something else is asked of it by now")

// errNotYet says that servers did not take the same just now.
var errNotYet = errors.New("servers did not take the same just now")

// overtaken returns [errOvertaken] when the last pass asks something else than o.
func (c *Claims) overtaken(a *accountStatus, o overlay) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if maps.Equal(a.asked, o) {
		return nil
	}
	return errOvertaken
}

// wanted returns what the revocations in force, and the records of adopted accounts, ask of each account.
func (c *Claims) wanted(ctx context.Context) (map[string]overlay, error) {
	keys, err := c.userKeys(ctx)
	if err != nil {
		return nil, err
	}
	asked, err := c.Revocations(ctx, keys)
	if err != nil {
		return nil, err
	}
	wanted := asks(asked, keys, c.Closed(), c.Leeway, c.r.now())
	c.adopted.lay(wanted)
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

// forget drops the status of accounts that are nobody's business any more.
func (c *Claims) forget(known map[string]store.AccountClaims) {
	c.mu.Lock()
	defer c.mu.Unlock()
	maps.DeleteFunc(c.accounts, func(account string, _ *accountStatus) bool {
		_, ok := known[account]
		return !ok
	})
}

// note keeps the outcome of an attempt and when to make the next, and reports whether that is now.
func (c *Claims) note(ctx context.Context, account string, a *accountStatus, err error) (now bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	a.busy = false
	switch {
	case ctx.Err() != nil:
		return false
	case errors.Is(err, errOvertaken):
		a.settled = false
		return true
	case errors.Is(err, errNotYet):
		return false
	case err == nil:
		a.settled, a.problem, a.retry, a.next = true, nil, 0, time.Time{}
		return false
	}
	if a.problem == nil || a.problem.Error() != err.Error() {
		c.log.Error("an account's claims are not as they are to be", "account", account, "error", err)
	}
	a.settled, a.problem = false, err
	a.retry = min(max(2*a.retry, firstRetry), mostRetry)
	a.next = time.Now().Add(a.retry)
	return false
}

// settle brings one account to what is asked of it.
func (c *Claims) settle(ctx context.Context, a *accountStatus, record store.AccountClaims, o overlay) error {
	h, err := historyOf(record)
	if err != nil {
		return fmt.Errorf("what the store has of its claims cannot be read: %w", err)
	}
	held, d, err := c.look(ctx, record.Account, h, o)
	if d == nil {
		return err
	}
	if err := c.vouch(record, held); err != nil {
		return err
	}
	for _, how := range d.drifts {
		c.OnDrift(record.Account, string(how))
	}
	stale, failed := c.stale(ctx, record.Account, d, held)
	err = errors.Join(err, failed)
	switch {
	case d.push || stale:
		return errors.Join(c.change(ctx, a, record, h, d, held, o), err)
	case !d.base.same(h.base) || !d.desired.same(h.desired):
		return errors.Join(c.adopt(ctx, record, d, held), err)
	default:
		return err
	}
}

// vouch returns an error unless what the store has of an account was signed by our key, or by one that servers have
// applied claims of: whoever writes to the store must not get claims of their own signed.
func (c *Claims) vouch(record store.AccountClaims, held []serverClaims) error {
	for _, token := range []string{record.Base, record.Desired} {
		if token == "" {
			continue
		}
		issuer, err := signedBy(token)
		if err == nil && !c.isOwn(issuer) && !slices.ContainsFunc(held, func(h serverClaims) bool { return h.signedBy(issuer) }) {
			err = fmt.Errorf("key %s signed it", issuer)
		}
		if err != nil {
			return fmt.Errorf("what the store has of the claims of account %s is not signed by the operator, and nothing is made of it (%w): find out who writes to the store, and delete the account's row in account_claims", record.Account, err)
		}
	}
	return nil
}

// isOwn reports whether the key is the operator signing key.
func (c *Claims) isOwn(key string) bool {
	signer := c.Signer()
	if signer == nil {
		return false
	}
	public, err := signer.PublicKey()
	return err == nil && public == key
}

// look reads an account back and decides what becomes of it; nil when nothing does. A server that is silent keeps
// the others waiting only where nothing is to be pushed to them.
func (c *Claims) look(ctx context.Context, account string, h history, o overlay) ([]serverClaims, *decision, error) {
	short, cancel := context.WithTimeout(ctx, lookTimeout)
	defer cancel()
	held, err := c.r.appliedEverywhere(short, account)
	if err != nil && anyOf(held) {
		if d, failed := decide(h, documents(held), o); failed == nil && d != nil && d.push {
			return held, d, err
		}
	}
	if err != nil {
		if held, err = c.r.appliedEverywhere(ctx, account); err != nil && !anyOf(held) {
			return nil, nil, err
		}
	}
	d, failed := decide(h, documents(held), o)
	return held, d, errors.Join(err, failed)
}

// stale reports whether a server stores other claims than it has applied: it would come up with them.
func (c *Claims) stale(ctx context.Context, account string, d *decision, held []serverClaims) (bool, error) {
	if d.push {
		return false, nil
	}
	tokens, err := c.r.lookup(ctx, account)
	if err != nil {
		return false, err
	}
	for _, token := range tokens {
		if slices.ContainsFunc(held, func(h serverClaims) bool { return h.token == token }) {
			continue
		}
		if found, err := parseDocument(token); err != nil || !d.desired.same(found) || !slices.ContainsFunc(held, func(h serverClaims) bool { return h.signedBy(found.issuer()) }) {
			c.OnDrift(account, string(stored))
			return true, nil
		}
	}
	return false, nil
}

// adopt keeps what all servers have as what they are to have: others made it so.
func (c *Claims) adopt(ctx context.Context, record store.AccountClaims, d *decision, held []serverClaims) error {
	for _, h := range held {
		if h.found != nil && h.found.same(d.desired) {
			record.Desired = h.token
		}
	}
	signer := c.Signer()
	if signer == nil {
		return ErrNotManaged
	}
	base, err := d.base.sign(signer, d.base.issued(), record.Revision)
	if err != nil {
		return err
	}
	record.Base = base
	return c.save(ctx, record)
}

// save keeps an account's claims, unless another replica has since they were read.
func (c *Claims) save(ctx context.Context, record store.AccountClaims) error {
	record.Revision++
	err := c.Store.SaveAccountClaims(ctx, record)
	if errors.Is(err, store.ErrChanged) {
		return errOvertaken
	}
	return err
}

// historyOf returns what is kept as documents.
func historyOf(r store.AccountClaims) (h history, err error) {
	if r.Base == "" {
		return h, nil
	}
	h.revision = r.Revision
	if h.base, err = parseDocument(r.Base); err != nil {
		return h, err
	}
	if h.desired, err = parseDocument(r.Desired); err != nil {
		return h, err
	}
	for _, d := range []*document{h.base, h.desired} {
		if of := text(d.claims["sub"]); of != r.Account {
			return h, fmt.Errorf("it is of account %s", of)
		}
	}
	return h, nil
}

// Converged reports whether every server that is known has applied what the revocation asks of claims, and would
// come up with it again; why says what is missing. It reads the servers, so that it is true on any replica, and
// wakes the writer when something is missing.
func (c *Claims) Converged(ctx context.Context, r store.Revocation) (done bool, why string, err error) {
	keys, err := c.userKeys(ctx)
	if err != nil {
		return false, "", err
	}
	wanted := asks([]store.Revocation{r}, keys, c.Closed(), c.Leeway, c.r.now())
	if len(wanted) == 0 || c.Absent {
		return true, "", nil
	}
	if c.r.blind {
		return false, "", ErrNoSystemUser
	}
	for _, account := range slices.Sorted(maps.Keys(wanted)) {
		missing, err := c.lacking(ctx, account, wanted[account])
		if err != nil {
			return false, "", err
		}
		if missing != "" {
			c.Wake()
			return false, "account " + account + ": " + missing, nil
		}
	}
	return true, "", nil
}

// lacking says where an account's claims do not do what is asked; "" when they do everywhere.
func (c *Claims) lacking(ctx context.Context, account string, o overlay) (string, error) {
	if c.Signer() == nil {
		return ErrNotManaged.Error(), nil
	}
	held, err := c.r.appliedEverywhere(ctx, account)
	if errors.Is(err, errDisconnected) {
		return "", err
	}
	var missing []string
	if err != nil {
		missing = append(missing, err.Error())
	}
	for _, h := range held {
		if h.found == nil || !o.holds(h.found) {
			missing = append(missing, "not applied on "+h.server.Name)
		}
	}
	if len(missing) == 0 {
		tokens, err := c.r.lookup(ctx, account)
		if err != nil {
			return "", err
		}
		for _, token := range tokens {
			if d, err := parseDocument(token); err != nil || !o.holds(d) {
				missing = append(missing, "a server stores others than it has applied")
			}
		}
	}
	if len(missing) == 0 {
		return "", nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if a := c.accounts[account]; a != nil && a.problem != nil {
		missing = append(missing, a.problem.Error())
	}
	return strings.Join(missing, "; "), nil
}

// ClaimsStatus is how the claims stand, as one replica sees it.
type ClaimsStatus struct {
	Holder   bool     // whether this replica writes
	Accounts int      // whose claims are kept; 0 where another replica writes
	Settled  int      // of those, as they are to be on every server
	Problems []string // sorted
	// SelfService are the accounts of sign-up that Gatehouse made; Waiting of those are not as they are to be yet.
	SelfService, Waiting int
	// Unknown are accounts that servers store and that are neither configured nor stored, Gone those that are deleted.
	Unknown, Gone []string
}

// Status returns how the claims stand.
func (c *Claims) Status() ClaimsStatus {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := ClaimsStatus{Holder: c.holds}
	if !c.holds {
		return s
	}
	if c.lastErr != nil {
		s.Problems = append(s.Problems, c.lastErr.Error())
	}
	s.Accounts = len(c.accounts)
	for id, a := range c.accounts {
		switch {
		case a.settled:
			s.Settled++
		case a.problem != nil:
			s.Problems = append(s.Problems, "account "+id+": "+a.problem.Error())
		}
	}
	c.roster.status(&s)
	slices.Sort(s.Problems)
	return s
}
