package provision_test

import (
	"net/netip"
	"testing"
	"time"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nkeys"
	"pgregory.net/rapid"

	"github.com/gatehouse-nats/gatehouse/api"
	"github.com/gatehouse-nats/gatehouse/policy"
	"github.com/gatehouse-nats/gatehouse/policy/mint"
	"github.com/gatehouse-nats/gatehouse/provision"
)

// Law: whatever a credential lets its user do, explain says; and it says no more than that. The
// credential is read as nats-server reads it.
func TestExplainSaysWhatIsMinted(t *testing.T) {
	key, user := accountKey(t), userKey(t)
	admitted := 0
	rapid.Check(t, func(t *rapid.T) {
		account := &policy.Account{Name: "APP", ID: key.Public()}
		rules := &policy.Rules{Leeway: 10 * time.Second, Bindings: map[string][]*policy.Binding{"corp": rapid.SliceOfN(bindings(account), 1, 3).Draw(t, "bindings")}}
		id := person("alice")
		id.Expires = now.Add(rapid.SampledFrom([]time.Duration{time.Second, time.Minute, 3 * time.Hour}).Draw(t, "life"))
		id.Claims["team"] = rapid.SampledFrom([]any{"red", "*", "a.b", nil}).Draw(t, "team")
		conn := policy.Connection{
			Source: netip.MustParseAddr("192.0.2.1"), Type: rapid.SampledFrom(policy.ConnectionTypes()).Draw(t, "type"), ProofGiven: true,
		}
		state := &policy.Snapshot{Rules: rules}

		told := provision.Explain(state, id, conn, now)
		c, err := mint.Mint(policy.Decide(state, id, conn, now, nil), mint.User{Name: id.Name(), UserKey: user, Type: conn.Type}, key, now)
		if told.Allowed != (err == nil) {
			t.Fatalf("explain says allowed %t, minting ends with %v", told.Allowed, err)
		}
		if err != nil {
			return
		}
		admitted++
		uc, err := jwt.DecodeUserClaims(c.JWT)
		if err != nil {
			t.Fatal(err)
		}
		same(t, "publish", uc.Pub, told.Permissions.Publish)
		same(t, "subscribe", uc.Sub, told.Permissions.Subscribe)
		sameRespond(t, uc.Resp, told.Permissions.Respond)
		if end := time.Unix(uc.Expires, 0); end.After(told.Decision.Expires) {
			t.Fatalf("the credential ends at %s, explain says at %s at the latest", end, told.Decision.Expires)
		}
	})
	if admitted == 0 {
		t.Error("nothing was ever minted")
	}
}

// bindings returns a generator of bindings to an account, with roles of all shapes.
func bindings(account *policy.Account) *rapid.Generator[*policy.Binding] {
	subjects := func(label string) *rapid.Generator[policy.PermissionRules] {
		list := rapid.SliceOfN(rapid.SampledFrom([]string{"app.>", "app.*", "app.{{claim.team}}.>", "{{inbox}}.>", "{{name}}", ">", "jobs.> workers", "jobs.>", "$JS.API.INFO"}), 0, 3)
		return rapid.Custom(func(t *rapid.T) policy.PermissionRules {
			return policy.PermissionRules{Allow: parse(list.Draw(t, label+" allow"), label), Deny: parse(list.Draw(t, label+" deny"), label)}
		})
	}
	return rapid.Custom(func(t *rapid.T) *policy.Binding {
		return &policy.Binding{
			Name: rapid.SampledFrom([]string{"a", "b", "c"}).Draw(t, "name"), Issuer: "corp",
			TTL:             rapid.SampledFrom([]time.Duration{time.Minute, time.Hour}).Draw(t, "ttl"),
			ConnectionTypes: rapid.SampledFrom([][]policy.ConnectionType{nil, policy.ConnectionTypes()}).Draw(t, "types"),
			Grant: policy.Grant{Account: account, Role: &policy.Role{
				Name: "r", Publish: subjects("publish").Draw(t, "publish"), Subscribe: subjects("subscribe").Draw(t, "subscribe"),
				Respond: policy.Respond{Max: rapid.IntRange(0, 3).Draw(t, "replies"), TTL: time.Minute},
			}},
		}
	})
}

// parse returns the templates of subjects; queue groups are for subscriptions alone.
func parse(list []string, kind string) []policy.Template {
	read := policy.ParseSubscription
	if kind == "publish" {
		read = policy.ParseTemplate
	}
	var all []policy.Template
	for _, s := range list {
		if t, err := read(s); err == nil {
			all = append(all, t)
		}
	}
	return all
}

// same compares permissions of a user JWT, in which an empty allow list allows everything, with
// those that explain shows, in which it allows nothing.
func same(t *rapid.T, what string, minted jwt.Permission, told api.SubjectSet) {
	allow := []string(minted.Allow)
	if len(allow) == 0 {
		allow = []string{">"}
	}
	server, shown := policy.SubjectSet{Allow: allow, Deny: minted.Deny}, policy.SubjectSet(told)
	for _, queue := range []string{"", "workers", "others"} {
		if subject, more := server.Exceeds(shown, queue); more {
			t.Fatalf("%s: the credential %+v allows %q in queue group %q, which explain does not show: %+v", what, minted, subject, queue, told)
		}
		if subject, more := shown.Exceeds(server, queue); more {
			t.Fatalf("%s: explain shows %q in queue group %q, which the credential does not allow: %+v, %+v", what, subject, queue, minted, told)
		}
	}
}

func sameRespond(t *rapid.T, minted *jwt.ResponsePermission, told *api.Respond) {
	switch {
	case minted == nil && told == nil:
	case minted == nil, told == nil, minted.MaxMsgs != told.Max, minted.Expires.String() != told.TTL:
		t.Fatalf("the credential allows replies %+v, explain says %+v", minted, told)
	}
}

func accountKey(t *testing.T) *mint.Key {
	t.Helper()
	kp, err := nkeys.CreateAccount()
	if err != nil {
		t.Fatal(err)
	}
	seed, err := kp.Seed()
	if err != nil {
		t.Fatal(err)
	}
	key, err := mint.NewKey(seed)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func userKey(t *testing.T) string {
	t.Helper()
	kp, err := nkeys.CreateUser()
	if err != nil {
		t.Fatal(err)
	}
	public, err := kp.PublicKey()
	if err != nil {
		t.Fatal(err)
	}
	return public
}
