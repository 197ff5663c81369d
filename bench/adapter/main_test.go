package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/gatehouse-nats/gatehouse/bench/rig"
)

func TestWriteKeepsSeedsInPrivateFiles(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		xkey string
		want map[string]string // file → seed in it
	}{
		"sealed callouts": {xkey: "SX", want: map[string]string{"callout.nk": "SACALLOUT", "app.nk": "SAAPP", "callout.xk": "SX"}},
		"plain callouts":  {want: map[string]string{"callout.nk": "SACALLOUT", "app.nk": "SAAPP"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			env, err := json.Marshal(rig.Env{
				NatsURL: "nats://127.0.0.1:4222", Issuer: "http://127.0.0.1:5556", Audience: "nats", MetricsListen: "127.0.0.1:9090",
				AppAccount: "AAPP", AuthSKSeed: "SACALLOUT", AppSKSeed: "SAAPP", XKeySeed: test.xkey,
			})
			if err != nil {
				t.Fatal(err)
			}
			envPath := filepath.Join(dir, "env.json")
			if err := os.WriteFile(envPath, env, 0o600); err != nil {
				t.Fatal(err)
			}
			path, err := write(envPath)
			if err != nil {
				t.Fatal(err)
			}
			config, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			for file, seed := range test.want {
				b, err := os.ReadFile(filepath.Join(dir, file))
				if err != nil {
					t.Fatal(err)
				}
				if got := strings.TrimSpace(string(b)); got != seed {
					t.Errorf("%s holds %q, want %q", file, got, seed)
				}
				if info, err := os.Stat(filepath.Join(dir, file)); err != nil || info.Mode().Perm() != 0o600 {
					t.Errorf("%s: mode %v, error %v, want 0600", file, info.Mode(), err)
				}
				if !strings.Contains(string(config), "file:"+file) {
					t.Errorf("the configuration does not name %s:\n%s", file, config)
				}
				if strings.Contains(string(config), seed+"\n") {
					t.Errorf("the configuration holds the seed %q:\n%s", seed, config)
				}
			}
			if _, ok := test.want["callout.xk"]; ok != strings.Contains(string(config), "xkey:") {
				t.Errorf("xkey in the configuration: want %t:\n%s", ok, config)
			}
		})
	}
}
