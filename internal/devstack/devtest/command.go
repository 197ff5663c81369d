package devtest

import (
	"errors"
	"os"
	"os/exec"
	"runtime"
	"syscall"
	"testing"
	"time"
)

// Command is a program that runs during a test.
type Command struct {
	t     testing.TB
	cmd   *exec.Cmd
	ended chan struct{}
}

// StartCommand starts a program, which ends with the test at the latest, however that ends.
func StartCommand(t testing.TB, cmd *exec.Cmd) *Command {
	t.Helper()
	c := &Command{t, cmd, make(chan struct{})}
	if err := launch(cmd, c.ended); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Stop)
	return c
}

// Stop asks the program to end and kills it when it does not in time, which fails the test; on one that has ended it
// does nothing.
func (c *Command) Stop() {
	c.t.Helper()
	if err := c.cmd.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		c.t.Errorf("stopping %s: %v", c.cmd.Path, err)
	}
	select {
	case <-c.ended:
	case <-time.After(stopTimeout):
		_ = c.cmd.Process.Kill() // it may have ended just now
		<-c.ended
		c.t.Errorf("%s did not stop within %s and was killed", c.cmd.Path, stopTimeout)
	}
}

// Ended is closed when the program has ended.
func (c *Command) Ended() <-chan struct{} { return c.ended }

// ExitCode returns how the program ended; -1 when by a signal. Call it after Ended.
func (c *Command) ExitCode() int { return c.cmd.ProcessState.ExitCode() }

// launch starts a process that dies with this one, and a goroutine that ends with it.
func launch(cmd *exec.Cmd, ended chan<- struct{}) error {
	cmd.SysProcAttr = dieWithParent()
	started := make(chan error, 1)
	go func() {
		// The parent whose death the child follows is the thread, so the thread stays until the child has ended.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		defer close(ended)
		err := cmd.Start()
		started <- err
		if err == nil {
			_ = cmd.Wait() // its state says how it ended
		}
	}()
	return <-started
}
