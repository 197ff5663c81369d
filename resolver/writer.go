package resolver

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nkeys"

	"github.com/gatehouse-nats/gatehouse/account"
	"github.com/gatehouse-nats/gatehouse/store"
)

const (
	// leastAtOnce is how small batches become when servers do not answer in time.
	leastAtOnce = 8
	// refusedRetry is between attempts for an account whose claims servers refuse: only another record helps.
	refusedRetry = time.Minute
	// leaseMargin is how much of the lease must be left where something is pushed.
	leaseMargin = time.Second
)

// errNoFullResolver says that servers store no claims.
var errNoFullResolver = errors.New("no server answers a push of claims: nats.resolver.type says full, and none has such a resolver; say what they have")

// keepAccounts keeps the claims of the accounts on the roster until ctx ends.
func (c *Claims) keepAccounts(ctx context.Context) {
	timer := time.NewTimer(c.Interval)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-c.roster.wake:
		case <-timer.C:
		}
		next, err := c.tend(ctx)
		c.roster.mu.Lock()
		before := c.roster.checks.failed
		c.roster.checks.failed = err
		c.roster.mu.Unlock()
		if err != nil && ctx.Err() == nil && (before == nil || before.Error() != err.Error()) {
			c.log.Error("the claims of self-service accounts cannot be kept; trying again", "error", err)
		}
		timer.Reset(next)
	}
}

// tend does all that is due and returns when there is more.
func (c *Claims) tend(ctx context.Context) (next time.Duration, err error) {
	if !c.mayTend() {
		return c.Interval, nil
	}
	if err := c.catchUp(ctx); err != nil {
		return firstRetry, err
	}
	for ctx.Err() == nil {
		more := c.signAnew(time.Now())
		batch, wait := c.roster.batch(time.Now())
		if len(batch) == 0 {
			return min(wait, more, c.Interval), nil
		}
		err := c.tendBatch(ctx, batch)
		if err != nil {
			c.roster.postpone(batch, err, firstRetry)
			return firstRetry, err
		}
		c.roster.lookAtAll()
	}
	return c.Interval, nil
}

// mayTend reports whether this replica keeps the accounts.
func (c *Claims) mayTend() bool {
	c.roster.mu.Lock()
	defer c.roster.mu.Unlock()
	return c.roster.open && c.Records != nil
}

// catchUp reads the records when this replica has just got the lease, those that are not applied now and then, and
// looks at what servers store where that may not be what it is to be.
func (c *Claims) catchUp(ctx context.Context) error {
	r := c.roster
	r.mu.Lock()
	loaded, late := r.loaded, time.Since(r.checks.asked) >= c.Interval
	r.mu.Unlock()
	if !loaded {
		if err := c.load(ctx); err != nil {
			return err
		}
	} else if late {
		if err := c.listUnapplied(ctx); err != nil {
			return err
		}
	}
	r.mu.Lock()
	if late {
		r.checks.asked = time.Now()
	}
	stores := c.r.kind.stores()
	switch {
	case r.checks.sample && stores:
		r.sampled()
	case r.checks.sample:
		r.checks.sample = false
		r.all()
	}
	due := r.checks.due
	r.mu.Unlock()
	if !stores {
		if late {
			r.turn()
		}
		return c.entomb(ctx)
	}
	if due {
		if err := c.check(ctx); err != nil {
			return err
		}
	}
	return c.bury(ctx)
}

// lookAtAll has every account looked at when one was found to be lacking that was looked at for all.
func (r *roster) lookAtAll() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.checks.whole {
		r.checks.whole = false
		r.all()
	}
}

// listUnapplied takes the records that wait, should the feed not have told of one.
func (c *Claims) listUnapplied(ctx context.Context) error {
	f := store.AccountFilter{Unapplied: true, Limit: store.MaxPage}
	for {
		page, next, err := c.Records.Accounts(ctx, f)
		if err != nil {
			return err
		}
		c.Accounts(page, false)
		if f.Cursor = next; next == "" {
			return nil
		}
	}
}

// trusted returns what may be pushed now: one account until a server has applied something that our key signed, since a
// key that servers do not trust spoils what they store.
func (c *Claims) trusted(jobs []*job, public string) []*job {
	if !c.r.kind.stores() {
		return jobs // a server applies what it is given, or refuses it
	}
	if len(jobs) <= 1 || c.isProven(public) || c.r.applies(public) {
		return jobs
	}
	return jobs[:1]
}

