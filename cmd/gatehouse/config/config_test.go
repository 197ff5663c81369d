package config

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nkeys"
	"go.uber.org/goleak"

	"github.com/gatehouse-nats/gatehouse/policy"
	"github.com/gatehouse-nats/gatehouse/policy/oidc"
)

var update = flag.Bool("update", false, "write the golden files anew")

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// TestRefused holds the text of every error against testdata/refused/*.txt.
func TestRefused(t *testing.T) {
	t.Parallel()
	inputs, err := filepath.Glob("testdata/refused/*.yaml")
	if err != nil || len(inputs) == 0 {
		t.Fatalf("no inputs: %v", err)
	}
	for _, input := range inputs {
		t.Run(strings.TrimSuffix(filepath.Base(input), ".yaml"), func(t *testing.T) {
			t.Parallel()
			f := newFixture(t)
			content, err := os.ReadFile(input)
			if err != nil {
				t.Fatal(err)
			}
			c, err := f.load(string(content))
			if c != nil || !errors.Is(err, ErrInvalid) {
				t.Fatalf("Load returned %v, %v: want no configuration and ErrInvalid", c, err)
			}
			got := f.relative(err.Error()) + "\n"
			if secret.MatchString(got) || strings.Contains(got, "secret@") {
				t.Errorf("the error holds a secret:\n%s", got)
			}
			golden := strings.TrimSuffix(input, ".yaml") + ".txt"
			if *update {
				if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), got); diff != "" {
				t.Errorf("error text (-want +got):\n%s", diff)
			}
		})
	}
}

func TestExampleLoads(t *testing.T) {
	t.Parallel()
	content, err := os.ReadFile("../../../docs/gatehouse.example.yaml")
	if err != nil {
		t.Fatal(err)
	}
	f := newFixture(t)
	c := f.mustLoad(string(content))
	if len(c.Warnings) > 0 {
		t.Errorf("the example has warnings: %v", c.Warnings)
	}
	// The example is complete: it names every key but those of the environment's own.
	for _, field := range Fields() {
		if !strings.Contains(string(content), "\n"+field.Key+":") {
			t.Errorf("the example lacks %s", field.Key)
		}
	}
	app := c.Rules().Accounts["APP"]
	if len(app.SigningKeys) != 2 || c.Keyring().Key(app.SigningKeys[0]) == nil || c.Keyring().Key(app.SigningKeys[1]) == nil {
		t.Errorf("signing keys %v are not all in the keyring", app.SigningKeys)
	}
}

func TestDefaults(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	c := f.mustLoad(small)
	got := map[string]string{}
	for path, v := range map[string]any{
		"nats.url": c.NATS.URL, "nats.callout.connections": c.NATS.Callout.Connections, "store": c.Store,
		"max_staleness": c.MaxStaleness, "max_token_size": c.MaxTokenSize, "leeway": c.Leeway,
		"http.listen": c.HTTP.Listen, "metrics.listen": c.Metrics.Listen, "metrics.pprof": c.Metrics.Pprof,
		"socket": c.Socket, "audit.spool": c.Audit.Spool, "audit.directory": c.Audit.Directory,
		"audit.retention": c.Audit.Retention, "log.level": c.Log.Level, "log.format": c.Log.Format,
		"bindings[0].ttl": c.Bindings[0].TTL, "nats.callout.mode": c.NATS.Callout.Mode,
	} {
		got[path] = f.relative(fmt.Sprint(v))
	}
	want := map[string]string{
		"nats.url": "nats://127.0.0.1:4222", "nats.callout.connections": "16", "store": "sqlite:gatehouse.db",
		"max_staleness": "5m", "max_token_size": "16KiB", "leeway": "10s",
		"http.listen": "127.0.0.1:8420", "metrics.listen": "127.0.0.1:8421", "metrics.pprof": "false",
		"socket": "gatehouse.sock", "audit.spool": "1GiB", "audit.directory": "gatehouse.spool",
		"audit.retention": "90d", "log.level": "info", "log.format": "text",
		"bindings[0].ttl": "1h", "nats.callout.mode": "operator",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("defaults (-want +got):\n%s", diff)
	}
	if c.Store.Source() != filepath.Join(f.dir, "gatehouse.db") || c.Store.Driver() != SQLite {
		t.Errorf("store is %s %s", c.Store.Driver(), c.Store.Source())
	}
	_, callout := testKey(t, nkeys.PrefixByteAccount, "callout")
	_, system := testKey(t, nkeys.PrefixByteAccount, "system")
	if c.CalloutAccount() != callout || c.SystemAccount() != system {
		t.Errorf("accounts are %s and %s, want %s and %s", c.CalloutAccount(), c.SystemAccount(), callout, system)
	}
	if c.NATS.Callout.SigningKey.Key().Public() != callout || c.NATS.Callout.XKey.Given() {
		t.Errorf("callout signs with %s, xkey %s", c.NATS.Callout.SigningKey, c.NATS.Callout.XKey)
	}
}

