package resolver

import (
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"

	"github.com/gatehouse-nats/gatehouse/internal/devstack/devtest"
	"github.com/gatehouse-nats/gatehouse/internal/setup"
	"github.com/gatehouse-nats/gatehouse/policy"
)

// named is an account of servers without operator.
func named(name string) *policy.Account {
	return &policy.Account{Name: name, ID: name, ByName: true, SigningKeys: []string{"issuer"}}
}

// TestServersWithoutOperator: servers and clocks are known as with an operator, and accounts are
// there when the servers' files define them; the system account never is.
func TestServersWithoutOperator(t *testing.T) {
	t.Parallel()
	ports := devtest.Ports(t, 4)
	set, err := setup.New(setup.Options{ConfigMode: true, NoJetStream: true, Ports: []setup.Ports{{Client: ports[0], Cluster: ports[1], Monitor: ports[2], WebSocket: ports[3]}}})
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(t.TempDir(), "set")
	if err := set.Write(dir); err != nil {
		t.Fatal(err)
	}
	devtest.StartServers(t, []string{filepath.Join(dir, set.ServerFile(0))}, devtest.InProcess)
	user, err := nkeys.FromSeed([]byte(set.Users.System.Seed.Reveal()))
	if err != nil {
		t.Fatal(err)
	}
	nc, err := nats.Connect(set.ClientURL(), nats.Nkey(set.Users.System.Nkey, user.Sign), nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) {
		t.Errorf("the permissions that init writes do not suffice: %v", err)
	}))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	server := nc.ConnectedServerId()
	r := run(t, Options{Conn: nc, Interval: never}, map[string]Requirement{
		"APP": {Name: "APP", ByName: true}, "AUTH": {Name: "the callout account", ByName: true},
	})
	ready(t, r)
	if list := r.Servers(); len(list) != 1 || list[0].ID != server || r.Offset(server).Abs() > time.Second {
		t.Errorf("servers %+v", list)
	}
	if key, refusal := r.SigningKey(server, named("APP"), "", time.Now()); key != "issuer" || refusal != nil {
		t.Errorf("signing key %q, %v", key, refusal)
	}

	r.SetAccounts(map[string]Requirement{
		"APP": {Name: "APP", ByName: true}, "MISSING": {Name: "MISSING", ByName: true}, "SYS": {Name: "SYS", ByName: true},
	})
	eventually(t, func() error {
		err := r.Ready()
		ok := err != nil && strings.Contains(err.Error(), "account MISSING: the server's file does not define it") &&
			strings.Contains(err.Error(), "account SYS: it is the system account") && !strings.Contains(err.Error(), "APP")
		return check(ok, "ready: %v", err)
	})
	for _, account := range []string{"MISSING", "SYS", "NEVER"} {
		if _, refusal := r.SigningKey(server, named(account), "", time.Now()); refusal == nil || refusal.Reason != policy.AccountUnready {
			t.Errorf("login into account %s: %v", account, refusal)
		}
	}
	if ok, _ := r.Known(newServerKey(t)); ok {
		t.Error("a server that is not there is known")
	}
}

// Without a system user nothing can be asked, and all is taken as it comes: the configuration
// demands sealed requests then.
func TestWithoutSystemUser(t *testing.T) {
	t.Parallel()
	r := run(t, Options{Blind: true}, map[string]Requirement{"APP": {Name: "APP", ByName: true}})
	if err := r.Ready(); err != nil {
		t.Errorf("ready: %v", err)
	}
	server := newServerKey(t)
	if ok, pending := r.Known(server); !ok || pending != nil {
		t.Errorf("known %t, pending %v", ok, pending)
	}
	if key, refusal := r.SigningKey(server, named("APP"), "", time.Now()); key != "issuer" || refusal != nil {
		t.Errorf("signing key %q, %v", key, refusal)
	}
	if r.Offset(server) != 0 || r.Skew() != 0 || len(r.Servers()) != 0 {
		t.Errorf("offset %s, skew %s, servers %+v", r.Offset(server), r.Skew(), r.Servers())
	}
}
