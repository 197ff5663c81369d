package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nats.go"

	"github.com/gatehouse-nats/gatehouse/internal/devstack/devtest"
	"github.com/gatehouse-nats/gatehouse/policy"
)

// The values of the dimensions of the deployment matrix that have no type of their own.
const (
	operatorMode = "operator"
	scopedKeys   = "operator, scoped keys"
	configMode   = "config"

	ownSentinel     = "sentinel in the client's hand"
	defaultSentinel = "default sentinel"
	noSentinel      = "no sentinel"
)

// deployment is a set of servers to log in to: what all ways in share.
type deployment struct {
	mode    string
	sealed  bool
	servers int
}

func (d deployment) String() string {
	return fmt.Sprintf("%s, xkey %t, %d servers", d.mode, d.sealed, d.servers)
}

// cell is one field of the deployment matrix.
type cell struct {
	deployment
	way      policy.ConnectionType
	sentinel string
}

// deployments returns every deployment.
func deployments() []deployment {
	var all []deployment
	for _, mode := range []string{operatorMode, scopedKeys, configMode} {
		for _, sealed := range []bool{true, false} {
			for _, servers := range []int{1, 3} {
				all = append(all, deployment{mode, sealed, servers})
			}
		}
	}
	return all
}

// cells returns every cell of a deployment, those that cannot exist too.
func (d deployment) cells() []cell {
	var all []cell
	for _, sentinel := range []string{ownSentinel, defaultSentinel, noSentinel} {
		for _, way := range policy.ConnectionTypes() {
			all = append(all, cell{d, way, sentinel})
		}
	}
	return all
}

// impossible are the cells that cannot exist, with the reason; an empty field stands for every
// value, and operator for scoped keys too. docs/protocols.md has the same table.
var impossible = []struct {
	mode     string
	way      policy.ConnectionType
	sentinel string
	why      string
}{
	{configMode, "", ownSentinel, "a server without an operator drops a client's user JWT"},
	{configMode, "", defaultSentinel, "a server without an operator does not start with `default_sentinel`"},
	{operatorMode, "", noSentinel, "a server with an operator turns a client without any user JWT away by itself"},
	{"", policy.MQTT, ownSentinel, "MQTT has one field for a password, and the token is in it"},
}

// impossible returns why the cell cannot exist; empty when it can.
func (c cell) impossible() string {
	for _, row := range impossible {
		if strings.HasPrefix(c.mode, row.mode) && (row.way == "" || row.way == c.way) && (row.sentinel == "" || row.sentinel == c.sentinel) {
			return row.why
		}
	}
	return ""
}

// TestMatrixIsWhole: the table of what cannot exist and the cells that are run are the whole
// product, no row of it is idle, and the documentation shows the same rows.
func TestMatrixIsWhole(t *testing.T) {
	t.Parallel()
	possible, total := 0, 0
	used := map[string]bool{}
	for _, d := range deployments() {
		for _, c := range d.cells() {
			total++
			if why := c.impossible(); why != "" {
				used[why] = true
			} else {
				possible++
			}
		}
	}
	// Without operator each way in is open in one manner; with one, all but MQTT in two.
	if total != 3*2*2*4*3 || possible != 4*4+2*4*(4+3) {
		t.Errorf("%d of %d cells can exist, want 72 of 144", possible, total)
	}
	page, err := os.ReadFile(filepath.Join("..", "..", "docs", "protocols.md"))
	if err != nil {
		t.Fatal(err)
	}
	for _, row := range impossible {
		if !used[row.why] {
			t.Errorf("no cell is impossible because %s", row.why)
		}
		if line := fmt.Sprintf("| %s | %s | %s | %s |\n", orAny(row.mode), orAny(string(row.way)), row.sentinel, row.why); !strings.Contains(string(page), line) {
			t.Errorf("docs/protocols.md lacks the row\n%s", line)
		}
	}
}

func orAny(s string) string {
	if s == "" {
		return "any"
	}
	return s
}

