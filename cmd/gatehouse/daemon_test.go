package main

import (
	"context"
	"io"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/gatehouse-nats/gatehouse/cmd/gatehouse/config"
	"github.com/gatehouse-nats/gatehouse/internal/devstack/devtest"
)

// A replica that is told to stop ends no call that is under way: what its answer needs is there until it was given.
func TestServeWaitsForCalls(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		entered, release := make(chan struct{}), make(chan struct{})
		s := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			close(entered)
			<-release
			_, _ = io.WriteString(w, "done")
		})}
		l := &pipes{conns: make(chan net.Conn), closed: make(chan struct{})}
		ctx, stop := context.WithCancel(t.Context())
		defer stop()
		ended := make(chan error, 1)
		go func() { ended <- (&daemon{log: slog.New(slog.DiscardHandler)}).serve(l, s)(ctx) }()
		client, server := net.Pipe()
		l.conns <- server
		answer := make(chan string, 1)
		go func() {
			_, _ = io.WriteString(client, "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
			data, _ := io.ReadAll(client)
			answer <- string(data)
		}()
		<-entered
		stop()
		synctest.Wait()
		select {
		case err := <-ended:
			t.Errorf("it has ended (%v) while a call is under way", err)
			ended <- err
		default:
		}
		close(release)
		if got := <-answer; len(got) < 4 || got[len(got)-4:] != "done" {
			t.Errorf("the call is answered with %q", got)
		}
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}

// pipes is a listener whose connections come from a channel.
type pipes struct {
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
}

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}

func (p *pipes) Close() error {
	p.once.Do(func() { close(p.closed) })
	return nil
}

func (p *pipes) Addr() net.Addr { return &net.UnixAddr{Name: "pipes", Net: "unix"} }

// A server that accepts and says nothing holds up the start of a replica once, and not once for each connection.
func TestConnectsAtOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t, worldOptions{noServers: true})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	cfg, err := config.Load(w.config(), []string{"HOME=" + w.dir, "GATEHOUSE_NATS_URL=nats://" + l.Addr().String()})
	if err != nil {
		t.Fatal(err)
	}
	d := &daemon{log: devtest.Log(t)}
	t.Cleanup(d.close)
	var mu sync.Mutex
	begun, before := 0, 0 // before the first client gave up
	var reads sync.WaitGroup
	reads.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			mu.Lock()
			begun++
			mu.Unlock()
			reads.Go(func() {
				_, _ = io.Copy(io.Discard, c) // until the client gives up
				_ = c.Close()
				mu.Lock()
				defer mu.Unlock()
				if before == 0 {
					before = begun
				}
			})
		}
	})
	if err := d.connect(t.Context(), cfg); err != nil {
		t.Fatal(err)
	}
	d.close()
	_ = l.Close()
	reads.Wait()
	if want := cfg.NATS.Callout.Connections + 1; before < want {
		t.Errorf("%d connections were begun before the first gave up, want %d", before, want)
	}
}