func TestRules(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	c := f.mustLoad(connected + `
issuers:
  - { name: corp, url: "https://login.example.com/", audiences: nats, algorithms: ES256, max_age: 1d12h, display: [email, realm.name] }
accounts:
  APP: { id: $APP, signing_key: [keys/app-new.nk, keys/app.nk] }
  "My Account": { id: $OTHER, signing_key: keys/app.nk }
roles:
  app:
    publish: { allow: ["app.{{claim.team}}.>"], deny: app.x }
    subscribe: { allow: ["jobs.> workers"] }
bindings:
  - name: developers
    issuer: corp
    match: { groups: [dev, "team-*", 7, true], email_verified: true, "https://ex.com/roles": admin, realm.tier: 1.50 }
    source: [10.0.0.0/8, "2001:db8::1"]
    connection_types: [standard, leafnode]
    grant: { account: "My Account", role: app }
    ttl: 90s
leeway: 1s
`)
	rules := c.Rules()
	if rules.Leeway != time.Second || len(rules.Version) != 12 {
		t.Errorf("leeway %s, version %q", rules.Leeway, rules.Version)
	}
	if got := rules.Display["corp"]; len(got) != 2 || got[1].String() != "realm.name" {
		t.Errorf("display claims %v", got)
	}
	b := rules.Bindings["corp"][0]
	if b.TTL != 90*time.Second || b.Grant.Account != rules.Accounts["My Account"] || b.Grant.Role.Name != "app" {
		t.Errorf("binding %+v", b)
	}
	if diff := cmp.Diff([]string{"10.0.0.0/8", "2001:db8::1/128"}, []string{b.Source[0].String(), b.Source[1].String()}); diff != "" {
		t.Errorf("source (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]policy.ConnectionType{policy.Standard, policy.LeafNode}, b.ConnectionTypes); diff != "" {
		t.Errorf("connection types (-want +got):\n%s", diff)
	}
	if got := b.Grant.Role.Subscribe.Allow[0].String(); got != "jobs.> workers" {
		t.Errorf("subscription %q", got)
	}
	matches := func(claims map[string]any) bool {
		return !slices.ContainsFunc(b.Match, func(c policy.Condition) bool { return !c.Match(claims) })
	}
	claims := func(groups any) map[string]any {
		return map[string]any{
			"groups": groups, "email_verified": true, "https://ex.com/roles": []any{"admin"},
			"realm": map[string]any{"tier": json.Number("1.5")},
		}
	}
	for _, test := range []struct {
		groups any
		want   bool
	}{
		{"dev", true}, {[]any{"x", "team-a"}, true}, {json.Number("7"), true}, {true, true},
		{"7", false}, {"true", false}, {"ops", false}, {json.Number("8"), false}, {false, false},
	} {
		if got := matches(claims(test.groups)); got != test.want {
			t.Errorf("groups %#v: match is %v, want %v", test.groups, got, test.want)
		}
	}
	if got := c.TokenIssuers()[0]; got.URL != "https://login.example.com/" || got.MaxAge != 36*time.Hour || got.Client != nil || got.Algorithms[0] != "ES256" || got.Rules != c.Rules().Version || got.Rules == "" {
		t.Errorf("issuer %+v", got)
	}
}

func TestLogoutOfIssuers(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	issuers := f.mustLoad(connected + `
issuers:
  - { name: none, url: "https://a.example.com", audiences: nats }
  - { name: session, url: "https://b.example.com", audiences: nats, logout: { audiences: cli } }
  - { name: identity, url: "https://c.example.com", audiences: nats, max_age: 1h, logout: { audiences: [cli, web], ends: identity } }
`).TokenIssuers()
	type kept struct {
		MaxAge time.Duration
		Logout oidc.LogoutRules
	}
	var got []kept
	for _, i := range issuers {
		got = append(got, kept{i.MaxAge, i.Logout})
	}
	// Without an age that bounds tokens, a logout could never be forgotten.
	want := []kept{
		{},
		{30 * 24 * time.Hour, oidc.LogoutRules{Audiences: []string{"cli"}}},
		{time.Hour, oidc.LogoutRules{Audiences: []string{"cli", "web"}, EndIdentity: true}},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestVersionFollowsTheRules(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	base := f.mustLoad(small).Rules().Version
	for name, test := range map[string]struct {
		content string
		same    bool
	}{
		"nothing":       {small, true},
		"a comment":     {small + "# x\n", true},
		"a listener":    {small + "http: { listen: 127.0.0.1:0 }\n", true},
		"the leeway":    {small + "leeway: 11s\n", false},
		"a subject":     {strings.Replace(small, "app.>", "app.*", 1), false},
		"a when":        {strings.Replace(small, "grant:", `when: claims.sub != "x", grant:`, 1), false},
		"a match":       {strings.Replace(small, "groups: dev", "groups: ops", 1), false},
		"text or truth": {strings.Replace(small, "groups: dev", "groups: true", 1), false},
		"a signing key": {strings.Replace(small, "keys/app.nk", "keys/app-new.nk", 1), false},
	} {
		if got := f.mustLoad(test.content).Rules().Version; (got == base) != test.same {
			t.Errorf("%s: version %s, before %s", name, got, base)
		}
	}
}

func TestWarnings(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	warnings := func(content string) []string {
		var all []string
		for _, p := range f.mustLoad(content).Warnings {
			all = append(all, f.relative(p.String()))
		}
		return all
	}
	if got := warnings(small); got != nil {
		t.Errorf("warnings of a good configuration: %q", got)
	}
	want := []string{
		"gatehouse.yaml:1:1 issuers: there is none, so nobody can log in: add the OIDC provider whose tokens count",
		"gatehouse.yaml:1:1 bindings: there is none, so every login is refused: add one that gives a role",
	}
	slices.Sort(want)
	if diff := cmp.Diff(want, warnings(connected)); diff != "" {
		t.Errorf("warnings (-want +got):\n%s", diff)
	}
	want = []string{
		"gatehouse.yaml:8:3 roles.none: allows nothing: add subjects to publish.allow or subscribe.allow",
		"gatehouse.yaml:8:3 roles.none: no binding gives it: add one, or remove the role",
		"gatehouse.yaml:8:30 roles.none.publish.deny[0]: denies what no role allows: correct the subject, or remove it",
		"gatehouse.yaml:9:32 roles.all.subscribe.allow[1]: allows every subject of the account, also JetStream's API and the inboxes of others: name the subjects that are needed",
		"gatehouse.yaml:13:5 bindings[0]: every identity of issuer corp gets it: narrow it down with match unless that is meant",
		"gatehouse.yaml:16:5 bindings[1]: changes nothing: whoever it applies to gets all of it from everyone, for no longer; remove it",
		"gatehouse.yaml:20:19 bindings[1].require_key: gatehouse login gets tokens of issuer corp that are not bound to a key, so it gives them nothing: set login.bind_key of the issuer",
		"gatehouse.yaml:16:11 http.listen: tokens would cross the network in the clear: give http.tls, or listen on loopback, with a proxy that speaks TLS in front",
	}
	got := warnings(connected + `
issuers:
  - { name: corp, url: "https://login.example.com", audiences: nats, login: { client_id: cli } }
  - { name: bound, url: "https://bound.example.com", audiences: nats, login: { client_id: cli, bind_key: true } }
roles:
  none: { publish: { deny: [x] } }
  all: { subscribe: { allow: [a, ">"] } }
accounts:
  APP: { id: $APP, signing_key: keys/app.nk }
bindings:
  - name: everyone
    issuer: corp
    grant: { account: APP, role: all }
  - { name: holders, issuer: corp, match: { azp: x }, require_key: true, grant: { account: APP, role: all } }
  - { name: others, issuer: bound, match: { azp: x }, require_key: true, grant: { account: APP, role: all } }
http: { listen: ":8420" }
`)
	for i := range want {
		// connected begins with an empty line and has four more.
		_, rest, _ := strings.Cut(want[i], " ")
		want[i] = rest
	}
	for i := range got {
		_, got[i], _ = strings.Cut(got[i], " ")
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("warnings (-want +got):\n%s", diff)
	}
}

func TestNoSecretIsPrinted(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	calloutSeed, _ := testKey(t, nkeys.PrefixByteAccount, "callout")
	c := f.mustLoad(strings.Replace(small, "keys/callout.nk", "keys/callout.nk, xkey: keys/callout.xk", 1),
		"GATEHOUSE_NATS_CALLOUT_SIGNING_KEY="+calloutSeed,
		"GATEHOUSE_STORE=postgres://gatehouse:swordfish@db/gatehouse?sslpassword=swordfish",
		"GATEHOUSE_NATS_SYSTEM_CREDS="+testCreds(t, "system"))
	if !strings.Contains(c.Store.Source(), "swordfish") {
		t.Fatal("the store lost its password")
	}
	var logged bytes.Buffer
	slog.New(slog.NewJSONHandler(&logged, nil)).Info("x", "config", c, "key", c.NATS.Callout.XKey)
	slog.New(slog.NewTextHandler(&logged, nil)).Info("x", "config", c, "key", c.NATS.Callout.XKey, "creds", c.NATS.System.Creds)
	marshalled, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	for how, text := range map[string]string{
		"%v": fmt.Sprintf("%v", c), "%+v": fmt.Sprintf("%+v", c.File), "%#v": fmt.Sprintf("%#v", c.File),
		"%v of parts": fmt.Sprint(c.NATS, *c.Accounts["APP"], c.Accounts["APP"].SigningKey, &c.NATS.Callout.SigningKey),
		"JSON":        string(marshalled), "log": logged.String(),
	} {
		if secret.MatchString(text) || strings.Contains(text, "swordfish") {
			t.Errorf("%s prints a secret: %s", how, text)
		}
	}
}

func TestKeyFilePermissions(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		mode os.FileMode
		want string
	}{
		{0o600, ""}, {0o400, ""},
		{0o640, "can be read or written by a group: run chmod 600"},
		{0o604, "can be read or written by every user of this host: run chmod 600"},
		{0o602, "can be read or written by every user of this host: run chmod 600"},
	} {
		f := newFixture(t)
		if err := os.Chmod(filepath.Join(f.dir, "keys/app.nk"), test.mode); err != nil {
			t.Fatal(err)
		}
		_, err := f.load(small)
		switch {
		case test.want == "" && err != nil:
			t.Errorf("mode %o: %v", test.mode, err)
		case test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)):
			t.Errorf("mode %o: error %v, want one with %q", test.mode, err, test.want)
		}
	}
}

