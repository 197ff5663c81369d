package main

import (
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/gatehouse-nats/gatehouse/api"
)

// ask calls whoami as a browser or a program does.
func (r *replica) ask(token string) (code int, answer api.Whoami, refusal api.Error) {
	r.Helper()
	req, err := http.NewRequestWithContext(r.Context(), http.MethodPost, r.http+"/v1/whoami", strings.NewReader("{}"))
	if err != nil {
		r.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	resp, err := web.Do(req)
	if err != nil {
		r.Fatal(err)
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		r.Fatal(err)
	}
	_, _ = evidence.open("whoami").Write(data)
	if resp.StatusCode == http.StatusOK {
		err = json.Unmarshal(data, &answer)
	} else {
		err = json.Unmarshal(data, &refusal)
	}
	if err != nil {
		r.Fatalf("%v in %s", err, data)
	}
	return resp.StatusCode, answer, refusal
}

// TestWhoami shows people what they get, and why they were refused.
func TestWhoami(t *testing.T) {
	t.Parallel()
	w := newWorld(t, worldOptions{})
	r := w.serve(serveOptions{process: true})
	subject := someone()
	alice := w.token("alice", developer(subject))

	code, answer, _ := r.ask(alice)
	if code != http.StatusOK || !answer.Allowed || answer.Account != "APP" || answer.AccountID != w.set.App.ID || answer.Name != "demo-"+subject ||
		len(answer.Bindings) != 1 || answer.Permissions == nil || answer.LastRefusal != nil {
		t.Errorf("before any refusal: %d %+v", code, answer)
	}

	r.must("revoke", "--issuer", "demo", "--subject", subject, "--reason", "a reason that is the admin's own")
	w.mustBeRefused(alice)
	var id string
	eventually(t, func() error {
		if entries := r.audit("--subject", subject, "--issuer", "demo", "--outcome", "refused"); len(entries) > 0 {
			id = entries[0].ID
			return nil
		}
		return io.EOF
	})
	code, answer, _ = r.ask(alice)
	if code != http.StatusOK || answer.Allowed || answer.Reason != "blocked" || answer.LastRefusal == nil ||
		answer.LastRefusal.RequestID != id || answer.LastRefusal.Reason != "blocked" || answer.LastRefusal.Server != "gatehouse-1" {
		t.Errorf("while blocked: %d %+v, refused by %+v; want request %s", code, answer, answer.LastRefusal, id)
	}
	if text, _ := json.Marshal(answer); strings.Contains(string(text), "the admin's own") {
		t.Errorf("whoami tells what an admin noted: %s", text)
	}

	r.must("revoke", "lift", "--issuer", "demo", "--subject", subject, "--reason", "back")
	code, answer, _ = r.ask(alice)
	if code != http.StatusOK || !answer.Allowed || answer.LastRefusal == nil || answer.LastRefusal.RequestID != id {
		t.Errorf("after the block: %d %+v", code, answer)
	}

	// The command shows the same.
	got := command(t, r.env, alice, "whoami", "--token-file", "-")
	if got.code != exitDone || !strings.Contains(got.out, "demo-"+subject) || !strings.Contains(got.out, "Last refused") || !strings.Contains(got.out, id) {
		t.Errorf("gatehouse whoami ends with %d: %s%s", got.code, got.out, got.err)
	}
	got = command(t, r.env, w.token("carol", nil), "whoami", "--token-file", "-", "--json")
	if got.code != exitRefused || !strings.Contains(got.out, `"reason":"no_binding"`) {
		t.Errorf("gatehouse whoami of a stranger ends with %d: %s%s", got.code, got.out, got.err)
	}

	for name, c := range map[string]struct {
		token, reason string
	}{
		"no token":      {"", "unauthenticated"},
		"no JWT":        {"let-me-in", "token_malformed"},
		"not signed so": {alice[:len(alice)-2], "signature_invalid"},
	} {
		if code, _, refusal := r.ask(c.token); code != http.StatusUnauthorized || refusal.Reason != c.reason || refusal.RequestID == "" {
			t.Errorf("%s: %d %+v", name, code, refusal)
		}
	}
}