// resize notes whether servers answered in time what a batch of that size asked: more of what they are too busy for
// would only keep them busy. r.mu is held.
func (r *roster) resize(size int, inTime bool) {
	if inTime {
		r.size = min(max(r.size, 2*size), mostAtOnce)
	} else {
		r.size = max(size/2, leastAtOnce)
	}
}

// batch returns accounts that are due, and if there are none when the next is.
func (r *roster) batch(now time.Time) (list []*kept, wait time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	wait = time.Hour
	for _, k := range r.due {
		if left := k.next.Sub(now); left > 0 {
			wait = min(wait, left)
			continue
		}
		k.taken = k.asked
		if list = append(list, k); len(list) >= r.size {
			break
		}
	}
	return list, wait
}

// postpone has the accounts tried again later.
func (r *roster) postpone(batch []*kept, err error, least time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, k := range batch {
		r.fail(k, err, least)
	}
}

// fail notes why an account is not as it is to be; r.mu is held.
func (r *roster) fail(k *kept, err error, least time.Duration) {
	k.problem, k.look = err, atApplied
	k.retry = max(min(max(2*k.retry, firstRetry), mostRetry), least)
	if k.asked == k.taken {
		k.next = time.Now().Add(k.retry)
	}
}

// job is one account in a batch.
type job struct {
	*kept
	delivery
	record   *account.Account
	revision int64 // of the record
	want     *document
	given    *account.Limits // of its plan, in want
	light    bool            // servers have had the JWT before: who stores it need not load it
	issued   int64           // of the JWT
	idle     bool            // all servers have it already
	unfit    error           // why there is no JWT
}

// tendBatch brings the accounts to what their records ask for.
func (c *Claims) tendBatch(ctx context.Context, batch []*kept) error {
	signer := c.Signer()
	if signer == nil {
		return ErrNotManaged
	}
	public, err := signer.PublicKey()
	if err != nil {
		return err
	}
	if c.isDistrusted(public) {
		c.roster.postpone(batch, untrusted(public), c.Interval)
		return nil
	}
	if batch = c.complete(batch, public); len(batch) == 0 {
		return nil
	}
	if err := c.lookAt(ctx, batch); err != nil {
		return err
	}
	jobs, err := c.jobs(ctx, batch)
	if err != nil {
		return err
	}
	if c.roster.stale(jobs) {
		if _, err := c.survey(ctx); err != nil {
			return err
		}
	}
	jobs, err = c.plan(ctx, jobs, signer)
	if err != nil || len(jobs) == 0 {
		return err
	}
	if err := c.vet(ctx, public); errors.Is(err, ErrUntrusted) {
		c.roster.postpone(batch, err, c.Interval)
		return nil
	} else if err != nil {
		return err
	}
	if err := c.ensureLease(ctx); err != nil {
		return err
	}
	return c.carryOut(ctx, c.trusted(jobs, public), public)
}

// errIncomplete says that servers are counted that are not known.
var errIncomplete = errors.New("not every server that the others count is known")

// complete returns the accounts that can be worked on with the servers that are known: all of them when these are all
// that there are, otherwise those that servers have already, for what a revocation asks.
func (c *Claims) complete(batch []*kept, public string) []*kept {
	if c.r.complete() && len(c.r.Servers()) > 0 {
		return batch
	}
	proven := c.isProven(public)
	c.roster.mu.Lock()
	defer c.roster.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(batch), func(k *kept) bool {
		waits := !proven || k.applied == 0
		if waits {
			k.problem, k.next = errIncomplete, time.Now().Add(firstRetry/4)
		}
		return waits
	})
}

// ensureLease makes sure, right before a push, that this replica still holds the lease.
func (c *Claims) ensureLease(ctx context.Context) error {
	c.mu.Lock()
	left := time.Until(c.until)
	c.mu.Unlock()
	if left > leaseMargin {
		return nil
	}
	if held, err := c.lease(ctx); err != nil || !held {
		return errors.Join(errOvertaken, err)
	}
	return nil
}

