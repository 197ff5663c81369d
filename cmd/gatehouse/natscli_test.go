package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
)

// natsCLI is the real nats CLI, with a folder of nats auth of its own.
type natsCLI struct {
	testing.TB
	binary string
	home   string
	args   []string // of every command
}

// installing keeps tests from installing the same at the same time.
var installing sync.Mutex

// newNATSCLI returns the nats CLI in the release that the README names, installed once and then found up to date.
func newNATSCLI(t *testing.T, home string, args ...string) *natsCLI {
	t.Helper()
	installing.Lock()
	defer installing.Unlock()
	cache, err := os.UserCacheDir()
	if err != nil {
		t.Fatal(err)
	}
	bin := filepath.Join(cache, "gatehouse-test", "bin") // private to the user, so that nobody else can place a binary there
	if err := os.MkdirAll(bin, 0o700); err != nil {
		t.Fatal(err)
	}
	installNATS(t, bin)
	return &natsCLI{t, filepath.Join(bin, "nats"), home, args}
}

// authFolder returns the folder that nats auth keeps below that home.
func authFolder(home string) string { return filepath.Join(home, "nats", "nsc") }

// run returns what a command prints, and how it ended.
func (n *natsCLI) run(args ...string) (string, error) {
	cmd := exec.CommandContext(n.Context(), n.binary, append(args, n.args...)...)
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + n.home, "XDG_DATA_HOME=" + n.home, "XDG_CONFIG_HOME=" + n.home}
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// must runs a command that has to succeed and returns what it printed.
func (n *natsCLI) must(args ...string) string {
	n.Helper()
	out, err := n.run(args...)
	if err != nil {
		n.Fatalf("nats %v: %v\n%s", args, err, out)
	}
	return out
}
