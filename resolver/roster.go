package resolver

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/gatehouse-nats/gatehouse/account"
	"github.com/gatehouse-nats/gatehouse/store"
)

// AccountStore keeps the records of self-service accounts.
type AccountStore interface {
	// Accounts lists by name, a page at a time; an empty next cursor means the end.
	Accounts(ctx context.Context, f store.AccountFilter) (page []account.Account, next string, err error)
	// MarkApplied notes which revisions all servers have applied, at most [store.MaxPage] at a time.
	MarkApplied(ctx context.Context, applied []store.Applied) error
	// Serve keeps claims for servers that ask for them, at most [store.MaxPage] at a time; [store.ErrChanged] unless the holder has the lease.
	Serve(ctx context.Context, lease, holder string, claims []store.ServedClaims) error
}

// roster is what the holder of the lease knows of the self-service accounts that Gatehouse made; others than the
// holder have an empty one.
type roster struct {
	wake chan struct{}

	mu       sync.Mutex
	open     bool // takes changes: this replica holds the lease
	loaded   bool
	accounts map[string]*kept
	due      map[string]*kept
	size     int // of the next batch
	overlays map[string]overlay
	plans    map[string]string // what the limits of each plan in use were when claims were made last
	prints   fingerprint
	checks   checks
	anew     anew
}

// kept is one account; guarded by roster.mu.
type kept struct {
	id       string
	plan     string
	revision int64  // of the record
	applied  int64  // of these, the newest that all servers had
	issued   int64  // the second of the claims that servers were given last; 0 is not known
	signer   string // operator key of the claims that all servers had last; empty is not known
	print    print  // of these claims; zero is not known
	record   *account.Account
	look     look // what is to be read of it before anything is pushed
	sample   bool // where it is lacking, all are looked at
	again    bool // what they are to have must be signed anew
	moved    bool // revocations or its plan may ask something else than what they were given
	asked    int  // counts why it was enqueued
	taken    int  // asked, when it was taken to be worked on
	pushed   time.Time
	retry    time.Duration
	next     time.Time // when it may be worked on
	problem  error
}

// look is how closely an account is looked at.
type look int

const (
	atNothing look = iota
	atStored       // what servers store
	atApplied      // and what they have applied
)

func newRoster() *roster {
	return &roster{wake: make(chan struct{}, 1), overlays: map[string]overlay{}, plans: map[string]string{}}
}

// stir has the accounts looked at now.
func (r *roster) stir() {
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

// clear forgets all, and takes changes from now on if this replica holds the lease.
func (r *roster) clear(holds bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.open, r.loaded, r.size = holds, false, leastAtOnce
	r.accounts, r.due, r.prints = map[string]*kept{}, map[string]*kept{}, fingerprint{}
	r.checks, r.anew = checks{due: true, unburied: true}, anew{}
}

// take notes a record; r.mu is held.
func (r *roster) take(a *account.Account, now time.Time) {
	k := r.accounts[a.ID]
	if !a.Lives() || a.Adopted {
		if k != nil && a.Revision >= k.revision {
			r.prints.replace(k.print, print{}, now)
			delete(r.accounts, a.ID)
			delete(r.due, a.ID)
		}
		if a.State == account.Deleted && (k != nil || a.Adopted) {
			r.dig(a.ID)
		}
		return
	}
	if k == nil {
		// One that was never pushed before this revision is only known here.
		k = &kept{id: a.ID}
		if a.Revision > 1 || a.Applied > 0 {
			k.look = atApplied
		}
		r.accounts[a.ID] = k
	}
	if a.Issued > 0 && a.Issued >= k.issued {
		k.signer = a.Signer
	}
	k.applied, k.issued = max(k.applied, a.Applied), max(k.issued, a.Issued)
	if a.Revision <= k.revision {
		return
	}
	k.revision, k.plan = a.Revision, a.Plan
	if a.Applied < a.Revision {
		record := *a
		r.enqueue(k)
		k.record, k.retry = &record, 0
	}
}

// enqueue has an account worked on now; r.mu is held.
func (r *roster) enqueue(k *kept) {
	r.due[k.id] = k
	k.asked++
	k.next = time.Time{}
}

// settle notes that an account is as it is to be, unless it was enqueued since it was taken; r.mu is held.
func (r *roster) settle(k *kept) {
	k.problem, k.retry = nil, 0
	if k.asked == k.taken && r.due[k.id] == k {
		k.look, k.again, k.moved, k.record = atNothing, false, false, nil
		delete(r.due, k.id)
	}
}

// Accounts takes the records that have changed, or with all those of every account that is not deleted. It returns
// before anything comes of it.
func (c *Claims) Accounts(changed []account.Account, all bool) {
	for i := range changed {
		if a := &changed[i]; !all && a.Applied < a.Revision {
			c.r.keys.forget(a.ID)
		}
	}
	if c.adopted.take(changed, all) {
		c.Wake()
	}
	c.roster.mu.Lock()
	defer c.roster.mu.Unlock()
	if !c.roster.open {
		return
	}
	now, there := time.Now(), map[string]bool{}
	for i := range changed {
		c.roster.take(&changed[i], now)
		there[changed[i].ID] = true
	}
	if all && c.roster.loaded {
		for id, k := range c.roster.accounts {
			if !there[id] && k.record == nil { // one with a record may be newer than the list
				c.roster.prints.replace(k.print, print{}, now)
				delete(c.roster.accounts, id)
				delete(c.roster.due, id)
			}
		}
	}
	if len(c.roster.due) > 0 {
		c.roster.stir()
	}
}

// load reads all records once this replica holds the lease, and makes the claims again that servers were given, so
// that their hash is known without asking anybody.
func (c *Claims) load(ctx context.Context) error {
	if _, err := c.survey(ctx); err != nil {
		return err
	}
	f := store.AccountFilter{Limit: store.MaxPage}
	for {
		page, next, err := c.Records.Accounts(ctx, f)
		if err != nil {
			return err
		}
		c.enter(page)
		if f.Cursor = next; next == "" {
			break
		}
	}
	c.roster.mu.Lock()
	defer c.roster.mu.Unlock()
	c.roster.loaded = true
	c.Wake()
	return nil
}

// ready reports whether it is known which accounts are self-service ones.
func (r *roster) ready(records AccountStore) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return records == nil || r.loaded
}

