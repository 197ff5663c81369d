package config

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
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
		all, ok := errors.AsType[Errors](err)
		if !ok || len(all) == 0 {
			t.Fatalf("error is %T", err)
		}
		for _, p := range all {
			if p.Message == "" || p.File == "" || p.Path != "" && (p.Line < 1 || p.Column < 1) {
				t.Errorf("problem without a place or a message: %+v", p)
			}
		}
	})
}