// TestDeploymentMatrixProve admits one and turns another away in every cell that can exist, on the
// newest and the oldest supported nats-server. Its short form takes some of the deployments, with
// all of their cells.
func TestDeploymentMatrixProve(t *testing.T) {
	runs := map[devtest.Mode][]deployment{devtest.InProcess: deployments(), devtest.OldestProcess: deployments()}
	if !long() {
		runs = map[devtest.Mode][]deployment{
			devtest.InProcess:     {{operatorMode, true, 3}, {scopedKeys, true, 1}, {configMode, false, 3}, {configMode, true, 1}},
			devtest.OldestProcess: {{operatorMode, false, 1}, {configMode, true, 1}},
		}
	}
	for mode, list := range runs {
		for _, d := range list {
			t.Run(fmt.Sprintf("%s/%s", mode, d), func(t *testing.T) {
				t.Parallel()
				d.test(t, mode)
			})
		}
	}
}

// matrixPolicy lets developers in on every way.
const matrixPolicy = `roles:
  developer:
    publish: { allow: ["app.>"] }
    subscribe: { allow: ["app.>", "{{inbox}}.>"] }
bindings:
  - name: developers
    issuer: demo
    match: { groups: dev }
    connection_types: [standard, websocket, mqtt, leafnode]
    grant: { account: APP, role: developer }
`

// scopedMatrixPolicy gives the same by a scoped signing key.
const scopedMatrixPolicy = `roles:
  developer: { scoped_key: keys/developer.nk, account: APP }
bindings:
  - name: developers
    issuer: demo
    match: { groups: dev }
    connection_types: [standard, websocket, mqtt, leafnode]
    grant: { account: APP, role: developer }
`

// scopeDevelopers makes the scoped signing key of developers, and returns how to push the claims of
// the application account that have it.
func (w *world) scopeDevelopers() (push func()) {
	w.Helper()
	scope := jwt.NewUserScope()
	scope.Role, scope.Key = "developer", w.writeKey("keys/developer.nk")
	scope.Template.Pub.Allow.Add("app.>")
	scope.Template.Sub.Allow.Add("app.>")
	return func() { w.pushApp(func(c *jwt.AccountClaims) { c.SigningKeys.AddScopedSigner(scope) }) }
}

// test runs every cell of the deployment. With an operator the first server has no default
// sentinel while the cells are run that do without it.
func (d deployment) test(t *testing.T, mode devtest.Mode) {
	o := worldOptions{
		servers: d.servers, mode: mode, noXKey: !d.sealed, config: d.mode == configMode,
		ways: true, policy: matrixPolicy, noDefaultSentinel: d.mode != configMode,
	}
	if d.mode == scopedKeys {
		o.policy = scopedMatrixPolicy
	}
	w := newWorld(t, o)
	push := func() {}
	if d.mode == scopedKeys {
		push = w.scopeDevelopers()
	}
	push()
	r := w.serve(serveOptions{})
	ran := 0
	restored := false
	for _, c := range d.cells() {
		if c.impossible() != "" {
			continue
		}
		server := ran % d.servers
		switch {
		case c.sentinel == ownSentinel:
			server = 0
		case c.sentinel == defaultSentinel && !restored:
			w.mustNotAsk(r)
			w.restoreDefaultSentinel()
			push() // a server that starts again prefers its preload to claims of the same second
			w.mustComeBack(r)
			restored = true
		}
		t.Run(fmt.Sprintf("%s, %s", c.way, c.sentinel), func(t *testing.T) { w.in(t).testCell(c, server, r) })
		ran++
	}
	t.Logf("%s: %d cells", d, ran)
}

