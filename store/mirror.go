package store

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gatehouse-nats/gatehouse/account"
	"github.com/gatehouse-nats/gatehouse/policy"
)

// The defaults of [MirrorOptions].
const (
	DefaultPoll         = 250 * time.Millisecond
	DefaultBeat         = time.Second
	DefaultReload       = 10 * time.Minute
	DefaultMaxStaleness = 5 * time.Minute
)

const (
	mostBackoff   = 5 * time.Second // between polls that fail
	pollTimeout   = 10 * time.Second
	reloadTimeout = 90 * time.Second
)

// mostLearnt is how many changes are held ahead of the feed.
const mostLearnt = 10_000

// errBehind says that reads do not show what writes have left, as when they are sent to a
// standby that lags or is cut off.
var errBehind = errors.New("reads lag behind writes: connect to the primary alone")

// MirrorOptions say how a mirror keeps its snapshot current; zero fields mean the defaults.
type MirrorOptions struct {
	Replica string // name of this replica, in its heartbeat
	// Poll is how often the feed is read when no hint comes sooner.
	Poll time.Duration
	// Beat is how often the snapshot is confirmed.
	Beat time.Duration
	// Reload is how often all is read anew, which drops what has ended.
	Reload time.Duration
	// MaxStaleness is how long a snapshot may be used after it was confirmed.
	MaxStaleness time.Duration
	// Logger is told when the store fails and when it is back; nil is [slog.Default].
	Logger *slog.Logger
	// OnError is told of each poll that failed; nil is nobody.
	OnError func(error)
	// OnChange is told that decisions follow other revocations from now on, which the snapshot has; nil is nobody. It
	// is called under a lock: it must return at once and not call the mirror.
	OnChange func()
	// OnAccounts is told which accounts have changed, before decisions follow that: all of them after a load; nil
	// is nobody. Decisions wait for it to return.
	OnAccounts func(changed []account.Account, all bool)
}

// Mirror keeps a snapshot of what decisions need in memory, current with the store.
//
// A snapshot is confirmed when the mirror can tell that it holds all that was committed before
// a moment: it notes the time, writes its heartbeat, which answers with the feed's position,
// and has read the feed up to there. The snapshot is then fresh until that noted time plus
// MaxStaleness. Reads alone never confirm: a standby that lags or is cut off answers them for
// ever, but takes no heartbeat. Beats come every second and reads four times a second, so that
// the cost is little and a change is seen soon even when no hint comes.
//
// The state is loaded whole only together with a heartbeat, and only taken when it reaches the
// heartbeat's position, so that a standby cannot put an older state in place of a newer one. That
// happens at the start, now and then, whenever the cursor is lost, after every outage, and when another server
// answers: a failover may have lost what was read before it, under positions that were used again.
type Mirror struct {
	store   Store
	options MirrorOptions
	born    time.Time

	polling chan struct{} // holds one token, for whoever polls
	cursor  cursor        // of the holder of the token
	begun   atomic.Uint64 // polls
	read    uint64        // the last of them that succeeded; of the holder of the token

	mu          sync.Mutex // guards what the next snapshot is made of
	rules       *policy.Rules
	revocations *policy.Revocations // as the feed says; nil until the first load
	learnt      map[string]learnt   // by id, what was learnt ahead of the feed
	shown       *policy.Revocations // both together
	accounts    *policy.Directory   // as the feed says
	applied     Position            // of revocations; zero while they may not be of the store
	confirmed   time.Time           // when the confirmation began that holds
	failed      error               // of the last poll, nil when it succeeded

	snapshot atomic.Pointer[policy.Snapshot]
}

// cursor is where the mirror is in the feed.
type cursor struct {
	position Position
	beat     time.Time // when the last successful beat began
	loaded   time.Time // when the state was last loaded; zero means that it must be
}