// jobs returns the batch with the records, which are read where they are not at hand.
func (c *Claims) jobs(ctx context.Context, batch []*kept) ([]*job, error) {
	var absent []string
	jobs := make([]*job, 0, len(batch))
	c.roster.mu.Lock()
	for _, k := range batch {
		if c.roster.due[k.id] != k || time.Now().Before(k.next) {
			continue // what it has is as it is to be, or it is gone, or servers did not say what they have
		}
		t := &job{kept: k, record: k.record}
		t.account = k.id
		if jobs = append(jobs, t); k.record == nil {
			absent = append(absent, k.id)
		}
	}
	c.roster.mu.Unlock()
	if len(absent) == 0 {
		return jobs, nil
	}
	page, _, err := c.Records.Accounts(ctx, store.AccountFilter{IDs: absent, Limit: store.MaxPage})
	if err != nil {
		return nil, err
	}
	for i := range page {
		for _, t := range jobs {
			if t.id == page[i].ID {
				t.record = &page[i]
			}
		}
	}
	return slices.DeleteFunc(jobs, func(t *job) bool { return t.record == nil }), nil
}

// plan decides what each account is given, and drops those that are as they are to be.
func (c *Claims) plan(ctx context.Context, jobs []*job, signer nkeys.KeyPair) ([]*job, error) {
	now := c.r.now().Unix()
	kept := jobs[:0]
	for _, t := range jobs {
		t.unfit = c.planOne(t, signer, now)
	}
	public, err := signer.PublicKey()
	if err != nil {
		return nil, err
	}
	if err := c.serve(ctx, jobs, public); err != nil {
		return nil, err
	}
	for _, t := range jobs {
		err := t.unfit
		c.roster.mu.Lock()
		switch {
		case err != nil:
			c.roster.report(c, t.kept, err)
			c.roster.fail(t.kept, err, refusedRetry)
		case t.idle:
			c.roster.done(t)
		case time.Since(t.pushed) < pushEvery: // its turn comes without the others
			t.next = t.pushed.Add(pushEvery)
		default:
			kept = append(kept, t)
		}
		c.roster.mu.Unlock()
	}
	return kept, nil
}

// planOne makes the JWT that the account is given.
func (c *Claims) planOne(t *job, signer nkeys.KeyPair, now int64) (err error) {
	limits, err := c.limitsOf(t.record)
	if err != nil {
		return err
	}
	if t.want, err = c.documentOf(t.record, limits); err != nil {
		return err
	}
	t.given = &limits
	c.roster.mu.Lock()
	had, issued, again, noted := t.print, t.kept.issued, t.again, t.kept.signer
	t.revision = t.record.Revision
	applied := t.kept.applied >= t.revision && (!t.record.State.InUse() || t.record.State == c.r.kind.inUse())
	c.roster.mu.Unlock()
	if issued > 0 && !again {
		token, err := t.want.sign(signer, issued, t.revision)
		if err != nil {
			return err
		}
		if printOf(token) == had {
			t.issued, t.token, t.light = issued, token, applied // the same: who has it writes nothing
			// Servers may have come to have it after a push that failed: then the record has yet to say who signed it.
			if t.idle = applied && t.look == atNothing && (noted == "" || c.isOwn(noted)); t.idle {
				return nil
			}
			return c.fits(t.want, t.id, token) // the server that takes it may be another than before
		}
	}
	t.issued = max(now, issued+1)
	if t.token, err = t.want.sign(signer, t.issued, t.revision); err != nil {
		return err
	}
	return c.fits(t.want, t.id, t.token)
}

// carryOut pushes, reads back, and notes what all servers have applied.
func (c *Claims) carryOut(ctx context.Context, jobs []*job, public string) error {
	batch := make([]*delivery, len(jobs))
	now := time.Now()
	c.roster.mu.Lock()
	for i, t := range jobs {
		batch[i] = &t.delivery
		after := printOf(t.token)
		c.roster.prints.replace(t.kept.print, after, now)
		t.kept.print, t.kept.issued, t.pushed, t.again = after, t.issued, now, false
	}
	c.roster.mu.Unlock()
	servers := c.r.count()
	var written, light []*delivery
	if !c.r.kind.stores() {
		for _, t := range jobs {
			if t.light {
				light = append(light, &t.delivery)
			} else {
				written = append(written, &t.delivery)
			}
		}
		if err := c.r.deliverDirected(ctx, written, light); err != nil {
			return err
		}
		return c.conclude(ctx, jobs, public)
	}
	if err := c.r.deliver(ctx, batch); err != nil {
		return err
	}
	for _, t := range jobs {
		if t.answers < servers {
			continue
		}
		if t.light {
			light = append(light, &t.delivery)
		} else {
			written = append(written, &t.delivery)
		}
	}
	if err := c.r.readBack(ctx, written); err != nil {
		return err
	}
	if err := errors.Join(c.r.readApplied(ctx, light), c.r.lookupAll(ctx, light)); err != nil {
		return err
	}
	return c.conclude(ctx, jobs, public)
}