// testCell admits one, who reaches its account, and turns another away.
func (w *world) testCell(c cell, server int, r *replica) {
	w.Helper()
	sentinel := ""
	if c.sentinel == ownSentinel {
		sentinel = filepath.Join(w.dir, "creds", "sentinel.creds")
	}
	subject := someone()
	publish, err := w.enter(c.way, server, attempt{token: w.token("alice", developer(subject)), sentinel: sentinel})
	if err != nil {
		w.Fatalf("the login was not admitted: %v", err)
	}
	w.mustReach(publish, "app."+subject)
	eventually(w, func() error {
		entries := r.audit("--name", "demo-"+subject)
		if len(entries) != 1 || entries[0].Outcome != "allowed" || entries[0].ConnType != string(c.way) || entries[0].Account != "APP" {
			return fmt.Errorf("audit entries of the login: %+v", entries)
		}
		return nil
	})

	stranger := someone()
	if _, err := w.enter(c.way, server, attempt{token: w.token("carol", map[string]any{"sub": stranger}), sentinel: sentinel}); !turnedAway(c.way, err) {
		w.Errorf("whom no binding names got %v", err)
	}
	eventually(w, func() error { return r.refused("demo-"+stranger, "no_binding") })
}

// mustComeBack waits until the first server, which was restarted, is asked and answered again: the
// replica may not have noticed yet that it was gone.
func (w *world) mustComeBack(r *replica) {
	w.Helper()
	token := w.token("alice", developer(someone()))
	eventually(w, func() error {
		nc, err := dial(w.servers[0].ClientURL(), token)
		if err != nil {
			return err
		}
		nc.Close()
		return r.ready()
	})
}

// mustReach fails the test unless a message that publish sends arrives in the application account.
func (w *world) mustReach(publish publish, subject string) {
	w.Helper()
	nc, err := nats.Connect(w.set.ClientURL(), w.emergency("app"))
	if err != nil {
		w.Fatal(err)
	}
	defer nc.Close()
	sub, err := nc.SubscribeSync(subject)
	if err != nil {
		w.Fatal(err)
	}
	if err := nc.Flush(); err != nil {
		w.Fatal(err)
	}
	// Interest takes a moment to reach other servers and leaf nodes.
	eventually(w, func() error {
		if err := publish(subject); err != nil {
			return err
		}
		_, err := sub.NextMsg(100 * time.Millisecond)
		return err
	})
}

// mustNotAsk checks that the first server, which has no default sentinel, turns a client without
// one away by itself.
func (w *world) mustNotAsk(r *replica) {
	w.Helper()
	subject := someone()
	if _, err := w.enter(policy.Standard, 0, attempt{token: w.token("alice", developer(subject))}); !errors.Is(err, nats.ErrAuthorization) {
		w.Errorf("a client without any sentinel got %v", err)
	}
	if entries := r.audit("--name", "demo-"+subject); len(entries) != 0 {
		w.Errorf("the service was asked about a client without any sentinel: %+v", entries)
	}
}

var defaultSentinelLine = regexp.MustCompile(`(?m)^default_sentinel: .*\n`)

// removeDefaultSentinel takes it out of a server's configuration.
func (w *world) removeDefaultSentinel(conf string) {
	w.Helper()
	before, err := os.ReadFile(conf)
	if err != nil {
		w.Fatal(err)
	}
	line := defaultSentinelLine.Find(before)
	if line == nil {
		w.Fatalf("%s has no default_sentinel", conf)
	}
	w.sentinelLine = line
	if err := os.WriteFile(conf, defaultSentinelLine.ReplaceAll(before, nil), 0o600); err != nil {
		w.Fatal(err)
	}
}

// restoreDefaultSentinel puts it back into the first server's configuration and restarts that server.
func (w *world) restoreDefaultSentinel() {
	w.Helper()
	conf := filepath.Join(w.dir, w.set.ServerFile(0))
	before, err := os.ReadFile(conf)
	if err != nil {
		w.Fatal(err)
	}
	if err := os.WriteFile(conf, append(before, w.sentinelLine...), 0o600); err != nil {
		w.Fatal(err)
	}
	w.servers[0].Restart()
	devtest.AwaitReady(w, w.servers...)
}
