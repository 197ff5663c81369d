package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"
)

// service is a gatehouse command that runs until it is stopped.
type service interface {
	// stop ends it in good order and returns how it ended when not well.
	stop() error
}

// stopLimit is ample for a service that ends in good order.
const stopLimit = 20 * time.Second

// inProcess runs a command in this process.
type inProcess struct {
	cancel context.CancelFunc
	code   chan int
}

func startInProcess(env []string, log *record, args ...string) *inProcess {
	ctx, cancel := context.WithCancel(context.Background())
	s := &inProcess{cancel: cancel, code: make(chan int, 1)}
	go func() { s.code <- run(ctx, args, stdio{in: strings.NewReader(""), out: log, err: log, env: env}) }()
	return s
}

func (s *inProcess) stop() error {
	s.cancel()
	select {
	case code := <-s.code:
		if code != exitDone {
			return fmt.Errorf("it ended with %d", code)
		}
		return nil
	case <-time.After(stopLimit):
		return fmt.Errorf("it did not stop within %s", stopLimit)
	}
}

// process runs a command in a process of its own: the test binary, see TestMain.
type process struct {
	cmd   *exec.Cmd
	alive io.Closer     // ends the process when it closes, however this one ends
	ended chan struct{} // closed when it has
}

func startProcess(t testing.TB, env []string, log *record, args ...string) *process {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	theirs, ours, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	p := &process{cmd: exec.Command(self, args...), alive: ours, ended: make(chan struct{})}
	// Without GORACE the race detector lets a process that ends sleep for a second.
	p.cmd.Env = append([]string{asGatehouse + "=1", "GORACE=atexit_sleep_ms=0"}, env...)
	p.cmd.ExtraFiles = []*os.File{theirs}
	p.cmd.Stdout, p.cmd.Stderr = log, log
	err = p.cmd.Start()
	_ = theirs.Close()
	if err != nil {
		_ = ours.Close()
		t.Fatal(err)
	}
	go func() {
		defer close(p.ended)
		_ = p.cmd.Wait() // its state says how it ended
		_ = ours.Close()
	}()
	return p
}

func (p *process) signal(s syscall.Signal) error { return p.cmd.Process.Signal(s) }

func (p *process) stop() error {
	if err := p.signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	select {
	case <-p.ended:
	case <-time.After(stopLimit):
		p.kill()
		return fmt.Errorf("it did not stop within %s", stopLimit)
	}
	if code := p.cmd.ProcessState.ExitCode(); code != exitDone {
		return fmt.Errorf("it ended with %s", p.cmd.ProcessState)
	}
	return nil
}

// kill ends the process at once and returns when it is gone.
func (p *process) kill() {
	_ = p.signal(syscall.SIGKILL) // it may have ended already
	<-p.ended
}

// web asks over fresh connections, so that none outlives its test.
var web = &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}

// get returns an answer; what it says is evidence.
func get(url string) (code int, body string, err error) {
	resp, err := web.Get(url)
	if err != nil {
		return 0, "", err
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	_, _ = evidence.open(url).Write(data)
	return resp.StatusCode, string(data), err
}
