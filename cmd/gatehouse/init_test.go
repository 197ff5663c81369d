package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/gatehouse-nats/gatehouse/internal/devstack/devtest"
)

// TestInitWritesWhatCheckAccepts: whatever init is asked for, the configuration that it writes
// is valid as it is.
func TestInitWritesWhatCheckAccepts(t *testing.T) {
	t.Parallel()
	issuer := []string{"--issuer-name", "corp", "--issuer-url", "https://login.example.com", "--audience", "nats"}
	for name, c := range map[string]struct {
		flags   []string
		prints  string // by check
		warning string
	}{
		"without issuer":     {nil, "0 issuers, 1 account", "issuers"},
		"with issuer":        {issuer, "1 issuer, 1 account", "every identity of issuer corp"},
		"three servers":      {append([]string{"--servers", "3"}, issuer...), "1 issuer", ""},
		"config mode":        {append([]string{"--config-mode"}, issuer...), "callout account AUTH", ""},
		"three, no operator": {append([]string{"--config-mode", "--servers", "3", "--no-xkey", "--no-jetstream"}, issuer...), "no xkey", ""},
		"without xkey":       {append([]string{"--no-xkey"}, issuer...), "no xkey", ""},
		"postgres":           {append([]string{"--gatehouse-store", "postgres://gatehouse@db.example.com/gatehouse"}, issuer...), "1 issuer", ""},
		"own names":          {append([]string{"--name", "acme", "--account", "Orders", "--no-jetstream"}, issuer...), "1 account", ""},
		"pinned algorithms":  {append([]string{"--algorithm", "EdDSA,ES256", "--client-id", "cli"}, issuer...), "1 issuer", ""},
	} {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(shortDir(t), "made here")
			made := command(t, nil, "", append([]string{"init", dir}, c.flags...)...)
			if made.code != exitDone {
				t.Fatalf("init ended with %d: %s%s", made.code, made.out, made.err)
			}
			got := command(t, nil, "", "check", "-c", filepath.Join(dir, "gatehouse.yaml"))
			if got.code != exitDone || !strings.Contains(got.out, c.prints) || !strings.Contains(got.err, c.warning) {
				t.Errorf("check ended with %d: %s%s", got.code, got.out, got.err)
			}
			if made.err != got.err {
				t.Errorf("init warns of\n%s, check of\n%s", made.err, got.err)
			}
			for line := range strings.Lines(got.err) {
				if !strings.Contains(line, "every identity of issuer corp") && !strings.Contains(line, "there is none") {
					t.Errorf("a new configuration has the warning %s", line)
				}
			}
			checkModes(t, dir)
		})
	}
}

// checkModes checks that nobody else can read what init wrote.
func checkModes(t testing.TB, dir string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, e os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := e.Info()
		if err == nil && info.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s has mode %s", path, info.Mode())
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}

// TestInitIntoWritesWhatCheckAccepts enters an operator set-up that is there already, and logs
// in to it.
func TestInitIntoWritesWhatCheckAccepts(t *testing.T) {
	t.Parallel()
	w := newWorld(t, worldOptions{noServers: true})
	account := filepath.Join(w.dir, "app.jwt")
	if err := os.WriteFile(account, []byte(w.set.App.JWT), 0o600); err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(shortDir(t), "gatehouse")
	got := command(t, nil, "", "init", "--into", dir,
		"--operator-jwt", filepath.Join(w.dir, "offline", "operator.jwt"), "--operator-key", filepath.Join(w.dir, "keys", "operator-signing.nk"),
		"--system-creds", filepath.Join(w.dir, "creds", "system.creds"), "--account-jwt", account+"="+filepath.Join(w.dir, "keys", "app.nk"),
		"--url", w.set.ClientURL(), "--issuer-name", "demo", "--issuer-url", w.provider.Issuer(), "--audience", "nats")
	if got.code != exitDone {
		t.Fatalf("init --into ended with %d: %s%s", got.code, got.out, got.err)
	}
	checkModes(t, dir)
	got = command(t, nil, "", "check", "-c", filepath.Join(dir, "gatehouse.yaml"))
	if got.code != exitDone || !strings.Contains(got.out, "1 issuer, 1 account") {
		t.Fatalf("check ended with %d: %s%s", got.code, got.out, got.err)
	}

	// The server as it was, but for the lines that init --into wrote: its resolver knows the
	// accounts that were there and, by the preload that init --into prints, the new ones.
	conf := filepath.Join(w.dir, "nats-server.conf")
	entered := enterServer(t, conf, dir)
	w.servers = devtest.StartServers(t, []string{entered}, devtest.InProcess)
	into := &world{TB: t, dir: dir, set: w.set, provider: w.provider, servers: w.servers}
	into.serve(serveOptions{process: true})
	into.login(w.token("alice", nil))
}

// enterServer returns a copy of a server's configuration that the addition in dir has entered.
func enterServer(t testing.TB, conf, dir string) string {
	t.Helper()
	read := func(path string) string {
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		return string(data)
	}
	preload := read(filepath.Join(dir, "resolver-preload.conf"))
	lines := strings.Split(read(conf), "\n")
	var out []string
	for _, line := range lines {
		switch {
		case strings.HasPrefix(line, "default_sentinel:"): // of the set-up that was there
		case strings.HasPrefix(line, "resolver_preload {"):
			out = append(out, line, preload)
		default:
			out = append(out, line)
		}
	}
	path := filepath.Join(filepath.Dir(conf), "entered.conf")
	additions := read(filepath.Join(dir, "nats-server-additions.conf"))
	if err := os.WriteFile(path, []byte(strings.Join(out, "\n")+"\n"+additions), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}
