// Package stream copies the audit trail into a JetStream stream, each entry at least once, in the
// order in which the store got them.
//
// One replica at a time copies, by a lease, what all of them recorded: from the store, since the spool of a replica
// holds neither the acts of admins nor more than the disk has room for. How far it is stands in the store, and moves on
// once the stream has acknowledged. What is published twice after a crash has the same message id, by which the stream
// drops it within its window for duplicates. No login waits for any of it.
package stream

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/gatehouse-nats/gatehouse/store"
)

const (
	batch       = 250 // entries that are published before their acknowledgements are awaited
	callTimeout = 5 * time.Second
	leaseTTL    = 15 * time.Second // longer than a batch may take; after a kill another replica goes on that late
	idle        = time.Second      // between two looks for new entries
	mostBackoff = 5 * time.Second
	// duplicates is the window of a stream that is made here: a replica that is killed has gone on, or another
	// has taken over, well within it.
	duplicates = 10 * time.Minute
)

// Trail is what is copied, and how far.
type Trail interface {
	Arrivals(ctx context.Context, f store.AuditFilter) (page []store.AuditEntry, next string, more bool, err error)
	CopyCursor(ctx context.Context, name string) (string, error)
	SaveCopyCursor(ctx context.Context, name, cursor string) error
}

// Leases let one replica at a time do something.
type Leases interface {
	Acquire(ctx context.Context, name, holder string, ttl time.Duration) (held bool, until time.Time, err error)
	Release(ctx context.Context, name, holder string) error
}

// Options configure a [Copier].
type Options struct {
	Trail   Trail
	Leases  Leases
	Conn    *nats.Conn // of a user who may publish below Subject, and ask for the stream
	Stream  string     // its name
	Subject string     // what subjects begin with: SUBJECT.<kind>.<outcome>
	Create  bool       // makes the stream when it is not there
	Replica string
	Logger  *slog.Logger
}

// Copier copies the trail to a stream.
type Copier struct {
	Options
	js jetstream.JetStream

	mu     sync.Mutex
	status Status
}

// Status says how the copy stands, as far as this replica knows.
type Status struct {
	Stream  string
	Copying bool      // this replica does it; another one may
	Current time.Time // when all that there was had been copied; zero while it is not known
	Copied  int       // entries that this replica has copied
	Error   string    // why it waits; empty when it does not
}

// New returns a copier; it does no I/O.
func New(o Options) (*Copier, error) {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	js, err := jetstream.New(o.Conn, jetstream.WithPublishAsyncTimeout(callTimeout))
	if err != nil {
		return nil, fmt.Errorf("copy the audit trail: %w", err)
	}
	return &Copier{Options: o, js: js, status: Status{Stream: o.Stream}}, nil
}

// Status says how the copy stands.
func (c *Copier) Status() Status {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.status
}

// Run copies until ctx ends, and returns nil then. Where something is missing it waits and tries again.
func (c *Copier) Run(ctx context.Context) error {
	defer c.release(ctx)
	backoff := idle
	for ctx.Err() == nil {
		more, err := c.step(ctx)
		if ctx.Err() != nil {
			break
		}
		c.note(err)
		pause := idle
		switch {
		case err != nil:
			pause, backoff = backoff/2+rand.N(backoff/2), min(2*backoff, mostBackoff)
		case more:
			pause, backoff = 0, idle
		default:
			backoff = idle
		}
		select {
		case <-ctx.Done():
		case <-time.After(pause):
		}
	}
	return nil
}

// note keeps an error for the status, and logs when it comes and when it has gone.
func (c *Copier) note(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	before := c.status.Error
	c.status.Error = ""
	if err != nil {
		c.status.Error = err.Error()
	}
	switch {
	case err != nil && before == "":
		c.Logger.Error("the audit trail is not copied and waits in the store", "stream", c.Stream, "error", err)
	case err == nil && before != "":
		c.Logger.Info("the audit trail is copied again", "stream", c.Stream)
	}
}

func (c *Copier) lease() string { return "audit-stream/" + c.Stream }

