package resolver

import (
	"fmt"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/gatehouse-nats/gatehouse/internal/devstack/devtest"
	"github.com/gatehouse-nats/gatehouse/internal/setup"
	"github.com/gatehouse-nats/gatehouse/policy"
)

// A server that refuses some accounts keeps no other from being applied; what it says is told, and they are applied once it takes them.
func TestServerThatRefusesAccounts(t *testing.T) {
	t.Parallel()
	s, folders := startFolders(t, 3)
	had, err := filepath.Glob(filepath.Join(folders[1], "*.jwt"))
	if err != nil {
		t.Fatal(err)
	}
	limit := func(line string) {
		rewrite(t, s.confs[1], func(conf string) string {
			conf = regexp.MustCompile(` limit: \d+\n`).ReplaceAllString(conf, "")
			return strings.Replace(conf, " allow_delete: true\n", " allow_delete: true\n"+line, 1)
		})
		s.servers[1].Restart()
		devtest.AwaitReady(t, s.servers...)
	}
	const most, all = 5, 8
	limit(fmt.Sprintf(" limit: %d\n", len(had)+most))
	k := keep(t, s, newLedger(), newRecords(), nil)
	accounts := signUp(t, k.records, all)
	applied := func() (n int) {
		for _, a := range accounts {
			if is := k.records.get(a.ID); is.Applied == is.Revision {
				n++
			}
		}
		return n
	}
	eventually(t, func() error {
		problems := strings.Join(k.c.Status().Problems, "; ")
		return check(applied() == most && strings.Contains(problems, "jwt store is full"), "%d accounts are applied, problems: %s", applied(), problems)
	})
	for _, a := range accounts {
		if is, why := k.records.get(a.ID), k.c.Problem(a.ID); (is.Applied == 0) != strings.Contains(why, "jwt store is full") {
			t.Errorf("account %s is applied at %d, and its problem is %q", a.Name, is.Applied, why)
		}
	}
	limit("")
	k.active(t, accounts...)
	k.storedAs(t, accounts...)
}

// A suspension reaches the servers that answer while another is frozen, and that one when it goes on.
func TestFrozenServerKeepsNoAccountOpen(t *testing.T) {
	t.Parallel()
	s := startSystemOf(t, setup.Options{Servers: 3, NoJetStream: true}, devtest.AsProcess)
	k := keep(t, s, newLedger(), newRecords(), nil)
	k.t = t
	accounts := signUp(t, k.records, 3)
	k.active(t, accounts...)
	closed := accounts[0]
	// Gatehouse's own connection must not be to the one that stands still.
	frozen := -1
	for i, server := range s.servers {
		if !strings.Contains(server.ClientURL(), strings.TrimPrefix(k.r.nc.ConnectedAddr(), "127.0.0.1")) {
			frozen = i
		}
	}
	s.servers[frozen].Freeze()
	suspension := k.store(policy.Suspension, policy.Target{Account: closed.ID})
	for i, server := range s.servers {
		if i != frozen {
			eventually(t, func() error {
				return check(closed.dial(t, server.ClientURL()) != nil, "server %d lets in", i)
			})
			if err := accounts[1].dial(t, server.ClientURL()); err != nil {
				t.Errorf("server %d keeps another account out: %v", i, err)
			}
		}
	}
	s.servers[frozen].Thaw()
	k.converged(suspension)
	if closed.dial(t, s.servers[frozen].ClientURL()) == nil {
		t.Error("the server that was frozen lets in")
	}
}
