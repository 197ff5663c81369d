package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-nats/gatehouse/internal/devstack"
	"github.com/gatehouse-nats/gatehouse/internal/devstack/devtest"
)

// publishedKeys returns the JWKS of the world's provider.
func (w *world) publishedKeys() string {
	w.Helper()
	_, body, err := get(w.provider.Issuer() + "/.well-known/openid-configuration")
	if err != nil {
		w.Fatal(err)
	}
	var discovery struct {
		KeysURL string `json:"jwks_uri"`
	}
	if err := json.Unmarshal([]byte(body), &discovery); err != nil {
		w.Fatal(err)
	}
	_, keys, err := get(discovery.KeysURL)
	if err != nil {
		w.Fatal(err)
	}
	return keys
}

// put replaces a file of the world in one step.
func (w *world) put(name, content string) {
	w.Helper()
	path := filepath.Join(w.dir, name)
	if err := os.WriteFile(path+".new", []byte(content), 0o644); err != nil {
		w.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		w.Fatal(err)
	}
}

// TestKeysFromAFile runs a service whose issuer is never there. The file of its keys is changed
// under it; one that is broken leaves the keys as they were.
func TestKeysFromAFile(t *testing.T) {
	t.Parallel()
	w := newWorld(t, worldOptions{})
	old := w.publishedKeys()
	w.put("keys.json", old)
	w.edit(func(yaml string) string {
		return strings.Replace(yaml, "\n    audiences:", "\n    jwks: file:keys.json\n    audiences:", 1)
	})
	first := w.token("alice", nil)
	if err := w.provider.RotateKeys(); err != nil {
		t.Fatal(err)
	}
	if err := w.provider.RetireKeys(); err != nil {
		t.Fatal(err)
	}
	rotated, second := w.publishedKeys(), w.token("alice", nil)
	w.provider.SetDown(true)
	fetches := w.provider.JWKSFetches() + w.provider.DiscoveryFetches()

	r := w.serve(serveOptions{process: true})
	w.login(first)
	w.mustBeRefused(second)

	w.put("keys.json", rotated[:20])
	eventually(t, func() error {
		log := r.log.String()
		if !strings.Contains(log, "the one before stays in force") || !strings.Contains(log, "issuers[0].jwks") {
			return errors.New("the log does not tell that the file is broken")
		}
		return nil
	})
	w.login(first)

	w.put("keys.json", rotated)
	r.eventuallyExplains(second, "allowed")
	w.login(second)
	w.mustBeRefused(first)
	if got := w.provider.JWKSFetches() + w.provider.DiscoveryFetches(); got != fetches {
		t.Errorf("the issuer was asked %d times", got-fetches)
	}
}

// TestIssuerOfAPrivateAuthority logs in with a token of an issuer whose certificate the host
// does not trust. Before its authority is configured, the service says what is wrong.
func TestIssuerOfAPrivateAuthority(t *testing.T) {
	t.Parallel()
	w := newWorld(t, worldOptions{})
	issuer, other := devtest.StartIssuer(t, devtest.Keycloak, ""), devtest.StartIssuer(t, devtest.Keycloak, "")
	w.put("ca.pem", string(other.CA()))
	w.edit(func(yaml string) string {
		yaml = strings.Replace(yaml, w.provider.Issuer(), issuer.URL(), 1)
		return strings.Replace(yaml, "\n    audiences:", "\n    tls: { ca: ca.pem }\n    audiences:", 1)
	})
	claims := map[string]any{
		"iss": issuer.URL(), "sub": "f1c4f64e", "aud": devstack.Audience, "groups": []string{"dev"},
		"iat": time.Now().Unix(), "exp": time.Now().Add(time.Hour).Unix(),
	}
	token := issuer.Sign(t, claims)
	r := w.newReplica(serveOptions{})
	r.start(true)
	eventually(t, func() error {
		return r.notReadyNaming("issuers: keys of demo are not loaded", "unknown authority", "tls.ca")
	})
	if got := r.command("status"); !strings.Contains(got.out, "tls.ca") {
		t.Errorf("status does not say what to do: %s", got.out)
	}
	w.mustBeSilent(token)
	if got := r.command("login", "--device"); !strings.Contains(got.err, "unknown authority") {
		t.Errorf("login with another's authority ends with %s", got.err)
	}

	w.put("ca.pem", string(issuer.CA()))
	r.mustGetReady()
	// The issuer offers no login; to find that out its certificate has to be trusted.
	if got := r.command("login", "--device"); got.code == exitDone || strings.Contains(got.err, "authority") || !strings.Contains(got.err, "discovery") {
		t.Errorf("login ends with %d, %s", got.code, got.err)
	}
	w.login(token)
	forged := maps.Clone(claims)
	w.mustBeRefused(other.Sign(t, forged)) // signed by another issuer's key of the same kid

	withoutGroups := maps.Clone(claims)
	delete(withoutGroups, "groups")
	withoutGroups["hasgroups"] = true
	short := issuer.Sign(t, withoutGroups)
	w.mustBeRefused(short)
	if _, answer, _ := r.ask(short); answer.Reason != "groups_overage" || !strings.Contains(answer.Message, "app roles") {
		t.Errorf("whoami says %s: %s", answer.Reason, answer.Message)
	}
	entries := r.audit()
	eventually(t, func() error {
		for _, e := range entries {
			if e.Reason == "groups_overage" && strings.Contains(e.Detail, "app roles") {
				return nil
			}
		}
		entries = r.audit()
		return fmt.Errorf("the audit trail has no entry of the overage: %+v", entries)
	})
}
