package config

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nkeys"

	"github.com/gatehouse-nats/gatehouse/account"
)

// TestPlans compiles the plans of the example.
func TestPlans(t *testing.T) {
	t.Parallel()
	content, err := os.ReadFile("../../../docs/gatehouse.example.yaml")
	if err != nil {
		t.Fatal(err)
	}
	c := newFixture(t).mustLoad(string(content))
	want := map[string]*account.Plan{
		"free": {
			Name: "free", Roles: []string{"owner", "app"}, PerSubject: 1, Pattern: "team-*",
			Limits: account.Limits{
				Connections: 20, Subscriptions: 1000, Payload: 1 << 20, Data: account.NoLimit, Imports: account.NoLimit, Exports: account.NoLimit,
				JetStream: &account.JetStream{Disk: 1 << 30, Streams: 5, Consumers: account.NoLimit},
			},
		},
		"paid": {
			Name: "paid", Roles: []string{"owner", "app"}, PerSubject: 3, Approval: true,
			Limits: account.Limits{
				Connections: 500, Subscriptions: account.NoLimit, Payload: account.NoLimit, Data: account.NoLimit, Imports: account.NoLimit, Exports: account.NoLimit,
				Tiers: map[string]account.JetStream{
					"R1": {Disk: 50 << 30, Streams: account.NoLimit, Consumers: account.NoLimit},
					"R3": {Disk: 10 << 30, Memory: 100 << 20, Streams: account.NoLimit, Consumers: account.NoLimit},
				},
			},
		},
	}
	if diff := cmp.Diff(want, c.Plans()); diff != "" {
		t.Error(diff)
	}
	rules := c.Rules()
	if p := rules.Plans["free"]; p == nil || p.Roles["app"] == nil || p.Roles["owner"] != nil || p.Direct != nil {
		t.Errorf("members of free: %+v", p)
	}
	if b := rules.SignUps["corp"]; len(b) != 1 || b[0].Name != "newcomers" || len(rules.Lobby["corp"]) != 0 {
		t.Errorf("who may sign up: %+v", b)
	}
	ring := c.Seal()
	if box := ring.Seal([]byte("secret"), "row"); ring.Current() == "" || box == nil {
		t.Error("nothing seals")
	}
	if shown := fmt.Sprintf("%v %+v %#v", c.File.Seal, c.File.Seal, c.File.Seal); strings.Contains(shown, "AAECAwQF") {
		t.Errorf("the key is shown: %s", shown)
	}
}

// TestSignUpAloneLetsInNowhere keeps a binding that only lets sign up from placing anybody in the lobby.
func TestSignUpAloneLetsInNowhere(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	lobbySeed, lobby := testKey(t, nkeys.PrefixByteAccount, "lobby")
	f.write("keys/lobby.nk", lobbySeed)
	for grant, places := range map[string]int{"sign_up: [free]": 0, "lobby: true, sign_up: [free]": 1, "lobby: true": 1} {
		c := f.mustLoad(`
nats:
  callout: { creds: creds/callout.creds, signing_key: keys/callout.nk }
  system: { creds: creds/system.creds }
  lobby: { account: ` + lobby + `, signing_key: keys/lobby.nk }
issuers:
  - { name: corp, url: "https://login.example.com", audiences: [nats] }
roles:
  app: { publish: { allow: [a] } }
plans:
  free: { roles: [app] }
bindings:
  - name: one
    issuer: corp
    grant: { ` + grant + ` }
`)
		if n := len(c.Rules().Lobby["corp"]); n != places {
			t.Errorf("%s: %d bindings place in the lobby, want %d", grant, n, places)
		}
	}
}
