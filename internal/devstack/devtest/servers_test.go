package devtest

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// clusterConfs writes configurations of n servers: a cluster with JetStream when there are several.
func clusterConfs(t *testing.T, n int) []string {
	t.Helper()
	dir := t.TempDir()
	ports := Ports(t, 2*n)
	var routes []string
	for _, port := range ports[n:] {
		routes = append(routes, fmt.Sprintf("nats://127.0.0.1:%d", port))
	}
	var confs []string
	for i := range n {
		conf := fmt.Sprintf(`server_name: s%d
listen: 127.0.0.1:%d
http: "127.0.0.1:-1"
jetstream { store_dir: %q }
`, i, ports[i], filepath.Join(dir, fmt.Sprintf("js%d", i)))
		if n > 1 {
			conf += fmt.Sprintf("cluster { name: c, listen: 127.0.0.1:%d, routes: [%s] }\n", ports[n+i], strings.Join(routes, ", "))
		}
		path := filepath.Join(dir, fmt.Sprintf("s%d.conf", i))
		if err := os.WriteFile(path, []byte(conf), 0o600); err != nil {
			t.Fatal(err)
		}
		confs = append(confs, path)
	}
	return confs
}

func connect(t *testing.T, url string) *nats.Conn {
	t.Helper()
	nc, err := nats.Connect(url, nats.Timeout(5*time.Second))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	return nc
}

func TestClusterIsReady(t *testing.T) {
	t.Parallel()
	for _, mode := range []Mode{InProcess, AsProcess} {
		for _, n := range []int{1, 3} {
			t.Run(fmt.Sprintf("%s/%d", mode, n), func(t *testing.T) {
				t.Parallel()
				servers := StartServers(t, clusterConfs(t, n), mode)
				js, err := jetstream.New(connect(t, servers[0].ClientURL()))
				if err != nil {
					t.Fatal(err)
				}
				// A replica on each server is only possible when every server has joined.
				createStream(t, js, mode, n)
				servers[0].Restart()
				AwaitReady(t, servers...)
				js, err = jetstream.New(connect(t, servers[0].ClientURL()))
				if err != nil {
					t.Fatal(err)
				}
				if _, err := js.Stream(t.Context(), "S"); err != nil {
					t.Fatal(err)
				}
				if response, err := monitoring.Get(servers[0].MonitorURL() + "/varz"); err != nil || response.StatusCode != http.StatusOK {
					t.Fatalf("monitoring: %v, %v", response, err)
				} else {
					response.Body.Close()
				}
			})
		}
	}
}

// createStream tries again where StartServers says that it may be too early.
func createStream(t *testing.T, js jetstream.JetStream, mode Mode, replicas int) {
	t.Helper()
	config := jetstream.StreamConfig{Name: "S", Subjects: []string{"s"}, Replicas: replicas}
	deadline := time.Now().Add(10 * time.Second)
	for {
		_, err := js.CreateStream(t.Context(), config)
		if err == nil {
			return
		}
		refused, ok := errors.AsType[*jetstream.APIError](err)
		tooEarly := ok && refused.ErrorCode == 10005
		if mode != AsProcess || !tooEarly || time.Now().After(deadline) {
			t.Fatal(err)
		}
		time.Sleep(pollInterval)
	}
}

func TestProcessFailures(t *testing.T) {
	t.Parallel()
	s := StartServers(t, clusterConfs(t, 1), AsProcess)[0]
	url := s.ClientURL()
	nc := connect(t, url)

	s.Freeze()
	if err := nc.FlushTimeout(100 * time.Millisecond); !errors.Is(err, nats.ErrTimeout) {
		t.Fatalf("a frozen server answered: %v", err)
	}
	s.Thaw()
	if err := nc.FlushTimeout(5 * time.Second); err != nil {
		t.Fatal(err)
	}

	s.Freeze() // the kill must not wait for a thaw
	s.Kill()
	if conn, err := net.DialTimeout("tcp", strings.TrimPrefix(url, "nats://"), time.Second); err == nil {
		conn.Close()
		t.Fatal("a killed server still listens")
	}
	s.Start()
	connect(t, s.ClientURL())

	s.Freeze()
	s.Stop() // nor a stop
	if err := s.runner.Ready(t.Context(), 0); err == nil {
		t.Fatal("a stopped server is ready")
	}
	s.Stop() // twice is harmless
}

func TestEmbeddedServerTakesNoSignals(t *testing.T) {
	t.Parallel()
	s := StartServers(t, clusterConfs(t, 1), InProcess)[0]
	if err := s.runner.signal(syscall.SIGKILL); !errors.Is(err, errInProcess) {
		t.Fatalf("got %v", err)
	}
}

func TestProcessThatCannotStart(t *testing.T) {
	t.Parallel()
	occupied, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer occupied.Close()
	conf := filepath.Join(t.TempDir(), "s.conf")
	if err := os.WriteFile(conf, fmt.Appendf(nil, "listen: %s", occupied.Addr()), 0o600); err != nil {
		t.Fatal(err)
	}
	p := &process{binary: BuildServer(t), conf: conf, dir: t.TempDir()}
	err = p.start(t.Context())
	if err == nil || !strings.Contains(err.Error(), "address already in use") {
		t.Fatalf("the reason is missing: %v", err)
	}
}
