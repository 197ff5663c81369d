// Package events tells of what happens to self-service accounts: on NATS, and by signed webhooks. Each event is
// sent at least once, those of one account in order.
//
// An event is an audit entry, seen from outside. One replica at a time sends, for each receiver, by a lease: from the store, in the order in
// which it got the entries. How far it is stands in the store, and moves on once the receiver has them, so that a replica that is
// killed loses nothing; what is sent twice then has the same id. No login and no call waits for any of it.
package events

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/gatehouse-nats/gatehouse/account"
	"github.com/gatehouse-nats/gatehouse/store"
)

const (
	batch    = 100 // audit entries that are read at a time
	leaseTTL = 15 * time.Second
	renew    = leaseTTL / 3
	idle     = time.Second // between two looks for new entries
	// mostPause bounds the pauses between attempts.
	mostPause = 5 * time.Minute
	// giveUp is how old an event may be that is tried again; an older one is tried once.
	giveUp = 72 * time.Hour
)

// Source is where events come from, and how far they are sent.
type Source interface {
	Arrivals(ctx context.Context, f store.AuditFilter) (page []store.AuditEntry, next string, more bool, err error)
	CopyCursor(ctx context.Context, name string) (string, error)
	SaveCopyCursor(ctx context.Context, name, cursor string) error
	Accounts(ctx context.Context, f store.AccountFilter) (page []account.Account, next string, err error)
}

// Leases let one replica at a time do something.
type Leases interface {
	Acquire(ctx context.Context, name, holder string, ttl time.Duration) (held bool, until time.Time, err error)
	Release(ctx context.Context, name, holder string) error
}

// Receiver is whom events are sent to.
type Receiver interface {
	// Key names it in the store: another one begins with what happens from then on.
	Key() string
	// Deliver returns nil once the receiver has all of the events, or never will; and how many of them it has got
	// now. It is called again with the same ones after an error.
	Deliver(ctx context.Context, events []Event) (got int, err error)
}

// Options configure a [Follower].
type Options struct {
	Source   Source
	Leases   Leases
	Receiver Receiver
	Replica  string
	Logger   *slog.Logger
}

// Follower sends events to one receiver.
type Follower struct {
	Options

	mu     sync.Mutex
	status Status
}

// Status says how it stands, as far as this replica knows.
type Status struct {
	Sending bool   // this replica does it; another one may
	Sent    int    // events that this replica has sent
	Error   string // why it waits; empty when it does not
}

// New returns a follower; it does no I/O.
func New(o Options) *Follower {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return &Follower{Options: o}
}

// Status says how it stands.
func (f *Follower) Status() Status {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.status
}

// Run sends until ctx ends, and returns nil then.
func (f *Follower) Run(ctx context.Context) error {
	for ctx.Err() == nil {
		held, _, err := f.Leases.Acquire(ctx, f.Receiver.Key(), f.Replica, leaseTTL)
		if held {
			f.hold(ctx)
		} else if err != nil && ctx.Err() == nil {
			f.note(err)
		}
		sleep(ctx, idle)
	}
	return nil
}

// hold sends while the lease is this replica's.
func (f *Follower) hold(ctx context.Context) {
	whole := ctx
	ctx, cancel := context.WithCancel(ctx)
	var renewing sync.WaitGroup
	renewing.Go(func() { f.keepLease(ctx, cancel) })
	f.sending(true)
	defer func() {
		cancel()
		renewing.Wait()
		f.sending(false)
		ctx, cancel := context.WithTimeout(context.WithoutCancel(whole), time.Second)
		defer cancel()
		if err := f.Leases.Release(ctx, f.Receiver.Key(), f.Replica); err != nil {
			f.Logger.Warn("another replica sends events only once the lease has ended", "to", f.Receiver.Key(), "error", err, "after", leaseTTL)
		}
	}()
	backoff := idle
	for ctx.Err() == nil {
		got, more, err := f.step(ctx)
		if ctx.Err() != nil {
			return
		}
		f.note(err)
		if got > 0 {
			backoff = idle // it is there, and fails at times
		}
		switch {
		case err != nil:
			sleep(ctx, backoff/2+rand.N(backoff/2))
			backoff = min(2*backoff, mostPause)
		case !more:
			backoff = idle
			sleep(ctx, idle)
		default:
			backoff = idle
		}
	}
}

