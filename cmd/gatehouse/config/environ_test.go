package config

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/nats-io/nkeys"
)

func TestEnvironment(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	newSeed, newKey := testKey(t, nkeys.PrefixByteAccount, "app new")
	curveSeed, curve := testKey(t, nkeys.PrefixByteCurve, "curve")
	// What the variables replace need not be valid in the file.
	c := f.mustLoad(`
nats:
  callout: { creds: creds/none.creds }
  system: { creds: creds/system.creds }
log: { level: nonsense }
issuers:
  - { name: corp, url: x, audiences: [other, another] }
accounts:
  my-app: { id: $APP, signing_key: keys/none.nk }
`,
		"PATH=/bin", "HOME",
		"GATEHOUSE_CONFIG=x", "GATEHOUSE_TOKEN=x", "GATEHOUSE_TEST_POSTGRES=x", "GATEHOUSE_PROVE=1",
		"GATEHOUSE_SERVICE_HOST=10.0.0.1", "GATEHOUSE_PORT_8420_TCP_ADDR=10.0.0.1", "GATEHOUSE_HTTP_SERVICE_PORT_WEB=80",
		"GATEHOUSE_NATS_URL=tls://nats.example.com:4222",
		"GATEHOUSE_NATS_CALLOUT_CREDS="+testCreds(t, "callout"),
		"GATEHOUSE_NATS_CALLOUT_SIGNING_KEY=file:keys/callout.nk",
		"GATEHOUSE_NATS_CALLOUT_XKEY="+curveSeed,
		"GATEHOUSE_NATS_CALLOUT_CONNECTIONS=8",
		"GATEHOUSE_METRICS_PPROF=true",
		"GATEHOUSE_MAX_STALENESS=30s",
		"GATEHOUSE_LOG_LEVEL=debug",
		"GATEHOUSE_ISSUERS_CORP_URL=https://login.example.com",
		"GATEHOUSE_ISSUERS_CORP_AUDIENCES=nats",
		"GATEHOUSE_ACCOUNTS_MY_APP_SIGNING_KEY="+newSeed+"\n",
	)
	for what, ok := range map[string]bool{
		"nats.url":      c.NATS.URL == "tls://nats.example.com:4222",
		"creds":         c.CalloutAccount() == c.NATS.Callout.SigningKey.Public(),
		"xkey":          c.NATS.Callout.XKey.Public() == curve && string(c.NATS.Callout.XKey.Seed()) == curveSeed,
		"connections":   c.NATS.Callout.Connections == 8,
		"pprof":         c.Metrics.Pprof,
		"max_staleness": c.MaxStaleness.String() == "30s",
		"log.level":     c.Log.Level == "debug",
		"issuer url":    c.TokenIssuers()[0].URL == "https://login.example.com",
		"audiences":     len(c.Issuers[0].Audiences) == 1 && c.Issuers[0].Audiences[0] == "nats",
		"signing key":   c.Keyring().Key(newKey) != nil && c.Rules().Accounts["my-app"].SigningKeys[0] == newKey,
	} {
		if !ok {
			t.Errorf("%s was not taken from its variable: %+v", what, c.File)
		}
	}
}

func TestEnvironmentRefused(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ variable, want string }{
		{"GATEHOUSE_NATS_ULR=x", "$GATEHOUSE_NATS_ULR: there is no such setting: did you mean GATEHOUSE_NATS_URL?"},
		{"GATEHOUSE_COLOUR=x", "$GATEHOUSE_COLOUR: there is no such setting: unset it; docs/configuration.md lists the variables"},
		{"GATEHOUSE_ISSUERS_OTHER_URL=x", "$GATEHOUSE_ISSUERS_OTHER_URL: there is no such setting: unset it; docs/configuration.md lists the variables"},
		{"GATEHOUSE_LOG_LEVEL=", "$GATEHOUSE_LOG_LEVEL log.level: is empty: give a value, or leave it out"},
		{"GATEHOUSE_LOG_LEVEL=loud", `$GATEHOUSE_LOG_LEVEL log.level: "loud" is not one of them: use debug, error, info or warn`},
		{"GATEHOUSE_METRICS_PPROF=1", `$GATEHOUSE_METRICS_PPROF metrics.pprof: "1" is not a truth value: write true or false`},
		{"GATEHOUSE_LEEWAY=10", "$GATEHOUSE_LEEWAY leeway: 10 has no unit: write 10s for seconds, or m, h, d"},
		{"GATEHOUSE_NATS_CALLOUT_SIGNING_KEY=$USERSEED", "$GATEHOUSE_NATS_CALLOUT_SIGNING_KEY nats.callout.signing_key: the variable holds the seed of a user key: want an account seed (SA…); nk -gen account makes one"},
		{"GATEHOUSE_ISSUERS_CORP_NAME=Corp", `$GATEHOUSE_ISSUERS_CORP_NAME issuers[0].name: "Corp" is not a name for an issuer: use 1 to 16 of a-z and 0-9` + "\n" +
			`gatehouse.yaml:13:33 bindings[0].issuer: there is no issuer "corp": did you mean Corp?`},
	} {
		f := newFixture(t)
		_, err := f.load(small, test.variable)
		if err == nil || f.relative(err.Error()) != test.want {
			t.Errorf("%s: error\n%v\nwant\n%s", test.variable, err, test.want)
		}
	}
}

func TestAmbiguousVariable(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	_, err := f.load(connected+`
accounts:
  a-b: { id: $APP, signing_key: keys/app.nk }
  a_b: { id: $OTHER, signing_key: keys/app.nk }
`, "GATEHOUSE_ACCOUNTS_A_B_ID=$APP")
	want := "$GATEHOUSE_ACCOUNTS_A_B_ID accounts.a_b.id: the variable could also mean accounts.a-b.id: set it in the file"
	if err == nil || f.relative(err.Error()) != want {
		t.Errorf("error\n%v\nwant\n%s", err, want)
	}
}

func TestPathsStartAtTheFile(t *testing.T) {
	f := newFixture(t)
	f.yaml(small)
	parent, base := filepath.Split(f.dir)
	t.Chdir(parent)
	c, err := Load(filepath.Join(base, "gatehouse.yaml"), []string{"GATEHOUSE_SOCKET=run/x.sock"})
	if err != nil {
		t.Fatal(err)
	}
	cwd, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	if want := filepath.Join(cwd, base, "run/x.sock"); string(c.Socket) != want || c.Path() != filepath.Join(cwd, base, "gatehouse.yaml") {
		t.Errorf("socket %s of %s, want %s", c.Socket, c.Path(), want)
	}
}