// learnt is a change that was taken ahead of the feed.
type learnt struct {
	change policy.RevocationChange
	at     Position
	since  time.Time
}

// NewMirror returns a mirror that has read nothing yet; [Mirror.Run] keeps it current.
func NewMirror(s Store, o MirrorOptions) *Mirror {
	for _, d := range []struct {
		value   *time.Duration
		standby time.Duration
	}{
		{&o.Poll, DefaultPoll},
		{&o.Beat, DefaultBeat},
		{&o.Reload, DefaultReload},
		{&o.MaxStaleness, DefaultMaxStaleness},
	} {
		if *d.value <= 0 {
			*d.value = d.standby
		}
	}
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	if o.OnChange == nil {
		o.OnChange = func() {}
	}
	if o.OnAccounts == nil {
		o.OnAccounts = func([]account.Account, bool) {}
	}
	if o.OnError == nil {
		o.OnError = func(error) {}
	}
	m := &Mirror{store: s, options: o, born: time.Now(), polling: make(chan struct{}, 1), learnt: map[string]learnt{}}
	m.polling <- struct{}{}
	return m
}

// Snapshot returns the latest snapshot; nil until the rules are set and the store was read and
// confirmed once. It does not wait and takes no lock.
func (m *Mirror) Snapshot() *policy.Snapshot { return m.snapshot.Load() }

// SetRules makes the next snapshots carry these rules, the current one at once.
func (m *Mirror) SetRules(rules *policy.Rules) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.rules = rules
	m.publish()
}

// Applied returns up to where decisions follow the feed; the zero value while that cannot be told, as
// after an outage until all was read anew.
func (m *Mirror) Applied() Position {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.applied
}

// Learn takes a change ahead of the feed, which has it at that position, and reports whether decisions
// follow it or what the feed says up to there. What was learnt holds until the feed has come to its position.
//
// A change that is not in the store after all, since a failover lost it, goes with it, but for a
// revocation that is ahead of all that the store then has: that one holds on. A lift is only taken
// while the mirror follows the feed that it is of, and one of ten thousand changes that wait for the feed
// is no longer taken: it does not hurry to admit.
func (m *Mirror) Learn(change policy.RevocationChange, at Position) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	id := change.Revocation.ID
	before, known := m.learnt[id]
	switch {
	case m.covered(at), known && before.at.covers(at):
		return true
	case change.Lifted && at.Epoch != m.applied.Epoch, !known && len(m.learnt) >= mostLearnt:
		return false
	}
	m.learnt[id] = learnt{change: change, at: at, since: time.Now()}
	if m.revocations != nil { // otherwise the first load takes it in
		m.shown = m.shown.With(change)
		m.publish()
	}
	return true
}

// covered reports whether revocations are surely as they are after the position; the caller holds mu.
func (m *Mirror) covered(p Position) bool { return p.Epoch != "" && m.applied.covers(p) }

// show makes what is shown of what there is, without what need not be held any more; the caller
// holds mu.
func (m *Mirror) show(drop func(learnt) bool) {
	m.shown = m.revocations
	maps.DeleteFunc(m.learnt, func(_ string, l learnt) bool { return drop(l) })
	if len(m.learnt) == 0 {
		return
	}
	ahead := make([]policy.RevocationChange, 0, len(m.learnt))
	for _, l := range m.learnt {
		ahead = append(ahead, l.change) // each of another revocation
	}
	m.shown = m.revocations.With(ahead...)
}

// Age returns how long ago the confirmation began that holds; how long ago the mirror was
// made when there is none.
func (m *Mirror) Age() time.Duration {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.confirmed.IsZero() {
		return time.Since(m.born)
	}
	return time.Since(m.confirmed)
}

