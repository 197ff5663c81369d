package config

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nkeys"
)

// The JWTs of accounts are taken over by a running service; what the servers have is not.
func TestResolverAccounts(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	operatorSeed, _ := testKey(t, nkeys.PrefixByteOperator, "operator")
	operator, err := nkeys.FromSeed([]byte(operatorSeed))
	if err != nil {
		t.Fatal(err)
	}
	write := func(name, description string) {
		_, public := testKey(t, nkeys.PrefixByteAccount, name)
		claims := jwt.NewAccountClaims(public)
		claims.Description = description
		token, err := claims.Encode(operator)
		if err != nil {
			t.Fatal(err)
		}
		f.write("accounts/"+name+".jwt", token+"\n")
	}
	for _, name := range []string{"system", "callout", "app"} {
		write(name, "")
	}
	decorated, err := jwt.DecorateJWT(f.mustLoad(resolverYAML).NATS.Resolver.Accounts[0].Token())
	if err != nil {
		t.Fatal(err)
	}
	f.write("accounts/system.jwt", string(decorated))
	before := f.mustLoad(resolverYAML)
	for i, name := range []string{"system", "callout", "app"} {
		_, want := testKey(t, nkeys.PrefixByteAccount, name)
		if a := before.NATS.Resolver.Accounts[i]; a.Account() != want || time.Since(time.Unix(a.Issued(), 0)) > time.Hour || !strings.HasPrefix(a.Token(), "ey") {
			t.Errorf("account %d is %s, issued %d: %q", i, a.Account(), a.Issued(), a.Token())
		}
	}
	write("app", "changed")
	after := f.mustLoad(resolverYAML)
	if after.NATS.Resolver.Accounts[2].Token() == before.NATS.Resolver.Accounts[2].Token() {
		t.Error("the file was not read anew")
	}
	if paths := restarts(&before.File, &after.File); paths != nil {
		t.Errorf("a changed file needs a restart: %v", paths)
	}
	memory := f.mustLoad(strings.Replace(resolverYAML, "url", "memory", 1))
	if paths := restarts(&before.File, &memory.File); !slices.Equal(paths, []string{"nats.resolver.type"}) {
		t.Errorf("another type needs a restart for %v", paths)
	}
	if _, err := f.load(strings.Replace(resolverYAML, "accounts/app.jwt", "accounts/system.jwt", 1)); err == nil || !strings.Contains(err.Error(), "name one file for each account") {
		t.Errorf("the same account twice: %v", err)
	}
}

const resolverYAML = `nats:
  callout: { creds: creds/callout.creds, signing_key: keys/callout.nk }
  system: { creds: creds/system.creds }
  resolver:
    type: url
    accounts: [accounts/system.jwt, accounts/callout.jwt, accounts/app.jwt]
accounts:
  APP: { id: $APP, signing_key: keys/app.nk }
`
