package events

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
)

// Subjects is what the subjects of events begin with: SUBJECTS.<name>.<account's public key>.
const Subjects = "gatehouse.events.account" // as in api.EventSubjects

// flushTimeout bounds how long a server may take to take a batch.
const flushTimeout = 5 * time.Second

// Publisher sends events to whoever is subscribed in the account of its connection.
type Publisher struct{ Conn *nats.Conn }

// Key implements [Receiver].
func (Publisher) Key() string { return "events/nats" }

// Deliver implements [Receiver]: a server has the events then.
func (p Publisher) Deliver(ctx context.Context, list []Event) (int, error) {
	for i := range list {
		e := &list[i]
		data, err := json.Marshal(e)
		if err != nil {
			return 0, fmt.Errorf("event %s: %w", e.ID, err)
		}
		m := &nats.Msg{Subject: Subjects + "." + e.Short() + "." + e.Account, Data: data, Header: nats.Header{nats.MsgIdHdr: {e.ID}}}
		if err := p.Conn.PublishMsg(m); err != nil {
			return 0, fmt.Errorf("publish events: %w", err)
		}
	}
	ctx, cancel := context.WithTimeout(ctx, flushTimeout)
	defer cancel()
	if err := p.Conn.FlushWithContext(ctx); err != nil {
		return 0, fmt.Errorf("publish events: %w", err)
	}
	return len(list), nil
}
