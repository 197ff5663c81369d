package config

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/gatehouse-nats/gatehouse/policy/cases"
)

// FuzzLoad holds that no file makes Load panic, and that every problem names its place.
func FuzzLoad(f *testing.F) {
	fix := newFixture(f)
	f.Add(fix.names.Replace(small))
	f.Add("a: [{b: &c 1}]\n")
	f.Add("roles: {a: {publish: {allow: [\"{{claim.x}}\"]}}}\nbindings:\n- {name: ~, match: {a: [1e9, .nan]}}\n")
	f.Add("nats: |\n  x\n")
	f.Fuzz(func(t *testing.T, content string) {
		path := filepath.Join(fix.dir, "fuzz.yaml")
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		c, err := Load(path, nil)
		if err == nil {
			if c.Rules() == nil || c.Keyring() == nil {
				t.Error("a valid configuration is not whole")
			}
			return
		}
		wellPlaced(t, err)
	})
}

// FuzzReadCases holds the same of files of cases, and that each case decides without a panic.
func FuzzReadCases(f *testing.F) {
	fix := newFixture(f)
	cfg := fix.mustLoad(small)
	for _, seed := range []string{
		"cases:\n- {name: a, claims: {sub: x, groups: [dev]}, expect: {allow: {publish: {can: [app.x], cannot: [\">\"]}}}}\n",
		"cases:\n- {name: a, claims: {sub: x, n: 1e9}, from: {source: \"::1\", connection_type: mqtt}, expect: {refuse: no_binding}}\n",
		"cases:\n- name: |\n   x\n  claims: {sub: [1]}\n",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, content string) {
		path := filepath.Join(fix.dir, "cases.yaml")
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		list, err := ReadCases(path, cfg)
		if err != nil {
			wellPlaced(t, err)
			return
		}
		for _, c := range list {
			if result := cases.Run(cfg.Rules(), c, time.Unix(1_800_000_000, 0)); result.Case.Name == "" {
				t.Error("a case without a name was read")
			}
		}
	})
}

// wellPlaced checks that an error names a place and a message for every problem.
func wellPlaced(t *testing.T, err error) {
	t.Helper()
	all, ok := errors.AsType[Errors](err)
	if !ok || len(all) == 0 {
		t.Fatalf("error is %T", err)
	}
	for _, p := range all {
		if p.Message == "" || p.File == "" || p.Path != "" && (p.Line < 1 || p.Column < 1) {
			t.Errorf("problem without a place or a message: %+v", p)
		}
	}
}
