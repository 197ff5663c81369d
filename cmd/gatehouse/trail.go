package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/gatehouse-nats/gatehouse/cmd/gatehouse/config"
	"github.com/gatehouse-nats/gatehouse/store"
	"github.com/gatehouse-nats/gatehouse/store/spool"
	"github.com/gatehouse-nats/gatehouse/store/stream"
)

func (d *daemon) openSpool(_ context.Context, cfg *config.Config) error {
	s, err := spool.Open(string(cfg.Audit.Directory), spool.Options{MaxBytes: int64(cfg.Audit.Spool), Logger: d.log})
	if errors.Is(err, store.ErrInUse) {
		return fmt.Errorf("%w; a second replica on this host needs its own audit.directory, socket, http.listen and metrics.listen", err)
	}
	if err != nil {
		return err
	}
	d.spool = s
	d.onClose(func() { _ = s.Close() })
	return nil
}

// openStream connects to the account that the audit trail is copied into, if it is.
func (d *daemon) openStream(_ context.Context, cfg *config.Config) error {
	to := cfg.Audit.Stream
	if to.Name == "" {
		return nil
	}
	nc, err := d.dial(cfg, cfg.AuditStreamUser(), "gatehouse audit stream")
	if err != nil {
		return err
	}
	d.onClose(nc.Close)
	d.copier, err = stream.New(stream.Options{
		Trail: d.store, Leases: d.store, Conn: nc, Stream: to.Name, Subject: to.Subject, Create: to.Create,
		Replica: d.replica, Logger: d.log,
	})
	if err == nil {
		watchCopier(d.registry, d.copier)
	}
	return err
}

// copyTrail copies the audit trail, if that is configured, until ctx ends.
func (d *daemon) copyTrail(ctx context.Context) error {
	if d.copier == nil {
		return nil
	}
	return d.copier.Run(ctx)
}

// ship moves audit entries from the spool into the store.
func (d *daemon) ship(ctx context.Context) error {
	failed := d.storeErrors.observe("record")
	return d.spool.Ship(ctx, func(ctx context.Context, entries []store.AuditEntry) error {
		err := d.store.Record(ctx, entries)
		if err != nil && ctx.Err() == nil {
			failed(err)
		}
		return err
	})
}

// drainLimit is how long a replica that ends tries to empty its spool; what is left is sent at
// the next start.
const drainLimit = 3 * time.Second

// drain sends what the last logins have left in the spool, once nothing records any more.
func (d *daemon) drain() {
	ctx, cancel := context.WithTimeout(context.Background(), drainLimit)
	defer cancel()
	if err := d.spool.Drain(ctx, d.store.Record); err != nil {
		d.log.Warn("audit entries stay in the spool until the next start", "error", err, "entries", d.spool.Pending().Entries)
	}
}

// prune deletes what is older than the retention.
func (d *daemon) prune(ctx context.Context) error {
	tick := time.NewTicker(pruneEvery)
	defer tick.Stop()
	for {
		now, audit := time.Now(), d.cfg.Load().Audit
		d.pruneAudit(ctx, store.LoginEntry, now.Add(-time.Duration(audit.Retention)))
		d.pruneAudit(ctx, store.AdminEntry, now.Add(-time.Duration(cmp.Or(audit.RetentionAdmin, audit.Retention))))
		if err := d.store.PruneFeed(ctx, now.Add(-feedLife)); err != nil && ctx.Err() == nil {
			d.log.Warn("old feed entries could not be deleted", "error", err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// pruneAudit deletes the audit entries of a kind from before the time.
func (d *daemon) pruneAudit(ctx context.Context, kind store.AuditKind, before time.Time) {
	for {
		n, err := d.store.PruneAudit(ctx, kind, before, pruneBatch)
		if err != nil && ctx.Err() == nil {
			d.log.Warn("old audit entries could not be deleted", "error", err)
		}
		if err != nil || n < pruneBatch {
			return
		}
	}
}