// release lets another replica go on at once.
func (c *Copier) release(ctx context.Context) {
	if !c.Status().Copying {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	if err := c.Leases.Release(ctx, c.lease(), c.Replica); err != nil {
		c.Logger.Warn("another replica copies the audit trail only once the lease has ended", "error", err, "after", leaseTTL)
	}
}

// step copies a batch if this is the replica that does, and returns whether there may be more at once.
func (c *Copier) step(ctx context.Context) (more bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, 2*callTimeout)
	defer cancel()
	held, _, err := c.Leases.Acquire(ctx, c.lease(), c.Replica, leaseTTL)
	c.mu.Lock()
	c.status.Copying = held
	c.mu.Unlock()
	if err != nil || !held {
		return false, err
	}
	cursor, err := c.Trail.CopyCursor(ctx, c.Stream)
	if err != nil {
		return false, err
	}
	page, next, more, err := c.Trail.Arrivals(ctx, store.AuditFilter{Cursor: cursor, Limit: batch})
	if errors.Is(err, store.ErrCursor) {
		// The store was set back to before the cursor, so what it holds after that is not what was copied.
		c.Logger.Warn("the audit trail is copied anew from its begin, since the store was set back", "stream", c.Stream, "error", err)
		page, next, more, err = c.Trail.Arrivals(ctx, store.AuditFilter{Limit: batch})
	}
	if err != nil {
		return false, err
	}
	if len(page) > 0 {
		if err := c.publish(ctx, page); err != nil {
			return false, err
		}
	}
	if next != cursor {
		if err := c.Trail.SaveCopyCursor(ctx, c.Stream, next); err != nil {
			return false, err
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.status.Copied += len(page)
	if !more {
		c.status.Current = time.Now()
	}
	return more, nil
}

// publish returns nil once the stream has all of the entries.
func (c *Copier) publish(ctx context.Context, entries []store.AuditEntry) error {
	if err := c.await(ctx); err != nil {
		return err
	}
	acks := make([]jetstream.PubAckFuture, 0, len(entries))
	for i := range entries {
		data, err := json.Marshal(&entries[i])
		if err != nil {
			return fmt.Errorf("entry %s: %w", entries[i].ID, err)
		}
		ack, err := c.js.PublishAsync(subject(c.Subject, &entries[i]), data,
			jetstream.WithMsgID(entries[i].ID), jetstream.WithExpectStream(c.Stream), jetstream.WithRetryAttempts(0))
		if err != nil {
			return fmt.Errorf("publish to stream %s: %w", c.Stream, err)
		}
		acks = append(acks, ack)
	}
	deadline, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	for i, ack := range acks {
		select {
		case <-ack.Ok():
		case err := <-ack.Err():
			return fmt.Errorf("stream %s does not take entry %s: %w", c.Stream, entries[i].ID, err)
		case <-deadline.Done():
			return fmt.Errorf("stream %s does not answer: is JetStream up, and may the user of audit.stream publish to %s.>?", c.Stream, c.Subject)
		}
	}
	return nil
}

// await makes sure that the stream is there and takes the subjects, so that nothing is published into a void.
func (c *Copier) await(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	s, err := c.js.Stream(ctx, c.Stream)
	if errors.Is(err, jetstream.ErrStreamNotFound) && c.Create {
		s, err = c.js.CreateStream(ctx, jetstream.StreamConfig{
			Name: c.Stream, Subjects: []string{c.Subject + ".>"}, Duplicates: duplicates,
			Description: "copy of the audit trail of Gatehouse",
		})
	}
	switch {
	case errors.Is(err, jetstream.ErrStreamNotFound):
		return fmt.Errorf("stream %s is not there: make it with subject %s.>, or set audit.stream.create", c.Stream, c.Subject)
	case err != nil:
		return fmt.Errorf("ask for stream %s: %w: the user of audit.stream needs to reach JetStream and $JS.API.STREAM.INFO.%s", c.Stream, err, c.Stream)
	case s.CachedInfo().Config.NoAck:
		return fmt.Errorf("stream %s acknowledges nothing (no_ack): nobody could know what it has", c.Stream)
	}
	return nil
}

// subject returns where an entry is published. Kind and outcome are each one token.
func subject(prefix string, e *store.AuditEntry) string {
	return prefix + "." + token(e.Kind) + "." + token(e.Outcome)
}

// token returns a word as it is, and "other" for what is none.
func token(word string) string {
	if word == "" || strings.Trim(word, "abcdefghijklmnopqrstuvwxyz_") != "" {
		return "other"
	}
	return word
}
