package config

import (
	"strings"
	"testing"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nkeys"
)

// sentinelCreds returns creds of a user in an account of the fixture.
func sentinelCreds(t testing.TB, account string, change func(*jwt.UserClaims)) string {
	t.Helper()
	accountSeed, _ := testKey(t, nkeys.PrefixByteAccount, account)
	seed, user := testKey(t, nkeys.PrefixByteUser, "sentinel")
	signer, err := nkeys.FromSeed([]byte(accountSeed))
	if err != nil {
		t.Fatal(err)
	}
	claims := jwt.NewUserClaims(user)
	claims.BearerToken = true
	claims.Pub.Deny.Add(">")
	claims.Sub.Deny.Add(">")
	change(claims)
	token, err := claims.Encode(signer)
	if err != nil {
		t.Fatal(err)
	}
	creds, err := jwt.FormatUserConfig(token, []byte(seed))
	if err != nil {
		t.Fatal(err)
	}
	return string(creds)
}

// Whoever asks gets the sentinel, so that nobody else's creds may be taken for it.
func TestPublicSentinel(t *testing.T) {
	t.Parallel()
	none := func(*jwt.UserClaims) {}
	for name, test := range map[string]struct{ creds, want string }{
		"the sentinel":      {sentinelCreds(t, "callout", none), ""},
		"no bearer":         {sentinelCreds(t, "callout", func(c *jwt.UserClaims) { c.BearerToken = false }), "is no bearer"},
		"one that hears":    {sentinelCreds(t, "callout", func(c *jwt.UserClaims) { c.Sub.Deny = nil }), "may do something"},
		"one that speaks":   {sentinelCreds(t, "callout", func(c *jwt.UserClaims) { c.Pub.Deny = jwt.StringList{"app.>"} }), "may do something"},
		"another account's": {sentinelCreds(t, "app", none), "not the callout account"},
		"the service's own": {testCreds(t, "callout"), "may do something"},
		"the system user's": {testCreds(t, "system"), "not the callout account"},
		"no creds":          {"hello", "is not a creds file"},
	} {
		f := newFixture(t)
		f.write("creds/sentinel.creds", test.creds)
		c, err := f.load(small + "public: { nats: [tls://nats.example.com], sentinel: creds/sentinel.creds }\n")
		switch {
		case test.want == "" && (err != nil || c.Public.Sentinel.Content() != test.creds):
			t.Errorf("%s: %v", name, err)
		case test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)):
			t.Errorf("%s: %v, want %q", name, err, test.want)
		}
	}
	f := newFixture(t)
	_, err := f.load(small + "public: { nats: [wss://n.example.com, nats://u:secret@n.example.com, n.example.com], websocket: [tls://n.example.com] }\n")
	if err == nil || strings.Count(err.Error(), "not the URL of one server") != 4 || strings.Contains(err.Error(), "secret") {
		t.Errorf("%v", err)
	}
}
