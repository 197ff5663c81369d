package provision

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"runtime/debug"
	"sync"
	"time"

	"github.com/gatehouse-nats/gatehouse/account"
	"github.com/gatehouse-nats/gatehouse/api"
	"github.com/gatehouse-nats/gatehouse/policy"
	"github.com/gatehouse-nats/gatehouse/store"
)

// Login is the transport of what a login has done.
const Login Transport = "login"

// Bounds of accounts that logins make.
const (
	maxFounding  = 64               // at once
	keptRefusal  = 10 * time.Second // for which it is remembered that an account is not made
	keptRefusals = 4096
)

// foundings are the accounts that logins have made just now, each once for all who wait for it.
type foundings struct {
	mu      sync.Mutex
	ctx     context.Context // nil while the service does not run
	running sync.WaitGroup
	under   map[foundingKey]*founding
	refused map[foundingKey]*founding
	since   time.Time      // of the counts
	counts  map[string]int // accounts made, by binding
}

type foundingKey struct {
	name   string
	origin policy.Origin
}

// founding is the making of one account.
type founding struct {
	done    chan struct{}
	refusal *policy.Refusal // set before done is closed
	until   time.Time       // of a refusal that is remembered
}

func (f *founding) end(r *policy.Refusal) {
	f.refusal = r
	close(f.done)
}

// Found has the account made that the identity's login from source leads to, or waits for it where that is under way. It does not
// block: done is closed once decisions know that the account is open, or that this is not to be; refusal then says why, nil where
// nothing is known against it. Many who ask for one account at once have it made once.
func (s *Service) Found(id *policy.Identity, source netip.Addr, c *policy.Creation) (done <-chan struct{}, refusal func() *policy.Refusal) {
	f := s.foundings.start(s, id, source, c)
	return f.done, func() *policy.Refusal { return f.refusal }
}

// start returns the making of the account, which it begins unless it is under way or was refused a moment ago.
func (l *foundings) start(s *Service, id *policy.Identity, source netip.Addr, c *policy.Creation) *founding {
	key, now := foundingKey{c.Name, c.Origin}, s.Now()
	l.mu.Lock()
	defer l.mu.Unlock()
	if f := l.under[key]; f != nil {
		return f
	}
	if f := l.refused[key]; f != nil && now.Before(f.until) {
		return f
	}
	f := &founding{done: make(chan struct{})}
	switch {
	case l.ctx == nil || l.ctx.Err() != nil:
		f.end(policy.Refuse(policy.AccountCreating, "account %s is not made by a service that ends", c.Name))
		return f
	case len(l.under) >= maxFounding:
		f.end(policy.Refuse(policy.Overloaded, "%d accounts are being made already", maxFounding))
		return f
	case !c.Begun && !l.take(c.Binding, c.PerMinute, now):
		f.end(policy.Refuse(policy.Overloaded, "binding %s has made %d accounts in a minute: grant.create.per_minute bounds them", c.Binding, c.PerMinute))
		return f
	}
	if l.under == nil {
		l.under, l.refused = map[foundingKey]*founding{}, map[foundingKey]*founding{}
	}
	l.under[key] = f
	ctx := l.ctx
	l.running.Go(func() {
		r := s.guarded(ctx, id, source, c)
		l.mu.Lock()
		defer l.mu.Unlock()
		delete(l.under, key)
		l.remember(key, f, r, s.Now())
		f.end(r)
	})
	return f
}

// take counts an account of the binding, and reports false when there were as many in this minute as may be.
func (l *foundings) take(binding string, most int, now time.Time) bool {
	if age := now.Sub(l.since); age < 0 || age >= time.Minute {
		l.since, l.counts = now, map[string]int{}
	}
	if l.counts[binding] >= most {
		return false
	}
	l.counts[binding]++
	return true
}

// remember keeps a refusal for a moment, so that who tries again does not have the store asked each time. One that is silent says
// nothing of the next attempt.
func (l *foundings) remember(key foundingKey, f *founding, r *policy.Refusal, now time.Time) {
	delete(l.refused, key)
	if r == nil || r.Reason.Silent() {
		return
	}
	if len(l.refused) >= keptRefusals {
		clear(l.refused)
	}
	f.until = now.Add(keptRefusal)
	l.refused[key] = f
}

// begin lets accounts be made until ctx ends.
func (l *foundings) begin(ctx context.Context) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.ctx = ctx
}

// end has no more accounts made, and returns once none is under way.
func (l *foundings) end() {
	l.mu.Lock()
	l.ctx = nil
	l.mu.Unlock()
	l.running.Wait()
}

// guarded is [Service.found], whose panic ends the logins that wait for the account in silence, counted as internal, and not the process.
func (s *Service) guarded(ctx context.Context, id *policy.Identity, source netip.Addr, c *policy.Creation) (r *policy.Refusal) {
	defer func() {
		if p := recover(); p != nil {
			s.Logger.Error("an account that a login leads to made the service panic; the login is not answered", "account", c.Name, "binding", c.Binding, "name", id.Name(), "panic", fmt.Sprint(p), "stack", string(debug.Stack()))
			r = policy.Refuse(policy.Internal, "panic")
		}
	}()
	return s.found(ctx, id, source, c)
}

// found makes the account unless it is there, and returns once it is open, or why it is not.
func (s *Service) found(ctx context.Context, id *policy.Identity, source netip.Addr, c *policy.Creation) *policy.Refusal {
	ctx, cancel := context.WithTimeout(ctx, settleWait)
	defer cancel()
	p := party{Caller: Caller{Actor: id.Name(), Identity: id, Transport: Login, Source: source, RequestID: newID()}}
	if !c.Begun {
		r, err := s.makeFor(ctx, p, c)
		if err != nil {
			s.Logger.Error("an account that a login leads to could not be made", "account", c.Name, "binding", c.Binding, "name", id.Name(), "error", err)
			return policy.Refuse(policy.AccountCreating, "account %s could not be made: %v", c.Name, err)
		}
		if r != nil {
			return r
		}
	}
	return s.awaitOpen(ctx, c)
}

