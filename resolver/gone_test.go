package resolver

import (
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/gatehouse-nats/gatehouse/account"
	"github.com/gatehouse-nats/gatehouse/internal/devstack/devtest"
	"github.com/gatehouse-nats/gatehouse/internal/setup"
	"github.com/gatehouse-nats/gatehouse/policy"
	"github.com/gatehouse-nats/gatehouse/store"
)

// An account that is deleted goes from the servers and is given to none again, though the suspension that closed it is in force still, and
// though it was taken over; nothing is missing of that suspension then.
func TestClosedAccountGoes(t *testing.T) {
	t.Parallel()
	for _, adopted := range []bool{false, true} {
		s, folders := startFoldersOf(t, 3, "10m") // servers make nothing known meanwhile
		k := keep(t, s, newLedger(), newRecords(), nil)
		k.t = t
		var id string
		if adopted {
			id = k.adopt(t, "legacy").Subject
		} else {
			a := signUp(t, k.records, 1)
			k.active(t, a...)
			id = a[0].ID
		}
		open, err := k.r.Newest(t.Context(), id)
		if err != nil {
			t.Fatal(err)
		}
		suspension := k.store(policy.Suspension, policy.Target{Account: id})
		k.mustHave(t, id, closed)
		a := k.records.get(id)
		a.State = account.Deleted
		k.records.save(a)
		gone := func() error {
			stored, err := k.r.lookup(t.Context(), id)
			if err != nil {
				return err
			}
			return check(len(stored) == 3 && strings.Join(stored, "") == "", "it is still stored (adopted: %t)", adopted)
		}
		eventually(t, gone)
		eventually(t, func() error { return check(len(k.c.Status().Gone) == 0, "gone: %v", k.c.Status().Gone) })
		for range 5 {
			passed(t, k.desk)
		}
		if err := gone(); err != nil {
			t.Error(err)
		}
		if problems := k.c.Status().Problems; len(problems) > 0 {
			t.Errorf("problems (adopted: %t): %q", adopted, problems)
		}
		k.converged(suspension)

		// A server that was away brings it back.
		s.servers[1].Stop()
		if err := os.WriteFile(filepath.Join(folders[1], id+".jwt"), []byte(open), 0o600); err != nil {
			t.Fatal(err)
		}
		s.servers[1].Start()
		devtest.AwaitReady(t, s.servers...)
		eventually(t, gone)
	}
}

// An account that is deleted just when those are listed that are to be closed on servers that drop none is closed too.
func TestDeletedWhileOthersAreClosed(t *testing.T) {
	t.Parallel()
	records := newRecords()
	l := newLibrary(t, records)
	s := startSystemOf(t, setup.Options{Servers: 1, NoJetStream: true}, devtest.InProcess, l.configure)
	k := keepOf(t, s, newLedger(), records, nil, URL)
	a := signUp(t, records, 1)[0]
	k.published(t, a)
	k.mustHave(t, a.ID, open)
	var once sync.Once
	listed := func(f store.AccountFilter) {
		if f.State != account.Deleted || len(f.IDs) > 0 {
			return
		}
		once.Do(func() {
			gone := records.get(a.ID)
			gone.State = account.Deleted
			records.save(gone)
		})
	}
	k.c.roster.mu.Lock()
	k.c.roster.checks.unburied = true // as when a server has come
	records.listed.Store(&listed)
	k.c.roster.mu.Unlock()
	k.c.roster.stir()
	k.mustHave(t, a.ID, closed)
}
