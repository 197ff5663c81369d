package devstack

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func writeConf(t *testing.T, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "nats-server.conf")
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestStartServers(t *testing.T) {
	t.Parallel()
	conf := writeConf(t, fmt.Sprintf("listen: 127.0.0.1:-1\nwebsocket { listen: 127.0.0.1:-1, no_tls: true }\njetstream { store_dir: %q }", t.TempDir()))
	servers, err := StartServers(t.Context(), slog.New(slog.DiscardHandler), conf)
	if err != nil {
		t.Fatal(err)
	}
	defer StopServers(servers)
	ports := servers[0].Ports()
	for _, url := range slices.Concat(ports.Nats, ports.WebSocket) {
		nc, err := nats.Connect(url)
		if err != nil {
			t.Fatal(err)
		}
		nc.Close()
	}
	if len(ports.WebSocket) != 1 {
		t.Fatalf("ports: %+v", ports)
	}
}

func TestServersThatCannotStart(t *testing.T) {
	t.Parallel()
	occupied, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { occupied.Close() })
	for name, test := range map[string]struct{ conf, want string }{
		"syntax":         {"listen: {", "nats-server.conf"},
		"unknown key":    {"lisden: 1", "lisden"},
		"port taken":     {fmt.Sprintf("listen: %s", occupied.Addr()), "address already in use"},
		"websocket port": {fmt.Sprintf("listen: 127.0.0.1:-1\nwebsocket { listen: %q, no_tls: true }", occupied.Addr()), "address already in use"},
		"monitor port":   {fmt.Sprintf("listen: 127.0.0.1:-1\nhttp: %q", occupied.Addr()), "address already in use"},
		"options":        {"listen: 127.0.0.1:-1\nwebsocket { listen: 127.0.0.1:-1 }", "TLS"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			good := writeConf(t, "listen: 127.0.0.1:-1")
			servers, err := StartServers(t.Context(), slog.New(slog.DiscardHandler), good, writeConf(t, test.conf))
			if err == nil {
				StopServers(servers)
				t.Fatal("started")
			}
			if !strings.Contains(err.Error(), test.want) {
				t.Errorf("the error does not say %q: %v", test.want, err)
			}
		})
	}
}

func TestAwaitReadySaysWhatIsMissing(t *testing.T) {
	t.Parallel()
	ports, err := ReservePorts(2)
	if err != nil {
		t.Fatal(err)
	}
	conf := writeConf(t, fmt.Sprintf("listen: 127.0.0.1:-1\nserver_name: lonely\ncluster { name: c, listen: 127.0.0.1:%d, routes: [nats://127.0.0.1:%d] }", ports[0], ports[1]))
	lonely, stopped := NewServer(conf, slog.New(slog.DiscardHandler)), NewServer(conf, slog.New(slog.DiscardHandler))
	if err := lonely.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	defer lonely.Stop()
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	err = AwaitReady(ctx, lonely, stopped)
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("got %v", err)
	}
	for _, want := range []string{"lonely has routes to 0 of 1 others", "does not run"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("the error does not say %q: %v", want, err)
		}
	}
}

func TestReservedPortsAreFreeAndDiffer(t *testing.T) {
	t.Parallel()
	ports, err := ReservePorts(20)
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(ports)
	if len(slices.Compact(slices.Clone(ports))) != 20 {
		t.Fatalf("a port twice: %v", ports)
	}
	for range 200 { // the system must not hand them out
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer listener.Close()
		if slices.Contains(ports, listener.Addr().(*net.TCPAddr).Port) {
			t.Fatalf("reserved port %s was given away", listener.Addr())
		}
	}
	for _, port := range ports {
		listener, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if err != nil {
			t.Fatal(err)
		}
		listener.Close()
	}
}
