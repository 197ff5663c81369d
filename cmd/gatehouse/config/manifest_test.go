package config

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/gatehouse-nats/gatehouse/account"
	"github.com/gatehouse-nats/gatehouse/policy"
)

func writeManifests(t testing.TB, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

const ordersManifest = `accounts:
  - name: orders
    plan: free
    owner: { issuer: demo, subject: alice }
    exports:
      - { name: feed, subject: "orders.*.>", type: stream }
`

func TestReadManifests(t *testing.T) {
	t.Parallel()
	shop := `accounts:
  - name: shop
    plan: free
    owner: { issuer: demo, subject: bob }
    imports:
      - { name: feed, from: orders, subject: "SUBJECT", local: "in.$1.>", type: stream }
`
	good := writeManifests(t, map[string]string{"a.yaml": strings.Replace(shop, "SUBJECT", "orders.*.>", 1), "b.yml": ordersManifest, "notes.txt": "not one"})
	if all, _, err := ReadManifests(good); err != nil || len(all) != 2 {
		t.Errorf("got %+v, %v", all, err)
	}
	for name, c := range map[string]struct{ file, want string }{
		"not exported": {strings.Replace(shop, "SUBJECT", "prices.*.>", 1), "bad.yaml:6:46 accounts[0].imports[0].subject: account orders exports no stream"},
		"no plan":      {strings.Replace(ordersManifest, "plan: free", "description: x", 1), "bad.yaml:2:5 accounts[0].plan: is missing"},
		"no such key":  {ordersManifest + "    color: red\n", "accounts[0].color: there is no such key"},
		"a bad name":   {strings.Replace(ordersManifest, "name: orders", "name: a/b", 1), "bad.yaml:2:11 accounts[0].name: not a name"},
		"a name twice": {ordersManifest, "is that of another account, at"},
		"a bad export": {strings.Replace(strings.Replace(ordersManifest, "orders\n", "other\n", 1), "orders.*.>", "$SYS.>", 1), "accounts[0].exports[0].subject: subject $SYS.> begins with $SYS"},
		"who is it":    {strings.Replace(ordersManifest, "exports:\n", "members: [{ role: app, issuer: demo }]\n    exports:\n", 1), "accounts[0].members[0]: says who by"},
		"no limit":     {strings.Replace(ordersManifest, "exports:\n", "limits: {}\n    exports:\n", 1), "accounts[0].limits"},
		"wrong limits": {strings.Replace(ordersManifest, "exports:\n", "limits: { jetstream: { disk: 0 , streams: 4 } }\n    exports:\n", 1), "accounts[0].limits: "},
	} {
		_, _, err := ReadManifests(writeManifests(t, map[string]string{"b.yaml": ordersManifest, "bad.yaml": c.file}))
		if !errors.Is(err, ErrInvalid) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %s", name, err, c.want)
		}
	}
	if _, _, err := ReadManifests(filepath.Join(good, "nothing.yaml")); !errors.Is(err, ErrInvalid) {
		t.Errorf("a file that is not there: %v", err)
	}
	if _, _, err := ReadManifests(t.TempDir()); !errors.Is(err, ErrInvalid) {
		t.Errorf("an empty folder: %v", err)
	}
}

// What is written of an account reads as the same: to apply what was got changes nothing.
func TestManifestsComeBack(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	rapid.Check(t, func(t *rapid.T) {
		word := rapid.StringMatching(`[a-z][a-z0-9]{0,6}`)
		text := rapid.OneOf(word, rapid.SampledFrom([]string{"123", "true", "null", "~", "1e3", "0x1F", "a: b", "- x", "#no", "{a}", "[b]", "'", `"`, `\n`, "é", "a #b", "!tag", "&a", "*a", "yes", "2030-01-01", "|", ">", "%", "@x", "a\\b", "?", ":"}))
		quota := rapid.Custom(func(t *rapid.T) *int64 {
			n := rapid.OneOf(rapid.Just[int64](account.NoLimit), rapid.Int64Range(0, 1<<40)).Draw(t, "n")
			return &n
		})
		m := account.Manifest{
			Name: "a" + word.Draw(t, "name"), Plan: text.Draw(t, "plan"), Owner: account.ManifestPerson{Issuer: text.Draw(t, "issuer"), Subject: text.Draw(t, "owner")},
			Description: rapid.OneOf(rapid.Just(""), text).Draw(t, "description"), Tags: rapid.SliceOfNDistinct(word, 0, 3, rapid.ID[string]).Draw(t, "tags"),
		}
		if rapid.Bool().Draw(t, "limited") {
			m.Limits = &account.LimitsPatch{Connections: quota.Draw(t, "connections"), Payload: quota.Draw(t, "payload")}
			js := account.JetStream{Memory: *quota.Draw(t, "memory"), Disk: 1 + *quota.Draw(t, "disk")*2, Streams: *quota.Draw(t, "streams"), Consumers: account.NoLimit}
			js.Disk = max(js.Disk, 1)
			switch rapid.IntRange(0, 2).Draw(t, "storage") {
			case 1:
				m.Limits.JetStream = &js
			case 2:
				m.Limits.Tiers = map[string]account.JetStream{"R1": js, "R3": js}
			}
		}
		for range rapid.IntRange(0, 2).Draw(t, "members") {
			who := account.ManifestMember{Role: text.Draw(t, "role"), ManifestPerson: account.ManifestPerson{Issuer: text.Draw(t, "of"), Subject: text.Draw(t, "sub")}}
			if rapid.Bool().Draw(t, "by claims") {
				match, err := policy.FormatMatch(map[string][]any{"groups": {"a" + word.Draw(t, "group"), true}, "deep.claim": {text.Draw(t, "value")}})
				if err != nil {
					t.Fatal(err)
				}
				if _, err := policy.ParseMatch(match); err != nil {
					continue
				}
				who.Subject, who.Match = "", match
			}
			m.Members = append(m.Members, who)
		}
		if rapid.Bool().Draw(t, "trades") {
			m.Exports = []account.Export{
				{Name: text.Draw(t, "export"), Subject: word.Draw(t, "subject") + ".*.>", Type: account.StreamType, Description: rapid.OneOf(rapid.Just(""), text).Draw(t, "what")},
				{Name: "ask." + word.Draw(t, "service"), Subject: "ask.*", Type: account.ServiceType, Private: rapid.Bool().Draw(t, "private"), Response: "Stream"},
			}
			m.Imports = []account.Import{{Name: text.Draw(t, "import"), Account: "z" + word.Draw(t, "from"), Subject: "x.*.>", Local: "in.$1.>", Type: account.StreamType}, {Name: "ask." + word.Draw(t, "call"), Account: "zz", Subject: "y", Type: account.ServiceType, Share: true}}
		}
		data, err := WriteManifest(m)
		if err != nil {
			t.Fatal(err)
		}
		file := filepath.Join(dir, "a.yaml")
		if err := os.WriteFile(file, data, 0o600); err != nil {
			t.Fatal(err)
		}
		all, _, err := ReadManifests(file)
		if err != nil {
			t.Fatalf("%v\n%s", err, data)
		}
		if changes := m.Changes(&all[0]); len(all) != 1 || len(changes) > 0 {
			t.Fatalf("%v\n%s", changes, data)
		}
		if diff := cmp.Diff(m.Limits, all[0].Limits); diff != "" {
			t.Fatalf("%s\n%s", diff, data)
		}
	})
}
