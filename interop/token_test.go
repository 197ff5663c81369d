package interop

import (
	"encoding/base64"
	"encoding/json"
	"net/http"
	"net/url"
	"strings"
	"testing"
)

// decodePart decodes the header (0) or the claims (1) of a JWT.
func decodePart(t testing.TB, token string, part int, into any) {
	t.Helper()
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		t.Fatalf("%d bytes that are no JWT", len(token))
	}
	data, err := base64.RawURLEncoding.DecodeString(parts[part])
	must(t, err)
	must(t, json.Unmarshal(data, into))
}

// requestToken asks a token endpoint and returns the token of that name in its answer.
func requestToken(t testing.TB, endpoint, name string, form url.Values) string {
	t.Helper()
	resp, err := web.PostForm(endpoint, form)
	must(t, err)
	defer resp.Body.Close()
	var answer map[string]any
	must(t, json.NewDecoder(resp.Body).Decode(&answer))
	token, _ := answer[name].(string)
	if resp.StatusCode != http.StatusOK || token == "" {
		t.Fatalf("%s: %s, %v %v", endpoint, resp.Status, answer["error"], answer["error_description"])
	}
	return token
}
