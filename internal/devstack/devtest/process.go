package devtest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
)

const (
	pollInterval   = 20 * time.Millisecond
	stopTimeout    = 20 * time.Second
	monitorTimeout = 2 * time.Second
	// maxAnswer bounds what is read from a monitoring endpoint.
	maxAnswer = 4 << 20
	// maxLogTail is how much of a server's log is quoted.
	maxLogTail = 4 << 10
)

// monitoring asks servers for their state, over fresh connections so that none outlives its test.
var monitoring = &http.Client{Timeout: monitorTimeout, Transport: &http.Transport{DisableKeepAlives: true}}

// buildServer and buildOldest return the path of a binary, built once in a test process.
var (
	buildServer = sync.OnceValues(func() (string, error) { return build(".", "nats-server-"+server.VERSION) })
	buildOldest = sync.OnceValues(func() (string, error) {
		module, err := oldestModule()
		if err != nil {
			return "", err
		}
		return build(module, "nats-server-oldest")
	})
)

// oldestModule returns the folder of the module that pins the oldest supported nats-server.
func oldestModule() (string, error) {
	root, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "github.com/gatehouse-nats/gatehouse").Output()
	if err != nil {
		return "", fmt.Errorf("finding the module of the oldest nats-server: %w", err)
	}
	return filepath.Join(strings.TrimSpace(string(root)), "tools", "oldest"), nil
}

// build builds the nats-server that the go.mod of a folder names.
func build(folder, name string) (string, error) {
	dir, err := buildDir()
	if err != nil {
		return "", err
	}
	// go build is up to date at once when nothing changed; its -o replaces the file of a concurrent build safely only
	// under another name.
	binary := filepath.Join(dir, name)
	temp := binary + "." + strconv.Itoa(os.Getpid())
	defer os.Remove(temp) // fails after the rename, as it should
	build := exec.Command("go", "build", "-o", temp, "github.com/nats-io/nats-server/v2")
	build.Dir = folder
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if output, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("building nats-server: %w\n%s", err, output)
	}
	// Of builds at the same time one was seen to leave its file without the right to execute it.
	if err := os.Chmod(temp, 0o700); err != nil {
		return "", fmt.Errorf("building nats-server: %w", err)
	}
	return binary, os.Rename(temp, binary)
}

// buildDir is private to the user, so that nobody else can place a binary there.
func buildDir() (string, error) {
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("a place for the nats-server binary: %w", err)
	}
	dir := filepath.Join(cache, "gatehouse-test")
	return dir, os.MkdirAll(dir, 0o700)
}

// BuildServer returns the path of a nats-server binary of the version in go.mod, built once in a test process.
func BuildServer(t testing.TB) string {
	t.Helper()
	binary, err := buildServer()
	if err != nil {
		t.Fatal(err)
	}
	return binary
}

// BuildOldest returns the path of a binary of the oldest nats-server that Gatehouse supports, built once in a test
// process. Its module is fetched when the machine does not have it yet.
func BuildOldest(t testing.TB) string {
	t.Helper()
	binary, err := buildOldest()
	if err != nil {
		t.Fatal(err)
	}
	return binary
}

// process runs a nats-server as a process.
type process struct {
	binary, conf string
	dir          string // for the ports file and the log

	run *running // nil unless started
}

// running is one life of a process.
type running struct {
	cmd    *exec.Cmd
	log    string
	ports  server.Ports
	exited chan struct{} // closed when it has ended
}

func (p *process) start(ctx context.Context) error {
	if p.run != nil {
		return fmt.Errorf("nats-server of %s runs already", p.conf)
	}
	run := &running{
		cmd: exec.Command(p.binary, "-c", p.conf, "--ports_file_dir", p.dir),
		log: p.log(), exited: make(chan struct{}),
	}
	if err := run.launch(); err != nil {
		return fmt.Errorf("nats-server of %s: %w", p.conf, err)
	}
	if err := run.awaitPorts(ctx, p.portsFile(run)); err != nil {
		_ = run.cmd.Process.Kill() // it may have ended already
		<-run.exited
		return fmt.Errorf("nats-server of %s does not start: %w\n%s", p.conf, err, p.logTail())
	}
	p.run = run
	return nil
}

// portsFile is where nats-server writes its URLs once it listens on all of them.
func (p *process) portsFile(run *running) string {
	return filepath.Join(p.dir, fmt.Sprintf("%s_%d.ports", filepath.Base(p.binary), run.cmd.Process.Pid))
}