// Ready returns nil when the snapshot may be used, otherwise an error that says why not.
func (m *Mirror) Ready() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	why := m.failed
	if why == nil {
		why = errors.New("the store has not answered yet")
	}
	switch {
	case m.rules == nil:
		return errors.New("no rules are loaded")
	case m.confirmed.IsZero():
		return fmt.Errorf("the state was never read from the store: %w", why)
	case time.Since(m.confirmed) > m.options.MaxStaleness:
		return fmt.Errorf("the store has not confirmed the state for %s: %w", time.Since(m.confirmed).Round(time.Second), why)
	}
	return nil
}

// Run keeps the snapshot current until ctx ends, and then returns nil. Failures are no end: it
// tries again, more slowly up to every five seconds, and the last snapshot stays.
func (m *Mirror) Run(ctx context.Context) error {
	hints := m.store.Hints(ctx)
	wait := time.NewTimer(0)
	defer wait.Stop()
	pause := m.options.Poll
	for {
		select {
		case <-ctx.Done():
			return nil
		case _, open := <-hints:
			if !open {
				hints = nil // the store was closed; polls will say so
			}
		case <-wait.C:
		}
		if err := m.Refresh(ctx); err != nil {
			pause = min(2*pause, max(mostBackoff, m.options.Poll))
			wait.Reset(pause/2 + rand.N(pause/2))
		} else {
			pause = m.options.Poll
			wait.Reset(pause)
		}
	}
}

// Refresh reads what is new at once, so that a replica denies what it has itself just
// revoked. Its error says that the snapshot may lack something.
//
// Calls that wait for one another share what the first of them reads.
func (m *Mirror) Refresh(ctx context.Context) error {
	asked := m.begun.Load()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-m.polling:
	}
	defer func() { m.polling <- struct{}{} }()
	if m.read > asked {
		return nil
	}
	poll := m.begun.Add(1)
	err := m.poll(ctx)
	if err == nil {
		m.read = poll
	}
	if ctx.Err() == nil {
		m.report(err)
	}
	return err
}

// report keeps the outcome of a poll, and logs it when it is another than before.
func (m *Mirror) report(err error) {
	m.mu.Lock()
	before := m.failed
	m.failed = err
	m.mu.Unlock()
	switch {
	case err != nil:
		m.options.OnError(err)
		if before == nil {
			m.options.Logger.Error("the state cannot be read from the store, the last one stays in use while it is fresh", "error", err)
		}
	case before != nil:
		m.options.Logger.Info("the state is read from the store again")
	}
}

// poll reads what is new, and confirms the snapshot when that is due.
func (m *Mirror) poll(ctx context.Context) error {
	began := time.Now()
	var err error
	reload := m.cursor.loaded.IsZero() || began.Sub(m.cursor.loaded) >= m.options.Reload
	if !reload {
		err = m.follow(ctx, began)
		reload = errors.Is(err, ErrLost)
	}
	if reload {
		if err = m.reload(ctx, began); err != nil && ctx.Err() == nil && m.cursor.position != (Position{}) {
			m.distrust()
			// What can be read counts even without a confirmation: a block is better early than late.
			_ = m.tail(ctx)
		}
	}
	if err != nil && ctx.Err() == nil {
		m.distrust()
	}
	return err
}

// distrust makes the next poll read all anew: after an outage nothing that was read before it counts.
func (m *Mirror) distrust() {
	m.cursor.loaded = time.Time{}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.applied = Position{}
}

// follow reads the feed on from the cursor, with a heartbeat before it when one is due.
func (m *Mirror) follow(ctx context.Context, began time.Time) error {
	if began.Sub(m.cursor.beat) < m.options.Beat {
		return m.tail(ctx)
	}
	target, err := m.beat(ctx)
	if err != nil {
		return err
	}
	if !target.covers(m.cursor.position) {
		return fmt.Errorf("%w: the mirror is at %d and the feed at %d", ErrLost, m.cursor.position.Seq, target.Seq)
	}
	if err := m.tail(ctx); err != nil {
		return err
	}
	return m.confirm(target, began)
}

