package resolver

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/nats-io/jwt/v2"
)

// problem waits until the replica says that of the account.
func (k *keeper) problem(t *testing.T, id string, parts ...string) {
	t.Helper()
	eventually(t, func() error {
		problems := k.c.Status().Problems
		for _, p := range problems {
			missing := 0
			for _, part := range append(parts, id) {
				if !strings.Contains(p, part) {
					missing++
				}
			}
			if missing == 0 {
				return nil
			}
		}
		return fmt.Errorf("problems: %q, want one with %q", problems, append(parts, id))
	})
}

// Claims that are larger than servers take are never published, which would close the connection, and keep no other account from being
// applied; whoever runs the servers is told which account it is and what to do. They are pushed once servers take them.
func TestClaimsAboveMaxPayload(t *testing.T) {
	t.Parallel()
	s, folders := startFolders(t, 1)
	large := func(max int) {
		rewrite(t, s.confs[0], func(conf string) string {
			before, _, _ := strings.Cut(conf, "\nmax_payload:")
			return before + fmt.Sprintf("\nmax_payload: %d\n", max)
		})
	}
	large(4096)
	s.servers[0].Restart()
	records := newRecords()
	k := keep(t, s, newLedger(), records, nil)
	ready(t, k.r)
	began := k.r.nc.Stats().Reconnects
	accounts := signUp(t, records, 5)
	big := newSigned(t, "big")
	big.Description = strings.Repeat("x", 6000)
	big.Account = records.save(big.Account)
	more := signUp(t, records, 5)
	k.active(t, append(accounts, more...)...)
	k.problem(t, big.ID, ErrClaimsFull.Error(), "servers take 4096", "raise max_payload")
	if n := k.r.nc.Stats().Reconnects - began; n != 0 {
		t.Errorf("the connection was closed %d times", n)
	}
	if why := k.c.Problem(big.ID); !strings.Contains(why, "servers take 4096") {
		t.Errorf("of the account alone it says %q", why)
	}
	if why := k.c.Problem(accounts[0].ID); why != "" {
		t.Errorf("of another account it says %q", why)
	}
	if is := records.get(big.ID); is.Applied != 0 {
		t.Errorf("it is applied at revision %d", is.Applied)
	}

	large(1 << 20)
	s.servers[0].Restart()
	k.active(t, big)

	// One that servers had, and that a server with a smaller limit has lost.
	s.servers[0].Stop()
	large(4096)
	if err := os.RemoveAll(folders[0]); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(folders[0], 0o700); err != nil {
		t.Fatal(err)
	}
	s.servers[0].Start()
	ready(t, k.r)
	k.problem(t, big.ID, ErrClaimsFull.Error(), "servers take 4096")
	k.storedAs(t, append(accounts, more...)...)
	k.problem(t, big.ID, ErrClaimsFull.Error(), "servers take 4096")
}

// What is said of claims that do not fit names what can be done.
func TestFits(t *testing.T) {
	t.Parallel()
	w := newClaimsWorld(t)
	c := jwt.NewAccountClaims(w.account)
	small := w.document(t, c)
	c.Revoke("*")
	revoked := w.document(t, c)
	k := &Claims{r: &Resolver{nc: startSystem(t, 1).admin}}
	if err := k.fits(small, w.account, strings.Repeat("x", mostClaims)); err != nil {
		t.Errorf("the largest: %v", err)
	}
	for d, want := range map[*document]string{small: "take exports, imports, tags or signing keys out", revoked: "log all users of the account out"} {
		err := k.fits(d, w.account, strings.Repeat("x", mostClaims+1))
		if err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), w.account) || !strings.Contains(err.Error(), "1048577 bytes") || strings.Contains(err.Error(), "max_payload") {
			t.Errorf("got %v, want %q", err, want)
		}
	}
}
