package natsfacts

import (
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"go.uber.org/goleak"
)

// shared is a deployment that many tests use. They keep apart by making accounts of
// their own.
type shared struct {
	servers int

	once       sync.Once
	folder     string
	deployment *deployment
	err        error
}

var single, cluster = &shared{servers: 1}, &shared{servers: 3}

func onOneServer(t *testing.T) *deployment {
	t.Helper()
	return single.get(t)
}

func onThreeServers(t *testing.T) *deployment {
	t.Helper()
	return cluster.get(t)
}

// get starts the deployment for the first test that asks.
func (s *shared) get(t *testing.T) *deployment {
	t.Helper()
	s.once.Do(func() {
		if s.folder, s.err = os.MkdirTemp("", "natsfacts"); s.err == nil {
			s.deployment, s.err = newDeployment(filepath.Join(s.folder, "resolver"), s.servers)
		}
	})
	check(t, s.err)
	return s.deployment
}

func (s *shared) stop() {
	if s.deployment != nil {
		s.deployment.stop()
	}
	os.RemoveAll(s.folder)
}

func TestMain(m *testing.M) {
	code := m.Run()
	single.stop()
	cluster.stop()
	if code == 0 {
		if err := goleak.Find(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
	}
	os.Exit(code)
}
