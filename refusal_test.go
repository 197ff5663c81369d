package gatehouse

import (
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nats.go"

	"github.com/gatehouse-nats/gatehouse/api"
)

// service answers whoami with a status and a body, and checks how it is asked.
func service(t *testing.T, status int, body any) (*httptest.Server, Option) {
	t.Helper()
	s := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var request api.WhoamiRequest
		if err := json.NewDecoder(r.Body).Decode(&request); err != nil {
			t.Error(err)
		}
		if r.Method != http.MethodPost || r.URL.Path != "/v1/whoami" || r.Header.Get("Authorization") != "Bearer secret-token" || request.Account != "APP" {
			t.Errorf("asked by %s %s for %+v", r.Method, r.URL.Path, request)
		}
		if status == http.StatusFound {
			w.Header().Set("Location", "/elsewhere")
		}
		w.WriteHeader(status)
		if err := json.NewEncoder(w).Encode(body); err != nil {
			t.Error(err)
		}
	}))
	t.Cleanup(s.Close)
	return s, WithHTTPClient(s.Client())
}

func TestRefusalReasons(t *testing.T) {
	t.Parallel()
	s := startSystem(t, systemOptions{defaultSentinel: true})
	s.onLogin(func(int, jwt.ConnectOptions) verdict { return verdict{refuse: true} })
	for name, tc := range map[string]struct {
		status int
		body   any
		want   RefusedError
	}{
		"refused by policy": {200,
			api.Whoami{RequestID: "r1", Decision: api.Decision{Reason: "logged_out", Message: "Log in again.", RetryAfter: 7}},
			RefusedError{Reason: "logged_out", Message: "Log in again.", RequestID: "r1", RetryAfter: 7 * time.Second}},
		"token refused": {401,
			api.Error{Reason: "token_expired", Message: "The token has expired.", RequestID: "r2"},
			RefusedError{Reason: "token_expired", Message: "The token has expired.", RequestID: "r2"}},
		"service without a store": {503,
			api.Error{Reason: "unavailable", Message: "The store is down."},
			RefusedError{Message: "the reason could not be fetched: The store is down. (unavailable)"}},
		"not a service": {404, "not found",
			RefusedError{Message: "the reason could not be fetched: whoami: unexpected answer 404 Not Found"}},
		"redirect": {302, "elsewhere",
			RefusedError{Message: "the reason could not be fetched: whoami: unexpected answer 302 Found"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			http, client := service(t, tc.status, tc.body)
			_, err := s.connect(StaticToken("secret-token"), alwaysAnswered, WithAccount("APP"), WithWhoami(http.URL+"/"), client)
			got, ok := errors.AsType[*RefusedError](err)
			if !ok || !errors.Is(err, nats.ErrAuthorization) {
				t.Fatalf("got %v", err)
			}
			if diff := cmp.Diff(tc.want, *got, cmpopts.IgnoreUnexported(RefusedError{})); diff != "" {
				t.Error(diff)
			}
			if strings.Contains(err.Error(), "secret-token") {
				t.Errorf("the error holds the token: %v", err)
			}
		})
	}
}

func TestRefusalWithoutService(t *testing.T) {
	t.Parallel()
	s := startSystem(t, systemOptions{defaultSentinel: true})
	s.onLogin(func(int, jwt.ConnectOptions) verdict { return verdict{refuse: true} })
	_, err := s.connect(StaticToken("secret-token"), WithWhoami("http://127.0.0.1:1"))
	refusal, ok := errors.AsType[*RefusedError](err)
	if !ok || refusal.Reason != "" || !strings.Contains(refusal.Message, "could not be fetched") {
		t.Errorf("got %v", err)
	}
}

func TestRefusalWhileReconnectingIsExplainedOnce(t *testing.T) {
	t.Parallel()
	s := startSystem(t, systemOptions{defaultSentinel: true})
	s.onLogin(func(n int, _ jwt.ConnectOptions) verdict { return verdict{refuse: n == 2 || n == 3} })
	http, client := service(t, 200, api.Whoami{Decision: api.Decision{Reason: "blocked", Message: "Ask an admin."}})
	failures := make(chan error, 100)
	restored, again := reconnected()
	nc := s.mustConnect(StaticToken("secret-token"), alwaysAnswered, WithAccount("APP"), WithWhoami(http.URL), client, restored,
		WithNATSOptions(nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) { failures <- err })))
	s.kick(nc)
	receive(t, "a reconnect", again)
	explained := 0
	for range 2 {
		err := receive(t, "a report", failures)
		if !errors.Is(err, nats.ErrAuthorization) {
			t.Errorf("got %v", err)
		}
		if refusal, ok := errors.AsType[*RefusedError](err); ok && refusal.Reason == "blocked" {
			explained++
		}
	}
	if explained != 1 {
		t.Errorf("%d refusals explained, want one a minute", explained)
	}
}

func TestAdmissionRefused(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)
	last := func(reason string, ago time.Duration) *api.LastRefusal {
		return &api.LastRefusal{At: now.Add(-ago), Reason: reason, Message: "recorded", RequestID: "login"}
	}
	refused := api.Decision{Reason: "no_binding", Message: "decided"}
	admitted := api.Decision{Allowed: true}
	for name, tc := range map[string]struct {
		answer        api.Whoami
		reason, found string
	}{
		"refused, nothing recorded":           {api.Whoami{Decision: refused, RequestID: "ask"}, "no_binding", "ask"},
		"refused, the same recorded":          {api.Whoami{Decision: refused, RequestID: "ask", LastRefusal: last("no_binding", time.Second)}, "no_binding", "login"},
		"refused, something else recorded":    {api.Whoami{Decision: refused, RequestID: "ask", LastRefusal: last("overloaded", time.Second)}, "no_binding", "ask"},
		"refused, the same recorded long ago": {api.Whoami{Decision: refused, RequestID: "ask", LastRefusal: last("no_binding", time.Hour)}, "no_binding", "ask"},
		"admitted, nothing recorded":          {api.Whoami{Decision: admitted, RequestID: "ask"}, "", "ask"},
		"admitted, but not from this address": {api.Whoami{Decision: admitted, RequestID: "ask", LastRefusal: last("source_refused", time.Second)}, "source_refused", "login"},
		"admitted, recorded by a fast clock":  {api.Whoami{Decision: admitted, RequestID: "ask", LastRefusal: last("overloaded", -time.Minute)}, "overloaded", "login"},
		"admitted, recorded long ago":         {api.Whoami{Decision: admitted, RequestID: "ask", LastRefusal: last("blocked", time.Hour)}, "", "ask"},
	} {
		t.Run(name, func(t *testing.T) {
			got := admissionRefused(&tc.answer, nats.ErrAuthorization, now)
			if got.Reason != tc.reason || got.RequestID != tc.found {
				t.Errorf("got reason %q, request %q", got.Reason, got.RequestID)
			}
		})
	}
}
