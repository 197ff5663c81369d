package resolver

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/gatehouse-nats/gatehouse/account"
	"github.com/gatehouse-nats/gatehouse/internal/devstack/devtest"
)

// A replica that takes many accounts over knows what servers are to hold without asking for any of them, and so does every
// look after it. With GATEHOUSE_PROVE=1 there are 20,000, and it tells what it takes.
func TestProveManyAccounts(t *testing.T) {
	accounts := 1000
	if os.Getenv("GATEHOUSE_PROVE") == "1" {
		accounts = 20_000
	}
	s, folders := startFoldersOf(t, 3, "2s")
	records := newRecords()
	k := keep(t, s, newLedger(), records, nil)
	ready(t, k.r)
	k.stop()
	s.stopAll()
	last := k.fill(t, folders, accounts)
	for _, server := range s.servers {
		server.Start()
	}
	devtest.AwaitReady(t, s.servers...)

	asked := s.listen(t)
	before := heap()
	began, cpu := time.Now(), cpuTime(t)
	next := keep(t, s, newLedger(), records, nil)
	within(t, 5*time.Minute, func() error {
		next.c.roster.mu.Lock()
		defer next.c.roster.mu.Unlock()
		return check(next.c.roster.loaded, "the records are not read")
	})
	t.Logf("%d accounts are taken over after %s and %s of processor time; %d bytes of memory for each", accounts, time.Since(began), cpuTime(t)-cpu, (heap()-before)/int64(accounts))
	matched := func() error { // every server has said what it stores, and that is what it is to store
		next.c.roster.mu.Lock()
		defer next.c.roster.mu.Unlock()
		checks := &next.c.roster.checks
		return check(!checks.sample && len(checks.matched) == 3 && len(checks.said) == 0 && len(next.c.roster.due) == 0, "%d servers match, %d do not, %d accounts are due", len(checks.matched), len(checks.said), len(next.c.roster.due))
	}
	within(t, 5*time.Minute, matched)
	if n := asked.Load(); accounts > 3*mostSampled && n >= int64(accounts) {
		t.Errorf("%d questions for accounts", n)
	}
	var came joins
	next.r.watch(&came)
	for quiet := false; !quiet; { // who comes, or comes back after a silence, is asked
		before, questions := came.Load(), asked.Load()
		next.c.roster.mu.Lock()
		next.c.roster.checks.matched = nil
		next.c.roster.mu.Unlock()
		within(t, 5*time.Minute, matched)
		if quiet = came.Load() == before; quiet && asked.Load() != questions {
			t.Errorf("%d questions for accounts without a change", asked.Load()-questions)
		}
	}
	began = time.Now()
	if _, err := next.c.tend(t.Context()); err != nil {
		t.Fatal(err)
	}
	took := time.Since(began)
	t.Logf("a pass without changes took %s", took)
	if os.Getenv("GATEHOUSE_PROVE") == "1" && took > time.Second {
		t.Error("the bar is a second")
	}
	if err := last.dial(t, s.servers[2].ClientURL()); err != nil {
		t.Error(err)
	}
	began, cpu = time.Now(), cpuTime(t)
	more := signUp(t, records, 100)
	next.active(t, more...)
	t.Logf("100 more are applied after %s and %s of processor time, servers included", time.Since(began), cpuTime(t)-cpu)
}

// fill has servers that stand still store accounts that were applied, and returns one of them.
func (k *keeper) fill(t *testing.T, folders []string, accounts int) (last signed) {
	t.Helper()
	issued := time.Now().Unix()
	signer, err := k.c.Signer().PublicKey()
	if err != nil {
		t.Fatal(err)
	}
	for i := range accounts {
		last = newSigned(t, fmt.Sprintf("filled-%d", i))
		a := &last.Account
		a.State, a.Revision, a.Applied, a.Issued, a.Signer = account.Active, 1, 1, issued, signer
		token, err := k.c.claimsOf(a, issued)
		if err != nil {
			t.Fatal(err)
		}
		for _, folder := range folders {
			if err := os.WriteFile(filepath.Join(folder, a.ID+".jwt"), []byte(token), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		k.records.accounts[a.ID] = *a
	}
	return last
}

// joins counts servers that come.
type joins struct{ atomic.Int64 }

func (j *joins) joined(Server) { j.Add(1) }
func (j *joins) left(string)   {}

func (s *system) stopAll() {
	for _, server := range s.servers {
		server.Stop()
	}
}

// listen counts the questions for accounts that no configuration names.
func (s *system) listen(t *testing.T) *atomic.Int64 {
	t.Helper()
	nc, err := nats.Connect(s.ClientURL(), nats.UserCredentialBytes([]byte(s.EmergencySystemCreds.Reveal())))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	var asked atomic.Int64
	if _, err := nc.Subscribe("$SYS.REQ.ACCOUNT.*.>", func(m *nats.Msg) {
		for _, configured := range []string{s.App.ID, s.Callout.ID, s.System.ID, s.Lobby.ID} {
			if strings.Contains(m.Subject, configured) {
				return
			}
		}
		asked.Add(1)
	}); err != nil {
		t.Fatal(err)
	}
	if err := nc.Flush(); err != nil {
		t.Fatal(err)
	}
	return &asked
}

// heap returns the bytes of memory in use.
func heap() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// cpuTime returns the processor time that this process has used.
func cpuTime(t *testing.T) time.Duration {
	t.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		t.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
