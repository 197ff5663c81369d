package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/gatehouse-nats/gatehouse"
	"github.com/gatehouse-nats/gatehouse/internal/devstack"
)

// TestServiceAddressIsAllThatAUserNeeds: on a machine without a configuration, with servers that have no default sentinel.
func TestServiceAddressIsAllThatAUserNeeds(t *testing.T) {
	w := newWorld(t, worldOptions{noDefaultSentinel: true})
	r := w.serve(serveOptions{})
	away := t.TempDir()
	t.Setenv("XDG_CONFIG_HOME", filepath.Join(away, "xdg"))
	t.Setenv("GATEHOUSE_HOME", filepath.Join(away, "home"))
	t.Setenv("SSH_CONNECTION", "none")
	env := []string{"HOME=" + away, "XDG_CONFIG_HOME=" + filepath.Join(away, "xdg"), "GATEHOUSE_HOME=" + filepath.Join(away, "home"), "GATEHOUSE_CONFIG=" + filepath.Join(away, "none.yaml")}

	// Nothing is told of the servers that is not said to be public.
	d, err := gatehouse.Discover(t.Context(), r.http, nil)
	if err != nil {
		t.Fatal(err)
	}
	if len(d.NATS) > 0 || len(d.WebSocket) > 0 || d.Sentinel != "" || len(d.Issuers) != 1 || d.Issuers[0].URL != w.provider.Issuer() || d.Issuers[0].ClientID != devstack.ClientID {
		t.Errorf("%+v", d)
	}
	token := w.token("alice", nil)
	if _, err := gatehouse.Connect(t.Context(), r.http, gatehouse.StaticToken(token)); err == nil || !strings.Contains(err.Error(), "configure public.nats") {
		t.Errorf("without public.nats: %v", err)
	}

	w.edit(func(yaml string) string {
		return yaml + "\npublic:\n  nats: [\"" + w.set.ClientURL() + "\"]\n  sentinel: creds/sentinel.creds\n"
	})
	r.must("reload")
	connect := begin(t, env, "connect", "--name", "away", "--url", r.http, "--no-browser")
	logInAs(t, connect.await(`(http://\S+code_challenge=\S+)`)[1], "alice")
	if code := <-connect.code; code != exitDone {
		t.Fatalf("connect ended with %d:\n%s%s", code, connect.out, connect.err)
	}
	sentinel := filepath.Join(away, "home", "sentinel-away.creds")
	if want, got := read(t, filepath.Join(w.dir, "creds", "sentinel.creds")), read(t, sentinel); got != want {
		t.Errorf("the sentinel is not that of the service:\n%s", got)
	}
	if got := command(t, env, "", "whoami", "--url", r.http); got.code != exitDone || !strings.Contains(got.out, "demo-alice") {
		t.Errorf("whoami: %d %s%s", got.code, got.out, got.err)
	}

	nc, err := gatehouse.Connect(t.Context(), r.http, gatehouse.TokenFile(filepath.Join(away, "home", "token-away")))
	if err != nil {
		t.Fatal(err)
	}
	nc.Close()
	// The reason of a refusal is known without another option.
	_, err = gatehouse.Connect(t.Context(), r.http, gatehouse.StaticToken(w.token("carol", nil)))
	if err == nil || !strings.Contains(err.Error(), "no_binding") {
		t.Errorf("a refusal: %v", err)
	}
}

func read(t testing.TB, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
