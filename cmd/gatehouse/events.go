package main

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"github.com/gatehouse-nats/gatehouse/cmd/gatehouse/config"
	"github.com/gatehouse-nats/gatehouse/store"
	"github.com/gatehouse-nats/gatehouse/store/events"
)

// openEvents makes who tells of self-service accounts; servers without an operator know none.
func (d *daemon) openEvents(_ context.Context, cfg *config.Config) error {
	if cfg.NATS.Callout.Mode == config.ConfigMode {
		return nil
	}
	m := newEventMetrics(d.registry)
	d.tellOf("nats", m, events.Publisher{Conn: d.conns[0]})
	for i, w := range cfg.Events.Webhooks {
		o := events.WebhookOptions{URL: w.URL, Events: w.Events, Logger: d.log, Now: d.now}
		for _, s := range w.Secret {
			o.Secrets = append(o.Secrets, s.Secret())
		}
		hook, label := events.NewWebhook(o), fmt.Sprintf("webhook %d", i+1)
		d.tellOf(label, m, hook)
		d.onClose(hook.Close)
		m.lost[label] = hook.Lost
	}
	return nil
}

// teller sends events to one receiver, which metrics and people know by the label.
type teller struct {
	*events.Follower
	label string
}

func (d *daemon) tellOf(label string, m *eventMetrics, to events.Receiver) {
	f := events.New(events.Options{Source: d.store, Leases: d.store, Receiver: to, Replica: d.replica, Logger: d.log.With("receiver", label)})
	d.tellers = append(d.tellers, teller{f, label})
	m.tellers[label] = f
}

// tell sends events until ctx ends.
func (d *daemon) tell(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	for _, f := range d.tellers {
		g.Go(func() error { return f.Run(ctx) })
	}
	return g.Wait()
}

// eventMetrics collects how the sending of events stands, by receiver.
type eventMetrics struct {
	tellers map[string]*events.Follower
	lost    map[string]func() int
}

var (
	eventsSent    = prometheus.NewDesc("gatehouse_events_sent_total", "Events of accounts that this replica has sent.", []string{"to"}, nil)
	eventsWaiting = prometheus.NewDesc("gatehouse_events_waiting", "1 while events of accounts cannot be sent and wait in the store.", []string{"to"}, nil)
	eventsLost    = prometheus.NewDesc("gatehouse_events_given_up_total", "Events of accounts that a webhook did not take in three days.", []string{"to"}, nil)
)

func newEventMetrics(reg prometheus.Registerer) *eventMetrics {
	m := &eventMetrics{tellers: map[string]*events.Follower{}, lost: map[string]func() int{}}
	reg.MustRegister(m)
	return m
}

// Describe implements prometheus.Collector.
func (m *eventMetrics) Describe(ch chan<- *prometheus.Desc) {
	ch <- eventsSent
	ch <- eventsWaiting
	ch <- eventsLost
}

// Collect implements prometheus.Collector.
func (m *eventMetrics) Collect(ch chan<- prometheus.Metric) {
	for label, f := range m.tellers {
		s, waiting := f.Status(), 0.0
		if s.Error != "" {
			waiting = 1
		}
		ch <- prometheus.MustNewConstMetric(eventsSent, prometheus.CounterValue, float64(s.Sent), label)
		ch <- prometheus.MustNewConstMetric(eventsWaiting, prometheus.GaugeValue, waiting, label)
	}
	for label, lost := range m.lost {
		ch <- prometheus.MustNewConstMetric(eventsLost, prometheus.CounterValue, float64(lost()), label)
	}
}

// drifts bounds how often it is told that servers hold other claims of an account: somebody else may write them all the time.
type drifts struct {
	mu   sync.Mutex
	last map[string]time.Time // by account
}

const (
	driftEvery = time.Minute
	maxDrifts  = 20_000 // accounts that are remembered
)

// first reports whether it is time to tell of the account.
func (v *drifts) first(id string, now time.Time) bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	if last, ok := v.last[id]; ok && now.Sub(last) < driftEvery {
		return false
	}
	if v.last == nil || len(v.last) >= maxDrifts {
		v.last = map[string]time.Time{}
	}
	v.last[id] = now
	return true
}

// drifted records that a server was found with other claims of a self-service account than it was to have.
func (d *daemon) drifted(id, how string) {
	state := d.mirror.Snapshot()
	if state == nil {
		return
	}
	e := state.Accounts.ID(id)
	if e == nil || !d.drifts.first(id, d.now()) {
		return
	}
	entry := store.AuditEntry{
		ID: uuid.Must(uuid.NewV7()).String(), At: d.now().UTC(), Kind: store.AdminEntry, Outcome: "done", Reason: how, Actor: "gatehouse", Op: events.OpDrift,
		Detail: "a server had other claims than it was to have", Account: e.Account.Name, Target: id, Replica: d.replica,
	}
	if err := d.spool.Append(entry); err != nil {
		d.log.Warn("that a server had other claims of an account could not be recorded", "account_id", id, "how", how, "error", err)
	}
}