// keepLease renews the lease, and ends the sending when that does not work in time.
func (f *Follower) keepLease(ctx context.Context, lost func()) {
	end := time.Now().Add(leaseTTL)
	for ctx.Err() == nil {
		sleep(ctx, renew)
		before := time.Now()
		call, cancel := context.WithDeadline(ctx, end)
		held, _, err := f.Leases.Acquire(call, f.Receiver.Key(), f.Replica, leaseTTL)
		cancel()
		switch {
		case held:
			end = before.Add(leaseTTL)
		case err == nil || !time.Now().Before(end):
			lost()
			return
		}
	}
}

func (f *Follower) sending(is bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.status.Sending = is
}

// note keeps an error for the status, and logs when it comes and when it has gone.
func (f *Follower) note(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	before := f.status.Error
	f.status.Error = ""
	if err != nil {
		f.status.Error = err.Error()
	}
	switch {
	case err != nil && before == "":
		f.Logger.Error("events of accounts cannot be sent and wait in the store", "to", f.Receiver.Key(), "error", err)
	case err == nil && before != "":
		f.Logger.Info("events of accounts are sent again", "to", f.Receiver.Key())
	}
}

// step sends the events of the next entries, and returns how many, and whether there may be more at once.
func (f *Follower) step(ctx context.Context) (got int, more bool, err error) {
	key := f.Receiver.Key()
	cursor, err := f.Source.CopyCursor(ctx, key)
	if err != nil {
		return got, false, err
	}
	done := store.AuditFilter{Kind: store.AdminEntry, Outcome: "done", Cursor: cursor, Limit: batch, Tail: cursor == ""}
	page, next, more, err := f.Source.Arrivals(ctx, done)
	if errors.Is(err, store.ErrCursor) {
		// The store was set back to before the cursor, so what it holds after that is not what was sent.
		f.Logger.Warn("events are sent anew, since the store was set back", "to", key, "of_the_last", giveUp, "error", err)
		done.Cursor, done.Since = "", time.Now().Add(-giveUp)
		page, next, more, err = f.Source.Arrivals(ctx, done)
	}
	if err != nil {
		return got, false, err
	}
	list, err := f.events(ctx, page)
	if err == nil && len(list) > 0 {
		got, err = f.Receiver.Deliver(ctx, list)
		f.count(got)
	}
	if err != nil {
		return got, false, err
	}
	if next != cursor {
		if err := f.Source.SaveCopyCursor(ctx, key, next); err != nil {
			return got, false, err
		}
	}
	return got, more, nil
}

func (f *Follower) count(n int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.status.Sent += n
}

// events returns those that the entries tell of.
func (f *Follower) events(ctx context.Context, entries []store.AuditEntry) ([]Event, error) {
	var list []Event
	asked := map[string]*account.Account{}
	for i := range entries {
		if e, is := of(&entries[i]); is {
			list = append(list, e)
			if e.Revision == 0 {
				asked[e.Account] = nil
			}
		}
	}
	if len(asked) == 0 {
		return list, nil
	}
	filter := store.AccountFilter{Deleted: true, Limit: len(asked)}
	for id := range asked {
		filter.IDs = append(filter.IDs, id)
	}
	accounts, _, err := f.Source.Accounts(ctx, filter)
	if err != nil {
		return nil, fmt.Errorf("look up accounts: %w", err)
	}
	for i := range accounts {
		asked[accounts[i].ID] = &accounts[i]
	}
	kept := list[:0]
	for _, e := range list {
		if a := asked[e.Account]; a != nil && e.Revision == 0 {
			e.Name, e.Revision, e.Data.State = a.Name, a.Revision, string(a.State)
		}
		if e.Revision > 0 { // others are of the configuration
			kept = append(kept, e)
		}
	}
	return kept, nil
}

// sleep returns after the time, or when ctx ends.
func sleep(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	}
}
