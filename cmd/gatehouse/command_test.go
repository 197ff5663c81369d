package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-nats/gatehouse/internal/devstack/devtest"
)

var update = flag.Bool("update", false, "write the transcripts in testdata anew")

// transcript is what a terminal shows of a session, with what differs from run to run made equal.
type transcript struct {
	*replica
	text strings.Builder
}

// vary matches what differs from run to run, and stands for how it is shown.
var vary = []struct {
	match *regexp.Regexp
	show  string
}{
	{regexp.MustCompile(`\d{4}-\d\d-\d\d \d\d:\d\d:\d\d(Z|[+-]\d\d:\d\d)`), "2026-01-02 15:04:05Z"},
	{regexp.MustCompile(`[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}`), "0197b3c0-8a55-7c3e-9f0e-2f1d7c1f4b11"},
	{regexp.MustCompile(`\b([ANUXO])[A-Z2-7]{55}\b`), "${1}…"},
	{regexp.MustCompile(`(?m)^[A-Z2-7]{26}$`), "2ZK7…"}, // the secret of an invitation
	{regexp.MustCompile(`on every server \d+`), "on every server 1"},
	{regexp.MustCompile(`rules [0-9a-f]{12}`), "rules 4ad7718c372d"},
	{regexp.MustCompile(`local:[A-Za-z0-9_.-]+`), "local:ops"},
	{regexp.MustCompile(`127\.0\.0\.1:\d+`), "127.0.0.1:4222"},
	{regexp.MustCompile(`go1\.[0-9.]+\S*`), "go1.26"},
	{regexp.MustCompile(`gatehouse 0\.0\.0-dev \S* `), "gatehouse 0.0.0-dev  "},
	{regexp.MustCompile(`replica \S+,`), "replica host-1-abcdef,"},
	{regexp.MustCompile(`_INBOX_[a-z2-7]{26}`), "_INBOX_…"},
	{regexp.MustCompile(`There is more: --cursor \S+`), "There is more: --cursor …"},
	{regexp.MustCompile(`pid \d+`), "pid 4711"},
	{regexp.MustCompile(`admitted in \d+ seconds`), "admitted in 11 seconds"},
	{regexp.MustCompile(`\d+ +127\.0\.0\.1\b`), "7  127.0.0.1"}, // a cid and its source
	{regexp.MustCompile(`Done after \S+:`), "Done after 3.1s:"},
	{regexp.MustCompile(`  +`), "  "},
}

// session carries out command lines, for which $ID stands for the newest revocation.
func (s *transcript) session(lines ...string) {
	s.Helper()
	id := ""
	for _, line := range lines {
		args := words(strings.ReplaceAll(line, "$ID", id))
		for i, a := range args {
			args[i] = strings.Replace(a, "DIR", s.dir, 1)
		}
		got := s.command(args...)
		if found := vary[1].match.FindString(got.out); found != "" {
			id = found
		}
		fmt.Fprintf(&s.text, "$ gatehouse %s\n%s%s", line, got.out, got.err)
		if got.code != exitDone {
			fmt.Fprintf(&s.text, "[exit code %d]\n", got.code)
		}
		s.text.WriteString("\n")
	}
}

// words splits a line at blanks outside of double quotes.
func words(line string) []string {
	var list []string
	for i, part := range strings.Split(line, `"`) {
		if i%2 == 1 {
			list = append(list, part)
		} else {
			list = append(list, strings.Fields(part)...)
		}
	}
	return list
}

