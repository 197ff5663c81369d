package main

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/nats-io/jwt/v2"

	"github.com/gatehouse-nats/gatehouse/api"
	"github.com/gatehouse-nats/gatehouse/policy"
)

// TestPlanTakenAway: a plan that accounts are of is taken out of the configuration. Everybody who looks is told, in time as well, and with the
// plan all is as before.
func TestPlanTakenAway(t *testing.T) {
	t.Parallel()
	w := newWorld(t, worldOptions{policy: accountPolicy})
	r := w.serve(serveOptions{})
	alice := w.personFile("alice")
	for _, name := range []string{"orders", "sales"} {
		eventually(t, func() error { // the answer may come before the account is active
			up := decodeOne[api.AccountSignup](t, r.must("account", "signup", "--name", name, "--plan", "free", "--token-file", alice, "--json"))
			if up.State != "active" {
				return fmt.Errorf("it is %s", up.State)
			}
			return nil
		})
	}
	w.mustEnterAccount(0, "orders", alice).Close()
	get := func() api.Account {
		t.Helper()
		return decodeOne[api.Account](t, r.must("account", "get", "orders", "--json"))
	}
	whole := get()
	const said = "plan free is not in the configuration, and 2 accounts are of it (orders, sales)"
	with, without := `  free: { roles: [app], per_subject: 3, connections: 20, jetstream: { disk: 1048576, streams: 5 } }`+"\n", ""
	if got := r.command("check"); strings.Contains(got.err, "is not in the configuration") {
		t.Errorf("check says before anything was done: %s", got.err)
	}
	w.edit(func(yaml string) string {
		return strings.Replace(strings.Replace(yaml, with, without, 1), "sign_up: [free, team]", "sign_up: [team]", 1)
	})
	if got := r.command("check"); got.code != exitDone || !strings.Contains(got.err, said) {
		t.Errorf("check ended with %d: %s", got.code, got.err)
	}
	if got := r.command("reload"); got.code != exitDone || !strings.Contains(got.err, said) { // the file's change may have been noticed before
		t.Errorf("reload ended with %d: %s%s", got.code, got.out, got.err)
	}
	if log := r.log.String(); !strings.Contains(log, "a plan that accounts are of was taken out of the configuration") {
		t.Errorf("the log does not say it: %s", log)
	}
	r.mustWarn(said)
	eventually(t, func() error { // the spool is moved into the store a moment later
		list := r.audit("--op", api.OpReload, "--actor", "gatehouse")
		if len(list) != 1 || list[0].Target != "plan free" || !strings.Contains(list[0].Detail, said) {
			return fmt.Errorf("recorded is %+v", list)
		}
		return nil
	})
	lost := get()
	if text := r.must("account", "get", "orders"); !lost.PlanGone || !strings.Contains(text, "free, which is not in the configuration") || lost.Revision != whole.Revision || lost.State != "active" || *lost.Limits.Connections != 20 {
		t.Errorf("the account is shown as %+v: %s", lost, text)
	}
	w.mustStayOut("orders", alice)
	eventually(t, func() error {
		list := r.audit("--subject", "alice", "--outcome", "refused")
		if len(list) == 0 || list[0].Reason != string(policy.AccountNotGranted) || !strings.Contains(list[0].Detail, "plan free of account orders is not in the configuration") {
			return fmt.Errorf("recorded is %+v", list)
		}
		return nil
	})

	// What is revoked reaches the servers without the plan too, and what a lift gives back is what there was.
	connections := func(n int64) {
		t.Helper()
		w.holds(whole.Account, fmt.Sprintf("%d connections", n), func(c *jwt.AccountClaims) bool { return c.Limits.Conn == n })
	}
	connections(20)
	r.must("account", "suspend", "orders", "--reason", "a test")
	connections(0)

	// A service that starts so says it too, and so does check with the database alone.
	r.stop()
	if got := r.command("check"); got.code != exitDone || !strings.Contains(got.err, said) {
		t.Errorf("check ended with %d: %s", got.code, got.err)
	}
	r.start(false)
	r.mustGetReady()
	r.mustWarn(said)
	r.must("account", "resume", "orders", "--reason", "a test")
	connections(20)

	w.edit(func(yaml string) string {
		return strings.Replace(strings.Replace(yaml, "plans:\n", "plans:\n"+with, 1), "sign_up: [team]", "sign_up: [free, team]", 1)
	})
	r.must("reload")
	w.mustEnterAccount(0, "orders", alice).Close()
	if back := get(); back.PlanGone || back.Owner != whole.Owner || back.Members != whole.Members || *back.Limits.Connections != 20 {
		t.Errorf("with its plan the account is %+v", back)
	}
}

// mustWarn waits until status says it.
func (r *replica) mustWarn(text string) {
	r.Helper()
	eventually(r, func() error {
		status, err := r.status()
		if err != nil {
			return err
		}
		if !slices.ContainsFunc(status.Warnings, func(w string) bool { return strings.Contains(w, text) }) {
			return errors.New("status does not warn: " + strings.Join(status.Warnings, "; "))
		}
		return nil
	})
}
