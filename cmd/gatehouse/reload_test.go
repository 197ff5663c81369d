package main

import (
	"fmt"
	"strings"
	"syscall"
	"testing"
)

// TestReload changes the configuration in each way that puts it in force. A bad one is refused
// and the one before stays.
func TestReload(t *testing.T) {
	t.Parallel()
	w := newWorld(t, worldOptions{})
	r := w.serve(serveOptions{process: true})
	proc := r.run.(*process)
	hup := func() {
		if err := proc.signal(syscall.SIGHUP); err != nil {
			t.Fatal(err)
		}
	}
	carol := w.token("carol", nil)
	w.mustBeRefused(carol)

	// By the file alone.
	w.edit(func(yaml string) string { return strings.Replace(yaml, "groups: dev", "groups: [dev, contractors]", 1) })
	r.eventuallyExplains(carol, "allowed")
	w.login(carol)

	// A bad file changes nothing, however it is read.
	w.edit(func(yaml string) string { return yaml + "bindigns: []\n" })
	got := r.command("reload")
	if got.code != exitFailed || !strings.Contains(got.err, "bindigns") || !strings.Contains(got.err, "gatehouse.yaml:") {
		t.Errorf("the reload of a bad file ended with %d: %s%s", got.code, got.out, got.err)
	}
	// Admins can go on meanwhile.
	r.must("revoke", "--issuer", "demo", "--subject", "alice", "--reason", "in the meantime")
	r.must("revoke", "lift", "--issuer", "demo", "--subject", "alice", "--reason", "it was nothing")
	refusals := strings.Count(r.log.String(), "the new configuration was refused")
	hup()
	eventually(t, func() error {
		if strings.Count(r.log.String(), "the new configuration was refused") <= refusals {
			return fmt.Errorf("the refusal of the new configuration is not in the log")
		}
		return nil
	})
	w.login(carol)

	// A good one by the command, which says so.
	w.edit(func(yaml string) string {
		return strings.Replace(strings.Replace(yaml, "bindigns: []\n", "", 1), "groups: [dev, contractors]", "groups: [dev, nobody]", 1)
	})
	// The file's change may have been noticed before.
	if out := r.must("reload"); !strings.Contains(out, "The configuration is valid") {
		t.Errorf("reload prints %q", out)
	}
	w.mustBeRefused(carol)

	// What needs a restart is named.
	w.edit(func(yaml string) string { return strings.Replace(yaml, "connections: 16", "connections: 2", 1) })
	if out := r.must("reload"); !strings.Contains(out, "nats.callout.connections") {
		t.Errorf("reload prints %q", out)
	}

	// By the signal.
	w.edit(func(yaml string) string {
		return strings.Replace(yaml, "groups: [dev, nobody]", "groups: [contractors]", 1)
	})
	hup()
	r.eventuallyExplains(carol, "allowed")
	w.login(carol)
	w.mustBeRefused(w.token("alice", nil))
}