// enter takes a page of records, with the prints of those that servers have.
func (c *Claims) enter(page []account.Account) {
	prints := make([]print, len(page))
	for i := range page {
		if a := &page[i]; a.Lives() && !a.Adopted && a.Applied == a.Revision && a.Issued > 0 && c.isOwn(a.Signer) {
			if token, err := c.claimsOf(a, a.Issued); err == nil {
				prints[i] = printOf(token)
			}
		}
	}
	c.roster.mu.Lock()
	defer c.roster.mu.Unlock()
	now := time.Now()
	for i := range page {
		c.roster.take(&page[i], now)
		k := c.roster.accounts[page[i].ID]
		switch {
		case k == nil || k.revision != page[i].Revision || k.print != (print{}):
		case prints[i] != print{} && k.issued == page[i].Issued:
			k.look, k.print = atNothing, prints[i]
			c.roster.prints.replace(print{}, k.print, now)
			if a := &page[i]; !c.r.kind.stores() || a.State.InUse() && a.State != c.r.kind.inUse() {
				c.roster.lookAt(k, atApplied) // what others may have told these servers nobody makes known
			}
		case k.signer != "" && !c.isOwn(k.signer) && page[i].Applied == page[i].Revision && c.r.kind.stores():
			k.look = atNothing // what it has is known when it is signed anew
		default:
			c.roster.lookAt(k, atApplied) // the holder before may have pushed it
		}
	}
}

// claimsOf returns the JWT that the record asks for, with what revocations ask of the account, signed at that second.
func (c *Claims) claimsOf(a *account.Account, issued int64) (string, error) {
	limits, err := c.limitsOf(a)
	if err != nil {
		return "", err
	}
	d, err := c.documentOf(a, limits)
	if err != nil {
		return "", err
	}
	signer := c.Signer()
	if signer == nil {
		return "", ErrNotManaged
	}
	return d.sign(signer, issued, a.Revision)
}

// errNoPlan says that an account's plan is not in the configuration, and that its limits are not known.
var errNoPlan = errors.New("its plan is not in the configuration, and not all servers ever had its claims: put the plan back, or give the account another")

// limitsOf returns the limits of the account's plan: when the configuration has it no more, those that all servers had last, since
// what revocations ask must reach them all the same.
func (c *Claims) limitsOf(a *account.Account) (account.Limits, error) {
	plan, ok := c.Limits(a.Plan)
	text := ""
	if ok {
		text = string(encoded(plan))
	}
	c.roster.mu.Lock()
	if _, noted := c.roster.plans[a.Plan]; !noted {
		c.roster.plans[a.Plan] = text
	}
	c.roster.mu.Unlock()
	switch {
	case ok:
		return plan, nil
	case a.Given != nil:
		return *a.Given, nil
	default:
		return account.Limits{}, errNoPlan
	}
}

