package devtest

import (
	"context"
	"errors"
	"fmt"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"

	"github.com/gatehouse-nats/gatehouse/internal/devstack"
)

// readyTimeout is ample: a cluster of three with JetStream needs about two seconds on a busy machine.
const readyTimeout = 60 * time.Second

// Mode says where servers run.
type Mode int

// The modes. Only processes can be killed and frozen. OldestProcess is a process of the oldest nats-server that
// Gatehouse supports, the others are of the one in go.mod.
const (
	InProcess Mode = iota
	AsProcess
	OldestProcess
)

// String names the mode, for subtests.
func (m Mode) String() string {
	return [...]string{"embedded", "process", "oldest"}[m]
}

// errInProcess answers signals to an embedded server.
var errInProcess = errors.New("this server runs in the test's process: start it with AsProcess")

// runner runs one nats-server.
type runner interface {
	devstack.Node
	start(ctx context.Context) error
	stop() error
	signal(signal syscall.Signal) error
	ports() server.Ports
}

// Server is one nats-server of a test. Its methods fail the test when they cannot do what they say; they are for one
// goroutine at a time.
type Server struct {
	t      testing.TB
	runner runner
}

// StartServers starts a nats-server for each configuration file and returns when all are ready together (routes formed,
// JetStream healthy). They are stopped at the end of the test. Processes do not tell when their JetStream leader is
// ready to place replicas on all of them: a stream with replicas may be refused with "no suitable peers" (code 10005)
// for up to a second longer. A process needs a monitoring endpoint in its configuration.
func StartServers(t testing.TB, confs []string, mode Mode) []*Server {
	t.Helper()
	var servers []*Server
	for _, conf := range confs {
		s := &Server{t: t, runner: newRunner(t, conf, mode)}
		t.Cleanup(s.Stop)
		s.Start()
		servers = append(servers, s)
	}
	AwaitReady(t, servers...)
	return servers
}

func newRunner(t testing.TB, conf string, mode Mode) runner {
	t.Helper()
	if mode != InProcess {
		binary := BuildServer
		if mode == OldestProcess {
			binary = BuildOldest
		}
		p := &process{binary: binary(t), conf: conf, dir: t.TempDir()}
		t.Cleanup(func() {
			if t.Failed() {
				t.Logf("log of the nats-server of %s ends with:\n%s", conf, p.logTail())
			}
		})
		return p
	}
	return embedded{devstack.NewServer(conf, Log(t))}
}

// AwaitReady returns when the servers are ready together, as servers of one cluster when they are configured for one.
func AwaitReady(t testing.TB, servers ...*Server) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), readyTimeout)
	defer cancel()
	var nodes []devstack.Node
	for _, s := range servers {
		nodes = append(nodes, s.runner)
	}
	if err := devstack.AwaitReady(ctx, nodes...); err != nil {
		t.Fatal(err)
	}
}

// Start starts the server again after Stop or Kill and returns when it accepts clients.
func (s *Server) Start() {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), readyTimeout)
	defer cancel()
	s.must(s.runner.start(ctx))
}

// Stop shuts the server down in good order and returns when it has ended; on a stopped one it does nothing.
func (s *Server) Stop() {
	s.t.Helper()
	if err := s.runner.stop(); err != nil { // not fatal: it runs in Cleanup too
		s.t.Error(err)
	}
}

// Restart is Stop and Start.
func (s *Server) Restart() {
	s.t.Helper()
	s.Stop()
	s.Start()
}

// Kill ends the server's process at once (SIGKILL) and returns when it is gone.
func (s *Server) Kill() {
	s.t.Helper()
	s.must(s.runner.signal(syscall.SIGKILL))
}

// Reload has the server's process read its file anew (SIGHUP); it does not wait for that.
func (s *Server) Reload() {
	s.t.Helper()
	s.must(s.runner.signal(syscall.SIGHUP))
}

// Freeze stops the server's process in its tracks (SIGSTOP) and returns when it stands still: its connections stay open
// and silent.
func (s *Server) Freeze() {
	s.t.Helper()
	s.must(s.runner.signal(syscall.SIGSTOP))
}

// Thaw lets a frozen server go on (SIGCONT).
func (s *Server) Thaw() {
	s.t.Helper()
	s.must(s.runner.signal(syscall.SIGCONT))
}

// ClientURL returns the URL for clients.
func (s *Server) ClientURL() string { return s.url("clients", s.runner.ports().Nats) }

// WebSocketURL returns the URL for WebSocket clients.
func (s *Server) WebSocketURL() string { return s.url("WebSocket", s.runner.ports().WebSocket) }

// MonitorURL returns the URL of the monitoring endpoint.
func (s *Server) MonitorURL() string { return s.url("monitoring", s.runner.ports().Monitoring) }

func (s *Server) url(what string, urls []string) string {
	s.t.Helper()
	if len(urls) == 0 {
		s.t.Fatalf("the server has no listener for %s", what)
	}
	return urls[0]
}

func (s *Server) must(err error) {
	s.t.Helper()
	if err != nil {
		s.t.Fatal(err)
	}
}

// embedded runs a server in the test's process.
type embedded struct {
	*devstack.Server
}

func (e embedded) start(ctx context.Context) error { return e.Start(ctx) }
func (e embedded) ports() server.Ports             { return e.Ports() }

func (e embedded) stop() error {
	e.Stop()
	return nil
}

func (e embedded) signal(signal syscall.Signal) error {
	return fmt.Errorf("%s: %w", signal, errInProcess)
}
