package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/gatehouse-nats/gatehouse/api"
)

// maxSkew is how far this host's clock may be from the median of the servers' before the
// replica leaves the queue group: its replay check and its expiries would be wrong.
const maxSkew = 20 * time.Second

// keepTime leaves the queue group while this host's clock is off, and comes back.
func (d *daemon) keepTime(ctx context.Context) error {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	on := true
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		right := d.clock() == nil
		if right == on {
			continue
		}
		if err := d.callout.Serve(right); err != nil {
			d.log.Error("the queue group could not be joined or left", "error", err)
			continue
		}
		on = right
		d.log.Warn("the clock decides whether this replica answers logins", "answers", right, "offset", d.resolver.Skew())
	}
}

// watchReadiness logs when the replica stops being ready, why, and when it is again: a
// configuration can be valid and yet keep everybody out. It also logs what the servers are found not
// to keep.
func (d *daemon) watchReadiness(ctx context.Context) error {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	last, warned := "starting", ""
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		warnings := d.warnings()
		if now := strings.Join(warnings, "; "); now != warned {
			warned = now
			for _, w := range warnings {
				d.log.Warn("something is not as it seems", "why", w)
			}
		}
		missing := notReady(d.readiness())
		switch now := strings.Join(missing, "; "); {
		case now == last:
		case now == "":
			d.log.Info("ready")
			last = now
		default:
			d.log.Warn("not ready: logins may stay unanswered", "why", missing)
			last = now
		}
	}
}

// clock returns an error while this host's clock is too far from the servers'.
func (d *daemon) clock() error {
	if skew := d.resolver.Skew(); skew.Abs() > maxSkew {
		return fmt.Errorf("this host's clock is %s off the servers' median: set it right; logins go to other replicas meanwhile", -skew.Round(time.Millisecond))
	}
	return nil
}

// readiness lists the parts that must work for logins to be answered.
func (d *daemon) readiness() []readiness {
	return []readiness{
		{"store", d.mirror.Ready},
		{"servers", d.resolver.Ready},
		{"clock", d.clock},
		{"callout", d.connected},
		{"issuers", d.issuersReady},
		{"audit", d.recording},
	}
}

func (d *daemon) connected() error {
	var err error
	down := 0
	for _, nc := range d.conns {
		if !nc.IsConnected() {
			down++
			err = nc.LastError()
		}
	}
	switch {
	case down > 0:
		return fmt.Errorf("%d of %d connections are down: %w", down, len(d.conns), orNone(err))
	case !d.callout.Serving():
		return errors.New("not in the queue group")
	default:
		return nil
	}
}

// recording returns an error while the spool is so full that decisions may soon not be recorded.
func (d *daemon) recording() error {
	pending, most := d.spool.Pending(), int64(d.cfg.Load().Audit.Spool)
	if pending.Bytes < most/10*9 {
		return nil
	}
	return fmt.Errorf("the spool holds %d of %d bytes that the store has not taken: once it is full, logins stop; repair the store", pending.Bytes, most)
}

func orNone(err error) error {
	if err == nil {
		return errors.New("no server can be reached")
	}
	return err
}

// issuersReady fails only when no issuer's keys are loaded: one provider that is down must
// not take the logins of the others away.
func (d *daemon) issuersReady() error {
	status := d.tokens.Status()
	if len(status) == 0 {
		return errors.New("none is configured: add one to issuers, with a binding")
	}
	var errs []error
	for _, s := range status {
		if s.Keys > 0 {
			return nil
		}
		why := s.LastError
		if why == "" {
			why = "not fetched yet"
		}
		errs = append(errs, fmt.Errorf("keys of %s are not loaded: %s", s.Name, why))
	}
	return errors.Join(errs...)
}

// status says how this replica is.
func (d *daemon) status() api.Status {
	out := api.Status{
		Replica: d.replica, Version: version, Rules: d.cfg.Load().Rules().Version,
		NotReady: notReady(d.readiness()), Warnings: d.warnings(), Servers: []api.ServerStatus{}, Replicas: d.peers(), Issuers: []api.IssuerStatus{},
		Claims: d.claimsStatus(),
	}
	if d.lobbyDenied.Load() {
		out.Warnings = append(out.Warnings, lobbyDenied)
	}
	out.Ready = len(out.NotReady) == 0
	for _, s := range d.resolver.Servers() {
		out.Servers = append(out.Servers, api.ServerStatus{ID: s.ID, Name: s.Name, Version: s.Version, ClockOffset: s.Offset.Round(time.Millisecond).String()})
	}
	for _, s := range d.tokens.Status() {
		out.Issuers = append(out.Issuers, api.IssuerStatus{Name: s.Name, URL: s.URL, KeysLoaded: s.Keys > 0, LoadedAt: s.LastSuccess, Error: s.LastError})
	}
	if d.copier != nil {
		c := d.copier.Status()
		out.AuditStream = &api.AuditStreamStatus{Stream: c.Stream, Copying: c.Copying, Copied: c.Copied, Current: c.Current.UTC(), Error: c.Error}
	}
	return out
}
