package provision_test

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"testing"

	"github.com/gatehouse-nats/gatehouse/api"
	"github.com/gatehouse-nats/gatehouse/policy"
	"github.com/gatehouse-nats/gatehouse/provision"
)

func TestExplainLive(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	got, err := b.ExplainLive(t.Context(), admin, api.ExplainRequest{Token: "alice", Source: "192.0.2.1"})
	if err != nil || !got.Allowed || len(got.Verdicts) != 2 || !got.Verdicts[0].Applies || got.Verdicts[1].Applies {
		t.Errorf("%+v, %v", got, err)
	}
	got, err = b.ExplainLive(t.Context(), admin, api.ExplainRequest{Token: "alice", Source: "10.0.0.1"})
	if err != nil || got.Reason != string(policy.AccountAmbiguous) || !strings.Contains(got.Message, "APP, OPS") {
		t.Errorf("%+v, %v", got, err)
	}
	for name, req := range map[string]api.ExplainRequest{
		"source":          {Token: "alice", Source: "10.0.0.0/8"},
		"long source":     {Token: "alice", Source: strings.Repeat("1", 10_000)},
		"connection type": {Token: "alice", ConnectionType: "carrier pigeon"},
		"claims":          {Claims: map[string]any{"sub": "alice"}},
	} {
		_, err := b.ExplainLive(t.Context(), admin, req)
		if message := wantError(t, err, http.StatusBadRequest, api.ReasonBadRequest); len(message) > 400 {
			t.Errorf("%s: the message has %d bytes", name, len(message))
		}
	}
	for _, typ := range policy.ConnectionTypes() {
		if _, err := b.ExplainLive(t.Context(), admin, api.ExplainRequest{Token: "alice", ConnectionType: string(typ)}); err != nil {
			t.Errorf("%s: %v", typ, err)
		}
	}
	b.State = func() *policy.Snapshot { return nil }
	_, err = b.ExplainLive(t.Context(), admin, api.ExplainRequest{Token: "alice"})
	wantError(t, err, http.StatusServiceUnavailable, api.ReasonUnavailable)
}

// An admin learns what exactly is wrong with a token.
func TestExplainTellsTheDetail(t *testing.T) {
	t.Parallel()
	b := newBed(t, withTokens(refuse(policy.SignatureInvalid)))
	_, err := b.ExplainLive(t.Context(), admin, api.ExplainRequest{Token: "e30"})
	if message := wantError(t, err, http.StatusUnauthorized, string(policy.SignatureInvalid)); message != "detail for operators" {
		t.Errorf("message %q", message)
	}
	b.Tokens = tokens(func(context.Context, string) (*policy.Identity, *policy.Refusal) {
		return person("alice"), policy.Refuse(policy.TokenExpired, "expired an hour ago")
	})
	got, err := b.ExplainLive(t.Context(), admin, api.ExplainRequest{Token: "e30"})
	if err != nil || got.Reason != string(policy.TokenExpired) || got.Message != "expired an hour ago" || got.Verdicts == nil {
		t.Errorf("%+v, %v", got, err)
	}
}

func TestReload(t *testing.T) {
	t.Parallel()
	b := newBed(t, func(o *provision.Options) {
		o.Reload = func(context.Context) (api.Reloaded, error) { return api.Reloaded{Version: "v2", Changed: true}, nil }
	})
	got, err := b.ReloadConfig(t.Context(), admin, struct{}{})
	if err != nil || got.Version != "v2" || !got.Changed || !strings.Contains(b.log.String(), "actor=local:admin") {
		t.Errorf("%+v, %v, log %s", got, err, b.log.String())
	}
	b.Reload = func(context.Context) (api.Reloaded, error) {
		return api.Reloaded{}, errors.New("gatehouse.yaml:3:1 roles: is empty")
	}
	_, err = b.ReloadConfig(t.Context(), admin, struct{}{})
	message := wantError(t, err, http.StatusBadRequest, api.ReasonBadRequest)
	if !strings.Contains(message, "gatehouse.yaml:3:1") || !strings.Contains(message, "stays in force") {
		t.Errorf("message %q", message)
	}
}