func TestUnusableFiles(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	for name, test := range map[string]struct {
		path, want string
	}{
		"missing": {filepath.Join(f.dir, "none.yaml"), "none.yaml: there is no such file: gatehouse init makes one, -c names another"},
		"folder":  {f.dir, ": cannot be read: it is not a regular file"},
		"large":   {f.write("large.yaml", strings.Repeat("# x\n", maxFile/4+1)), "large.yaml: is larger than 1024 KiB: split what belongs to other tools off"},
		"binary":  {f.write("binary.yaml", "a: b\nc: \xff\n"), "binary.yaml:2:4: the file is not UTF-8 text: save it as UTF-8"},
		"deep":    {f.write("deep.yaml", strings.Repeat("[", 100000)), "deep.yaml:1:33: lists and mappings are nested too deeply"},
		"entries": {f.write("entries.yaml", strings.Repeat("- ", 100000)), "entries.yaml:1:65: lists and mappings are nested too deeply"},
	} {
		c, err := Load(test.path, nil)
		if c != nil || err == nil || !strings.HasSuffix(err.Error(), test.want) {
			t.Errorf("%s: error %v, want one that ends in %q", name, err, test.want)
		}
	}
}

func TestPositionsWithCarriageReturnsAndMark(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	_, err := f.load("\ufeff# é\r\n" + strings.ReplaceAll(connected, "\n", "\r\n") + "log: { é: x, level: é } # x\r\nstore: x\r\n")
	want := "gatehouse.yaml:6:8 log[\"é\"]: there is no such key: use format or level\n" +
		"gatehouse.yaml:6:21 log.level: \"é\" is not one of them: use debug, error, info or warn\n" +
		"gatehouse.yaml:7:8 store: not a store: write sqlite:PATH or postgres://USER@HOST/DATABASE"
	if err == nil || f.relative(err.Error()) != want {
		t.Errorf("error\n%v\nwant\n%s", err, want)
	}
}

