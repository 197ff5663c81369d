package main

import (
	"encoding/json"
	"errors"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
)

// startDevHere runs gatehouse dev in this process and returns what it prints once it is ready.
func startDevHere(t testing.TB, dir string) (*inProcess, devReady) {
	t.Helper()
	log := evidence.open(t.Name() + " dev")
	s := startInProcess([]string{"HOME=" + dir}, log, "dev", "--dir", dir, "--ports", "random", "--json", "--quiet")
	var ready devReady
	eventually(t, func() error {
		for line := range strings.Lines(log.String()) {
			if strings.HasPrefix(line, "{") {
				return json.Unmarshal([]byte(line), &ready)
			}
		}
		select {
		case code := <-s.code:
			t.Fatalf("dev ended with %d:\n%s", code, log.String())
		default:
		}
		return errors.New("dev is not ready:\n" + log.String())
	})
	return s, ready
}

// TestDev lets an ordinary developer in and a contractor not, and keeps its data over a restart.
func TestDev(t *testing.T) {
	dir := filepath.Join(shortDir(t), "data")
	s, first := startDevHere(t, dir)
	token := func(user string) string {
		var out, errs record // a token is what this command is for: it is no evidence
		code := run(t.Context(), []string{"dev", "token", "--dir", dir, "--user", user}, stdio{in: strings.NewReader(""), out: &out, err: &errs})
		if code != exitDone {
			t.Fatalf("dev token ended with %d: %s", code, errs.String())
		}
		return strings.TrimSpace(out.String())
	}
	alice := token("alice")
	for _, url := range []string{first.NatsURL, first.WSURL} {
		nc, err := dial(url, alice)
		if err != nil {
			t.Fatalf("%s: %v", url, err)
		}
		nc.Close()
	}
	nc, err := dial(first.NatsURL, token("carol"))
	if err == nil {
		nc.Close()
	}
	if !errors.Is(err, nats.ErrAuthorization) {
		t.Errorf("carol got %v", err)
	}
	env := []string{"HOME=" + dir, "GATEHOUSE_CONFIG=" + first.Config}
	if got := command(t, env, "", "revoke", "--issuer", devIssuer, "--subject", "alice", "--reason", "test"); got.code != exitDone {
		t.Errorf("revoke ended with %d: %s", got.code, got.err)
	}
	if err := s.stop(); err != nil {
		t.Fatal(err)
	}

	s, second := startDevHere(t, dir)
	defer func() {
		if err := s.stop(); err != nil {
			t.Error(err)
		}
	}()
	if second.Issuer != first.Issuer || second.NatsURL != first.NatsURL || second.Config != first.Config {
		t.Errorf("after a restart it is %+v, before it was %+v", second, first)
	}
	nc, err = dial(second.NatsURL, alice)
	if err == nil {
		nc.Close()
	}
	if !errors.Is(err, nats.ErrAuthorization) {
		t.Errorf("the block did not outlive the restart: %v", err)
	}
	if nc, err = dial(second.NatsURL, token("root")); err != nil {
		t.Fatal(err)
	}
	nc.Close()
}

// TestServeStopsWhileNothingAnswers: a service that reaches neither its servers nor its
// issuers, nor its database, still ends when it is told to.
func TestServeStopsWhileNothingAnswers(t *testing.T) {
	for name, env := range map[string][]string{
		"servers and issuer": nil,
		"database":           {"GATEHOUSE_STORE=postgres://gatehouse@127.0.0.1:1/gatehouse"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, worldOptions{noServers: true})
			w.provider.SetDown(true)
			r := w.newReplica(serveOptions{env: env})
			s := startInProcess(r.env, r.log, "serve")
			want := map[string]string{"servers and issuer": "no server", "database": "the store does not answer"}[name]
			eventually(t, func() error {
				if !strings.Contains(r.log.String(), want) {
					return errors.New(r.log.String())
				}
				return nil
			})
			began := time.Now()
			s.cancel()
			select {
			case <-s.code:
			case <-time.After(stopLimit):
				t.Fatal("it runs on")
			}
			if took := time.Since(began); took > stopLimit/2 {
				t.Errorf("it took %s to end", took)
			}
		})
	}
}
