package events_test

import (
	"bufio"
	"context"
	"encoding/json"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-nats/gatehouse/account"
	"github.com/gatehouse-nats/gatehouse/store/events"
)

// The receivers of docs/events.md take what is signed, and nothing else.
func TestReceiversOfThePage(t *testing.T) {
	page, err := os.ReadFile("../../docs/events.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range events.Names() {
		if !strings.Contains(string(page), "`"+name+"`") {
			t.Errorf("docs/events.md does not name %s", name)
		}
	}
	for language, program := range map[string]func(t *testing.T, source string) *exec.Cmd{
		"go": func(t *testing.T, source string) *exec.Cmd {
			out := filepath.Join(t.TempDir(), "receiver")
			if text, err := exec.Command("go", "build", "-o", out, source).CombinedOutput(); err != nil {
				t.Fatalf("%v\n%s", err, text)
			}
			return exec.Command(out)
		},
		"js": func(t *testing.T, source string) *exec.Cmd {
			if err := exec.Command("node", "-e", "process.exit(parseInt(process.versions.node) < 18 ? 1 : 0)").Run(); err != nil {
				t.Skipf("needs node, 18 or later: %v", err)
			}
			return exec.Command("node", source)
		},
	} {
		t.Run(language, func(t *testing.T) {
			block := regexp.MustCompile("(?s)```" + language + "\n(.*?)```").FindSubmatch(page)
			if block == nil {
				t.Fatal("docs/events.md has no receiver")
			}
			source := filepath.Join(t.TempDir(), "receiver."+strings.Replace(language, "js", "mjs", 1))
			if err := os.WriteFile(source, block[1], 0o600); err != nil {
				t.Fatal(err)
			}
			url, lines := run(t, program(t, source))
			takes(t, url, lines)
		})
	}
}

// run starts a receiver and returns its URL and what it writes from then on.
func run(t *testing.T, program *exec.Cmd) (url string, lines *bufio.Scanner) {
	t.Helper()
	program.Env = append(os.Environ(), "WEBHOOK_SECRET="+secretText, "PORT=0")
	program.Stderr = os.Stderr
	out, err := program.StdoutPipe()
	if err == nil {
		err = program.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = program.Process.Kill()
		_ = program.Wait()
	})
	lines = bufio.NewScanner(out)
	if !lines.Scan() {
		t.Fatal("the receiver does not listen")
	}
	return "http://" + lines.Text(), lines
}

// takes sends a receiver what is not for it, and then events.
func takes(t *testing.T, url string, lines *bufio.Scanner) {
	t.Helper()
	forger := events.NewWebhook(events.WebhookOptions{URL: url, Secrets: []events.Secret{secret(t, "whsec_"+strings.Repeat("QUJD", 10))}})
	t.Cleanup(forger.Close)
	if _, err := forger.Deliver(context.Background(), []events.Event{{ID: "forged", Type: "account.active", Account: "AA", Time: time.Now()}}); err == nil || !strings.Contains(err.Error(), "403") {
		t.Errorf("what another signed: %v", err)
	}
	resp, err := http.Post(url, "application/json", strings.NewReader(`{"id":"unsigned"}`))
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusForbidden {
		t.Errorf("what nobody signed: %d", resp.StatusCode)
	}
	s, w := newStore(t), hook(t, url)
	follow(t, s, w, "one")
	begun(t, s, w)
	want := []string{change(t, s, "a", "account.signup", account.Creating), change(t, s, "a", "account.rename", account.Creating)}
	var got []string
	for len(got) < len(want) && lines.Scan() {
		var e events.Event
		if err := json.Unmarshal(lines.Bytes(), &e); err != nil {
			t.Fatalf("%s: %v", lines.Bytes(), err)
		}
		got = append(got, e.ID)
	}
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}
