package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/gatehouse-nats/gatehouse/api"
	"github.com/gatehouse-nats/gatehouse/internal/devstack"
)

// streamed returns how often the stream holds each audit entry.
func (w *world) streamed(js jetstream.JetStream) (map[string]int, error) {
	ctx, cancel := context.WithTimeout(w.Context(), 30*time.Second)
	defer cancel()
	s, err := js.Stream(ctx, "AUDIT")
	if err != nil {
		return nil, err
	}
	count := map[string]int{}
	state := s.CachedInfo().State
	for seq := state.FirstSeq; seq <= state.LastSeq && state.Msgs > 0; seq++ {
		m, err := s.GetMsg(ctx, seq)
		if err != nil {
			return nil, err
		}
		var e api.AuditEntry
		if err := json.Unmarshal(m.Data, &e); err != nil {
			return nil, err
		}
		count[e.ID]++
	}
	return count, nil
}

// Whatever is recorded is in the stream in the end, however often the service is killed and the server is gone.
func TestAuditStreamSurvives(t *testing.T) {
	t.Parallel()
	w := newWorld(t, worldOptions{jetStream: true})
	r := w.serve(serveOptions{process: true, env: []string{
		"GATEHOUSE_AUDIT_STREAM_NAME=AUDIT", "GATEHOUSE_AUDIT_STREAM_CREATE=true",
		"GATEHOUSE_AUDIT_STREAM_CREDS=" + filepath.Join(w.dir, "offline", "emergency-app.creds"),
	}})
	nc, err := nats.Connect(w.set.ClientURL(), w.emergency("app"), nats.MaxReconnects(-1))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	var logins int
	for round := range 3 {
		for range 20 {
			w.eventuallyLogin(w.token("alice", developer(someone()))).Close()
			logins++
		}
		if round == 0 {
			eventually(t, func() error {
				if count, err := w.streamed(js); err != nil || len(count) == 0 {
					return fmt.Errorf("%d entries are copied: %w", len(count), err)
				}
				return nil
			})
		}
		r.kill() // at any point: with entries in the spool, in the store, published and not noted
		if round == 1 {
			w.servers[0].Restart()
		}
		r.start(true)
		r.mustGetReady()
	}
	eventually(t, func() error {
		recorded := r.audit("--kind", "login", "--outcome", "allowed")
		if len(recorded) < logins {
			return fmt.Errorf("%d of %d logins are recorded", len(recorded), logins)
		}
		count, err := w.streamed(js)
		if err != nil {
			return err
		}
		for _, e := range recorded {
			if count[e.ID] != 1 {
				return fmt.Errorf("entry %s is in the stream %d times", e.ID, count[e.ID])
			}
		}
		return nil
	})
	var status api.Status
	if err := json.Unmarshal([]byte(r.must("status", "--json")), &status); err != nil || status.AuditStream == nil || status.AuditStream.Stream != "AUDIT" || status.AuditStream.Error != "" {
		t.Errorf("status %+v, %v", status.AuditStream, err)
	}
	if _, metrics, err := get(r.metrics + "/metrics"); err != nil || !strings.Contains(metrics, "gatehouse_audit_stream_waiting 0\n") {
		t.Errorf("the metrics do not say that the copy is well: %v", err)
	}
}

// An issuer that ends a login session has its tokens refused and its connections closed, and those of others not.
func TestBackchannelLogout(t *testing.T) {
	t.Parallel()
	w := newWorld(t, worldOptions{})
	w.edit(func(yaml string) string {
		return strings.Replace(yaml, "    audiences:", "    logout: { audiences: ["+devstack.ClientID+"] }\n    audiences:", 1)
	})
	r := w.serve(serveOptions{})
	who := someone()
	ended, kept := developer(who), developer(who)
	ended["sid"], kept["sid"] = "s1", "s2"
	first, second := w.token("alice", ended), w.token("alice", kept)
	goes, stays := w.loginAt(w.servers[0], first), w.loginAt(w.servers[0], second)
	logout := w.token("alice", map[string]any{
		"sub": who, "sid": "s1", "jti": someone(), "aud": devstack.ClientID, "events": map[string]any{"http://schemas.openid.net/event/backchannel-logout": map[string]any{}},
	})
	post := func(token string) int {
		t.Helper()
		resp, err := http.PostForm(r.http+api.LogoutPath("demo"), url.Values{"logout_token": {token}})
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		return resp.StatusCode
	}
	for _, wrong := range []string{first, logout[:len(logout)-8], ""} {
		if code := post(wrong); code != http.StatusBadRequest {
			t.Errorf("answered %d to what is no logout token", code)
		}
	}
	if code := post(logout); code != http.StatusOK {
		t.Fatalf("answered %d", code)
	}
	if code := post(logout); code != http.StatusBadRequest {
		t.Errorf("answered %d to the same again", code)
	}
	w.mustBeRefused(first)
	w.login(second)
	w.awaitClosed(goes)
	w.mustBeAlive(stays)
	eventually(t, func() error {
		if n := len(r.audit("--op", "backchannel-logout", "--outcome", "refused")); n == 0 {
			return errors.New("what was refused is not recorded")
		}
		return nil
	})
	if list := r.audit("--actor", "issuer:demo"); len(list) != 1 || list[0].Op != api.OpRevoke {
		t.Errorf("recorded %+v", list)
	}
}
