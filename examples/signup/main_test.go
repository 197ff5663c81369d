package main

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// vector is a test vector of docs/protocol.md.
type vector struct {
	Seed      string
	UserKey   string `json:"user_key"`
	Audience  string
	Account   string
	Program   string
	Token     string
	Time      int64
	Signature string
}

func vectors(t *testing.T) []vector {
	t.Helper()
	page, err := os.ReadFile("../../docs/protocol.md")
	if err != nil {
		t.Fatal(err)
	}
	var list []vector
	block := regexp.MustCompile("(?s)```json\n(.*?)```").FindSubmatch(page)
	if block == nil {
		t.Fatal("docs/protocol.md has no vectors")
	}
	if err := json.Unmarshal(block[1], &list); err != nil || len(list) < 2 {
		t.Fatalf("%d vectors, %v", len(list), err)
	}
	return list
}

// TestVectors runs each program as somebody would who reads the page, but for the call itself.
func TestVectors(t *testing.T) {
	programs := map[string]func(t *testing.T) []string{
		"Go": func(t *testing.T) []string {
			program := filepath.Join(t.TempDir(), "signup")
			if out, err := exec.Command("go", "build", "-o", program, ".").CombinedOutput(); err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			return []string{program}
		},
		"JavaScript": func(t *testing.T) []string {
			if err := exec.Command("node", "-e", "process.exit(parseInt(process.versions.node) < 18 ? 1 : 0)").Run(); err != nil {
				t.Skipf("needs node, 18 or later: %v", err)
			}
			return []string{"node", "signup.mjs"}
		},
		"Python": func(t *testing.T) []string {
			if out, err := exec.Command("python3", "-c", "import cryptography").CombinedOutput(); err != nil {
				t.Skipf("needs python3 with the package cryptography (pip install cryptography): %v\n%s", err, out)
			}
			return []string{"python3", "signup.py"}
		},
	}
	for name, prepare := range programs {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			command := prepare(t)
			for _, v := range vectors(t) {
				seed, token := filepath.Join(t.TempDir(), "seed"), filepath.Join(t.TempDir(), "token")
				for file, content := range map[string]string{seed: v.Seed, token: v.Token} {
					if err := os.WriteFile(file, []byte(content+"\n"), 0o600); err != nil {
						t.Fatal(err)
					}
				}
				cmd := exec.Command(command[0], append(command[1:], v.Audience, seed, token, v.Account, v.Program)...)
				cmd.Env = append(os.Environ(), "PROOF_TIME="+strconv.FormatInt(v.Time, 10), "PYTHONDONTWRITEBYTECODE=1")
				out, err := cmd.Output()
				if err != nil {
					t.Fatalf("%v: %v", cmd.Args, err)
				}
				var got request
				if err := json.Unmarshal(out, &got); err != nil {
					t.Fatalf("%v\n%s", err, out)
				}
				want := request{v.UserKey, v.Account, v.Program, proof{v.Audience, v.Time, v.Signature}}
				if diff := cmp.Diff(want, got); diff != "" {
					t.Errorf("(-want +got):\n%s", diff)
				}
			}
		})
	}
}
