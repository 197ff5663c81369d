package devstack

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/nats-io/nats-server/v2/server"
)

const (
	readyPoll = 20 * time.Millisecond
	// serverReadyTimeout bounds how long one server may take to listen when its caller sets no earlier end.
	serverReadyTimeout = 20 * time.Second
)

// Node is a nats-server that says how far it is: one in this process, or in tests one of its own.
type Node interface {
	// Ready returns nil when the server answers, has routes to that many other servers (if it is configured for a
	// cluster at all) and, with JetStream, is healthy; else what it lacks.
	Ready(ctx context.Context, others int) error
}

// AwaitReady returns when all nodes are ready, as servers of one cluster when they are configured for one, or, when ctx
// ends first, with what is missing.
func AwaitReady(ctx context.Context, nodes ...Node) error {
	ticker := time.NewTicker(readyPoll)
	defer ticker.Stop()
	for {
		var missing error
		for _, node := range nodes {
			missing = errors.Join(missing, node.Ready(ctx, len(nodes)-1))
		}
		if missing == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return errors.Join(context.Cause(ctx), missing)
		case <-ticker.C:
		}
	}
}

// StartServers starts a nats-server in this process for each configuration file and returns when all are ready
// together (see AwaitReady). On an error none is left running.
func StartServers(ctx context.Context, log *slog.Logger, confs ...string) ([]*Server, error) {
	var servers []*Server
	var nodes []Node
	for _, conf := range confs {
		s := NewServer(conf, log)
		if err := s.Start(ctx); err != nil {
			StopServers(servers)
			return nil, err
		}
		servers, nodes = append(servers, s), append(nodes, s)
	}
	if err := AwaitReady(ctx, nodes...); err != nil {
		StopServers(servers)
		return nil, err
	}
	return servers, nil
}

// StopServers stops all servers at the same time and returns when they have stopped.
func StopServers(servers []*Server) {
	var wg sync.WaitGroup
	for _, s := range servers {
		wg.Go(s.Stop)
	}
	wg.Wait()
}

// Server is a nats-server in this process. Its methods are for one goroutine at a time.
type Server struct {
	conf string
	log  *slog.Logger
	run  *server.Server // nil unless started
	opts *server.Options
}

// NewServer returns a server, not started yet, that reads the configuration file conf at each start and logs to log.
func NewServer(conf string, log *slog.Logger) *Server {
	return &Server{conf: conf, log: log}
}

// Start starts the server and returns when it accepts clients; AwaitReady waits for more. On an error it does not run.
func (s *Server) Start(ctx context.Context) error {
	if s.run != nil {
		return fmt.Errorf("nats-server of %s runs already", s.conf)
	}
	opts, err := server.ProcessConfigFile(s.conf)
	if err != nil {
		return fmt.Errorf("nats-server configuration %s: %w", s.conf, err)
	}
	opts.NoSigs = true // the signals belong to this program
	run, err := server.NewServer(opts)
	if err != nil {
		return fmt.Errorf("nats-server of %s: %w", s.conf, err)
	}
	log := &serverLog{log: s.log.With("nats_server", run.Name())}
	run.SetLoggerV2(log, opts.Debug, opts.Trace, opts.TraceVerbose)
	run.Start()
	if err := awaitListeners(ctx, run, log); err != nil {
		run.Shutdown()
		run.WaitForShutdown()
		return fmt.Errorf("nats-server of %s does not start: %w", s.conf, err)
	}
	s.run, s.opts = run, opts
	return nil
}

func awaitListeners(ctx context.Context, run *server.Server, log *serverLog) error {
	ctx, cancel := context.WithTimeout(ctx, serverReadyTimeout)
	defer cancel()
	for !run.ReadyForConnections(readyPoll) {
		if err := log.fatalError(); err != nil {
			return err
		}
		if ctx.Err() != nil {
			return errors.Join(context.Cause(ctx), log.lastError())
		}
	}
	return log.fatalError() // one listener failed although the others listen
}

// Stop shuts the server down and returns when it has ended; on a server that does not run it does nothing.
func (s *Server) Stop() {
	if s.run == nil {
		return
	}
	s.run.Shutdown()
	s.run.WaitForShutdown()
	s.run = nil
}

// Ready is described at Node.
func (s *Server) Ready(_ context.Context, others int) error {
	if s.run == nil {
		return fmt.Errorf("nats-server of %s does not run", s.conf)
	}
	if linked := s.run.NumRemotes(); s.opts.Cluster.Port != 0 && linked < others {
		return fmt.Errorf("nats-server %s has routes to %d of %d others", s.run.Name(), linked, others)
	}
	if health := s.run.Healthz(nil); health.Status != "ok" {
		return fmt.Errorf("nats-server %s: %s", s.run.Name(), health.Error)
	}
	// A healthy leader still refuses to place replicas on servers whose statistics it has not received.
	if !s.run.JetStreamIsClustered() || !s.run.JetStreamIsLeader() {
		return nil
	}
	if peers := len(s.run.JetStreamClusterPeers()); peers < others+1 {
		return fmt.Errorf("nats-server %s leads JetStream and has heard from %d of %d servers", s.run.Name(), peers, others+1)
	}
	return nil
}

// Ports returns the URLs on which the server listens; none when it does not run.
func (s *Server) Ports() server.Ports {
	if s.run == nil {
		return server.Ports{}
	}
	if ports := s.run.PortsInfo(serverReadyTimeout); ports != nil {
		return *ports
	}
	return server.Ports{}
}

// serverLog passes a server's log on and remembers why it could not start; it implements server.Logger. Unlike the
// server's own logger it does not end the program on a fatal error.
type serverLog struct {
	log *slog.Logger

	mu    sync.Mutex
	fatal error
	last  error
}

func (l *serverLog) Noticef(format string, v ...any) { l.log.Info(fmt.Sprintf(format, v...)) }
func (l *serverLog) Warnf(format string, v ...any)   { l.log.Warn(fmt.Sprintf(format, v...)) }
func (l *serverLog) Debugf(format string, v ...any)  { l.log.Debug(fmt.Sprintf(format, v...)) }
func (l *serverLog) Tracef(format string, v ...any)  { l.log.Debug(fmt.Sprintf(format, v...)) }

func (l *serverLog) Errorf(format string, v ...any) {
	text := fmt.Sprintf(format, v...)
	l.log.Error(text)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.last = errors.New(text)
}

func (l *serverLog) Fatalf(format string, v ...any) {
	text := fmt.Sprintf(format, v...)
	l.log.Error(text)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.fatal = errors.New(text)
}

func (l *serverLog) fatalError() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.fatal
}

func (l *serverLog) lastError() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.last
}
