package main

import (
	"fmt"
	"maps"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"
	"github.com/nats-io/nats.go"

	"github.com/gatehouse-nats/gatehouse/internal/devstack"
	"github.com/gatehouse-nats/gatehouse/internal/devstack/devtest"
	"github.com/gatehouse-nats/gatehouse/store/postgres"
	"github.com/gatehouse-nats/gatehouse/store/storetest"
)

// compose is what the test reads of docker-compose.yml.
type compose struct {
	Services map[string]composeService `yaml:"services"`
}

type composeService struct {
	Image       string            `yaml:"image"`
	Network     string            `yaml:"network_mode"`
	Command     []string          `yaml:"command"`
	Environment map[string]string `yaml:"environment"`
	Volumes     []string          `yaml:"volumes"`
	DependsOn   map[string]any    `yaml:"depends_on"`
}

// dexFile is what the test reads of deploy/compose/dex.yaml.
type dexFile struct {
	Issuer string `yaml:"issuer"`
	Web    struct {
		HTTP string `yaml:"http"`
	} `yaml:"web"`
	Clients []struct {
		ID     string `yaml:"id"`
		Public bool   `yaml:"public"`
	} `yaml:"staticClients"`
}

func readYAML[T any](t testing.TB, path string) (v T) {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := yaml.Unmarshal(data, &v); err != nil {
		t.Fatalf("%s: %v", path, err)
	}
	return v
}

// relocation moves what docker-compose.yml says from its volume and its ports to the test's.
type relocation struct {
	testing.TB
	data   string            // stands for /data
	issuer string            // stands for Dex
	store  string            // stands for its PostgreSQL
	ports  map[string]string // addresses, by those of the file
}

var loopbackAddress = regexp.MustCompile(`127\.0\.0\.1:\d+`)

func (r *relocation) move(text string) string {
	r.Helper()
	if strings.HasPrefix(text, "postgres://") {
		return r.store
	}
	text = regexp.MustCompile(`^/data\b`).ReplaceAllLiteralString(text, r.data)
	text = strings.ReplaceAll(text, dexIssuer, r.issuer)
	return loopbackAddress.ReplaceAllStringFunc(text, func(address string) string {
		if "http://"+address == r.issuer {
			return address
		}
		if r.ports[address] == "" {
			r.ports[address] = fmt.Sprintf("127.0.0.1:%d", devtest.Ports(r, 1)[0])
		}
		return r.ports[address]
	})
}

// moveFile moves what init wrote.
func (r *relocation) moveFile(name string) {
	r.Helper()
	path := filepath.Join(r.data, name)
	data, err := os.ReadFile(path)
	if err != nil {
		r.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(r.move(string(data))), 0o600); err != nil {
		r.Fatal(err)
	}
}

const dexIssuer = "http://127.0.0.1:5556/dex"

// TestCompose runs the commands of docker-compose.yml as processes, on other ports and with
// the demo provider in the place of Dex: a login at every server, a block on every replica.
func TestCompose(t *testing.T) {
	t.Parallel()
	file := readYAML[compose](t, "../../docker-compose.yml")
	checkCompose(t, file)
	t.Log("Dex is not started: the demo provider of gatehouse dev gives the tokens in its place")
	provider := devtest.StartProvider(t, devstack.ProviderOptions{})
	move := &relocation{
		TB: t, data: filepath.Join(shortDir(t), "data"), issuer: provider.Issuer(),
		store: storetest.Postgres(t, postgres.Migrate), ports: map[string]string{},
	}
	run := func(name string) (args, env []string) {
		s, ok := file.Services[name]
		if !ok {
			t.Fatalf("there is no service %s", name)
		}
		for _, a := range s.Command {
			args = append(args, move.move(a))
		}
		for k, v := range s.Environment {
			env = append(env, k+"="+move.move(v))
		}
		return args, env
	}

	args, env := run("init")
	if got := command(t, env, "", args...); got.code != exitDone {
		t.Fatalf("gatehouse %s ended with %d: %s%s", strings.Join(args, " "), got.code, got.out, got.err)
	}
	move.moveFile("gatehouse.yaml")
	var confs []string
	for _, name := range []string{"nats-1", "nats-2", "nats-3"} {
		args, _ := run(name)
		if len(args) != 3 || args[0] != "nats-server" || args[1] != "-c" {
			t.Fatalf("the command of %s is %q", name, args)
		}
		conf, err := filepath.Rel(move.data, args[2])
		if err != nil {
			t.Fatal(err)
		}
		move.moveFile(conf)
		confs = append(confs, args[2])
	}
	servers := devtest.StartServers(t, confs, devtest.AsProcess)

	w := &world{TB: t, dir: move.data, provider: provider, servers: servers}
	var replicas []*replica
	for _, name := range []string{"gatehouse-1", "gatehouse-2"} {
		args, env := run(name)
		r := &replica{
			world: w, name: name, log: evidence.open("compose " + name),
			metrics: "http://" + address(env, "GATEHOUSE_METRICS_LISTEN", move.move("127.0.0.1:8421")),
			env:     append(env, "HOME="+move.data, "GATEHOUSE_CONFIG="+filepath.Join(move.data, "gatehouse.yaml")),
		}
		r.run = startProcess(t, r.env, r.log, args...)
		t.Cleanup(r.stop)
		replicas = append(replicas, r)
	}
	for _, r := range replicas {
		eventually(t, func() error {
			if err := r.ready(); err != nil {
				return fmt.Errorf("%s: %w\n%s", r.name, err, r.log.String())
			}
			return nil
		})
	}

	subject := someone()
	token := w.token("alice", map[string]any{"sub": subject})
	for _, s := range servers {
		nc, err := dial(s.ClientURL(), token, nats.CustomInboxPrefix("_INBOX_none"))
		if err != nil {
			t.Fatal(err)
		}
		w.checkPermissions(nc)
		nc.Close()
	}
	replicas[0].must("revoke", "--issuer", "dex", "--subject", subject, "--reason", "left")
	for _, r := range replicas {
		r.eventuallyExplains(token, "blocked")
	}
	for _, s := range servers {
		if nc, err := dial(s.ClientURL(), token); err == nil {
			nc.Close()
			t.Error("a blocked login was admitted")
		}
	}
}

