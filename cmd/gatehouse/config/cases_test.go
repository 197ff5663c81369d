package config

import (
	"encoding/json"
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/gatehouse-nats/gatehouse/policy"
	"github.com/gatehouse-nats/gatehouse/policy/cases"
)

// TestCasesRefused holds the text of every error against testdata/cases/*.txt.
func TestCasesRefused(t *testing.T) {
	t.Parallel()
	inputs, err := filepath.Glob("testdata/cases/*.yaml")
	if err != nil || len(inputs) == 0 {
		t.Fatalf("no inputs: %v", err)
	}
	for _, input := range inputs {
		f := newFixture(t)
		f.write("list.json", `["sub"]`)
		content, err := os.ReadFile(input)
		if err != nil {
			t.Fatal(err)
		}
		_, err = ReadCases(f.write("cases.yaml", f.names.Replace(string(content))), f.mustLoad(small))
		if !errors.Is(err, ErrInvalid) {
			t.Fatalf("%s: got %v", input, err)
		}
		got := f.relative(err.Error()) + "\n"
		if secret.MatchString(got) {
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
			t.Errorf("%s:\n%s", input, diff)
		}
	}
	f := newFixture(t)
	if _, err := ReadCases(filepath.Join(f.dir, "missing.yaml"), f.mustLoad(small)); !errors.Is(err, ErrInvalid) || !strings.Contains(err.Error(), "there is no such file") {
		t.Errorf("a file that is not there: %v", err)
	}
	if _, err := ReadCases(f.write("large.yaml", strings.Repeat("# large\n", maxFile/8+1)), f.mustLoad(small)); !errors.Is(err, ErrInvalid) || !strings.Contains(err.Error(), "larger than") {
		t.Errorf("a file that is too large: %v", err)
	}
}

func TestReadCases(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.write("claims/alice.json", `{"sub": "alice", "level": 1.50}`)
	path := f.write("cases.yaml", `
cases:
  - name: all of it
    issuer: https://login.example.com
    claims:
      sub: bob
      realm:
        roles: [a, 1.50, true, null, ""]
        text: |
          lines
    from: { source: 10.1.2.3, connection_type: mqtt, account: APP }
    expect:
      allow: { account: APP, roles: app, bindings: [developers], ttl: 1h, publish: { can: app.x }, subscribe: { cannot: ["x.>", "y g"] } }
  - name: little of it
    claims_file: claims/alice.json
    expect: { allow: {} }
  - name: refused
    claims: { sub: carol, iss: "https://login.example.com" }
    expect: { refuse: no_binding }
`)
	got, err := ReadCases(path, f.mustLoad(small))
	if err != nil {
		t.Fatal(err)
	}
	const url = "https://login.example.com"
	want := []cases.Case{
		{
			Name: "all of it", At: path + ":3:5",
			Login: cases.Login{
				IssuerURL: url, Subject: "bob",
				Claims: map[string]any{"sub": "bob", "iss": url, "realm": map[string]any{"roles": []any{"a", json.Number("1.50"), true, nil, ""}, "text": "lines\n"}},
				Conn:   policy.Connection{Source: netip.MustParseAddr("10.1.2.3"), Type: policy.MQTT, Account: "APP", ProofGiven: true},
			},
			Expect: cases.Expect{
				Account: "APP", Roles: []string{"app"}, Bindings: []string{"developers"}, TTL: time.Hour,
				Publish: cases.Probe{Can: []string{"app.x"}}, Subscribe: cases.Probe{Cannot: []string{"x.>", "y g"}},
			},
		},
		{
			Name: "little of it", At: path + ":14:5",
			Login: cases.Login{IssuerURL: url, Subject: "alice", Claims: map[string]any{"sub": "alice", "iss": url, "level": json.Number("1.50")}, Conn: policy.Connection{Type: policy.Standard, ProofGiven: true}},
		},
		{
			Name: "refused", At: path + ":17:5",
			Login:  cases.Login{IssuerURL: url, Subject: "carol", Claims: map[string]any{"sub": "carol", "iss": url}, Conn: policy.Connection{Type: policy.Standard, ProofGiven: true}},
			Expect: cases.Expect{Refuse: policy.NoBinding},
		},
	}
	if diff := cmp.Diff(want, got, cmp.Comparer(func(a, b netip.Addr) bool { return a == b })); diff != "" {
		t.Error(diff)
	}
}

// TestLoadPolicyNeedsNoSecrets: on a machine without the files the rules come out the same, and
// what is wrong with anything else is found.
func TestLoadPolicyNeedsNoSecrets(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	with := f.mustLoad(small)
	for _, folder := range []string{"keys", "creds"} {
		if err := os.RemoveAll(filepath.Join(f.dir, folder)); err != nil {
			t.Fatal(err)
		}
	}
	without, err := LoadPolicy(f.yaml(small), nil)
	if err != nil {
		t.Fatal(err)
	}
	login := cases.Login{IssuerURL: "https://login.example.com", Subject: "alice", Claims: map[string]any{"groups": "dev"}, Conn: policy.Connection{Type: policy.Standard}}
	now := time.Unix(1_800_000_000, 0)
	a, b := login.Decide(with.Rules(), now, nil), login.Decide(without.Rules(), now, nil)
	if !a.Allowed() || !b.Allowed() || a.Account.ID != b.Account.ID || !cmp.Equal(a.Permissions, b.Permissions) {
		t.Errorf("decided %+v with secrets and %+v without", a, b)
	}
	for name, c := range map[string]struct{ from, to, want string }{
		"place of a secret": {", signing_key: keys/callout.nk", "", "nats.callout.signing_key: is missing"},
		"no file's name":    {"keys/app.nk", "file:", "accounts.APP.signing_key[0]"},
		"a role":            {"role: app }", "role: apps }", "there is no role"},
	} {
		_, err := LoadPolicy(f.yaml(strings.Replace(small, c.from, c.to, 1)), nil)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := f.load(small); err == nil {
		t.Error("Load does without the secrets")
	}
}

// TestRecordedClaims: what the audit trail keeps of a token follows from the bindings, unless nothing is to be kept.
func TestRecordedClaims(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	recorded := f.mustLoad(small).Rules().Recorded
	got, err := json.Marshal(recorded["corp"].Pick(map[string]any{"sub": "alice", "groups": []any{"dev"}, "phone": "555"}))
	if err != nil || string(got) != `{"groups":["dev"]}` {
		t.Errorf("of an issuer with bindings %s, %v", got, err)
	}
	if recorded := f.mustLoad(small + "audit: { claims: none }\n").Rules().Recorded; recorded != nil {
		t.Errorf("nothing is to be recorded, and %v is", recorded)
	}
}
