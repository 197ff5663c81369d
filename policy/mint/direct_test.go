package mint

import (
	"errors"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/nats-io/jwt/v2"

	"github.com/gatehouse-nats/gatehouse/policy"
)

func direct(account *policy.Account, userKey string) policy.Decision {
	d := decision(account)
	d.Key, d.Direct = userKey, &policy.Direct{TTL: time.Hour, Keys: 1}
	d.Types = []policy.ConnectionType{policy.Standard, policy.MQTT}
	d.Source = []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("2001:db8::/32")}
	return d
}

func TestDirect(t *testing.T) {
	identity, _ := newKey(t)
	signing, _ := newKey(t)
	account := &policy.Account{Name: "APP", ID: identity.Public(), SigningKeys: []string{signing.Public()}}
	user := userKey(t)
	d := direct(account, user)
	before := time.Now().Truncate(time.Second)
	c, err := Direct(d, User{Name: "corp-nightly", UserKey: user}, signing)
	if err != nil {
		t.Fatal(err)
	}
	uc, err := jwt.DecodeUserClaims(c.JWT)
	if err != nil {
		t.Fatal(err)
	}
	if uc.Subject != user || uc.Name != "corp-nightly" || uc.Issuer != signing.Public() || uc.IssuerAccount != account.ID || uc.BearerToken {
		t.Errorf("sub %s name %s iss %s account %s bearer %v", uc.Subject, uc.Name, uc.Issuer, uc.IssuerAccount, uc.BearerToken)
	}
	// No jitter: a direct user is told exactly how long it has.
	if uc.Expires != d.Expires.Unix() || !c.Expires.Equal(d.Expires) || c.Issued.Unix() != uc.IssuedAt || c.Issued.Before(before) {
		t.Errorf("from %s to %s, want the end %s", c.Issued, c.Expires, d.Expires)
	}
	if !slices.Equal(uc.AllowedConnectionTypes, []string{"STANDARD", "MQTT", "MQTT_WS"}) || !slices.Equal(uc.Src, []string{"10.0.0.0/8", "2001:db8::/32"}) {
		t.Errorf("types %v, src %v", uc.AllowedConnectionTypes, uc.Src)
	}
	if !slices.Equal(uc.Pub.Allow, []string{"app.>"}) || !slices.Equal(uc.Pub.Deny, []string{"app.secret"}) {
		t.Errorf("permissions %+v", uc.Permissions)
	}
}

func TestDirectScoped(t *testing.T) {
	scoped, _ := newKey(t)
	plain, _ := newKey(t)
	user := userKey(t)
	d := direct(&policy.Account{Name: "APP", ID: plain.Public()}, user)
	d.ScopedKey, d.Tags, d.Permissions, d.Source = scoped.Public(), []string{"team:blue"}, policy.Permissions{}, nil
	c, err := Direct(d, User{Name: "n", UserKey: user}, scoped)
	if err != nil {
		t.Fatal(err)
	}
	if uc, err := jwt.DecodeUserClaims(c.JWT); err != nil || !uc.HasEmptyPermissions() || !slices.Equal(uc.Tags, []string{"team:blue"}) {
		t.Errorf("%+v, %v: want no permissions of its own", uc, err)
	}
	if _, err := Direct(d, User{Name: "n", UserKey: user}, plain); !errors.Is(err, ErrNotScoped) {
		t.Errorf("signed with a plain key: %v", err)
	}
}

// A credential for one kind of user must not come out of a decision on the other: one is without
// limits that servers check, the other longer than its token.
func TestKindsOfUsersAreKeptApart(t *testing.T) {
	key, _ := newKey(t)
	account := &policy.Account{Name: "APP", ID: key.Public()}
	user := User{Name: "n", UserKey: userKey(t)}
	if c, err := Direct(decision(account), user, key); !errors.Is(err, ErrDirect) || c.JWT != "" {
		t.Errorf("direct user by a decision on a login: %v", err)
	}
	if c, err := Mint(direct(account, user.UserKey), user, key, time.Now()); !errors.Is(err, ErrDirect) || c.JWT != "" {
		t.Errorf("callout user by a decision on a sign-up: %v", err)
	}
	if c, err := Direct(direct(account, userKey(t)), user, key); !errors.Is(err, ErrDirect) || c.JWT != "" {
		t.Errorf("direct user by a decision on another key: %v", err)
	}
	refused := direct(account, user.UserKey)
	refused.Refusal = policy.Refuse(policy.Blocked, "")
	if c, err := Direct(refused, user, key); !errors.Is(err, ErrRefused) || c.JWT != "" {
		t.Errorf("direct user by a refusal: %v", err)
	}
}
