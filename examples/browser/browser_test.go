package browser

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"

	"github.com/gatehouse-nats/gatehouse/internal/devstack/devtest"
)

// programs is the folder of the gatehouse binary, see scripts/browser.sh.
var programs = os.Getenv("GATEHOUSE_TEST_BROWSER")

func TestMain(m *testing.M) {
	if programs == "" {
		fmt.Println("not run: make browser prepares and runs this test")
		return
	}
	os.Exit(m.Run())
}

// limit bounds what the test waits for.
const limit = time.Minute

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// start runs a program until the test ends, or stop is called, and decodes the first line that it prints.
func start(t *testing.T, env []string, first func(io.Reader) error, name string, args ...string) (stop func()) {
	t.Helper()
	cmd := exec.Command(name, args...)
	cmd.Env = append(os.Environ(), env...)
	var log bytes.Buffer
	cmd.Stderr = &log
	out, err := cmd.StdoutPipe()
	must(t, err)
	must(t, cmd.Start())
	stopped := false
	stop = func() {
		if stopped {
			return
		}
		stopped = true
		_ = cmd.Process.Signal(os.Interrupt)
		_ = cmd.Wait()
		if t.Failed() {
			t.Logf("%s wrote:\n%s", name, &log)
		}
	}
	t.Cleanup(stop)
	if err := first(out); err != nil {
		t.Fatalf("%s did not start: %v\n%s", name, err, &log)
	}
	return stop
}

// dev is what gatehouse dev says when it is ready, and the folder that it keeps its things in.
type dev struct {
	dir     string
	NatsURL string `json:"nats_url"`
	WSURL   string `json:"ws_url"`
	HTTPURL string `json:"http_url"`
	Issuer  string `json:"issuer"`
	Config  string `json:"config"`
}

func (d *dev) start(t *testing.T) (stop func()) {
	t.Helper()
	return start(t, nil, func(r io.Reader) error { return json.NewDecoder(r).Decode(d) },
		filepath.Join(programs, "gatehouse"), "dev", "--dir", d.dir, "--ports", "random", "--json", "--quiet")
}

// startDev starts gatehouse dev with a server that lets in the page's origin.
func startDev(t *testing.T, origin string) *dev {
	t.Helper()
	d := &dev{dir: t.TempDir()}
	d.start(t)()
	confs, err := filepath.Glob(filepath.Join(d.dir, "*.conf"))
	must(t, err)
	allowed := regexp.MustCompile(`allowed_origins: \[.*\]`)
	for _, conf := range confs {
		text, err := os.ReadFile(conf)
		must(t, err)
		if !allowed.Match(text) {
			t.Fatalf("%s has no allowed_origins", conf)
		}
		must(t, os.WriteFile(conf, allowed.ReplaceAll(text, fmt.Appendf(nil, "allowed_origins: [%q]", origin)), 0o600))
	}
	d.start(t)
	return d
}

// gatehouse runs a command on the host of the service.
func (d *dev) gatehouse(t *testing.T, stdin string, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), filepath.Join(programs, "gatehouse"), args...)
	cmd.Env = append(os.Environ(), "GATEHOUSE_CONFIG="+d.Config)
	cmd.Stdin = strings.NewReader(stdin)
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("gatehouse %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return string(out)
}

// page is what the page shows and keeps once somebody is logged in, see drive.mjs.
type page struct {
	Status, Account, Key, Token, Messages, Stored string
	Console                                       []string
}

func visit(t *testing.T, address, user string) (p page) {
	t.Helper()
	drive(t, &p, "drive.mjs", "PAGE="+address, "USER="+user)
	return p
}

// drive runs a program that does something in a browser, and decodes what it says of it.
func drive(t *testing.T, result any, program string, env ...string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*limit)
	defer cancel()
	cmd := exec.CommandContext(ctx, "node", program)
	cmd.Env = append(os.Environ(), env...)
	cmd.WaitDelay = time.Second
	var log bytes.Buffer
	cmd.Stderr = &log
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("the browser: %v\n%s%s", err, out, &log)
	}
	must(t, json.Unmarshal(out, result))
}

// TestPage: alice logs in on the page and publishes, and her token is of no use anywhere else.
func TestPage(t *testing.T) {
	t.Parallel()
	// The page's port must be known before the servers' configuration, and the servers' before the page starts.
	port := fmt.Sprint(devtest.Ports(t, 1)[0])
	origin := "http://127.0.0.1:" + port
	d := startDev(t, origin)
	start(t, []string{"PORT=" + port, "ISSUER=" + d.Issuer, "NATS_WS=" + d.WSURL},
		func(r io.Reader) error { _, err := fmt.Fscanln(r, new(string)); return err }, "node", "serve.mjs")

	witness, err := nats.Connect(d.NatsURL, nats.UserCredentials(filepath.Join(d.dir, "offline", "emergency-app.creds")))
	must(t, err)
	t.Cleanup(witness.Close)
	heard, err := witness.SubscribeSync("app.>")
	must(t, err)
	must(t, witness.Flush())

	p := visit(t, origin, "alice")
	if p.Status != "connected as alice" || !strings.HasPrefix(p.Account, "A") || p.Messages != "app.hello: hello from the browser\n" || len(p.Console) > 0 {
		t.Errorf("the page shows %+v", p)
	}
	msg, err := heard.NextMsg(limit)
	must(t, err)
	if string(msg.Data) != "hello from the browser" {
		t.Errorf("the witness heard %q", msg.Data)
	}
	if !nkeys.IsValidPublicUserKey(p.Key) || p.Stored != "[{},{},\"\"]" {
		t.Errorf("key %s; the page keeps %s", p.Key, p.Stored)
	}

	// The token, pasted into another client.
	thief, err := nkeys.CreateUser()
	must(t, err)
	public, err := thief.PublicKey()
	must(t, err)
	for reason, opts := range map[string][]nats.Option{
		"key_proof_missing": {nats.Token(p.Token)},
		"key_proof_invalid": {nats.Token(p.Token), nats.Nkey(public, thief.Sign)},
	} {
		if nc, err := nats.Connect(d.NatsURL, append(opts, nats.Timeout(limit), nats.NoReconnect())...); !errors.Is(err, nats.ErrAuthorization) {
			t.Errorf("%s: %v, want a refusal", reason, err)
			if err == nil {
				nc.Close()
			}
		}
		awaitRecord(t, d, reason)
	}
	if got := d.gatehouse(t, p.Token, "explain", "--token-file", "-"); !strings.Contains(got, "Bound to key "+p.Key) || !strings.Contains(got, "ALLOWED into account APP") {
		t.Errorf("explain:\n%s", got)
	}
}

// awaitRecord returns once a refusal for the reason is in the audit trail.
func awaitRecord(t *testing.T, d *dev, reason string) {
	t.Helper()
	deadline := time.Now().Add(limit)
	for !strings.Contains(d.gatehouse(t, "", "audit", "--outcome", "refused"), reason) {
		if time.Now().After(deadline) {
			t.Fatalf("no refusal for %s is recorded", reason)
		}
		<-time.After(50 * time.Millisecond)
	}
}
