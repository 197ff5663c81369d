package main

import (
	"context"
	"errors"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/gatehouse-nats/gatehouse/policy"
	"github.com/gatehouse-nats/gatehouse/store"
	"github.com/gatehouse-nats/gatehouse/store/postgres"
)

// standby returns a standby of the database that has all that was committed there, and is stopped: it
// will lag behind whatever comes now.
func (d *database) standby() *database {
	d.Helper()
	s := *d
	s.data, s.port = "standby", d.port+1
	d.command("pg_basebackup", "-h", d.dir, "-p", strconv.Itoa(d.port), "-U", "gatehouse", "-D", filepath.Join(d.dir, s.data),
		"-R", "-X", "stream", "-c", "fast", "--no-sync")
	d.Cleanup(s.stop)
	s.start()
	deadline := time.Now().Add(30 * time.Second)
	for at := scalar[string](d, "SELECT pg_current_wal_flush_lsn()::text"); !scalar[bool](&s, "SELECT pg_last_wal_replay_lsn() >= '"+at+"'"); {
		if time.Now().After(deadline) {
			d.Fatal("the standby does not follow")
		}
	}
	s.stop()
	return &s
}

// failOver ends the database and puts the standby in its place, at its address.
func (d *database) failOver(s *database) {
	d.Helper()
	d.stop()
	s.port = d.port
	s.start()
	d.command("pg_ctl", "-D", filepath.Join(d.dir, s.data), "-w", "-t", "60", "promote")
}

func scalar[T any](d *database, query string) (v T) {
	d.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	conn, err := pgx.Connect(ctx, d.dsn())
	if err != nil {
		d.Fatal(err)
	}
	defer conn.Close(ctx)
	if err := conn.QueryRow(ctx, query).Scan(&v); err != nil {
		d.Fatal(err)
	}
	return v
}

// site is a replica as far as the store goes.
type site struct {
	testing.TB
	*postgres.Store
	mirror *store.Mirror
}

func openSite(t testing.TB, dsn, name string) *site {
	t.Helper()
	// Connections are ended when nothing runs on them, so that whoever calls next sees nothing of a failover.
	s, err := postgres.Open(t.Context(), postgres.Options{DSN: dsn + "&pool_max_conn_idle_time=1ms&pool_health_check_period=5ms", Migrate: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	m := store.NewMirror(s, store.MirrorOptions{Replica: name, Beat: time.Nanosecond})
	m.SetRules(&policy.Rules{})
	return &site{t, s, m}
}

func (s *site) refresh() {
	s.Helper()
	// A database that has just been put in place may still refuse.
	deadline := time.Now().Add(30 * time.Second)
	for {
		err := s.mirror.Refresh(s.Context())
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			s.Fatal(err)
		}
	}
}

func (s *site) block(subject string) store.Revocation {
	s.Helper()
	id, deadline := uuid.NewString(), time.Now().Add(30*time.Second)
	for {
		r, _, err := s.Revoke(s.Context(), store.Revocation{Actor: "root", Revocation: policy.Revocation{
			ID: id, Kind: policy.Block, At: time.Now(),
			Target: policy.Target{Principal: policy.Principal{Issuer: "https://login.example.com", Subject: subject}},
		}}, id)
		if err == nil {
			return r
		}
		if !errors.Is(err, store.ErrUnavailable) || time.Now().After(deadline) {
			s.Fatal(err)
		}
	}
}

func (s *site) denies(want map[string]bool) {
	s.Helper()
	for subject, denied := range want {
		id := &policy.Identity{IssuerURL: "https://login.example.com", Subject: subject}
		if _, got := s.mirror.Snapshot().Revocations.Blocked(id, time.Now()); got != denied {
			s.Errorf("%s is denied: %t, want %t", subject, got, denied)
		}
	}
}

// TestFailoverToAStandbyThatLags: the new primary has lost the last changes, and gives their places in the
// feed to others. Replicas load what there is now, and lose nothing that was written since.
func TestFailoverToAStandbyThatLags(t *testing.T) {
	t.Parallel()
	for name, since := range map[string][]string{
		"the cursor is ahead of the feed":   nil,
		"the feed has caught up":            {"dave", "erin"},
		"the feed has overtaken the cursor": {"dave", "erin", "frank"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := startDatabase(t)
			reads, told, writer := openSite(t, d.dsn(), "r1"), openSite(t, d.dsn(), "r2"), openSite(t, d.dsn(), "r3")
			alice := writer.block("alice")
			reads.refresh()
			told.refresh()
			standby := d.standby()

			bob := writer.block("bob")
			if _, err := writer.Lift(t.Context(), store.Lift{ID: alice.ID, At: time.Now(), Actor: "root"}); err != nil {
				t.Fatal(err)
			}
			reads.refresh()
			told.mirror.Learn(policy.RevocationChange{Revocation: bob.Revocation}, bob.Position)
			reads.denies(map[string]bool{"alice": false, "bob": true})
			told.denies(map[string]bool{"alice": true, "bob": true})

			d.failOver(standby)
			want := map[string]bool{"alice": true, "bob": false} // the lift and the block are lost
			for _, subject := range since {
				writer.block(subject)
				want[subject] = true
			}
			reads.refresh()
			reads.denies(want)
			// Who was told of the block denies by it until the feed has come to its place.
			told.refresh()
			want["bob"] = len(since) == 0
			told.denies(want)

			carol := writer.block("carol")
			reads.refresh()
			told.refresh()
			want["carol"], want["bob"] = true, false
			reads.denies(want)
			told.denies(want)
			if at := reads.mirror.Applied(); at != carol.Position || told.mirror.Applied() != at {
				t.Errorf("applied %v and %v, want %v", at, told.mirror.Applied(), carol.Position)
			}
		})
	}
}
