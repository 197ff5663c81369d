package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"html"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// step is one command of the README's first section, with what it promises.
type step struct {
	command string
	fails   bool     // it ends in an authorization violation
	output  []string // what a console block shows below it
}

// readmeSteps returns the commands between "## Try it" and the next section.
func readmeSteps(t *testing.T) []step {
	t.Helper()
	text, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, ok := strings.Cut(string(text), "\n## Try it")
	if !ok {
		t.Fatal("the README has no section Try it")
	}
	section, _, _ = strings.Cut(section, "\n## ")
	var steps []step
	for _, block := range regexp.MustCompile("(?s)```(sh|console)\n(.*?)```").FindAllStringSubmatch(section, -1) {
		fails := false
		for line := range strings.Lines(block[2]) {
			line = strings.TrimRight(line, "\n")
			command, comment, _ := strings.Cut(line, " #")
			command = strings.TrimSpace(command)
			switch {
			case strings.HasPrefix(line, "# "):
				fails = strings.Contains(line, "Authorization Violation")
			case block[1] == "console" && !strings.HasPrefix(line, "$ "):
				last := &steps[len(steps)-1]
				last.output = append(last.output, line)
			case command != "":
				steps = append(steps, step{
					command: strings.TrimPrefix(command, "$ "),
					fails:   fails || strings.Contains(comment, "Authorization Violation"),
				})
				fails = false
			}
		}
	}
	return steps
}

// TestReadme runs what the README tells a newcomer to, word for word but for the ports.
func TestReadme(t *testing.T) {
	home := t.TempDir()
	if err := os.Mkdir(filepath.Join(home, "bin"), 0o700); err != nil {
		t.Fatal(err)
	}
	goTool(t, nil, "build", "-o", filepath.Join(home, "bin", "gatehouse"), ".")
	installNATS(t, filepath.Join(home, "bin"))
	env := append(os.Environ(), "HOME="+home, "XDG_CONFIG_HOME="+filepath.Join(home, ".config"), "SSH_CONNECTION=none",
		"PATH="+filepath.Join(home, "bin")+":"+os.Getenv("PATH"))

	ready := startDev(t, home, env)
	runGoProgram(t, home, env, ready)
	for _, s := range readmeSteps(t) {
		switch {
		case strings.HasPrefix(s.command, "make "):
			continue // dev is what runs already, test is what runs this
		case strings.HasPrefix(s.command, "export "):
			name, value, _ := strings.Cut(strings.TrimPrefix(s.command, "export "), "=")
			env = append(env, name+"="+strings.ReplaceAll(value, "~", home))
			continue
		}
		command := strings.ReplaceAll(s.command, "nats://127.0.0.1:4222", ready.NatsURL)
		out, err := runStep(t, home, env, command)
		out = strings.ReplaceAll(out, ready.Issuer, "http://127.0.0.1:5556")
		switch {
		case s.fails && (err == nil || !strings.Contains(out, "Authorization Violation")):
			t.Errorf("%s\nwas not refused: %v\n%s", s.command, err, out)
		case s.output != nil && !strings.HasPrefix(out, strings.Join(s.output, "\n")):
			t.Errorf("%s\nprinted\n%s\nthe README says\n%s", s.command, out, strings.Join(s.output, "\n"))
		case !s.fails && s.output == nil && err != nil && !strings.Contains(s.command, "whoami"):
			t.Errorf("%s\nfailed: %v\n%s", s.command, err, out)
		case strings.Contains(s.command, "whoami") && !strings.Contains(out, "blocked"):
			t.Errorf("%s\ndoes not say that alice is blocked:\n%s", s.command, out)
		}
	}
}

// installNATS installs the nats CLI in the release that the README names.
func installNATS(t *testing.T, bin string) {
	t.Helper()
	text, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	line := regexp.MustCompile("`go install (github.com/nats-io/natscli/nats@v[0-9.]+)`").FindSubmatch(text)
	if line == nil {
		t.Fatal("the README does not say how to install the nats CLI")
	}
	goTool(t, []string{"GOBIN=" + bin}, "install", string(line[1]))
}