func (m *Mirror) beat(ctx context.Context) (Position, error) {
	ctx, cancel := context.WithTimeout(ctx, pollTimeout)
	defer cancel()
	return m.store.Beat(ctx, Heartbeat{Replica: m.options.Replica, Applied: m.Applied(), MaxStaleness: m.options.MaxStaleness})
}

// tail applies the feed from the cursor to its end.
func (m *Mirror) tail(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, pollTimeout)
	defer cancel()
	for {
		changes, next, err := m.store.Changes(ctx, m.cursor.position, MaxPage)
		if err != nil {
			return err
		}
		if len(changes) > 0 {
			m.apply(changes, next)
		}
		if len(changes) < MaxPage {
			return nil
		}
	}
}

// apply takes the changes up to the position.
func (m *Mirror) apply(changes []Change, next Position) {
	var list []policy.RevocationChange
	var accounts []account.Account
	for _, c := range changes {
		if c.Account != nil {
			accounts = append(accounts, *c.Account)
		} else {
			list = append(list, c.Revocation)
		}
	}
	if len(accounts) > 0 {
		m.options.OnAccounts(accounts, false)
	}
	m.cursor.position = next
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(list) > 0 {
		m.revocations = m.revocations.With(list...)
	}
	if len(accounts) > 0 {
		m.accounts = m.accounts.With(entries(accounts))
	}
	if !m.cursor.loaded.IsZero() {
		m.applied = next
	}
	m.show(func(l learnt) bool { return m.covered(l.at) })
	m.publish()
}

// entries returns what decisions know of accounts, and the ids of those that are gone.
func entries(accounts []account.Account) (known []policy.Entry, gone []string) {
	for i := range accounts {
		if accounts[i].State == account.Deleted {
			gone = append(gone, accounts[i].ID)
		} else {
			known = append(known, accounts[i].Entry())
		}
	}
	return known, gone
}

// confirm makes the snapshot fresh as of began, at which the store was at target or before.
func (m *Mirror) confirm(target Position, began time.Time) error {
	if !m.cursor.position.covers(target) {
		return errBehind
	}
	m.cursor.beat = began
	m.mu.Lock()
	defer m.mu.Unlock()
	m.confirmed = began
	m.publish()
	return nil
}

// covers reports whether whoever has read up to p has read all up to q.
func (p Position) covers(q Position) bool { return p.Epoch == q.Epoch && p.Seq >= q.Seq }

// reload replaces the state by a whole one that is confirmed.
func (m *Mirror) reload(ctx context.Context, began time.Time) error {
	target, err := m.beat(ctx)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, reloadTimeout)
	defer cancel()
	state, err := m.store.Load(ctx)
	if err != nil {
		return err
	}
	if !state.Position.covers(target) {
		return errBehind
	}
	m.options.OnAccounts(state.Accounts, true)
	m.cursor = cursor{position: state.Position, beat: began, loaded: began}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.revocations = policy.NewRevocations(state.Revocations)
	known, _ := entries(state.Accounts)
	m.accounts = policy.NewDirectory(known)
	m.applied = state.Position
	m.show(func(l learnt) bool {
		// What is in the store when this began was loaded, wherever the feed says that it is.
		gone := l.change.Lifted || l.at.Epoch != state.Position.Epoch
		return m.covered(l.at) || gone && l.since.Before(began)
	})
	m.confirmed = began
	m.publish()
	return nil
}

// publish makes the snapshot of what there is; the caller holds mu.
func (m *Mirror) publish() {
	if m.rules == nil || m.confirmed.IsZero() {
		return
	}
	before := m.snapshot.Swap(&policy.Snapshot{
		Rules:       m.rules,
		Revocations: m.shown,
		Accounts:    m.accounts,
		FreshUntil:  m.confirmed.Add(m.options.MaxStaleness),
	})
	if before == nil || before.Revocations != m.shown {
		m.options.OnChange()
	}
}
