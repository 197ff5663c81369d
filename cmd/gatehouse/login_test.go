package main

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/gatehouse-nats/gatehouse/internal/devstack"
	"github.com/gatehouse-nats/gatehouse/internal/devstack/devtest"
	"github.com/gatehouse-nats/gatehouse/internal/login"
)

// terminalOf is what somebody at a terminal sees of a command that runs.
type terminalOf struct {
	testing.TB
	out, err *record
	code     chan int
	cancel   context.CancelFunc
}

// begin starts a command that somebody has to answer.
func begin(t testing.TB, env []string, args ...string) terminalOf {
	ctx, cancel := context.WithCancel(t.Context())
	t.Cleanup(cancel)
	s := terminalOf{t, evidence.open(t.Name()), evidence.open(t.Name() + " errors"), make(chan int, 1), cancel}
	go func() { s.code <- run(ctx, args, stdio{in: strings.NewReader(""), out: s.out, err: s.err, env: env}) }()
	return s
}

// await returns the parts of what is shown on standard error, once it is.
func (s terminalOf) await(shown string) []string {
	s.Helper()
	pattern := regexp.MustCompile(shown)
	var found []string
	eventually(s, func() error {
		if found = pattern.FindStringSubmatch(s.err.String()); found == nil {
			return errors.New("shown is:\n" + s.err.String())
		}
		return nil
	})
	return found
}

// TestLoginByDevice logs in with a code, as over SSH, and keeps a token file fresh afterwards.
func TestLoginByDevice(t *testing.T) {
	t.Setenv("SSH_CONNECTION", "192.0.2.1 1 192.0.2.2 22")
	provider := devtest.StartProvider(t, devstack.ProviderOptions{})
	dir := t.TempDir()
	env := []string{"HOME=" + dir, "GATEHOUSE_HOME=" + dir}
	flags := []string{"--issuer", provider.Issuer(), "--client-id", devstack.ClientID, "--json"}

	browser := begin(t, env, append([]string{"login"}, flags...)...)
	browser.await(`stop this and add --device`)
	browser.cancel()
	if code := <-browser.code; code != exitFailed {
		t.Errorf("stopped, it ended with %d", code)
	}

	device := begin(t, env, append([]string{"login", "--device"}, flags...)...)
	code := device.await(`on any device:\n\n  (\S+)\n\nand enter this code, by \d\d:\d\d:\d\d:\n\n  (\S+)\n\nOr open this, and compare the code:\n\n  (\S+)\n`)
	answer, err := web.PostForm(code[1], url.Values{"user_code": {code[2]}, "username": {"alice"}, "password": {"alice"}, "decision": {"approve"}})
	if err != nil {
		t.Fatal(err)
	}
	_ = answer.Body.Close()
	if answer.StatusCode != http.StatusOK || code[3] != code[1]+"?user_code="+code[2] {
		t.Errorf("the page answers %s, and is offered as %s", answer.Status, code[3])
	}
	if code := <-device.code; code != exitDone {
		t.Fatalf("it ended with %d:\n%s", code, device.err)
	}
	var session login.Session
	if err := json.Unmarshal([]byte(device.out.String()), &session); err != nil || session.Subject != "alice" || !session.Renewable {
		t.Errorf("session %+v, %v", session, err)
	}

	file := filepath.Join(dir, "token.jwt")
	watch := begin(t, env, append([]string{"login", "--watch", file}, flags...)...)
	eventually(t, func() error {
		token, err := os.ReadFile(file)
		if err == nil && strings.Count(string(token), ".") != 2 {
			err = errors.New("no token in the file")
		}
		return err
	})
	watch.cancel()
	if code := <-watch.code; code != exitDone {
		t.Errorf("the watch ended with %d:\n%s", code, watch.err)
	}
}