func TestManyErrorsAreBounded(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	var b strings.Builder
	for i := range 500 {
		fmt.Fprintf(&b, "k%d: x\n", i)
	}
	_, err := f.load(b.String())
	all, ok := errors.AsType[Errors](err)
	if !ok || len(all) < 500 {
		t.Fatalf("got %d problems, want over 500", len(all))
	}
	if lines := strings.Count(err.Error(), "\n") + 1; lines != maxShown+1 {
		t.Errorf("the text has %d lines, want %d", lines, maxShown+1)
	}
}

// A service that runs must be reachable while a bad configuration lies on the disk.
func TestSocketOfAnInvalidConfiguration(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "gatehouse.yaml")
	for name, c := range map[string]struct {
		text string
		env  []string
		want string
	}{
		"no file":       {want: filepath.Join(dir, "gatehouse.sock")},
		"not YAML":      {text: "socket: [", want: filepath.Join(dir, "gatehouse.sock")},
		"unknown keys":  {text: "socket: run/gh.sock\nfoo: bar\n", want: filepath.Join(dir, "run", "gh.sock")},
		"by a variable": {text: "foo: bar\n", env: []string{"GATEHOUSE_SOCKET=/run/gh.sock"}, want: "/run/gh.sock"},
	} {
		t.Run(name, func(t *testing.T) {
			if c.text == "" {
				_ = os.Remove(path)
			} else if err := os.WriteFile(path, []byte(c.text), 0o600); err != nil {
				t.Fatal(err)
			}
			if got := Socket(path, c.env); got != c.want {
				t.Errorf("socket %s, want %s", got, c.want)
			}
		})
	}
}
