package resolver

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/gatehouse-nats/gatehouse/account"
	"github.com/gatehouse-nats/gatehouse/internal/devstack/devtest"
	"github.com/gatehouse-nats/gatehouse/policy"
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
