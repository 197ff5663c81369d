package main

import (
	"cmp"
	"encoding/json"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/gatehouse-nats/gatehouse/cmd/gatehouse/config"
	"github.com/gatehouse-nats/gatehouse/policy"
	"github.com/gatehouse-nats/gatehouse/store"
)

// policyFiles are what the transcripts about policies read, beside the set-up of a world.
var policyFiles = map[string]string{
	// The next policy: developers keep to their team, QA may look on, and all log in more often.
	"new.yaml": `roles:
  developer:
    publish: { allow: ["app.{{claim.team}}.>"] }
    subscribe: { allow: ["app.*", "app.*.>", "{{inbox}}.>"] }
  watcher:
    subscribe: { allow: ["app.>"] }
bindings:
  - name: developers
    issuer: demo
    match: { groups: dev, level: 3 }
    grant: { account: APP, role: developer }
    ttl: 30m
  - name: testers
    issuer: demo
    match: { groups: qa }
    grant: { account: APP, role: watcher }
`,
	"cases.yaml": `cases:
  - name: a developer works in app
    claims: { sub: alice, groups: [dev], team: red, level: 3 }
    from: { source: 10.1.2.3, connection_type: websocket }
    expect:
      allow:
        account: APP
        roles: [developer]
        bindings: [developers]
        ttl: 1h
        publish: { can: [app.red.x], cannot: [other.x] }
        subscribe: { can: ["app.>", "app.x workers"], cannot: [">"] }
  - name: contractors stay out
    claims_file: carol.json
    expect: { refuse: no_binding }
  - name: nobody comes as a leaf node
    claims: { sub: alice, groups: [dev], level: 3, team: blue }
    from: { connection_type: leafnode }
    expect: { refuse: connection_type_refused }
  - name: testers stay out
    claims: { sub: dave, groups: [qa] }
    expect: { refuse: no_binding }
`,
	"failing.yaml": `cases:
  - name: contractors get in
    claims_file: carol.json
    expect: { allow: { account: APP } }
  - name: a developer is locked in
    claims: { sub: alice, groups: [dev], team: red }
    expect: { allow: { ttl: 5m, publish: { can: [jobs.x], cannot: [app.blue.x] }, subscribe: { cannot: ["app.*.> workers"] } } }
  - name: developers are refused
    claims: { sub: alice, groups: [dev] }
    expect: { refuse: no_binding }
  - name: the wrong reason
    claims: { sub: carol, groups: [] }
    expect: { refuse: source_refused }
  - name: one that passes
    claims: { sub: bob, groups: [dev] }
    expect: { allow: }
`,
	"broken.yaml": `cases:
  - name: an unknown binding
    claims: { sub: alice }
    expect: { allow: { bindings: [developer] } }
  - name: an unknown key
    claim: { sub: alice }
    expect: { refuse: no_biding }
`,
}