func goTool(t *testing.T, env []string, args ...string) {
	t.Helper()
	cmd := exec.Command("go", args...)
	cmd.Env = append(os.Environ(), env...)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("go %s: %v\n%s", strings.Join(args, " "), err, out)
	}
}

// startDev runs gatehouse dev in the folder that it takes by itself.
func startDev(t *testing.T, home string, env []string) devReady {
	t.Helper()
	cmd := exec.Command("bin/gatehouse", "dev", "--ports", "random", "--json", "--quiet")
	cmd.Dir, cmd.Env = home, env
	var log bytes.Buffer
	cmd.Stderr = &log
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Signal(os.Interrupt)
		if err := cmd.Wait(); err != nil {
			t.Errorf("gatehouse dev ended with %v\n%s", err, &log)
		}
	})
	var ready devReady
	if err := json.NewDecoder(out).Decode(&ready); err != nil {
		t.Fatalf("gatehouse dev did not become ready: %v\n%s", err, &log)
	}
	return ready
}

// runGoProgram runs the README's Go program with a token of alice's.
func runGoProgram(t *testing.T, home string, env []string, ready devReady) {
	t.Helper()
	text, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	program := regexp.MustCompile("(?s)```go\n(.*?)```").FindSubmatch(text)
	if program == nil {
		t.Fatal("the README has no Go program")
	}
	token := filepath.Join(home, "token.jwt")
	if out, err := runStep(t, home, env, "bin/gatehouse dev token --user alice > "+token); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	source := strings.NewReplacer("nats://127.0.0.1:4222", ready.NatsURL, "http://127.0.0.1:8420", ready.HTTPURL, `"token.jwt"`, fmt.Sprintf("%q", token)).
		Replace(string(program[1]))
	file := filepath.Join(home, "main.go")
	if err := os.WriteFile(file, []byte(source), 0o600); err != nil {
		t.Fatal(err)
	}
	goTool(t, nil, "run", file)
}

// runStep runs one command; a login that it asks for is done as alice.
func runStep(t *testing.T, home string, env []string, command string) (string, error) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "bash", "-o", "pipefail", "-c", command)
	cmd.Dir, cmd.Env = home, env
	var out bytes.Buffer
	cmd.Stdout = &out
	stderr, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var said strings.Builder
	for lines := bufio.NewScanner(stderr); lines.Scan(); {
		line := strings.TrimSpace(lines.Text())
		fmt.Fprintln(&said, line)
		if strings.HasPrefix(line, "http://") && strings.Contains(line, "code_challenge=") {
			logInAs(t, line, "alice")
		}
	}
	err = cmd.Wait()
	return out.String() + said.String(), err
}

// logInAs does in the browser what a person would: open the page, fill in the form.
func logInAs(t *testing.T, address, user string) {
	t.Helper()
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	browser := &http.Client{Jar: jar, Timeout: 10 * time.Second}
	get, err := browser.Get(address)
	if err != nil {
		t.Fatal(err)
	}
	page, err := io.ReadAll(io.LimitReader(get.Body, 1<<20))
	_ = get.Body.Close()
	if err != nil {
		t.Fatal(err)
	}
	form := url.Values{}
	for _, in := range regexp.MustCompile(`<input[^>]*name="([^"]+)"[^>]*value="([^"]*)"`).FindAllSubmatch(page, -1) {
		form.Set(string(in[1]), html.UnescapeString(string(in[2])))
	}
	form.Set("username", user)
	form.Set("password", user)
	post, err := browser.PostForm(get.Request.URL.String(), form)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = post.Body.Close() }()
	if post.StatusCode != http.StatusOK {
		t.Fatalf("the login of %s ended with %s", user, post.Status)
	}
}