// compare compares the session with the file that shows it.
func (s *transcript) compare(file string) {
	s.Helper()
	text := strings.ReplaceAll(s.text.String(), s.dir, "/etc/gatehouse")
	for _, v := range vary {
		text = v.match.ReplaceAllString(text, v.show)
	}
	path := filepath.Join("testdata", file)
	if *update {
		if err := os.MkdirAll("testdata", 0o755); err != nil {
			s.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			s.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		s.Fatal(err)
	}
	got, wanted := strings.Split(text, "\n"), strings.Split(string(want), "\n")
	for i := range max(len(got), len(wanted)) {
		if i >= len(got) || i >= len(wanted) || got[i] != wanted[i] {
			s.Fatalf("%s differs from line %d on (go test -update writes it anew); got:\n%s", path, i+1, strings.Join(got[min(i, len(got)):min(i+5, len(got))], "\n"))
		}
	}
}

// newTranscript returns a session on a host where nothing runs yet.
func newTranscript(t *testing.T) *transcript {
	t.Helper()
	w := newWorld(t, worldOptions{noServers: true})
	for name, claims := range map[string]string{
		"alice.json":  `{"sub": "alice", "groups": ["dev"]}`,
		"bound.json":  `{"sub": "alice", "groups": ["dev"], "nonce": "UAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAABET7"}`,
		"wiki.json":   `{"sub": "alice", "groups": ["dev"], "aud": "wiki"}`,
		"other.json":  `{"iss": "https://other.example.com", "sub": "alice", "groups": ["dev"]}`,
		"carol.json":  `{"sub": "carol", "groups": ["contractors"]}`,
		"broken.json": `{"sub": `,
	} {
		if err := os.WriteFile(filepath.Join(w.dir, name), []byte(claims), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return &transcript{replica: w.newReplica(serveOptions{})}
}

// TestCommandsWithoutService: what needs no service works without one, on the store itself.
func TestCommandsWithoutService(t *testing.T) {
	t.Parallel()
	s := newTranscript(t)
	s.session(
		`version`,
		`check`,
		`explain --claims DIR/alice.json --issuer demo`,
		`explain --claims DIR/bound.json --issuer demo`,
		`explain --claims DIR/bound.json --issuer demo --connection-type mqtt`,
		`explain --claims DIR/carol.json --issuer demo`,
		`explain --claims DIR/wiki.json --issuer demo`,
		`explain --claims DIR/other.json`,
		`explain --claims DIR/alice.json --issuer demo --connection-type leafnode`,
		`revocations`,
		`migrate`,
		`revocations`,
		`revoke --issuer demo --subject alice --reason "left the company"`,
		`revoke --issuer demo --subject alice --reason "once more"`,
		`revoke lift $ID --reason "came back"`,
		`revoke --issuer demo --subject bob --reason "laptop stolen" --logout`,
		`revoke --issuer demo --subject bob --reason "on leave" --until 72h`,
		`revocations --issuer demo --subject bob`,
		`revocations --all --subject alice --issuer demo`,
		`audit --kind admin`,
		`status`,
		`reload`,
		`sessions`,
		`kick --all --reason stuck --yes`,
	)
	s.compare("without_service.txt")
}

// TestCommandsWithService: commands reach the service through its socket, and say what it lacks.
func TestCommandsWithService(t *testing.T) {
	t.Parallel()
	s := newTranscript(t)
	s.start(true)
	eventually(t, func() error {
		if got := s.command("status", "--json"); !strings.Contains(got.out, `"keys_loaded":true`) || strings.Contains(got.out, "never read from the store") {
			return errors.New(got.out + got.err)
		}
		return nil
	})
	s.session(
		`reload`,
		`revoke --issuer demo --subject alice --reason "left the company"`,
		`revocations`,
		`revoke lift --issuer demo --subject alice --reason "came back"`,
		`revocations`,
		`audit --outcome done`,
		`audit --outcome done --limit 1`,
		`migrate`,
		`sessions`,
		`sessions --kind robot`,
		`sessions --source here`,
		`sessions --cid 4`,
		`sessions alice@example.com`,
		`sessions alice bob`,
		`kick --all --yes`,
		`kick --reason stuck --yes`,
		`kick --all --reason stuck --yes`,
	)
	s.compare("with_service.txt")

	page := s.command("audit", "--json", "--outcome", "done", "--limit", "1")
	_, cursor, more := strings.Cut(strings.TrimSpace(page.err), "--cursor ")
	if !more {
		t.Fatalf("a program is not told that there is more: %s%s", page.out, page.err)
	}
	if last := s.must("audit", "--json", "--outcome", "done", "--limit", "1", "--cursor", cursor); last == page.out || !strings.Contains(last, "left the company") {
		t.Errorf("the next page is %s", last)
	}
}

// TestCommandsTakeAccessBack: who is connected is shown and closed, revoked once that was agreed to, and let in again.
func TestCommandsTakeAccessBack(t *testing.T) {
	t.Parallel()
	p := newRevoking(t, "demo")
	p.session(
		`sessions`,
		`sessions carol@example.com`,
		`sessions carol`,
		`sessions --account APP --source 10.0.0.0/8`,
		`sessions --kind direct`,
		`sessions --limit 1`,
		`sessions --limit 0 --server gatehouse-9`,
		`sessions mallory@example.com`,
		`sessions --cid 3`,
		`kick bob@example.com --dry-run`,
		`kick bob@example.com --reason "new permissions"`,
		`kick bob@example.com --reason "new permissions" --yes`,
		`kick --server gatehouse-1 --cid 999999 --reason "gone" --yes`,
		`revoke ALICE@example.com --reason "left the company" --dry-run`,
		`revoke alice@example.com --reason "left the company"`,
		`revoke alice@example.com --reason "left the company" --yes --wait`,
		`revoke alice@example.com --reason "left the company" --yes`,
		`revoke wait $ID`,
		`sessions alice@example.com`,
		`revocations`,
		`revoke lift alice@example.com --reason "came back"`,
		`revoke lift alice@example.com --reason "came back"`,
		`revocations`,
	)
	p.compare("taking_back.txt")
	p.closes("alice", "bob")
	p.connect("alice")

	// What scripts rely on.
	lines := decodeLines[map[string]any](t, p.must("sessions", "alice", "--json"))
	proof := decodeLines[map[string]any](t, p.must("revoke", "--issuer", "demo", "--subject", "alice", "--reason", "left", "--wait", "--json"))
	if len(lines) != 1 || len(proof) != 1 {
		t.Fatalf("%v, %v", lines, proof)
	}
	for _, field := range []string{"name", "kind", "account", "server", "cid", "source", "since", "expires", "binding"} {
		if lines[0][field] == nil {
			t.Errorf("a session has no %s: %v", field, lines[0])
		}
	}
	for _, field := range []string{"revocation", "replicas", "servers_answered", "servers_known", "closed", "took_ms"} {
		if proof[0][field] == nil {
			t.Errorf("a proof has no %s: %v", field, proof[0])
		}
	}
	if proof[0]["closed"] != 1.0 || proof[0]["done"] != true {
		t.Errorf("proved with %v", proof[0])
	}
}

// TestCommandsRefuseWrongUse: each mistake gets its exit code and a text that says what to do.
func TestCommandsRefuseWrongUse(t *testing.T) {
	t.Parallel()
	s := newTranscript(t)
	s.must("migrate")
	s.session(
		`revok`,
		`serve now`,
		`audit --sinse 1h`,
		`audit --since yesterday`,
		`audit --limit many`,
		`audit --cursor nonsense`,
		`explain`,
		`explain --claims DIR/alice.json --live`,
		`explain --claims DIR/alice.json --issuer nobody`,
		`explain --claims DIR/broken.json --issuer demo`,
		`explain --claims DIR/missing.json --issuer demo`,
		`explain --token-file DIR/broken.json`,
		`explain --claims DIR/alice.json --issuer demo --source here`,
		`revoke`,
		`revoke --reason left`,
		`revoke "" --reason left --yes`,
		`revoke alice bob --reason left`,
		`revoke alice --issuer demo --subject alice --reason left`,
		`revoke nobody@example.com --reason left --yes`,
		`revoke --account APP --reason left`,
		`revoke --issuer demo --match groups --reason left`,
		`revoke --issuer demo --subject alice --logout --suspend --reason left`,
		`revoke --issuer demo --subject alice --reason left --logout --at 2999-01-01T00:00:00Z`,
		`revoke --account APP --user-key U --reason left`,
		`revoke --issuer demo --subject alice`,
		`revoke --issuer corp --subject alice --reason left`,
		`revoke --issuer demo --subject alice --reason left --until yesterday`,
		`revoke --issuer demo --subject alice --reason left --until -1h`,
		`revoke --issuer demo --subject alice --reason left --logout --until 1h`,
		`revoke lift --reason why`,
		`revoke lift alice@example.com`,
		`revoke lift alice@example.com --reason why`,
		`revoke lift --issuer demo --subject alice --reason why`,
		`revoke lift 0197b3c0-8a55-7c3e-9f0e-2f1d7c1f4b12 --reason why`,
		`sessions ""`,
		`kick "" --reason left --yes`,
		`kick alice@example.com`,
		`kick --reason left --yes`,
		`kick alice@example.com --reason left --yes`,
		`whoami --url http://gatehouse.example.com`,
		`init`,
		`init DIR/new --servers 2 --issuer-name UPPER`,
		`init DIR`,
		`check -c DIR/missing.yaml`,
		`dev token --dir DIR/nothing`,
		`dev --ports some`,
	)
	s.compare("wrong_use.txt")
}

// end waits for a command that is expected to end by itself.
func (p *process) end(t testing.TB) int {
	t.Helper()
	select {
	case <-p.ended:
	case <-time.After(stopLimit):
		p.kill()
		t.Fatal("it did not end")
	}
	return p.cmd.ProcessState.ExitCode()
}

// TestServeRefusesToStart: a service that could not do its work says so and ends.
func TestServeRefusesToStart(t *testing.T) {
	t.Parallel()
	w := newWorld(t, worldOptions{noServers: true})
	first := w.newReplica(serveOptions{})
	first.start(true)
	eventually(t, func() error {
		if got := first.command("status", "--json"); got.out == "" {
			return errors.New(got.err)
		}
		return nil
	})
	// What a variable of the first replica says, for a second one that clashes with it there.
	same := func(name string) string {
		for _, v := range first.env {
			if strings.HasPrefix(v, name+"=") {
				return v
			}
		}
		t.Fatalf("there is no %s", name)
		return ""
	}
	file := filepath.Join(w.dir, "a-file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		env  []string
		want []string
	}{
		"same socket":        {[]string{same("GATEHOUSE_SOCKET"), "GATEHOUSE_STORE=sqlite:another.db"}, []string{"served by another process", "stop it, or configure another socket"}},
		"same SQLite":        {nil, []string{"gatehouse.db", "in use"}},
		"same spool":         {[]string{same("GATEHOUSE_AUDIT_DIRECTORY"), "GATEHOUSE_STORE=sqlite:other.db"}, []string{"spool", "in use"}},
		"same address":       {[]string{same("GATEHOUSE_HTTP_LISTEN"), "GATEHOUSE_STORE=sqlite:third.db"}, []string{"http.listen", "address already in use", "choose another address"}},
		"no folder of store": {[]string{"GATEHOUSE_STORE=sqlite:" + file + "/gatehouse.db"}, []string{"a-file"}},
		"closed store":       {[]string{"GATEHOUSE_STORE=sqlite:" + closedFolder(t) + "/gatehouse.db"}, closedText()},
		"no database":        {[]string{"GATEHOUSE_STORE=sqlite:" + file}, nil},
		"no creds":           {[]string{"GATEHOUSE_NATS_SYSTEM_CREDS=missing.creds"}, []string{"nats.system.creds", "missing.creds", "there is no file"}},
		"unknown variable":   {[]string{"GATEHOUSE_SOKET=x"}, []string{"GATEHOUSE_SOKET", "did you mean"}},
	} {
		t.Run(name, func(t *testing.T) {
			if name == "no database" {
				if err := os.WriteFile(file, []byte(strings.Repeat("this is no database ", 100)), 0o600); err != nil {
					t.Fatal(err)
				}
				c.want = []string{"a-file"}
				defer os.Truncate(file, 0)
			}
			r := w.in(t).newReplica(serveOptions{env: c.env})
			p := startProcess(t, r.env, r.log, "serve")
			code, text := p.end(t), r.log.String()
			if code != exitFailed {
				t.Errorf("it ended with %d", code)
			}
			for _, want := range c.want {
				if !strings.Contains(text, want) {
					t.Errorf("%q is missing in:\n%s", want, text)
				}
			}
			if strings.Contains(text, "panic") || strings.Contains(text, "goroutine ") {
				t.Errorf("it panicked:\n%s", text)
			}
		})
	}
	if got := first.command("status", "--json"); got.out == "" {
		t.Errorf("the first service was disturbed: %s", got.err)
	}
}

// closedFolder returns a folder in which no file can be made.
func closedFolder(t testing.TB) string {
	t.Helper()
	if os.Getuid() == 0 { // whom permissions do not hold
		if _, err := os.Stat("/proc/self"); err != nil {
			t.Skip("root may write everywhere here")
		}
		return "/proc/self"
	}
	dir := shortDir(t)
	if err := os.Chmod(dir, 0o500); err != nil {
		t.Fatal(err)
	}
	return dir
}

// closedText is what the service says of that folder.
func closedText() []string {
	if os.Getuid() == 0 {
		return []string{"gatehouse.db"}
	}
	return []string{"gatehouse.db", "read-only", "let the service write it"}
}

// TestCheckFindsExposedSecrets: a key that others may read is refused, and named.
func TestCheckFindsExposedSecrets(t *testing.T) {
	t.Parallel()
	w := newWorld(t, worldOptions{noServers: true})
	r := w.newReplica(serveOptions{})
	r.must("check")
	for _, file := range []string{"keys/callout.nk", "keys/callout.xk", "keys/app.nk", "creds/callout.creds", "creds/system.creds"} {
		path := filepath.Join(w.dir, file)
		if err := os.Chmod(path, 0o644); err != nil {
			t.Fatal(err)
		}
		got := r.command("check")
		if got.code != exitFailed || !strings.Contains(got.err, path) || !strings.Contains(got.err, "chmod") {
			t.Errorf("with a readable %s check ended with %d: %s%s", file, got.code, got.out, got.err)
		}
		if err := os.Chmod(path, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	r.must("check")
}

// TestDevTokenNamesDemoUsers: the tokens of gatehouse dev are for its own users.
func TestDevTokenNamesDemoUsers(t *testing.T) {
	t.Parallel()
	dir := shortDir(t)
	idp := filepath.Join(dir, "oidc")
	if err := os.Mkdir(idp, 0o700); err != nil {
		t.Fatal(err)
	}
	provider, err := startDevProvider(dir, true, devtest.Log(t))
	if err != nil {
		t.Fatal(err)
	}
	if err := provider.Close(); err != nil {
		t.Fatal(err)
	}
	got := command(t, nil, "", "dev", "token", "--dir", dir, "--user", "dave")
	if got.code != exitUsage || !strings.Contains(got.err, "alice, bob, carol, root") {
		t.Errorf("an unknown user ends with %d: %s", got.code, got.err)
	}
}
