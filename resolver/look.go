package resolver

import (
	"context"
	"errors"
	"time"
)

// lookAt reads what servers have of those accounts of a batch of which that is not known, and counts where it is not
// what they were to have. An account that is as it is to be everywhere is not due any more.
func (c *Claims) lookAt(ctx context.Context, batch []*kept) error {
	if !c.r.kind.stores() {
		return c.lookDirected(ctx, batch)
	}
	var list, closer []*delivery
	var of []*kept
	c.roster.mu.Lock()
	for _, k := range batch {
		if k.look == atNothing {
			continue
		}
		d := &delivery{account: k.id}
		if list, of = append(list, d), append(of, k); k.look == atApplied {
			closer = append(closer, d)
		}
	}
	c.roster.mu.Unlock()
	if err := c.r.lookupAll(ctx, list); err != nil {
		return err
	}
	if err := c.r.readApplied(ctx, closer); err != nil {
		return err
	}
	servers := c.r.count()
	c.roster.mu.Lock()
	defer c.roster.mu.Unlock()
	for i, d := range list {
		if c.roster.accounts[of[i].id] == of[i] {
			c.judge(of[i], d, servers)
		}
	}
	return nil
}

// errSilent says that a server did not say what it has.
var errSilent = errors.New("not every server has said what it has")

// judge notes what servers were found to have of an account: one that has what they were given, and is to have nothing else, is done.
// roster.mu is held.
func (c *Claims) judge(k *kept, d *delivery, servers int) {
	expected := k.applied > 0 // then every server is to have claims
	if k.print == (print{}) {
		c.learn(k, d)
	}
	good := k.print != (print{})
	note := func(how drift) {
		good = false
		if how == absent && k.sample {
			c.roster.checks.whole = true
		}
		if expected {
			c.OnDrift(k.id, string(how))
		}
	}
	for _, token := range d.stored {
		if token == "" || printOf(token) != k.print {
			note(c.differs(k, token))
		}
	}
	for _, token := range d.applied {
		if token != "" && printOf(token) != k.print && len(d.stored) > 0 && good {
			note(stored)
			k.again = true // what it stores it would not write again
		}
	}
	k.sample = false
	switch {
	case good && len(d.stored) < servers:
		c.roster.report(c, k, errSilent)
		c.roster.fail(k, errSilent, 0)
	case good && k.asked == k.taken:
		if k.look = atNothing; k.applied >= k.revision && k.record == nil && !k.again && !k.moved {
			c.roster.settle(k)
		}
	}
}

// learn takes the newest claims that a server stores for those that all were given; roster.mu is held.
func (c *Claims) learn(k *kept, d *delivery) {
	for _, token := range d.stored {
		found, err := parseDocument(token)
		if err != nil || !c.isOwn(found.issuer()) || found.issued() < k.issued {
			continue
		}
		k.issued = found.issued()
		c.roster.prints.replace(k.print, printOf(token), time.Now())
		k.print = printOf(token)
	}
}

// differs says how claims that a server stores are not those that it was given. Claims that were signed later, or in the
// same second, win wherever servers exchange theirs: then only a later second helps. roster.mu is held.
func (c *Claims) differs(k *kept, token string) drift {
	if token == "" {
		return absent
	}
	found, err := parseDocument(token)
	if err != nil {
		return foreign
	}
	if found.issued() >= k.issued {
		k.issued, k.again = found.issued(), true
	}
	if _, ours := found.ours(); ours && found.issued() < k.issued && c.isOwn(found.issuer()) {
		return older
	}
	return foreign
}
