package login

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nkeys"
)

// binding returns a client that binds its tokens to a key, in a folder of the test.
func (i *testIssuer) binding(dir string) *Client {
	i.t.Helper()
	c, err := New(Config{Issuer: i.server.URL, ClientID: "cli", Dir: dir, BindKey: true})
	must(i.t, err)
	return c
}

// bound returns such a client after a login.
func (i *testIssuer) bound() (*Client, Session) {
	i.t.Helper()
	c := i.binding(i.t.TempDir())
	session, err := c.Login(i.t.Context(), newBrowser(i.t).prompt())
	must(i.t, err)
	return c, session
}

// nonceOf returns the nonce in an ID token.
func nonceOf(t *testing.T, token string) string {
	t.Helper()
	payload, err := base64.RawURLEncoding.DecodeString(strings.Split(token, ".")[1])
	must(t, err)
	var claims struct {
		Nonce string `json:"nonce"`
	}
	must(t, json.Unmarshal(payload, &claims))
	return claims.Nonce
}

func TestLoginBindsTheTokenToAKey(t *testing.T) {
	i := startIssuer(t)
	c, session := i.bound()
	file := filepath.Join(t.TempDir(), "token")
	token, err := c.WriteToken(t.Context(), file, "")
	must(t, err)
	if !nkeys.IsValidPublicUserKey(session.Key) || nonceOf(t, token) != session.Key {
		t.Errorf("key %q, nonce %q", session.Key, nonceOf(t, token))
	}
	info, err := os.Stat(KeyFile(file))
	must(t, err)
	seed, err := os.ReadFile(KeyFile(file))
	must(t, err)
	key, err := nkeys.FromSeed(seed)
	must(t, err)
	if public, err := key.PublicKey(); err != nil || public != session.Key || info.Mode() != 0o600 {
		t.Errorf("the file holds the key %q with mode %v, %v", public, info.Mode(), err)
	}
	if kept, err := json.Marshal(session); err != nil || strings.Contains(string(kept), string(seed)) {
		t.Errorf("the session shows the seed, %v", err)
	}
	again, err := c.Login(t.Context(), newBrowser(t).prompt())
	must(t, err)
	if again.Key == session.Key {
		t.Error("two logins have the same nonce")
	}
}

// A login that is kept from before, and is not bound, does not serve who asks for one that is.
func TestUnboundLoginIsNotEnough(t *testing.T) {
	i := startIssuer(t)
	dir := t.TempDir()
	_, err := i.clientIn(dir).Login(t.Context(), newBrowser(t).prompt())
	must(t, err)
	if _, err := i.binding(dir).Token(t.Context()); !errors.Is(err, ErrLoginNeeded) || !strings.Contains(err.Error(), "not bound to a key") {
		t.Errorf("got %v", err)
	}
	if _, err := i.clientIn(dir).Token(t.Context()); err != nil {
		t.Errorf("without the wish: %v", err)
	}
}

func TestRenewalThatKeepsTheKey(t *testing.T) {
	i := startIssuer(t)
	c, session := i.bound()
	rewrite(t, c, endsIn(-time.Minute))
	i.behave(behaviour{claims: map[string]any{"nonce": session.Key}})
	file := filepath.Join(t.TempDir(), "token")
	token, err := c.WriteToken(t.Context(), file, "")
	must(t, err)
	if _, err := os.Stat(KeyFile(file)); err != nil || i.renewed() != 1 || nonceOf(t, token) != session.Key {
		t.Errorf("%d renewals, nonce %q, %v", i.renewed(), nonceOf(t, token), err)
	}
}

// An issuer may leave the nonce out of a renewed token. That one is never handed out.
func TestRenewalThatLosesTheKey(t *testing.T) {
	for name, nonce := range map[string]any{"no nonce": nil, "another nonce": "n-0S6_WzA2Mj"} {
		t.Run(name, func(t *testing.T) {
			i := startIssuer(t)
			c, session := i.bound()
			i.behave(behaviour{claims: map[string]any{"nonce": nonce}})
			old := rewrite(t, c, endsIn(30*time.Second))
			if token, err := c.Token(t.Context()); err != nil || token != old.IDToken {
				t.Errorf("while the bound token is good: another %v, %v", token != old.IDToken, err)
			}
			if now, err := c.cache.read(); err != nil || now.RefreshToken == old.RefreshToken || now.Key != session.Key {
				t.Errorf("the new refresh token is not kept, or the key is lost: %v", err)
			}
			rewrite(t, c, endsIn(0))
			file := filepath.Join(t.TempDir(), "token")
			err := c.Watch(t.Context(), file, "", func(err error) { t.Errorf("reported %v", err) })
			if !errors.Is(err, ErrLoginNeeded) || !strings.Contains(err.Error(), "not bound to the key") {
				t.Errorf("watch ends with %v", err)
			}
			if _, err := os.Stat(file); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("an unbound token was written: %v", err)
			}
		})
	}
}

func TestDeviceLoginBindsNoKey(t *testing.T) {
	i := startIssuer(t)
	_, err := i.binding(t.TempDir()).LoginByDevice(t.Context(), func(DeviceCode) { t.Error("a code was shown") })
	if !errors.Is(err, ErrDeviceKey) {
		t.Errorf("got %v", err)
	}
}