// address returns the value of a variable, or what stands for its default.
func address(env []string, name, otherwise string) string {
	for _, v := range env {
		if value, ok := strings.CutPrefix(v, name+"="); ok {
			return value
		}
	}
	return otherwise
}

// checkCompose checks what the parts of the file say of each other.
func checkCompose(t testing.TB, file compose) {
	t.Helper()
	names := slices.Sorted(maps.Keys(file.Services))
	if want := []string{"dex", "gatehouse-1", "gatehouse-2", "init", "nats-1", "nats-2", "nats-3", "postgres"}; !slices.Equal(names, want) {
		t.Errorf("the services are %q, want %q", names, want)
	}
	for name, s := range file.Services {
		if s.Network != "host" {
			t.Errorf("%s is not on the host's network, where its addresses are", name)
		}
		for other := range s.DependsOn {
			if _, ok := file.Services[other]; !ok {
				t.Errorf("%s depends on %s, which there is not", name, other)
			}
		}
	}
	dex := readYAML[dexFile](t, "../../deploy/compose/dex.yaml")
	initArgs := file.Services["init"].Command
	if dex.Issuer != dexIssuer || !strings.HasPrefix(dex.Issuer, "http://"+dex.Web.HTTP+"/") || !hasFlag(initArgs, "--issuer-url", dex.Issuer) {
		t.Errorf("Dex is %s at %s, init is told %q", dex.Issuer, dex.Web.HTTP, initArgs)
	}
	// The aud of Dex's tokens is the client.
	if len(dex.Clients) != 1 || !dex.Clients[0].Public || !hasFlag(initArgs, "--client-id", dex.Clients[0].ID) || !hasFlag(initArgs, "--audience", dex.Clients[0].ID) {
		t.Errorf("Dex's clients are %+v, init is told %q", dex.Clients, initArgs)
	}
	db := file.Services["postgres"]
	for _, name := range []string{"gatehouse-1", "gatehouse-2"} {
		dsn, err := url.Parse(file.Services[name].Environment["GATEHOUSE_STORE"])
		if err != nil {
			t.Fatal(err)
		}
		password, _ := dsn.User.Password()
		if dsn.User.Username() != db.Environment["POSTGRES_USER"] || password != db.Environment["POSTGRES_PASSWORD"] ||
			dsn.Path != "/"+dsn.User.Username() || !hasFlag(db.Command, "-c", "port="+dsn.Port()) {
			t.Errorf("%s uses the database %s, which is not that of %+v", name, dsn.Redacted(), db)
		}
		if !slices.Equal(file.Services[name].Volumes, file.Services["init"].Volumes) {
			t.Errorf("%s does not see what init wrote", name)
		}
	}
}

// hasFlag reports whether a command line has the value after the flag.
func hasFlag(args []string, flag, value string) bool {
	for i := range len(args) - 1 {
		if args[i] == flag && args[i+1] == value {
			return true
		}
	}
	return false
}
