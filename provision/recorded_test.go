package provision_test

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-nats/gatehouse/api"
	"github.com/gatehouse-nats/gatehouse/policy"
	"github.com/gatehouse-nats/gatehouse/provision"
	"github.com/gatehouse-nats/gatehouse/store"
)

// seen records a login with claims.
func (b *bed) seen(t testing.TB, id, issuer, subject string, ago time.Duration, change func(*store.AuditEntry)) {
	t.Helper()
	e := store.AuditEntry{
		ID: id, At: now.Add(-ago), Kind: store.LoginEntry, Outcome: "allowed", Reason: "allowed", Issuer: issuer, Subject: subject,
		Claims: json.RawMessage(`{}`), Source: "192.0.2.1", ConnType: "standard", Rules: "v1",
	}
	if change != nil {
		change(&e)
	}
	b.record(t, e)
}

func TestExplainSubject(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	known := func(as string) func(*store.AuditEntry) {
		return func(e *store.AuditEntry) { e.Display = map[string]string{"email": as} }
	}
	b.seen(t, "1", corp, "alice", 3*time.Hour, known("alice@example.com"))
	b.seen(t, "2", corp, "alice", 2*time.Hour, func(e *store.AuditEntry) {
		e.Display = map[string]string{"email": "alice@example.com"}
		e.Source, e.Asked, e.Rules = "10.1.1.1", "OPS", "v0"
	})
	b.seen(t, "3", corp, "both", time.Hour, known("team@example.com"))
	b.seen(t, "4", partner, "both", time.Hour, known("team@example.com"))
	b.seen(t, "5", "https://gone.example.com", "gone", time.Hour, nil)
	b.seen(t, "6", corp, "damaged", time.Hour, func(e *store.AuditEntry) { e.Claims = json.RawMessage(`[1]`) })
	admin := provision.Caller{Actor: "local:ops"}

	for name, c := range map[string]struct {
		req     api.ExplainRequest
		request string // whose claims; empty: it fails
		account string
		reason  string
		says    string
	}{
		"by sub, from where it came":    {api.ExplainRequest{Subject: "alice"}, "2", "OPS", "allowed", ""},
		"by what people know it by":     {api.ExplainRequest{Subject: "alice@example.com"}, "2", "OPS", "allowed", ""},
		"from elsewhere":                {api.ExplainRequest{Subject: "alice", Source: "192.0.2.1", Account: "APP"}, "2", "APP", "allowed", ""},
		"in another way":                {api.ExplainRequest{Subject: "alice", ConnectionType: "leafnode"}, "2", "", "connection_type_refused", ""},
		"of two issuers":                {api.ExplainRequest{Subject: "both"}, "", "", api.ReasonConflict, partner},
		"of one of them":                {api.ExplainRequest{Subject: "both", Issuer: "corp"}, "3", "APP", "allowed", ""},
		"of one without bindings":       {api.ExplainRequest{Subject: "both", Issuer: partner}, "4", "", "no_binding", ""},
		"known as two":                  {api.ExplainRequest{Subject: "team@example.com"}, "", "", api.ReasonConflict, `"both"`},
		"of an issuer that is no more":  {api.ExplainRequest{Subject: "gone"}, "", "", api.ReasonBadRequest, "not configured any more"},
		"of an issuer that never was":   {api.ExplainRequest{Subject: "alice", Issuer: "nobody"}, "", "", api.ReasonBadRequest, "not configured"},
		"with a token":                  {api.ExplainRequest{Subject: "alice", Token: "alice"}, "", "", api.ReasonBadRequest, "neither token nor claims"},
		"with claims":                   {api.ExplainRequest{Subject: "alice", Claims: map[string]any{}}, "", "", api.ReasonBadRequest, "neither token nor claims"},
		"of nobody":                     {api.ExplainRequest{Subject: "nobody"}, "", "", api.ReasonNotFound, "gatehouse audit"},
		"of a name that is long":        {api.ExplainRequest{Subject: strings.Repeat("x", 5000)}, "", "", api.ReasonNotFound, "gatehouse audit"},
		"from an address that is none":  {api.ExplainRequest{Subject: "alice", Source: "here"}, "", "", api.ReasonBadRequest, "not an IP address"},
		"of claims that are not claims": {api.ExplainRequest{Subject: "damaged"}, "", "", "", "claims of login 6"},
	} {
		out, err := b.ExplainLive(t.Context(), admin, c.req)
		if c.request == "" {
			refused, _ := err.(*api.Error)
			if err == nil || c.reason != "" && (refused == nil || refused.Reason != c.reason) || !strings.Contains(err.Error(), c.says) || len(err.Error()) > 1000 {
				t.Errorf("%s: %v", name, err)
			}
			continue
		}
		if err != nil || out.Recorded == nil || out.Recorded.RequestID != c.request || out.Reason != c.reason || out.Account != c.account {
			t.Errorf("%s: %+v, %v", name, out, err)
		}
		if out.Recorded != nil && out.Recorded.OtherRules != (c.request == "2") {
			t.Errorf("%s: %+v", name, out.Recorded)
		}
	}
	if _, err := b.ExplainLive(t.Context(), provision.Caller{Token: "alice"}, api.ExplainRequest{Subject: "alice"}); err == nil || err.(*api.Error).Code != http.StatusForbidden {
		t.Errorf("without the rights of an admin: %v", err)
	}
}

// TestExplainSubjectSeesRevocations: a block counts, and a logout since the recorded login.
func TestExplainSubjectSeesRevocations(t *testing.T) {
	t.Parallel()
	who := policy.Principal{Issuer: corp, Subject: "alice"}
	for name, c := range map[string]struct {
		revocation policy.Revocation
		want       policy.Reason
	}{
		"blocked":               {policy.Revocation{ID: "b", Kind: policy.Block, Target: policy.Target{Principal: who}, At: now}, policy.Blocked},
		"logged out since then": {policy.Revocation{ID: "l", Kind: policy.Logout, Target: policy.Target{Principal: who}, At: now.Add(-30 * time.Minute)}, policy.LoggedOut},
		"logged out before":     {policy.Revocation{ID: "l", Kind: policy.Logout, Target: policy.Target{Principal: who}, At: now.Add(-2 * time.Hour)}, policy.Allowed},
	} {
		b := newBed(t, func(o *provision.Options) {
			o.State = func() *policy.Snapshot {
				return &policy.Snapshot{Rules: rules(t), Revocations: policy.NewRevocations([]policy.Revocation{c.revocation})}
			}
		})
		b.seen(t, "1", corp, "alice", time.Hour, nil)
		out, err := b.ExplainLive(t.Context(), provision.Caller{Actor: "local:ops"}, api.ExplainRequest{Subject: "alice"})
		if err != nil || out.Reason != string(c.want) {
			t.Errorf("%s: %+v, %v", name, out, err)
		}
	}
}
