package account

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nkeys"

	"github.com/gatehouse-nats/gatehouse/policy"
)

func publicKey(t *testing.T) string {
	t.Helper()
	kp, err := nkeys.CreateAccount()
	if err != nil {
		t.Fatal(err)
	}
	public, err := kp.PublicKey()
	if err != nil {
		t.Fatal(err)
	}
	return public
}

func TestCheckName(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]error{
		"a": nil, "Orders-2.eu_west": nil, strings.Repeat("a", MaxName): nil, "7": nil,
		"": ErrName, strings.Repeat("a", MaxName+1): ErrName, strings.Repeat("a", 10_000): ErrName,
		"a/b": ErrName, `a\b`: ErrName, "..": ErrName, ".a": ErrName, "a-": ErrName, "a b": ErrName, "a\x00b": ErrName,
		"оrders": ErrName /* a Cyrillic o */, "ſys": ErrName, "a>": ErrName, "a*": ErrName, "$SYS": ErrName,
		publicKey(t): ErrName, strings.ToLower(publicKey(t)): ErrName, // another's id
		"LOBBY": ErrReserved, "sys": ErrReserved, "System": ErrReserved, "Callout": ErrReserved, "OPERATOR-SIGNING": ErrReserved, // as init names its own
	} {
		if err := CheckName(name); !errors.Is(err, want) || (err == nil) != (want == nil) {
			t.Errorf("%.20q: %v, want %v", name, err, want)
		}
	}
}

func TestFits(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, pattern string
		want          bool
	}{
		{"anything", "", true}, {"team-a", "team-*", true}, {"TEAM-a", "team-*", true}, {"team", "team-*", false}, {"my-team-a", "team-*", false},
		{"team-a-dev", "team-*-dev", true}, {"team-dev", "team-*-dev", false}, {"a", "a", true}, {"ab", "a", false}, {"aXbYc", "a*b*c", true}, {"aXcYb", "a*b*c", false},
		{"x", "*", true},
	} {
		if got := Fits(c.name, c.pattern); got != c.want {
			t.Errorf("%s as %s: %t", c.name, c.pattern, got)
		}
	}
}

func TestLimitsWith(t *testing.T) {
	t.Parallel()
	five := int64(5)
	plan := Limits{Connections: 20, Subscriptions: 7, JetStream: &JetStream{Disk: 1}}
	got := plan.With(&LimitsPatch{Connections: &five, Tiers: map[string]JetStream{"R3": {Disk: 2}}})
	if got.Connections != 5 || got.Subscriptions != 7 || got.JetStream != nil || got.Tiers["R3"].Disk != 2 {
		t.Errorf("got %+v", got)
	}
	if same := plan.With(nil); same.Connections != 20 || same.JetStream == nil {
		t.Errorf("got %+v", same)
	}
}

func TestClaims(t *testing.T) {
	t.Parallel()
	other := publicKey(t)
	a := &Account{
		ID: publicKey(t), Name: "orders", Description: "all orders", Tags: []string{"eu"},
		Keys:    []SigningKey{{Public: publicKey(t), Stage: Added}, {Public: publicKey(t), Stage: Current}, {Public: publicKey(t), Stage: Leaving}},
		Exports: []Export{{Name: "feed", Subject: "orders.>", Type: StreamType}, {Name: "ask", Subject: "ask", Type: ServiceType, Private: true, Response: "Stream"}},
		Imports: []Import{{Name: "prices", Account: other, Subject: "prices.>", Local: "in.prices.>", Type: StreamType}},
	}
	c := Claims(a, Limits{Connections: 20, LeafNodes: 0, Subscriptions: NoLimit, Payload: NoLimit, Data: NoLimit, Imports: 5, Exports: 5, Tiers: map[string]JetStream{"R1": {Disk: 1 << 30, Streams: 5, Consumers: NoLimit}}})
	operator, err := nkeys.CreateOperator()
	if err != nil {
		t.Fatal(err)
	}
	token, err := c.Encode(operator)
	if err != nil {
		t.Fatal(err)
	}
	got, err := jwt.DecodeAccountClaims(token)
	if err != nil {
		t.Fatal(err)
	}
	vr := jwt.CreateValidationResults()
	got.Validate(vr)
	if vr.IsBlocking(true) {
		t.Errorf("the library finds: %v", vr.Errors())
	}
	if got.Name != "orders" || len(got.SigningKeys) != 3 || len(got.Exports) != 2 || len(got.Imports) != 1 || !got.Exports.HasExportContainingSubject("ask") || !got.Exports[0].TokenReq || // the library sorts them

		got.Limits.Conn != 20 || got.Limits.Subs != NoLimit || got.Limits.JetStreamTieredLimits["R1"].Streams != 5 || !got.Limits.DisallowBearer {
		t.Errorf("got %+v", got)
	}
}

// A limit that is lowered below what an account has makes no claims that servers refuse: all else would stay as it was as well.
func TestClaimsUnderALoweredLimit(t *testing.T) {
	t.Parallel()
	other := publicKey(t)
	a := &Account{
		ID: publicKey(t), Name: "orders",
		Exports: []Export{{Name: "feed", Subject: "orders.>", Type: StreamType}, {Name: "ask", Subject: "ask", Type: ServiceType}},
		Imports: []Import{{Name: "prices", Account: other, Subject: "prices.>", Type: StreamType}},
	}
	c := Claims(a, Limits{Connections: 5, Exports: 1, Imports: 0})
	vr := jwt.CreateValidationResults()
	c.Validate(vr)
	if vr.IsBlocking(true) || c.Limits.Conn != 5 || c.Limits.Exports != 2 || c.Limits.Imports != 1 {
		t.Errorf("limits %+v: %v", c.Limits, vr.Errors())
	}
}

func TestEntry(t *testing.T) {
	t.Parallel()
	alice := policy.Principal{Issuer: "https://i", Subject: "alice"}
	accepted := time.Unix(1, 0)
	a := Account{
		ID: "A1", Name: "orders", Plan: "free", State: Active, Applied: 1,
		Keys: []SigningKey{{Public: "A3", Stage: Added}, {Public: "A2", Stage: Current}, {Public: "A0", Stage: Leaving}},
		Members: []Member{
			{ID: "1", Role: OwnerRole, Person: Person{Principal: alice}, Accepted: accepted},
			{ID: "2", Role: "app", Person: Person{Principal: alice}}, // not accepted
			{ID: "3", Role: "app", Invitation: "00", Accepted: accepted},
			{ID: "4", Role: "app", Person: Person{Principal: policy.Principal{Issuer: "https://i"}}, Match: "nonsense", Accepted: accepted},
		},
	}
	e := a.Entry()
	if !e.Open || len(e.Members) != 1 || e.Members[0].ID != "1" || !slices.Equal(e.Account.SigningKeys, []string{"A2"}) {
		t.Errorf("got %+v", e)
	}
	if !a.IsOwner(alice) || a.IsOwner(policy.Principal{Issuer: "https://j", Subject: "alice"}) {
		t.Error("not the owner alone is one")
	}
	for _, closed := range []Account{{State: Creating, Applied: 1}, {State: Active}, {State: Deleting, Applied: 1}, {State: Requested}} {
		if closed.Entry().Open {
			t.Errorf("%+v is open", closed)
		}
	}
}
