package resolver

import (
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-nats/gatehouse/account"
)

// A holder that was frozen until its lease was over knows nothing any more when it has the lease again: another may have had it between, and
// have given servers something else.
func TestLapsedLeaseForgets(t *testing.T) {
	t.Parallel()
	s, _ := startFoldersOf(t, 1, "10m") // servers make nothing known meanwhile
	k := keep(t, s, newLedger(), newRecords(), nil)
	accounts := signUp(t, k.records, 2)
	k.active(t, accounts...)
	known := k.storedAs(t, accounts...)
	record := k.records.get(accounts[0].ID)
	of := func(id string) print {
		k.c.roster.mu.Lock()
		defer k.c.roster.mu.Unlock()
		if a := k.c.roster.accounts[id]; a != nil && k.c.roster.loaded {
			return a.print
		}
		return print{}
	}
	token, err := k.c.claimsOf(&record, record.Issued-60)
	if err != nil {
		t.Fatal(err)
	}
	k.c.roster.mu.Lock()
	k.c.roster.accounts[record.ID].print = printOf(token) // as before the other had it
	k.c.roster.mu.Unlock()
	k.c.mu.Lock()
	k.c.until = time.Now().Add(-time.Second)
	k.c.mu.Unlock()
	k.c.Wake()
	eventually(t, func() error { return check(of(record.ID) == printOf(known[record.ID]), "it goes by what it knew") })
}

// What a holder pushes that was frozen is older than what servers were given since: it is replaced on every server, of accounts of sign-up and
// of those that were taken over, and counted.
func TestLatePushIsReplaced(t *testing.T) {
	t.Parallel()
	s, _ := startFolders(t, 3)
	k := keep(t, s, newLedger(), newRecords(), nil)
	own := signUp(t, k.records, 1)[0].ID
	k.active(t, signed{Account: k.records.get(own)})
	adopted := k.adopt(t, "legacy").Subject
	for _, id := range []string{own, adopted} {
		late, err := k.r.Newest(t.Context(), id)
		if err != nil {
			t.Fatal(err)
		}
		a := k.records.get(id)
		most := int64(70)
		a.Limits = &account.LimitsPatch{Subscriptions: &most}
		k.active(t, signed{Account: k.records.save(a)})
		before := k.drifted(string(older))
		for _, answer := range s.ask(t, "$SYS.REQ.CLAIMS.UPDATE", late) {
			if !strings.Contains(string(answer), `"code":200`) {
				t.Fatalf("push: %s", answer)
			}
		}
		eventually(t, func() error {
			stored, err := k.r.lookup(t.Context(), id)
			if err != nil {
				return err
			}
			for _, token := range stored {
				if token == late {
					return check(false, "a server stores the late one")
				}
			}
			return check(len(stored) == 3 && k.drifted(string(older)) > before, "%d servers; %d counted as older", len(stored), k.drifted(string(older))-before)
		})
	}
}

// Claims that were signed by a clock that was ahead, of ours or of another's, are followed by later ones: servers that exchange theirs keep those.
func TestClockThatIsAhead(t *testing.T) {
	t.Parallel()
	s, folders := startFolders(t, 3)
	k := keep(t, s, newLedger(), newRecords(), nil)
	a := signUp(t, k.records, 1)[0]
	k.active(t, a)
	record := k.records.get(a.ID)
	ahead, err := k.c.claimsOf(&record, record.Issued+3600)
	if err != nil {
		t.Fatal(err)
	}
	s.ask(t, "$SYS.REQ.CLAIMS.UPDATE", ahead)
	record.Description = "changed since"
	a.Account = k.records.save(record)
	k.active(t, a)
	for _, token := range k.storedAs(t, a) {
		if parsed(t, token).issued() <= parsed(t, ahead).issued() {
			t.Error("the claims from before would win where servers exchange theirs")
		}
	}
	// One that was away gives the others nothing older, and takes the newest.
	s.servers[1].Stop()
	replace(t, folders[1], t.TempDir())
	s.servers[1].Start()
	ready(t, k.r)
	k.storedAs(t, a)
}