// documentOf returns what servers are to hold of an account whose plan has these limits.
func (c *Claims) documentOf(a *account.Account, plan account.Limits) (*document, error) {
	claims := account.Claims(a, plan)
	claims.Type, claims.Version = "account", 2
	payload, err := json.Marshal(claims)
	if err != nil {
		return nil, err
	}
	d, err := parsePayload(payload)
	if err != nil {
		return nil, err
	}
	c.roster.mu.Lock()
	o := c.roster.overlays[a.ID]
	c.roster.mu.Unlock()
	if a.State == account.Deleting {
		o = maps.Clone(o)
		if o == nil {
			o = overlay{}
		}
		o[place{part: limit, name: "conn"}], o[place{part: limit, name: "leaf"}] = 0, 0
	}
	if len(o) == 0 {
		return d, nil
	}
	return o.apply(d), nil
}

// survey finds out what revocations ask of accounts now, notes it, and returns that of the accounts that are not on the roster.
func (c *Claims) survey(ctx context.Context) (map[string]overlay, error) {
	c.surveying.Lock() // so that what was found out first is not noted last
	defer c.surveying.Unlock()
	wanted, err := c.wanted(ctx)
	if err != nil {
		return nil, err
	}
	c.ask(wanted)
	return wanted, nil
}

// stale reports whether revocations may ask other things of these accounts than is noted, since they changed together with a record:
// one that may open what was closed.
func (r *roster) stale(jobs []*job) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.ContainsFunc(jobs, func(t *job) bool {
		returns := t.record.State == account.Creating && t.record.Revision > 1
		return t.record.Revision > t.kept.applied && (returns || len(r.overlays[t.id]) > 0)
	})
}

// ask notes what revocations ask of accounts, be they on the roster yet or not, and takes those out that are.
func (c *Claims) ask(wanted map[string]overlay) {
	r := c.roster
	r.mu.Lock()
	defer r.mu.Unlock()
	before := r.overlays
	r.overlays = maps.Clone(wanted)
	maps.DeleteFunc(wanted, func(id string, _ overlay) bool { return r.accounts[id] != nil })
	for _, list := range []map[string]overlay{before, r.overlays} {
		for id := range list {
			if k := r.accounts[id]; k != nil && !maps.Equal(before[id], r.overlays[id]) {
				k.moved = true
				r.enqueue(k)
			}
		}
	}
	c.askPlans()
	if len(r.due) > 0 || !c.isOwn(r.anew.key) {
		r.stir()
	}
}

// askPlans has the accounts of plans worked on whose limits have changed; r.mu is held.
func (c *Claims) askPlans() {
	r := c.roster
	changed := map[string]bool{}
	for plan, before := range r.plans {
		if is := c.limitsText(plan); is != before {
			changed[plan], r.plans[plan] = true, is
		}
	}
	if len(changed) == 0 {
		return
	}
	for _, k := range r.accounts {
		if changed[k.plan] {
			k.moved = true
			r.enqueue(k)
		}
	}
}

func (c *Claims) limitsText(plan string) string {
	limits, ok := c.Limits(plan)
	if !ok {
		return ""
	}
	return string(encoded(limits))
}

// problem returns why an account is not as it is to be; nil when it is.
func (r *roster) problem(id string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if k := r.due[id]; k != nil {
		return k.problem
	}
	return nil
}

// mostProblems bounds the accounts whose problems are told one by one.
const mostProblems = 20

// status says how the self-service accounts stand.
func (r *roster) status(s *ClaimsStatus) {
	r.mu.Lock()
	defer r.mu.Unlock()
	s.SelfService, s.Waiting = len(r.accounts), len(r.due)
	s.Unknown, s.Gone = slices.Clone(r.checks.unknown), slices.Clone(r.checks.gone)
	for _, err := range []error{r.checks.failed, r.checks.keep} {
		if err != nil {
			s.Problems = append(s.Problems, err.Error())
		}
	}
	alike := map[string]int{}
	for _, k := range r.due {
		if k.problem == nil {
			continue
		}
		if why := k.problem.Error(); alike[why] > 0 || len(alike) < mostProblems {
			if alike[why]++; alike[why] == 1 {
				s.Problems = append(s.Problems, "account "+k.id+": "+why)
			}
		}
	}
	for why, n := range alike {
		if n > 1 {
			s.Problems = append(s.Problems, fmt.Sprintf("%d accounts: %s", n, why))
		}
	}
}
