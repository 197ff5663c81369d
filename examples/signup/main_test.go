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

	"github.com/gatehouse-nats/gatehouse/api"
)

// vector is a test vector of docs/protocol.md, of a user or of an account.
type vector struct {
	Seed      string
	UserKey   string `json:"user_key"`
	Key       string
	Audience  string
	Account   string
	Program   string
	Name      string
	Plan      string
	Token     string
	Time      int64
	Statement string
	Signature string
}

// call is what a program of the vector's kind is called with, and the request that it then makes.
func (v vector) call(seed, token string) (args []string, want any) {
	made := proof{v.Audience, v.Time, v.Signature}
	if v.Key == "" {
		return []string{v.Audience, seed, token, v.Account, v.Program}, request{v.UserKey, v.Account, v.Program, made}
	}
	return []string{v.Audience, seed, token, v.Name, v.Plan}, map[string]any{"name": v.Name, "plan": v.Plan, "key": v.Key, "proof": made}
}

// statement is what the service makes of the vector's request.
func (v vector) statement() []byte {
	proof := api.SignupProof{Audience: v.Audience, Time: v.Time}
	if v.Key == "" {
		return api.SignupStatement(api.UserSignupRequest{UserKey: v.UserKey, Account: v.Account, Program: v.Program, Proof: proof}, v.Token)
	}
	return api.AccountStatement(api.AccountSignupRequest{Name: v.Name, Plan: v.Plan, Key: v.Key, Proof: &proof}, v.Token)
}

// vectors returns those of users, or those of accounts.
func vectors(t *testing.T, kind int) []vector {
	t.Helper()
	page, err := os.ReadFile("../../docs/protocol.md")
	if err != nil {
		t.Fatal(err)
	}
	var list []vector
	blocks := regexp.MustCompile("(?s)```json\n(.*?)```").FindAllSubmatch(page, -1)
	if len(blocks) != accounts+1 {
		t.Fatalf("docs/protocol.md has %d lists of vectors", len(blocks))
	}
	if err := json.Unmarshal(blocks[kind][1], &list); err != nil || len(list) < 2 {
		t.Fatalf("%d vectors, %v", len(list), err)
	}
	return list
}

// Which vectors, in the order of docs/protocol.md.
const (
	users = iota
	accounts
)

// languages returns the command of each program for users and accounts, once what it needs is there.
var languages = map[string]func(t *testing.T) [accounts + 1][]string{
	"Go": func(t *testing.T) [accounts + 1][]string {
		dir := t.TempDir()
		if out, err := exec.Command("go", "build", "-o", dir, ".", "./account").CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		return [...][]string{{filepath.Join(dir, "signup")}, {filepath.Join(dir, "account")}}
	},
	"JavaScript": func(t *testing.T) [accounts + 1][]string {
		if err := exec.Command("node", "-e", "process.exit(parseInt(process.versions.node) < 18 ? 1 : 0)").Run(); err != nil {
			t.Skipf("not run: needs node, 18 or later: %v", err)
		}
		return [...][]string{{"node", "signup.mjs"}, {"node", "account.mjs"}}
	},
	"Python": func(t *testing.T) [accounts + 1][]string {
		if out, err := exec.Command("python3", "-c", "import cryptography").CombinedOutput(); err != nil {
			t.Skipf("not run: needs python3 with the package cryptography (pip install cryptography): %v\n%s", err, out)
		}
		return [...][]string{{"python3", "signup.py"}, {"python3", "account.py"}}
	},
}

// TestVectors runs each program as somebody would who reads the page, but for the calls themselves.
func TestVectors(t *testing.T) {
	for name, prepare := range languages {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for kind, command := range prepare(t) {
				for _, v := range vectors(t, kind) {
					holds(t, command, v)
				}
			}
		})
	}
}

// holds has a program make the request of a vector.
func holds(t *testing.T, command []string, v vector) {
	t.Helper()
	seed, token := filepath.Join(t.TempDir(), "seed"), filepath.Join(t.TempDir(), "token")
	for file, content := range map[string]string{seed: v.Seed, token: v.Token} {
		if err := os.WriteFile(file, []byte(content+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	args, want := v.call(seed, token)
	cmd := exec.Command(command[0], append(command[1:], args...)...)
	cmd.Env = append(os.Environ(), "PROOF_TIME="+strconv.FormatInt(v.Time, 10), "PYTHONDONTWRITEBYTECODE=1")
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v: %v", cmd.Args, err)
	}
	promised, err := json.Marshal(want)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(decoded(t, promised), decoded(t, out)); diff != "" {
		t.Errorf("%v (-want +got):\n%s", cmd.Args, diff)
	}
}

func decoded(t *testing.T, data []byte) (v any) {
	t.Helper()
	if err := json.Unmarshal(data, &v); err != nil {
		t.Fatalf("%v\n%s", err, data)
	}
	return v
}

// TestStatements: the service takes the bytes that the page shows.
func TestStatements(t *testing.T) {
	for _, kind := range []int{users, accounts} {
		for _, v := range vectors(t, kind) {
			if got := string(v.statement()); got != v.Statement {
				t.Errorf("the service makes\n%s\nand the page says\n%s", got, v.Statement)
			}
		}
	}
}