// launch starts the process with its log open.
func (r *running) launch() error {
	log, err := os.OpenFile(r.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer log.Close() // the child has its own
	r.cmd.Stdout, r.cmd.Stderr = log, log
	return launch(r.cmd, r.exited)
}

func (r *running) awaitPorts(ctx context.Context, file string) error {
	ticker := time.NewTicker(pollInterval)
	defer ticker.Stop()
	for {
		data, err := os.ReadFile(file)
		if err == nil && json.Unmarshal(data, &r.ports) == nil { // it may be half written
			return nil
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-r.exited:
			return errors.New("it ended at once")
		case <-ticker.C:
		}
	}
}

func (p *process) log() string { return filepath.Join(p.dir, "log") }

// logTail returns the end of the server's log.
func (p *process) logTail() []byte {
	data, err := os.ReadFile(p.log())
	if err != nil {
		return []byte(err.Error())
	}
	return data[max(0, len(data)-maxLogTail):]
}

// stop ends the process in good order, or kills it when it does not end in time.
func (p *process) stop() error {
	if p.run == nil {
		return nil
	}
	run := p.run
	p.run = nil
	for _, signal := range []syscall.Signal{syscall.SIGTERM, syscall.SIGCONT} { // a frozen one must thaw to end
		if err := run.cmd.Process.Signal(signal); err != nil && !errors.Is(err, os.ErrProcessDone) {
			return fmt.Errorf("stopping nats-server of %s: %w", p.conf, err)
		}
	}
	select {
	case <-run.exited:
		return nil
	case <-time.After(stopTimeout):
		_ = run.cmd.Process.Kill() // it may have ended just now
		<-run.exited
		return fmt.Errorf("nats-server of %s did not stop within %s and was killed\n%s", p.conf, stopTimeout, p.logTail())
	}
}

func (p *process) signal(signal syscall.Signal) error {
	if p.run == nil {
		return fmt.Errorf("nats-server of %s does not run", p.conf)
	}
	if err := p.run.cmd.Process.Signal(signal); err != nil {
		return fmt.Errorf("nats-server of %s: %w", p.conf, err)
	}
	switch signal {
	case syscall.SIGSTOP:
		return awaitStopped(p.run.cmd.Process.Pid)
	case syscall.SIGKILL:
		<-p.run.exited
		p.run = nil
	}
	return nil
}

// awaitStopped returns when every thread of the child stands still: after SIGSTOP they may run on for a moment.
func awaitStopped(pid int) error {
	for {
		var status syscall.WaitStatus
		_, err := syscall.Wait4(pid, &status, syscall.WUNTRACED, nil)
		switch {
		case errors.Is(err, syscall.EINTR):
		case err != nil:
			return fmt.Errorf("waiting for process %d to stop: %w", pid, err)
		case !status.Stopped():
			return fmt.Errorf("process %d ended instead of stopping", pid)
		default:
			return nil
		}
	}
}

func (p *process) ports() server.Ports {
	if p.run == nil {
		return server.Ports{}
	}
	return p.run.ports
}

// Ready is described at devstack.Node.
func (p *process) Ready(ctx context.Context, others int) error {
	if p.run == nil {
		return fmt.Errorf("nats-server of %s does not run", p.conf)
	}
	var varz server.Varz
	if err := p.run.monitor(ctx, "/varz", &varz); err != nil {
		return err
	}
	if varz.Cluster.Port != 0 && varz.Remotes < others {
		return fmt.Errorf("nats-server %s has routes to %d of %d others", varz.Name, varz.Remotes, others)
	}
	var health server.HealthStatus
	if err := p.run.monitor(ctx, "/healthz", &health); err != nil {
		return err
	}
	if health.Status != "ok" {
		return fmt.Errorf("nats-server %s: %s", varz.Name, health.Error)
	}
	return nil
}

func (r *running) monitor(ctx context.Context, path string, answer any) error {
	if len(r.ports.Monitoring) == 0 {
		return errors.New(`a server process is asked for its state over HTTP: add http: "127.0.0.1:-1" to its configuration`)
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, r.ports.Monitoring[0]+path, nil)
	if err != nil {
		return err
	}
	response, err := monitoring.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if err := json.NewDecoder(io.LimitReader(response.Body, maxAnswer)).Decode(answer); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return nil
}
