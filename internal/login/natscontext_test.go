package login

import (
	"encoding/json"
	"errors"
	"os"
	"os/user"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nkeys"
)

func TestNATSContext(t *testing.T) {
	root := t.TempDir()
	t.Setenv("XDG_CONFIG_HOME", root)
	creds, bearer := filepath.Join(root, "sentinel.creds"), filepath.Join(root, "sentinel.jwt")
	must(t, os.WriteFile(creds, []byte("-----BEGIN NATS USER JWT-----\n…\n-----BEGIN USER NKEY SEED-----\nSU…\n"), 0o600))
	must(t, os.WriteFile(bearer, []byte("a.b.c\n"), 0o600))
	sentinel, signed := newSentinel(t, true), filepath.Join(root, "signed.creds")
	must(t, os.WriteFile(signed, []byte("-----BEGIN NATS USER JWT-----\n"+sentinel+"\n------END NATS USER JWT------\n"), 0o600))
	for name, tc := range map[string]struct {
		context NATSContext
		want    map[string]any
	}{
		"least": {
			NATSContext{Description: "alice at corp", URL: "nats://127.0.0.1:4222", TokenFile: "/home/a b/token"},
			map[string]any{"description": "Gatehouse: alice at corp", "url": "nats://127.0.0.1:4222", "token": "file:///home/a b/token"},
		},
		"with creds": {
			NATSContext{URL: "tls://n1,tls://n2", TokenFile: "/t", InboxPrefix: "_INBOX_x", Sentinel: creds, CA: "/ca.pem"},
			map[string]any{"description": "Gatehouse: ", "url": "tls://n1,tls://n2", "token": "file:///t", "inbox_prefix": "_INBOX_x", "creds": creds, "ca": "/ca.pem"},
		},
		"with a bearer sentinel": {
			NATSContext{URL: "nats://n", TokenFile: "/t", Sentinel: bearer},
			map[string]any{"description": "Gatehouse: ", "url": "nats://n", "token": "file:///t", "user_jwt": "file://" + bearer},
		},
		"with a key": {
			NATSContext{URL: "nats://n", TokenFile: "/t", KeyFile: "/t.nk"},
			map[string]any{"description": "Gatehouse: ", "url": "nats://n", "token": "file:///t", "nkey": "/t.nk"},
		},
		"with a key and a sentinel": {
			NATSContext{URL: "nats://n", TokenFile: "/t", KeyFile: "/t.nk", Sentinel: signed},
			map[string]any{"description": "Gatehouse: ", "url": "nats://n", "token": "file:///t", "user_jwt": sentinel, "user_seed": "file:///t.nk"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			tc.context.Name = "app"
			path, err := tc.context.Write(false) // each over the one before
			must(t, err)
			if path != filepath.Join(root, "nats", "context", "app.json") {
				t.Errorf("written to %s", path)
			}
			data, err := os.ReadFile(path)
			must(t, err)
			var got map[string]any
			must(t, json.Unmarshal(data, &got))
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// newSentinel returns the user JWT of a sentinel.
func newSentinel(t *testing.T, bearer bool) string {
	t.Helper()
	account, err := nkeys.CreateAccount()
	must(t, err)
	user, err := nkeys.CreateUser()
	must(t, err)
	public, err := user.PublicKey()
	must(t, err)
	claims := jwt.NewUserClaims(public)
	claims.BearerToken = bearer
	token, err := claims.Encode(account)
	must(t, err)
	return token
}

// A sentinel that has to sign itself leaves no signature for the token's key.
func TestNATSContextWithKeyNeedsABearerSentinel(t *testing.T) {
	root := t.TempDir()
	t.Setenv("XDG_CONFIG_HOME", root)
	for content, want := range map[string]string{newSentinel(t, false): "not a bearer user JWT", "a.b.c": "not a bearer user JWT", "": "not a bearer user JWT"} {
		file := filepath.Join(root, "sentinel.jwt")
		must(t, os.WriteFile(file, []byte(content), 0o600))
		_, err := NATSContext{Name: "app", URL: "nats://n", TokenFile: "/t", KeyFile: "/t.nk", Sentinel: file}.Write(false)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.10q: %v, want %s", content, err, want)
		}
	}
}

func TestNATSContextLeavesOthersAlone(t *testing.T) {
	root := t.TempDir()
	t.Setenv("XDG_CONFIG_HOME", root)
	path := filepath.Join(root, "nats", "context", "prod.json")
	must(t, os.MkdirAll(filepath.Dir(path), 0o700))
	c := NATSContext{Name: "prod", URL: "nats://n", TokenFile: "/t"}
	for _, there := range []string{`{"description":"mine","url":"nats://n"}`, "{}", "garbled"} {
		must(t, os.WriteFile(path, []byte(there), 0o600))
		if _, err := c.Write(false); !errors.Is(err, ErrContextExists) {
			t.Errorf("over %s: got %v", there, err)
		}
		if now, err := os.ReadFile(path); err != nil || string(now) != there {
			t.Errorf("it now holds %s, %v", now, err)
		}
	}
	_, err := c.Write(true)
	must(t, err)
	_, err = c.Write(false)
	must(t, err)
}

func TestNATSContextPath(t *testing.T) {
	t.Setenv("XDG_CONFIG_HOME", "")
	u, err := user.Current()
	must(t, err)
	path, err := NATSContext{Name: "app"}.path()
	must(t, err)
	if want := filepath.Join(u.HomeDir, ".config/nats/context/app.json"); path != want {
		t.Errorf("%s, want %s", path, want)
	}
}

func TestNATSContextRefusals(t *testing.T) {
	root := t.TempDir()
	t.Setenv("XDG_CONFIG_HOME", root)
	half := filepath.Join(root, "half.creds")
	must(t, os.WriteFile(half, []byte("-----BEGIN NATS USER JWT-----\na.b.c\n"), 0o600))
	for name, tc := range map[string]struct {
		context NATSContext
		want    string
	}{
		"no name":            {NATSContext{TokenFile: "/t"}, "cannot name a context"},
		"path as name":       {NATSContext{Name: "../x", TokenFile: "/t"}, "cannot name a context"},
		"relative token":     {NATSContext{Name: "x", TokenFile: "t"}, "must be absolute"},
		"variable in path":   {NATSContext{Name: "x", TokenFile: "/home/$USER/t"}, "without $"},
		"not a URL path":     {NATSContext{Name: "x", TokenFile: "/100%/t"}, "without $"},
		"variable in CA":     {NATSContext{Name: "x", TokenFile: "/t", CA: "/$x"}, "without $"},
		"no sentinel":        {NATSContext{Name: "x", TokenFile: "/t", Sentinel: "/does/not/exist"}, "no such file"},
		"creds without seed": {NATSContext{Name: "x", TokenFile: "/t", Sentinel: half}, "give the bare JWT"},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := tc.context.Write(false); err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("got %v, want %q", err, tc.want)
			}
		})
	}
}
