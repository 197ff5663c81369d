package gatehouse

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// What is no service, or could be replaced on the way, is not connected to.
func TestDiscoverRefuses(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		code       int
		body, want string
	}{
		"another program":       {http.StatusOK, "<html>", "is not from Gatehouse"},
		"something else's JSON": {http.StatusOK, `{"nats":["nats://127.0.0.1:1"]}`, "is not from Gatehouse"},
		"no such page":          {http.StatusNotFound, `{"versions":["v1"]}`, "404 Not Found, which is not from Gatehouse"},
		"no servers":            {http.StatusOK, `{"versions":["v1"],"nats":[]}`, "configure public.nats"},
		"a broken sentinel":     {http.StatusOK, `{"versions":["v1"],"nats":["nats://127.0.0.1:1"],"sentinel":"x"}`, "sentinel"},
		"too much":              {http.StatusOK, `{"versions":["` + strings.Repeat("v", maxDiscovery) + `"]}`, "is not from Gatehouse"},
	} {
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.Header.Get("Authorization") != "" || r.URL.Path != "/.well-known/gatehouse" {
				t.Errorf("%s: %s %v", name, r.URL, r.Header)
			}
			w.WriteHeader(test.code)
			_, _ = w.Write([]byte(test.body))
		}))
		_, err := Connect(t.Context(), server.URL, StaticToken("token"), WithHTTPClient(server.Client()))
		server.CloseClientConnections()
		server.Close()
		if err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: %v, want %q", name, err, test.want)
		}
	}
	if _, err := Connect(t.Context(), "http://gatehouse.example.com", StaticToken("token")); err == nil || !strings.Contains(err.Error(), "use https") {
		t.Errorf("without TLS: %v", err)
	}
}