// awaitOpen waits until decisions know that the account is open.
func (s *Service) awaitOpen(ctx context.Context, c *policy.Creation) *policy.Refusal {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		if state := s.State(); state != nil {
			if e := state.Accounts.Named(c.Name); e != nil && e.Open {
				return nil
			}
		}
		select {
		case <-ctx.Done():
			return policy.Refuse(policy.AccountCreating, "account %s is stored, and not every server has it yet", c.Name)
		case <-tick.C:
		}
	}
}

// makeFor stores the account unless it is there already, made from the same. An error says nothing against another attempt.
func (s *Service) makeFor(ctx context.Context, p party, c *policy.Creation) (*policy.Refusal, error) {
	plan := s.Accounts.Plans()[c.Plan]
	if plan == nil {
		return policy.Refuse(policy.AccountNotGranted, "plan %s of binding %s is not in the configuration any more", c.Plan, c.Binding), nil
	}
	if there, r, err := s.made(ctx, c); there || r != nil || err != nil {
		return r, err
	}
	if err := s.nameable(c.Name, plan); err != nil {
		return policy.Refuse(policy.AccountForeign, "account %s is not made: %v", c.Name, err), nil
	}
	ring, err := s.sealing()
	if err != nil {
		return nil, err
	}
	a := newAccount(c.Name, plan, s.now())
	a.Origin = &account.Origin{Origin: c.Origin, Binding: c.Binding}
	change := store.AccountChange{MostMade: c.Max}
	if c.Own {
		a.Owner = account.Person{Principal: p.principal(), Name: p.Identity.Name()}
		a.Members = founders(a.Owner, c.Role, p.Actor, a.Created)
		change.Most = plan.PerSubject
	}
	key, err := identify(&a, ring)
	if err != nil {
		return nil, err
	}
	change.Account, change.Keys = a, []store.SealedKey{key}
	change.Entry = s.acted(p, api.OpAccountSignup, &a, "first login")
	change.Entry.Bindings, change.Entry.Detail = []string{c.Binding}, madeBy(c)
	_, err = s.Store.SaveAccount(ctx, change)
	switch {
	case errors.Is(err, store.ErrTaken):
		return s.overtaken(ctx, c)
	case errors.Is(err, store.ErrTooMany), errors.Is(err, store.ErrTooManyMade):
		// The store counts before it looks whether the one that is there is this one.
		if there, r, err := s.made(ctx, c); there || r != nil || err != nil {
			return r, err
		}
		if errors.Is(err, store.ErrTooManyMade) {
			s.Logger.Warn("a binding makes no more accounts for who logs in: it has made as many as grant.create.max lets", "binding", c.Binding, "max", c.Max, "account", c.Name, "name", p.Actor)
			return policy.Refuse(policy.AccountLimit, "account %s is not made: there are %d by binding %s already, which grant.create.max bounds", c.Name, c.Max, c.Binding), nil
		}
		return policy.Refuse(policy.AccountNotGranted, "account %s is not made: the identity owns as many accounts of plan %s as that lets", c.Name, plan.Name), nil
	case err != nil:
		return nil, err
	}
	s.Logger.Info("account made by a first login", "account", a.Name, "account_id", a.ID, "plan", a.Plan, "binding", c.Binding, "name", p.Actor, "request_id", p.RequestID)
	return nil, s.refresh(ctx)
}

// overtaken says what became of an account whose name was given out meanwhile.
func (s *Service) overtaken(ctx context.Context, c *policy.Creation) (*policy.Refusal, error) {
	there, r, err := s.made(ctx, c)
	switch {
	case r != nil || err != nil:
		return r, err
	case !there:
		return nil, fmt.Errorf("its name was taken, and is free again")
	}
	return nil, s.refresh(ctx)
}

// made reports whether the account is there, made from what the creation says; or why it is never to be: another has the name, or
// it was made from the same, and deleted.
func (s *Service) made(ctx context.Context, c *policy.Creation) (there bool, r *policy.Refusal, err error) {
	f := store.AccountFilter{Name: c.Name, Deleted: true}
	for {
		page, next, err := s.Store.Accounts(ctx, f)
		if err != nil {
			return false, nil, err
		}
		for i := range page {
			a := &page[i]
			same := a.Origin != nil && a.Origin.Origin == c.Origin
			switch {
			case a.State == account.Deleted && same:
				r = policy.Refuse(policy.AccountForeign, "account %s (%s) was made by binding %s and deleted: no login makes it again", a.Name, a.ID, a.Origin.Binding)
			case a.State == account.Deleted:
			case same && a.Name == c.Name:
				return true, nil, nil
			default:
				return false, policy.Refuse(policy.AccountForeign, "account %s (%s) was not made by binding %s for what this token says", a.Name, a.ID, c.Binding), nil
			}
		}
		if f.Cursor = next; next == "" {
			return false, r, nil
		}
	}
}

// madeBy says for the audit trail what the account comes from.
func madeBy(c *policy.Creation) string {
	if c.Own {
		return fmt.Sprintf("made by binding %s at the first login, for the identity alone", c.Binding)
	}
	return fmt.Sprintf("made by binding %s at the first login, for all whose claims make %s as %s do", c.Binding, c.Origin.Template, c.Origin.Claims)
}
