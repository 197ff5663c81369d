package resolver

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/nats-io/nkeys"

	"github.com/gatehouse-nats/gatehouse/store"
)

// change signs, keeps and pushes an account's claims, and waits until they are applied; with renew until servers have those
// that are signed now.
func (c *Claims) change(ctx context.Context, a *accountStatus, record store.AccountClaims, h history, d *decision, held []serverClaims, o overlay, renew bool) error {
	signer := c.Signer()
	if signer == nil {
		return ErrNotManaged
	}
	if err := c.mayPush(a, d, signer); err != nil {
		return err
	}
	public, err := signer.PublicKey()
	if err != nil {
		return err
	}
	if err := c.vet(ctx, public); err != nil {
		return err
	}
	if !rest(ctx, pushEvery-time.Since(a.pushed)) {
		return ctx.Err()
	}
	if err := c.overtaken(a, o); err != nil {
		return err
	}
	base, token, err := c.signed(record, h, d, held, signer)
	if err != nil {
		return err
	}
	before := record
	record.Base, record.Desired = base, token
	if err := c.save(ctx, record); err != nil {
		return err
	}
	if held, err := c.lease(ctx); err != nil || !held {
		return errors.Join(errOvertaken, err)
	}
	a.pushed = time.Now()
	answers, refused, err := c.r.push(ctx, record.Account, token)
	if err != nil {
		return err
	}
	err = c.await(ctx, a, push{record.Account, d.desired, o, held, answers, refused, renew}, public)
	if errors.Is(err, ErrUntrusted) {
		// What the store has is believed only of keys that servers trust.
		before.Revision++
		err = errors.Join(err, c.save(ctx, before))
	}
	if err != nil && !errors.Is(err, errOvertaken) {
		a.refused = &attempt{d.desired, c.r.serverIDs(), time.Now().Add(max(a.retry, firstRetry))}
	} else {
		a.refused = nil
	}
	return err
}

// mayPush returns why nothing is to be pushed now.
func (c *Claims) mayPush(a *accountStatus, d *decision, signer nkeys.KeyPair) error {
	public, err := signer.PublicKey()
	if err != nil {
		return err
	}
	if c.isDistrusted(public) {
		return untrusted(public)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if last := a.refused; last != nil && time.Now().Before(last.next) && last.servers == c.r.serverIDs() && last.want.same(d.desired) {
		return errNotYet
	}
	return nil
}

// signed returns the JWTs of the base and of what servers are to have, issued after all that they have had.
func (c *Claims) signed(record store.AccountClaims, h history, d *decision, held []serverClaims, signer nkeys.KeyPair) (base, token string, err error) {
	issued := c.r.now().Unix()
	if h.desired != nil {
		issued = max(issued, h.desired.issued()+1)
	}
	for _, s := range held {
		if s.found != nil {
			issued = max(issued, s.found.issued()+1)
		}
	}
	if base, err = d.base.sign(signer, d.base.issued(), record.Revision); err != nil {
		return "", "", err
	}
	if token, err = d.desired.sign(signer, issued, record.Revision+1); err != nil {
		return "", "", err
	}
	if err := c.fits(d.desired, record.Account, token); err != nil {
		return "", "", err
	}
	return base, token, nil
}

func (d *document) revocations() (n int) {
	for p := range d.entries {
		if p.part == revocation {
			n++
		}
	}
	return n
}

// push is what servers were given.
type push struct {
	account string
	want    *document
	asked   overlay
	before  []serverClaims
	answers int      // of servers
	refused []string // what servers said that refused it
	renew   bool     // the same as before, signed by another key
}

// await reads the account back until every server that is known has applied what was pushed, or something else is
// asked. Claims that no server applies although they store them are signed by a key that they do not trust, and
// would break the account at their next start: those from before are put back.
func (c *Claims) await(ctx context.Context, a *accountStatus, p push, public string) error {
	began := time.Now()
	for wait := 5 * time.Millisecond; ; wait = min(2*wait, 200*time.Millisecond) {
		missing, err := c.missing(ctx, p, public, lookTimeout+time.Since(began))
		if err == nil && len(missing) == 0 {
			c.log.Info("an account's claims are applied on every server", "account", p.account)
			return nil
		}
		if overtaken := c.overtaken(a, p.asked); overtaken != nil {
			return overtaken
		}
		if time.Since(began) < applyLimit && rest(ctx, wait) {
			continue
		}
		return errors.Join(ctx.Err(), c.failure(ctx, p, public, missing, err))
	}
}

// missing returns which of the servers that answer in time have not applied what was pushed.
func (c *Claims) missing(ctx context.Context, p push, public string, limit time.Duration) (missing []string, err error) {
	short, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	held, err := c.r.appliedEverywhere(short, p.account)
	for _, s := range held {
		if s.found == nil || !p.want.same(s.found) || p.renew && !s.signedBy(public) {
			missing = append(missing, s.server.Name)
		}
		if s.signedBy(public) {
			c.mu.Lock()
			c.proven, c.distrust = public, nil
			c.mu.Unlock()
		}
	}
	return missing, err
}

// failure says why servers have not applied what was pushed, and puts back what they had where the key is why.
func (c *Claims) failure(ctx context.Context, p push, public string, missing []string, err error) error {
	switch {
	case len(p.refused) > 0:
		return errors.Join(fmt.Errorf("servers refuse the claims: %s", strings.Join(p.refused, "; ")), err)
	// Who answers has done what it does with a push.
	case len(missing) > 0 && p.answers >= len(missing) && !c.isProven(public):
		return errors.Join(untrusted(public), c.putBack(ctx, p.account, public, p.before), err)
	case len(missing) > 0:
		return errors.Join(fmt.Errorf("not applied on %s", strings.Join(missing, ", ")), err)
	default:
		return err
	}
}

func (c *Claims) isProven(public string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.proven == public
}

func untrusted(public string) error {
	return fmt.Errorf("%w (%s): they do not apply what it signs: give Gatehouse a signing key of the operator that all servers have in their operator JWT (docs/keys.md); nothing more is pushed with this one", ErrUntrusted, public)
}

// putBack gives the servers the claims that they had before.
func (c *Claims) putBack(ctx context.Context, account, public string, before []serverClaims) error {
	c.suspect(public)
	var latest *serverClaims
	for i, h := range before {
		if h.found != nil && (latest == nil || h.found.issued() > latest.found.issued()) {
			latest = &before[i]
		}
	}
	if latest == nil {
		return nil
	}
	_, _, err := c.r.push(ctx, account, latest.token)
	return err
}
