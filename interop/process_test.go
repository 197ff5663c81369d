package interop

import (
	"bytes"
	"os/exec"
	"sync"
	"testing"

	"github.com/gatehouse-nats/gatehouse/internal/devstack/devtest"
)

// output is what a program prints; it is shown when the test fails.
type output struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.String()
}

// start runs a program until the test ends. What it prints is kept, unless cmd says where it goes.
func start(t testing.TB, cmd *exec.Cmd) (*devtest.Command, *output) {
	t.Helper()
	var printed output
	if cmd.Stdout == nil {
		cmd.Stdout = &printed
	}
	if cmd.Stderr == nil {
		cmd.Stderr = &printed
	}
	t.Cleanup(func() {
		if text := printed.String(); t.Failed() {
			t.Logf("%s printed at last:\n%s", cmd, text[max(0, len(text)-4<<10):])
		}
	})
	return devtest.StartCommand(t, cmd), &printed
}