// newPolicyTranscript is a transcript beside the policy files.
func newPolicyTranscript(t *testing.T) *transcript {
	s := newTranscript(t)
	for name, content := range policyFiles {
		if name == "new.yaml" {
			old, err := os.ReadFile(s.config())
			if err != nil {
				t.Fatal(err)
			}
			head, _, found := strings.Cut(string(old), "roles:\n")
			if !found {
				t.Fatal("the configuration has no roles")
			}
			content = head + content
		}
		if err := os.WriteFile(filepath.Join(s.dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return s
}

// TestPolicyCommands: policies are tested and compared on a machine that has no key.
func TestPolicyCommands(t *testing.T) {
	t.Parallel()
	s := newPolicyTranscript(t)
	for _, folder := range []string{"keys", "creds"} {
		if err := os.RemoveAll(filepath.Join(s.dir, folder)); err != nil {
			t.Fatal(err)
		}
	}
	s.session(
		`policy test DIR/cases.yaml`,
		`policy test DIR/cases.yaml DIR/failing.yaml`,
		`policy test -c DIR/new.yaml DIR/cases.yaml`,
		`policy diff DIR/gatehouse.yaml DIR/gatehouse.yaml --cases DIR/cases.yaml`,
		`policy diff DIR/gatehouse.yaml DIR/new.yaml --cases DIR/cases.yaml --cases DIR/failing.yaml`,
		`policy diff DIR/new.yaml DIR/gatehouse.yaml --cases DIR/cases.yaml`,
		`policy test`,
		`policy test DIR/broken.yaml DIR/missing.yaml`,
		`policy test -c DIR/broken.yaml DIR/cases.yaml`,
		`policy diff DIR/gatehouse.yaml`,
		`policy diff DIR/gatehouse.yaml DIR/new.yaml`,
		`policy diff DIR/gatehouse.yaml DIR/new.yaml --cases DIR/cases.yaml --recorded`,
		`policy diff DIR/gatehouse.yaml DIR/missing.yaml --cases DIR/cases.yaml`,
		`policy diff DIR/gatehouse.yaml DIR/new.yaml --recorded --since yesterday`,
	)
	s.compare("policy.txt")

	var out tested
	got := s.command("policy", "test", "--json", filepath.Join(s.dir, "failing.yaml"))
	if err := json.Unmarshal([]byte(got.out), &out); err != nil || got.code != exitFailed {
		t.Fatalf("%d, %v: %s", got.code, err, got.out)
	}
	if out.Passed != 1 || out.Failed != 4 || len(out.Cases) != 5 || out.Cases[0].Verdicts[0].Binding != "developers" || len(out.Cases[1].Failures) != 4 {
		t.Errorf("for programs: %s", got.out)
	}
	var changes diffed
	got = s.command("policy", "diff", "--json", filepath.Join(s.dir, "gatehouse.yaml"), filepath.Join(s.dir, "new.yaml"), "--cases", filepath.Join(s.dir, "cases.yaml"))
	if err := json.Unmarshal([]byte(got.out), &changes); err != nil || got.code != exitFailed {
		t.Fatalf("%d, %v: %s", got.code, err, got.out)
	}
	if changes.Logins != 4 || len(changes.Changes) != 3 || changes.Changes[0].Who[0] != "testers stay out" || changes.Old == changes.New {
		t.Errorf("for programs: %s", got.out)
	}
}

// record stores logins as the callout records them, the first the oldest.
func (s *transcript) record(entries ...store.AuditEntry) {
	s.Helper()
	cfg, err := config.Load(s.config(), s.env)
	if err != nil {
		s.Fatal(err)
	}
	db, err := openStore(s.Context(), cfg, true, slog.Default())
	if err != nil {
		s.Fatal(err)
	}
	defer func() { _ = db.Close() }()
	for i := range entries {
		e := &entries[i]
		e.ID, e.Kind, e.Issuer = uuid.Must(uuid.NewV7()).String(), store.LoginEntry, s.provider.Issuer()
		e.Outcome, e.Reason = cmp.Or(e.Outcome, "allowed"), cmp.Or(e.Reason, "allowed")
		if e.At.IsZero() {
			e.At = time.Now().Add(-time.Duration(5*len(entries)-5*i) * time.Hour)
		}
		e.Name, e.ConnType, e.Rules = policy.PrincipalName(cfg.Issuers[0].Name, e.Subject), "standard", cfg.Rules().Version
	}
	if err := db.Record(s.Context(), entries); err != nil {
		s.Fatal(err)
	}
}

// TestSomebodyWhoIsNotThere: recorded logins are decided anew, with the service and without.
func TestSomebodyWhoIsNotThere(t *testing.T) {
	t.Parallel()
	s := newPolicyTranscript(t)
	claims := func(text string) json.RawMessage { return json.RawMessage(text) }
	email := func(address string) map[string]string { return map[string]string{"email": address} }
	s.record(
		store.AuditEntry{Subject: "alice", Source: "10.0.0.1", Claims: claims(`{"groups":["qa"]}`), Display: email("alice@example.com")},
		store.AuditEntry{Subject: "alice", Source: "10.0.0.2", Claims: claims(`{"groups":["dev"]}`), Display: email("alice@example.com")},
		store.AuditEntry{Subject: "dave", Source: "10.0.0.3", Claims: claims(`{"groups":["qa"]}`), Display: email("team@example.com")},
		store.AuditEntry{Subject: "erin", Source: "10.0.0.4", Claims: claims(`{"groups":["dev"]}`), Display: email("team@example.com"), Asked: "APP"},
		store.AuditEntry{Subject: "frank", Source: "10.0.0.5", ClaimsCut: true},
		store.AuditEntry{Subject: "grace", Source: "10.0.0.6"},
	)
	s.session(
		`explain --subject alice`,
		`explain --subject alice@example.com --connection-type leafnode`,
		`explain --subject team@example.com`,
		`explain --subject team@example.com --issuer nobody`,
		`explain --subject frank`,
		`explain --subject grace`,
		`explain --subject mallory`,
		`explain --subject alice --claims DIR/alice.json`,
		`policy diff DIR/gatehouse.yaml DIR/gatehouse.yaml --recorded`,
		`policy diff DIR/gatehouse.yaml DIR/new.yaml --recorded`,
		`policy diff DIR/gatehouse.yaml DIR/new.yaml --recorded --since 1h`,
		`revoke --issuer demo --subject alice --reason "laptop stolen" --logout`,
		`explain --subject alice`,
		`revoke --issuer demo --subject alice --reason "left the company"`,
		`explain --subject alice`,
	)
	s.compare("not_there.txt")

	direct := s.command("explain", "--json", "--subject", "erin")
	s.start(true)
	eventually(t, func() error {
		if got := s.command("status", "--json"); got.out == "" || strings.Contains(got.out, "never read from the store") {
			return errors.New(got.out + got.err)
		}
		return nil
	})
	live := s.command("explain", "--json", "--subject", "erin")
	for _, got := range []result{direct, live} {
		if got.code != exitDone || !strings.Contains(got.out, `"asked":"APP"`) || !strings.Contains(got.out, `"allowed":true`) {
			t.Errorf("%d: %s%s", got.code, got.out, got.err)
		}
	}
	if got := s.command("policy", "diff", s.config(), filepath.Join(s.dir, "new.yaml"), "--recorded"); got.code != exitFailed || !strings.Contains(got.out, "gains access") {
		t.Errorf("over the service's records: %d: %s%s", got.code, got.out, got.err)
	}
}

// TestRecordedLoginIsExplained: what a real login leaves in the audit trail suffices to decide anew.
func TestRecordedLoginIsExplained(t *testing.T) {
	t.Parallel()
	w := newWorld(t, worldOptions{policy: `roles:
  team: { publish: { allow: ["app.{{claim.org.team}}.>"] }, subscribe: { allow: ["{{inbox}}.>"] } }
bindings:
  - name: teams
    issuer: demo
    match: { org.level: 3, groups: "team-*" }
    grant: { account: APP, role: team }
`})
	r := w.serve(serveOptions{})
	w.login(w.token("alice", map[string]any{"groups": []string{"x", "team-red"}, "org": map[string]any{"team": "red", "level": 3, "salary": 4711}}))
	eventually(t, func() error {
		got := r.command("explain", "--subject", "alice")
		if got.code != exitDone || !strings.Contains(got.out, "app.red.>") || !strings.Contains(got.out, "by teams") {
			return errors.New(got.out + got.err)
		}
		return nil
	})
	if trail := r.must("audit", "--json"); strings.Contains(trail, "salary") || !strings.Contains(trail, `"claims":{"groups":["x","team-red"],"org":{"level":3,"team":"red"}}`) {
		t.Errorf("the trail holds %s", trail)
	}
}
