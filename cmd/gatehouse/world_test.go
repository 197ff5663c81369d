package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/nats-io/nats.go"

	"github.com/gatehouse-nats/gatehouse/api"
	"github.com/gatehouse-nats/gatehouse/internal/devstack"
	"github.com/gatehouse-nats/gatehouse/internal/devstack/devtest"
	"github.com/gatehouse-nats/gatehouse/internal/setup"
)

// worldPolicy gives one account to developers of the demo issuer.
const worldPolicy = `roles:
  developer:
    publish: { allow: ["app.>"] }
    subscribe: { allow: ["app.>", "{{inbox}}.>"] }
bindings:
  - name: developers
    issuer: demo
    match: { groups: dev }
    grant: { account: APP, role: developer }
`

// worldOptions choose a world; the zero value is one server in this process, with xkey.
type worldOptions struct {
	servers   int
	mode      devtest.Mode
	noXKey    bool
	config    bool   // servers without operator
	noServers bool   // make the files only
	jetStream bool   // for the servers and the account APP
	ways      bool   // listen for MQTT and leaf nodes too, with JetStream
	policy    string // default worldPolicy
	resolver  string // of servers that store no claims: url or memory
	interval  string // in which servers exchange the claims that they store, default as init writes it
	// noDefaultSentinel leaves the first server's out until restoreDefaultSentinel.
	noDefaultSentinel bool
}

// world is a set-up as gatehouse init writes it, with running nats-servers and an issuer.
// Services are started in it by [world.serve].
type world struct {
	testing.TB
	dir       string
	set       *setup.Set
	provider  *devstack.Provider
	servers   []*devtest.Server
	listeners []listeners // of each server
	http      string      // address of the first replica's API; empty: any
	system    *nats.Conn  // the emergency system user, as an eye that does not depend on the service
	replicas  int
	pushes    int // of claims

	sentinelLine []byte // of the configuration of a server that has none
}

