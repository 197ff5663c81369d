package interop

import (
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
)

// readme returns the README's example in a language.
func readme(t testing.TB, language string) string {
	t.Helper()
	text, err := os.ReadFile("../README.md")
	must(t, err)
	block := regexp.MustCompile("(?s)```" + language + "\n(.*?)```").FindSubmatch(text)
	if block == nil {
		t.Fatalf("the README has no example in %s", language)
	}
	return string(block[1])
}

// replace replaces what has to be there.
func replace(t testing.TB, text string, pairs ...string) string {
	t.Helper()
	for i := 0; i < len(pairs); i += 2 {
		if !strings.Contains(text, pairs[i]) {
			t.Fatalf("%s is not in\n%s", pairs[i], text)
		}
		text = strings.ReplaceAll(text, pairs[i], pairs[i+1])
	}
	return text
}

// demo is gatehouse dev as it says of itself.
type demo struct {
	NatsURL string `json:"nats_url"`
	WSURL   string `json:"ws_url"`
	HTTPURL string `json:"http_url"`
	Config  string `json:"config"`
	DataDir string `json:"data_dir"`
}

// startDemo runs gatehouse dev, whose credentials end after 10 s.
func startDemo(t testing.TB) demo {
	t.Helper()
	cmd := exec.Command(program("gatehouse"), "dev", "--dir", filepath.Join(shortDir(t), "dev"), "--ports", "random", "--json", "--quiet")
	var out output
	cmd.Stdout = &out
	start(t, cmd)
	var d demo
	eventually(t, func() error { return json.Unmarshal([]byte(out.String()), &d) })
	d.edit(t, "ttl: 1h", "ttl: 10s")
	return d
}

// edit replaces what has to be in the configuration, and has that take effect.
func (d demo) edit(t testing.TB, pairs ...string) {
	t.Helper()
	yaml, err := os.ReadFile(d.Config)
	must(t, err)
	must(t, os.WriteFile(d.Config+".new", []byte(replace(t, string(yaml), pairs...)), 0o600))
	must(t, os.Rename(d.Config+".new", d.Config))
	reload := exec.Command(program("gatehouse"), "reload", "-c", d.Config)
	if out, err := reload.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
}

// tokenFile has dev make a token of a user, and returns the file that it is in.
func (d demo) tokenFile(t testing.TB, s terminal, user string) string {
	t.Helper()
	token, err := s.gatehouse("dev", "token", "--dir", d.DataDir, "--user", user).Output()
	must(t, err)
	file := filepath.Join(s.dir, "token.jwt")
	must(t, os.WriteFile(file, []byte(strings.TrimSpace(string(token))), 0o600))
	return file
}

// TestReadmeJavaScript runs the README's example: it outlives the end of its credential, that of its token, and refusals
// until the token file is fresh.
func TestReadmeJavaScript(t *testing.T) {
	t.Parallel()
	d := startDemo(t)
	example := readme(t, "js")
	for name, program := range map[string]string{
		"TCP": replace(t, example, "nats://127.0.0.1:4222", d.NatsURL),
		"WebSocket": replace(t, example, "nats://127.0.0.1:4222", d.WSURL,
			`import { connect, tokenAuthenticator } from "@nats-io/transport-node"`, `import { wsconnect as connect, tokenAuthenticator } from "@nats-io/nats-core"`),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newTerminal(t, d.Config)
			dir, err := filepath.Abs(".")
			must(t, err)
			must(t, os.Symlink(filepath.Join(dir, "node_modules"), filepath.Join(s.dir, "node_modules")))
			rest, err := os.ReadFile("exchange.mjs")
			must(t, err)
			must(t, os.WriteFile(filepath.Join(s.dir, "example.mjs"), append([]byte(program), rest...), 0o600))
			short, err := s.gatehouse("dev", "token", "--dir", d.DataDir, "--user", "alice", "--ttl", "5s").Output()
			must(t, err)
			must(t, os.WriteFile(filepath.Join(s.dir, "token.jwt"), []byte(strings.TrimSpace(string(short))), 0o600))

			c := startNode(t, s, "--import", filepath.Join(dir, "websocket.mjs"), "example.mjs")
			c.await("promise:refused")
			c.await("ready")
			c.exchange()
			c.await("disconnect")
			c.await("error") // the token has ended, and the logins are refused
			s.login(person{name: "alice", password: "alice"})
			s.watch() // it is in the folder of the example
			c.await("reconnect")
			c.exchange()
			c.await("disconnect") // the credential has ended once more
			c.await("reconnect")
			c.exchange()
		})
	}
}

// client is a program that says what becomes of its connection, see exchange.mjs.
type client struct {
	testing.TB
	out  *output
	read int // what was waited for, in bytes of out
	in   io.Writer
	ends <-chan struct{}
}

func startNode(t testing.TB, s terminal, args ...string) *client {
	t.Helper()
	theirs, ours, err := os.Pipe()
	must(t, err)
	t.Cleanup(func() { _ = theirs.Close(); _ = ours.Close() })
	cmd := exec.Command("node", args...)
	var out output
	cmd.Dir, cmd.Stdin, cmd.Stdout = s.dir, theirs, &out
	run, _ := start(t, cmd)
	return &client{TB: t, out: &out, in: ours, ends: run.Ended()}
}

// await waits for a word after the one that was waited for before.
func (c *client) await(word string) {
	c.Helper()
	eventually(c, func() error {
		said := c.out.String()[c.read:]
		if before, _, ok := strings.Cut("\n"+said, "\n"+word+"\n"); ok {
			c.read += len(before) + len(word)
			return nil
		}
		select {
		case <-c.ends:
			c.Fatalf("the example ended instead of saying %q:\n%s", word, c.out)
		default:
		}
		return fmt.Errorf("waiting for %q; the example says:\n%s", word, c.out)
	})
}

// exchange has the example send a message to itself.
func (c *client) exchange() {
	c.Helper()
	if _, err := io.WriteString(c.in, "exchange\n"); err != nil {
		c.Fatal(errors.Join(err, errors.New(c.out.String())))
	}
	c.await("received:world")
}

// TestReadmePython runs the README's example where nats-py is installed.
func TestReadmePython(t *testing.T) {
	t.Parallel()
	if exec.Command("python3", "-c", "import nats").Run() != nil {
		t.Skip("not run: python package nats-py is not installed")
	}
	d := startDemo(t)
	s := newTerminal(t, d.Config)
	d.tokenFile(t, s, "alice")
	example := replace(t, readme(t, "python"), "nats://127.0.0.1:4222", d.NatsURL)
	program := "import asyncio, nats\n\nasync def main():\n" + regexp.MustCompile(`(?m)^`).ReplaceAllString(strings.TrimRight(example, "\n"), "    ") + `
    sub = await nc.subscribe("app.hello")
    await nc.publish("app.hello", b"world")
    print((await sub.next_msg(timeout=5)).data.decode())
    await nc.close()

asyncio.run(main())
`
	cmd := exec.Command("python3", "-c", program)
	cmd.Dir = s.dir
	if out, err := cmd.CombinedOutput(); err != nil || strings.TrimSpace(string(out)) != "world" {
		t.Errorf("%v\n%s", err, out)
	}
}
