package mint

import (
	"errors"
	"fmt"
	"log/slog"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nkeys"
	"pgregory.net/rapid"

	"github.com/gatehouse-nats/gatehouse/policy"
)

func newKey(t testing.TB) (*Key, []byte) {
	t.Helper()
	kp, err := nkeys.CreateAccount()
	if err != nil {
		t.Fatal(err)
	}
	seed, err := kp.Seed()
	if err != nil {
		t.Fatal(err)
	}
	key, err := NewKey(seed)
	if err != nil {
		t.Fatal(err)
	}
	return key, seed
}

func userKey(t testing.TB) string {
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

func TestKeyIsTheSeeds(t *testing.T) {
	key, seed := newKey(t)
	kp, err := nkeys.FromSeed(seed)
	if err != nil {
		t.Fatal(err)
	}
	want, err := kp.PublicKey()
	if err != nil {
		t.Fatal(err)
	}
	if key.Public() != want {
		t.Errorf("public key %s, want %s", key.Public(), want)
	}
	sig, err := key.Sign([]byte("data"))
	if err != nil {
		t.Fatal(err)
	}
	if err := kp.Verify([]byte("data"), sig); err != nil {
		t.Errorf("nkeys does not verify the signature: %v", err)
	}
}

func TestKeyRefusesOtherKinds(t *testing.T) {
	for name, create := range map[string]func() (nkeys.KeyPair, error){
		"user": nkeys.CreateUser, "operator": nkeys.CreateOperator, "curve": nkeys.CreateCurveKeys,
	} {
		kp, err := create()
		if err != nil {
			t.Fatal(err)
		}
		seed, err := kp.Seed()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := NewKey(seed); !errors.Is(err, ErrKeyKind) || strings.Contains(err.Error(), string(seed)) {
			t.Errorf("%s seed: %v", name, err)
		}
	}
	if _, err := NewKey([]byte("SAxxx")); !errors.Is(err, ErrKeyKind) {
		t.Errorf("garbage: %v", err)
	}
}

func TestKeyKeepsItsSeed(t *testing.T) {
	key, seed := newKey(t)
	var b strings.Builder
	slog.New(slog.NewJSONHandler(&b, nil)).Info("key", "key", key)
	fmt.Fprintf(&b, "%s %v", key, key)
	if strings.Contains(b.String(), string(seed)) {
		t.Error("the seed was printed")
	}
}

func decision(account *policy.Account) policy.Decision {
	now := time.Unix(1_800_000_000, 0)
	return policy.Decision{
		Account: account, TTL: time.Hour, Expires: now.Add(time.Hour),
		Permissions: policy.Permissions{
			Publish:   policy.SubjectSet{Allow: []string{"app.>"}, Deny: []string{"app.secret"}},
			Subscribe: policy.SubjectSet{Allow: []string{"app.> workers", "_INBOX_x.>"}},
		},
	}
}

func TestMint(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	identity, _ := newKey(t)
	signing, _ := newKey(t)
	account := &policy.Account{Name: "APP", ID: identity.Public(), SigningKeys: []string{signing.Public()}}
	user := userKey(t)
	c, err := Mint(decision(account), User{Name: "corp-alice", UserKey: user, Type: policy.Standard}, signing, now)
	if err != nil {
		t.Fatal(err)
	}
	uc, err := jwt.DecodeUserClaims(c.JWT)
	if err != nil {
		t.Fatal(err)
	}
	if uc.Subject != user || uc.Name != "corp-alice" || uc.Issuer != signing.Public() || uc.IssuerAccount != account.ID {
		t.Errorf("sub %s name %s iss %s account %s", uc.Subject, uc.Name, uc.Issuer, uc.IssuerAccount)
	}
	if uc.Expires != c.Expires.Unix() || c.Expires.After(now.Add(time.Hour)) || c.Expires.Before(now.Add(53*time.Minute)) {
		t.Errorf("expires %s after now", c.Expires.Sub(now))
	}
	if !slices.Equal(uc.Pub.Allow, []string{"app.>"}) || !slices.Equal(uc.Pub.Deny, []string{"app.secret"}) || len(uc.Sub.Allow) != 2 {
		t.Errorf("permissions %+v", uc.Permissions)
	}
	if uc.NotBefore != 0 || uc.BearerToken || len(uc.AllowedConnectionTypes) != 0 {
		t.Errorf("claims that should not be there: %+v", uc)
	}
	byIdentity, err := Mint(decision(account), User{Name: "n", UserKey: user}, identity, now)
	if err != nil {
		t.Fatal(err)
	}
	if uc, err := jwt.DecodeUserClaims(byIdentity.JWT); err != nil || uc.IssuerAccount != "" {
		t.Errorf("signed by the account itself: issuer_account %q, %v", uc.IssuerAccount, err)
	}
}

// To nats-server an empty list means that everything is allowed.
func TestMintAddressesByName(t *testing.T) {
	issuer, _ := newKey(t)
	account := &policy.Account{Name: "APP", ID: "APP", ByName: true, SigningKeys: []string{issuer.Public()}}
	c, err := Mint(decision(account), User{Name: "n", UserKey: userKey(t)}, issuer, time.Unix(1_800_000_000, 0))
	if err != nil {
		t.Fatal(err)
	}
	uc, err := jwt.DecodeUserClaims(c.JWT)
	if err != nil || uc.Audience != "APP" || uc.IssuerAccount != "" || uc.Issuer != issuer.Public() {
		t.Errorf("aud %q, issuer_account %q, iss %s, %v: want APP, none and the issuer", uc.Audience, uc.IssuerAccount, uc.Issuer, err)
	}
}

func TestMintDeniesWhatIsNotAllowed(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	key, _ := newKey(t)
	d := decision(&policy.Account{Name: "APP", ID: key.Public()})
	d.Permissions = policy.Permissions{Publish: policy.SubjectSet{Deny: []string{"a"}}}
	c, err := Mint(d, User{Name: "n", UserKey: userKey(t)}, key, now)
	if err != nil {
		t.Fatal(err)
	}
	uc, err := jwt.DecodeUserClaims(c.JWT)
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(uc.Pub.Deny, []string{">"}) || !slices.Equal(uc.Sub.Deny, []string{">"}) {
		t.Errorf("permissions %+v", uc.Permissions)
	}
}

func TestMintBoundsReplies(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	key, _ := newKey(t)
	d := decision(&policy.Account{Name: "APP", ID: key.Public()})
	for _, test := range []struct {
		respond policy.Respond
		want    *jwt.ResponsePermission
	}{
		{policy.Respond{}, nil},
		{policy.Respond{Max: 3, TTL: time.Minute}, &jwt.ResponsePermission{MaxMsgs: 3, Expires: time.Minute}},
		// What nats-server would take for its own bounds, or for none.
		{policy.Respond{Max: 1}, nil},
		{policy.Respond{TTL: time.Minute}, nil},
		{policy.Respond{Max: -1, TTL: time.Minute}, nil},
		{policy.Respond{Max: 1, TTL: -1}, nil},
	} {
		d.Permissions.Respond = test.respond
		c, err := Mint(d, User{Name: "n", UserKey: userKey(t)}, key, now)
		if err != nil {
			t.Fatal(err)
		}
		uc, err := jwt.DecodeUserClaims(c.JWT)
		if err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(uc.Resp, test.want) {
			t.Errorf("%+v: resp %+v, want %+v", test.respond, uc.Resp, test.want)
		}
	}
}

func TestMintRestrictsConnectionTypes(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	key, _ := newKey(t)
	d := decision(&policy.Account{Name: "APP", ID: key.Public()})
	d.RestrictType = true
	for ct, want := range map[policy.ConnectionType][]string{
		policy.Standard: {"STANDARD"}, policy.WebSocket: {"WEBSOCKET"}, policy.MQTT: {"MQTT", "MQTT_WS"}, policy.LeafNode: {"LEAFNODE", "LEAFNODE_WS"},
	} {
		c, err := Mint(d, User{Name: "n", UserKey: userKey(t), Type: ct}, key, now)
		if err != nil {
			t.Fatal(err)
		}
		uc, err := jwt.DecodeUserClaims(c.JWT)
		if err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(uc.AllowedConnectionTypes, want) {
			t.Errorf("%s: %v, want %v", ct, uc.AllowedConnectionTypes, want)
		}
	}
}

func TestMintScoped(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	identity, _ := newKey(t)
	scoped, _ := newKey(t)
	plain, _ := newKey(t)
	d := policy.Decision{
		Account: &policy.Account{Name: "APP", ID: identity.Public()}, TTL: time.Hour, Expires: now.Add(time.Hour),
		ScopedKey: scoped.Public(), Tags: []string{"team:blue"}, RestrictType: true,
	}
	user := User{Name: "corp-alice", UserKey: userKey(t), Type: policy.Standard}
	c, err := Mint(d, user, scoped, now)
	if err != nil {
		t.Fatal(err)
	}
	uc, err := jwt.DecodeUserClaims(c.JWT)
	if err != nil {
		t.Fatal(err)
	}
	if !uc.HasEmptyPermissions() || uc.Name != "corp-alice" || uc.IssuerAccount != identity.Public() || !slices.Equal(uc.Tags, []string{"team:blue"}) {
		t.Errorf("claims %+v", uc)
	}
	if uc.Expires != c.Expires.Unix() {
		t.Errorf("exp %d, want %d", uc.Expires, c.Expires.Unix())
	}
	// A credential without permissions, signed by a key without a template, may do anything.
	if c, err := Mint(d, user, plain, now); !errors.Is(err, ErrNotScoped) || c.JWT != "" {
		t.Errorf("signed with a plain key: %v", err)
	}
}

func TestMintNeverSignsARefusal(t *testing.T) {
	key, _ := newKey(t)
	d := decision(&policy.Account{Name: "APP", ID: key.Public()})
	d.Refusal = policy.Refuse(policy.Blocked, "")
	if c, err := Mint(d, User{Name: "n", UserKey: userKey(t)}, key, time.Now()); !errors.Is(err, ErrRefused) || c.JWT != "" {
		t.Errorf("minted %v, %v", c, err)
	}
}

func TestExpiryLaws(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		now := time.Unix(1_800_000_000, int64(rapid.IntRange(0, 999_999_999).Draw(t, "ns")))
		life := time.Duration(rapid.Int64Range(int64(policy.MinLife), int64(48*time.Hour)).Draw(t, "life"))
		d := policy.Decision{TTL: time.Duration(rapid.Int64Range(int64(life), int64(72*time.Hour)).Draw(t, "ttl")), Expires: now.Add(life)}
		end := Expiry(d, now, rapid.Float64Range(0, 0.999999).Draw(t, "random"))
		switch {
		case end.After(d.Expires):
			t.Fatalf("ends %s after the latest end", end.Sub(d.Expires))
		case end.Sub(now) < policy.MinLife-time.Second:
			t.Fatalf("lives for %s only", end.Sub(now))
		// A token that ends before the ttl must not lose more than a tenth of what it has.
		case end.Before(d.Expires.Add(-life/10-time.Second)) && end.Sub(now) > policy.MinLife:
			t.Fatalf("the jitter took %s of a life of %s", d.Expires.Sub(end), life)
		}
	})
}

func BenchmarkMint(b *testing.B) {
	key, _ := newKey(b)
	d, u, now := decision(&policy.Account{Name: "APP", ID: key.Public()}), User{Name: "corp-alice", UserKey: userKey(b)}, time.Now()
	d.Expires = now.Add(time.Hour)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Mint(d, u, key, now); err != nil {
			b.Fatal(err)
		}
	}
}