func newWorld(t testing.TB, o worldOptions) *world {
	t.Helper()
	w := &world{TB: t, dir: shortDir(t), provider: devtest.StartProvider(t, devstack.ProviderOptions{})}
	o.servers = max(o.servers, 1)
	if o.policy == "" {
		o.policy = worldPolicy
	}
	var ports []setup.Ports
	for p := devtest.Ports(t, 4*o.servers); len(p) > 0; p = p[4:] {
		ports = append(ports, setup.Ports{Client: p[0], Cluster: p[1], Monitor: p[2], WebSocket: p[3]})
	}
	issuer := &setup.Issuer{Name: "demo", URL: w.provider.Issuer(), Audiences: []string{devstack.Audience}, ClientID: devstack.ClientID, Display: []string{"email"}}
	if strings.Contains(o.policy, "admin:") {
		issuer.AdminClientID = devstack.AdminClientID
	}
	if o.resolver != "" {
		w.http = fmt.Sprintf("127.0.0.1:%d", devtest.Ports(t, 1)[0]) // servers fetch accounts there
	}
	var err error
	w.set, err = setup.New(setup.Options{
		Servers: o.servers, Ports: ports, NoXKey: o.noXKey, ConfigMode: o.config, NoJetStream: !o.jetStream && !o.ways,
		Resolver: o.resolver,
		Service: setup.Service{
			HTTP:   w.http,
			Issuer: issuer,
			Policy: o.policy,
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := w.set.Write(w.dir); err != nil {
		t.Fatal(err)
	}
	if !o.noServers {
		w.startServers(o)
	}
	return w
}

// startServers starts the servers, and connects to their system account.
func (w *world) startServers(o worldOptions) {
	w.Helper()
	var confs []string
	for i := range max(o.servers, 1) {
		confs = append(confs, filepath.Join(w.dir, w.set.ServerFile(i)))
	}
	if o.ways {
		w.listen(confs)
	}
	if o.interval != "" {
		w.exchangeEvery(o.interval, confs)
	}
	if o.noDefaultSentinel {
		w.removeDefaultSentinel(confs[0])
	}
	w.servers = devtest.StartServers(w, confs, o.mode)
	var err error
	w.system, err = nats.Connect(w.set.ClientURL(), w.emergency("system"),
		nats.MaxReconnects(-1), nats.ReconnectWait(50*time.Millisecond))
	if err != nil {
		w.Fatal(err)
	}
	w.Cleanup(w.system.Close)
}

// emergency is the option to connect without the service, to the account "system" or "app".
func (w *world) emergency(account string) nats.Option {
	w.Helper()
	file := filepath.Join(w.dir, "offline", "emergency-"+account)
	if w.set.Users == nil {
		return nats.UserCredentials(file + ".creds")
	}
	option, err := nats.NkeyOptionFromSeed(file + ".nk")
	if err != nil {
		w.Fatal(err)
	}
	return option
}

// shortDir returns a folder of the test's own whose path leaves room for sockets in it.
func shortDir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "gh")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return dir
}

func (w *world) config() string { return filepath.Join(w.dir, "gatehouse.yaml") }

// edit changes the configuration file as an editor does, by putting a new one in its place.
func (w *world) edit(change func(yaml string) string) {
	w.Helper()
	before, err := os.ReadFile(w.config())
	if err != nil {
		w.Fatal(err)
	}
	after := change(string(before))
	if after == string(before) {
		w.Fatal("the edit changes nothing")
	}
	temp := w.config() + ".new"
	if err := os.WriteFile(temp, []byte(after), 0o600); err != nil {
		w.Fatal(err)
	}
	if err := os.Rename(temp, w.config()); err != nil {
		w.Fatal(err)
	}
}

// token returns a token of a demo user; claims replace or join its own.
func (w *world) token(user string, claims map[string]any) string {
	w.Helper()
	return devtest.Token(w, w.provider, user, claims)
}

// dial logs in with a token, once.
func (w *world) dial(token string, options ...nats.Option) (*nats.Conn, error) {
	return dial(w.set.ClientURL(), token, options...)
}

// dial logs in at the server with a token, once. The timeout lets a refusal arrive before it;
// where a test is about time it gives its own.
func dial(url, token string, options ...nats.Option) (*nats.Conn, error) {
	return nats.Connect(url, append([]nats.Option{
		nats.Token(token), nats.Timeout(5 * time.Second), nats.NoReconnect(), nats.IgnoreDiscoveredServers(),
	}, options...)...)
}

// login logs in and fails the test when that fails.
func (w *world) login(token string, options ...nats.Option) *nats.Conn {
	w.Helper()
	nc, err := w.dial(token, options...)
	if err != nil {
		w.Fatalf("login: %v", err)
	}
	w.Cleanup(nc.Close)
	return nc
}

// mustBeRefused logs in and fails the test when that does not end in a refusal.
func (w *world) mustBeRefused(token string) {
	w.Helper()
	nc, err := w.dial(token)
	if err == nil {
		nc.Close()
		w.Fatal("the login was admitted")
	}
	if !errors.Is(err, nats.ErrAuthorization) {
		w.Fatalf("the login was not refused but failed: %v", err)
	}
}

// eventuallyLogin logs in as soon as that works.
func (w *world) eventuallyLogin(token string) *nats.Conn {
	w.Helper()
	var nc *nats.Conn
	eventually(w, func() (err error) {
		nc, err = w.dial(token, nats.Timeout(2*time.Second))
		return err
	})
	w.Cleanup(nc.Close)
	return nc
}

// connz is what a server says of a connection.
type connz struct {
	Cid            uint64 `json:"cid"`
	Account        string `json:"account"`
	AuthorizedUser string `json:"authorized_user"`
}

// connection returns what the server of a connection says of it.
func (w *world) connection(nc *nats.Conn) connz {
	w.Helper()
	cid, err := nc.GetClientID()
	if err != nil {
		w.Fatal(err)
	}
	msg, err := w.system.Request("$SYS.REQ.SERVER."+nc.ConnectedServerId()+".CONNZ", fmt.Appendf(nil, `{"cid":%d,"auth":true}`, cid), 10*time.Second)
	if err != nil {
		w.Fatal(err)
	}
	var answer struct {
		Data struct {
			Connections []connz `json:"connections"`
		} `json:"data"`
	}
	if err := json.Unmarshal(msg.Data, &answer); err != nil {
		w.Fatal(err)
	}
	if len(answer.Data.Connections) != 1 {
		w.Fatalf("server %s shows %d connections with cid %d", nc.ConnectedServerName(), len(answer.Data.Connections), cid)
	}
	return answer.Data.Connections[0]
}

// replica is one running gatehouse serve.
type replica struct {
	*world
	name    string
	env     []string
	http    string // base URL
	metrics string // base URL
	log     *record
	run     service
}

// serveOptions choose how a replica runs.
type serveOptions struct {
	process bool     // as a process, not in this one
	store   string   // default: SQLite in the world's folder
	env     []string // further variables
}

// serve starts a replica and returns when it is ready.
func (w *world) serve(o serveOptions) *replica {
	w.Helper()
	r := w.newReplica(o)
	r.start(o.process)
	r.mustGetReady()
	return r
}

// newReplica returns a replica that does not run yet. Replicas share the configuration file, as
// in docker-compose.yml; what is their own comes from their environment.
func (w *world) newReplica(o serveOptions) *replica {
	w.Helper()
	w.replicas++
	name := fmt.Sprintf("replica-%d", w.replicas)
	ports := devtest.Ports(w, 2)
	api, metrics := w.http, fmt.Sprintf("127.0.0.1:%d", ports[1])
	if w.http = ""; api == "" {
		api = fmt.Sprintf("127.0.0.1:%d", ports[0])
	}
	r := &replica{world: w, name: name, http: "http://" + api, metrics: "http://" + metrics, log: evidence.open(w.Name() + " " + name)}
	r.env = append([]string{
		"HOME=" + w.dir,
		"GATEHOUSE_CONFIG=" + w.config(),
		"GATEHOUSE_HTTP_LISTEN=" + api,
		"GATEHOUSE_METRICS_LISTEN=" + metrics,
		"GATEHOUSE_SOCKET=" + filepath.Join(w.dir, name+".sock"),
		"GATEHOUSE_AUDIT_DIRECTORY=" + filepath.Join(w.dir, name+".spool"),
	}, o.env...)
	if o.store != "" {
		r.env = append(r.env, "GATEHOUSE_STORE="+o.store)
	}
	w.Cleanup(func() {
		if w.Failed() {
			text := r.log.String()
			w.Logf("log of %s ends with:\n%s", name, text[max(0, len(text)-16<<10):])
		}
	})
	return r
}

// start runs gatehouse serve until the test ends, or stop or kill is called.
func (r *replica) start(process bool) {
	r.Helper()
	if process {
		r.run = startProcess(r.TB, r.env, r.log, "serve")
	} else {
		r.run = startInProcess(r.env, r.log, "serve")
	}
	r.Cleanup(r.stop)
}

// stop ends the service in good order; on one that does not run it does nothing.
func (r *replica) stop() {
	r.Helper()
	if r.run == nil {
		return
	}
	if err := r.run.stop(); err != nil {
		r.Errorf("%s: %v", r.name, err)
	}
	r.run = nil
}

// kill ends the service's process at once.
func (r *replica) kill() {
	r.Helper()
	r.run.(*process).kill()
	r.run = nil
}

func (r *replica) mustGetReady() {
	r.Helper()
	eventually(r, r.ready)
}

// ready returns nil when /readyz says so, else what it says.
func (r *replica) ready() error {
	code, body, err := get(r.metrics + "/readyz")
	switch {
	case err != nil:
		return err
	case code != 200:
		return errors.New(body)
	case body != "ready\n":
		return fmt.Errorf("/readyz answers %q", body)
	}
	return nil
}

// result is how a command ended.
type result struct {
	code     int
	out, err string
}

// command runs one command on the replica's host.
func (r *replica) command(args ...string) result {
	r.Helper()
	return command(r.TB, r.env, "", args...)
}

// command runs one command line with standard input and an environment of its own.
func command(t testing.TB, env []string, stdin string, args ...string) result {
	t.Helper()
	out, errs := evidence.open(t.Name()+" "+strings.Join(args, " ")), evidence.open(t.Name()+" errors of "+strings.Join(args, " "))
	ctx, cancel := context.WithTimeout(context.Background(), 60*time.Second)
	defer cancel()
	code := run(ctx, args, stdio{in: strings.NewReader(stdin), out: out, err: errs, env: env})
	return result{code, out.String(), errs.String()}
}

// must runs a command that has to succeed and returns what it printed.
func (r *replica) must(args ...string) string {
	r.Helper()
	got := r.command(args...)
	if got.code != exitDone {
		r.Fatalf("gatehouse %s ended with %d:\n%s%s", strings.Join(args, " "), got.code, got.out, got.err)
	}
	return got.out
}

// audit returns the audit entries that match the flags, newest first, all pages of them.
func (r *replica) audit(flags ...string) []api.AuditEntry {
	r.Helper()
	var all []api.AuditEntry
	args := append([]string{"audit", "--json", "--limit", "1000"}, flags...)
	for next := args; ; {
		var got result
		// A connection to the database that was cut shows with the first call that uses it.
		eventually(r, func() error {
			if got = r.command(next...); got.code != exitDone && strings.Contains(got.err, "(unavailable)") {
				return errors.New(got.err)
			}
			return nil
		})
		if got.code != exitDone {
			r.Fatalf("gatehouse %s ended with %d: %s", strings.Join(next, " "), got.code, got.err)
		}
		all = append(all, decodeLines[api.AuditEntry](r, got.out)...)
		_, cursor, more := strings.Cut(strings.TrimSpace(got.err), "There is more: --cursor ")
		if !more {
			return all
		}
		next = append(slices.Clone(args), "--cursor", cursor)
	}
}

// decodeLines decodes one JSON object a line.
func decodeLines[T any](t testing.TB, text string) []T {
	t.Helper()
	var all []T
	dec := json.NewDecoder(bytes.NewReader([]byte(text)))
	for dec.More() {
		var v T
		if err := dec.Decode(&v); err != nil {
			t.Fatalf("%v in %s", err, text)
		}
		all = append(all, v)
	}
	return all
}

// seen is where a client was when it was admitted.
type seen struct {
	server string
	cid    uint64
}

// whereabouts returns the server and the cid of a connection.
func whereabouts(t testing.TB, nc *nats.Conn) seen {
	t.Helper()
	cid, err := nc.GetClientID()
	if err != nil {
		t.Fatal(err)
	}
	return seen{nc.ConnectedServerId(), cid}
}

// auditOf waits for the audit entry of an admitted connection.
func (r *replica) auditOf(nc *nats.Conn) api.AuditEntry {
	r.Helper()
	at := whereabouts(r, nc)
	var found api.AuditEntry
	eventually(r, func() error {
		for _, e := range r.audit("--outcome", "allowed") {
			if e.ServerID == at.server && e.CID == at.cid {
				found = e
				return nil
			}
		}
		return fmt.Errorf("no audit entry for cid %d of server %s", at.cid, at.server)
	})
	return found
}

// ended returns nil when the audit trail says that the only login of that name ended for the reason.
func (r *replica) ended(name, reason string) error {
	r.Helper()
	if entries := r.audit("--name", name); len(entries) != 1 || entries[0].Reason != reason {
		return fmt.Errorf("audit entries of %s: %+v, want one for %s", name, entries, reason)
	}
	return nil
}

// refused returns nil when the audit trail says that the logins of that name, one at least, were
// refused for the reason: some clients try again.
func (r *replica) refused(name, reason string) error {
	r.Helper()
	entries := r.audit("--name", name)
	if len(entries) == 0 || slices.ContainsFunc(entries, func(e api.AuditEntry) bool { return e.Outcome != "refused" || e.Reason != reason }) {
		return fmt.Errorf("audit entries of %s: %+v, want refusals for %s", name, entries, reason)
	}
	return nil
}

// counted returns nil when the audit trail has a refusal for the reason, of whomever.
func (r *replica) counted(reason string) error {
	r.Helper()
	if !slices.ContainsFunc(r.audit("--outcome", "refused"), func(e api.AuditEntry) bool { return e.Reason == reason }) {
		return fmt.Errorf("no audit entry for %s", reason)
	}
	return nil
}

// someone returns a subject that no other login of the run has.
func someone() string { return "u" + strings.ReplaceAll(uuid.NewString(), "-", "") }

// developer returns claims of a developer with that subject.
func developer(subject string) map[string]any {
	return map[string]any{"sub": subject, "groups": []string{"dev"}}
}
