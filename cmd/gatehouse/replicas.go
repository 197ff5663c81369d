package main

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/gatehouse-nats/gatehouse/api"
	"github.com/gatehouse-nats/gatehouse/cmd/gatehouse/config"
	replicas "github.com/gatehouse-nats/gatehouse/replica"
)

// newGroup returns the replicas as this one knows them.
func (d *daemon) newGroup(cfg *config.Config) *replicas.Group {
	dropped := prometheus.NewCounter(prometheus.CounterOpts{
		Name: "gatehouse_replica_messages_dropped_total",
		Help: "Messages between replicas that were dropped: forged, malformed, too old, or signed by another key.",
	})
	fenced := prometheus.NewCounter(prometheus.CounterOpts{
		Name: "gatehouse_replica_fenced_total",
		Help: "Times that this replica had the connections of another one closed, which had fallen silent.",
	})
	late := prometheus.NewCounter(prometheus.CounterOpts{
		Name: "gatehouse_replica_late_total",
		Help: "Heartbeats of this replica that it heard late or after a pause: it then takes itself for slow, and closes nobody's connections for a while.",
	})
	d.registry.MustRegister(dropped, fenced, late)
	o := replicas.Options{
		Conns: d.conns, Name: d.replica, Key: cfg.NATS.Callout.SigningKey.Key(), Mirror: d.mirror, Directory: d.store,
		MaxStaleness: time.Duration(cfg.MaxStaleness), Serving: d.callout.Serving, Skew: d.resolver.Skew, Now: d.now,
		OnDropped: dropped.Inc, OnFenced: fenced.Inc, OnLate: late.Inc, Logger: d.log,
	}
	if d.system != nil {
		o.Kick, o.Reach = d.resolver.Kick, d.resolver.Reach
	}
	return replicas.New(o)
}

// peers says which other replicas this one hears.
func (d *daemon) peers() []api.ReplicaStatus {
	list := []api.ReplicaStatus{}
	applied := d.mirror.Applied()
	for _, p := range d.group.Peers() {
		list = append(list, api.ReplicaStatus{
			Name: p.Name, Serving: p.Serving, Silent: p.Silent.Round(time.Millisecond).String(), Current: p.Applied == applied,
		})
	}
	slices.SortFunc(list, func(a, b api.ReplicaStatus) int { return strings.Compare(a.Name, b.Name) })
	return list
}

// warnings lists what works and is not as it seems.
func (d *daemon) warnings() []string {
	list := d.resolver.Warnings()
	if err := d.group.Heard(); err != nil && d.cfg.Load().Store.Driver() != config.SQLite {
		list = append(list, err.Error())
	}
	if _, err := d.sealedOperator(); err != nil {
		list = append(list, fmt.Sprintf("the operator signing key in the store cannot be used: %v", err))
	}
	if d.vault != nil {
		list = append(list, d.vault.warnings()...)
	}
	for _, t := range d.tellers {
		if s := t.Status(); s.Error != "" {
			list = append(list, fmt.Sprintf("events of accounts wait for %s: %s", t.label, s.Error))
		}
	}
	for _, p := range d.planless.look(d.mirror.Snapshot()) {
		list = append(list, p.String())
	}
	return list
}