// conclude notes what became of each account of a batch.
func (c *Claims) conclude(ctx context.Context, jobs []*job, public string) error {
	var applied []store.Applied
	complete := c.r.complete()
	var good []*job
	silent, stores := false, c.r.kind.stores()
	failed := map[string][]string{}
	for _, t := range jobs {
		silent = silent || t.answers+len(t.refused) < c.r.count() || stores && len(t.stored) < c.r.count() && len(t.refused) == 0
		missing, any := c.r.lackingOf(&t.delivery, t.light && c.r.kind != Memory)
		if any {
			c.prove(public)
			c.r.keys.learn(t.delivery.applied, t.token, t.record)
		}
		err := c.outcome(t, missing, any, complete, public)
		if err == nil {
			applied = append(applied, store.Applied{ID: t.id, Revision: t.revision, Issued: t.issued, Signer: public, Given: t.given, Published: !stores})
			good = append(good, t)
			continue
		}
		if errors.Is(err, ErrUntrusted) {
			err = errors.Join(err, c.restore(ctx, t, public))
		}
		c.roster.mu.Lock()
		if t.problem == nil || t.problem.Error() != err.Error() {
			failed[err.Error()] = append(failed[err.Error()], t.id)
		}
		c.roster.fail(t.kept, err, retryOf(t))
		for _, has := range t.delivery.applied {
			t.again = t.again || stores && has != t.token && !(t.light && has == "") // it would not write the same again
		}
		for _, has := range t.stored {
			t.again = t.again || has != t.token
		}
		c.roster.mu.Unlock()
	}
	c.roster.mu.Lock()
	c.roster.resize(len(jobs), !silent)
	c.roster.mu.Unlock()
	for why, of := range failed {
		c.log.Error("self-service accounts are not as their records ask", "accounts", len(of), "first", of[0], "error", why)
	}
	if len(applied) == 0 {
		return nil
	}
	if err := c.serve(ctx, good, public); err != nil {
		return err
	}
	if err := c.Records.MarkApplied(ctx, applied); err != nil {
		return err
	}
	c.roster.mu.Lock()
	defer c.roster.mu.Unlock()
	for _, t := range good {
		t.signer = public
		c.roster.done(t)
	}
	return nil
}

func retryOf(t *job) time.Duration {
	if len(t.refused) > 0 {
		return refusedRetry
	}
	return 0
}

// outcome says why an account is not as it is to be everywhere; nil when it is.
func (c *Claims) outcome(t *job, missing []string, any, complete bool, public string) error {
	if !c.r.kind.stores() {
		return c.undirected(t, missing, complete)
	}
	switch {
	case len(t.refused) > 0:
		return fmt.Errorf("servers refuse the claims: %s", strings.Join(t.refused, "; "))
	case t.answers == 0:
		return errNoFullResolver
	case len(missing) > 0 && !any && t.answers >= len(missing) && len(t.delivery.applied) >= len(missing) && !c.isProven(public):
		return untrusted(public)
	case len(missing) > 0:
		return fmt.Errorf("not applied on %s", strings.Join(missing, ", "))
	case !complete:
		return errIncomplete
	case slices.ContainsFunc(t.stored, func(token string) bool { return token != t.token }):
		return errors.New("a server stores other claims than it has applied")
	case len(t.stored) < c.r.count():
		return errors.New("not every server has said what it stores")
	default:
		return nil
	}
}

// prove notes that a server has applied what the key signed.
func (c *Claims) prove(public string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.proven, c.distrust = public, nil
}

// restore notes that servers do not trust the key, and gives them the claims that they had of the account before.
func (c *Claims) restore(ctx context.Context, t *job, public string) error {
	c.suspect(public)
	for _, token := range t.delivery.applied {
		if token != "" {
			_, _, err := c.r.push(ctx, t.id, token)
			return err
		}
	}
	return nil
}

// done notes that every server has what the account is to have; r.mu is held.
func (r *roster) done(t *job) {
	t.kept.applied = max(t.kept.applied, t.revision)
	r.settle(t.kept)
}

// report logs why an account is not as it is to be, once for each reason; r.mu is held.
func (r *roster) report(c *Claims, k *kept, err error) {
	if k.problem == nil || k.problem.Error() != err.Error() {
		c.log.Error("a self-service account is not as its record asks", "account", k.id, "error", err)
	}
}
