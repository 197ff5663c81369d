package gatehouse

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nkeys"

	"github.com/gatehouse-nats/gatehouse/api"
)

// The proof is that of the vectors in docs/protocol.md, whose bytes every other program makes too.
func TestSignUpMakesTheVectors(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("docs/protocol.md")
	must(t, err)
	block := regexp.MustCompile("(?s)```json\n(.*?)```").FindSubmatch(page)
	if block == nil {
		t.Fatal("docs/protocol.md has no vectors")
	}
	var vectors []struct {
		Seed, Audience, Account, Program, Token, Statement, Signature string
		UserKey                                                       string `json:"user_key"`
		Time                                                          int64
	}
	must(t, json.Unmarshal(block[1], &vectors))
	if len(vectors) < 2 {
		t.Fatalf("%d vectors", len(vectors))
	}
	for _, v := range vectors {
		key, err := nkeys.FromSeed([]byte(v.Seed))
		must(t, err)
		req, err := DirectUser{Key: key, Account: v.Account, Program: v.Program}.request(v.Audience, v.Token, time.UnixMilli(v.Time))
		must(t, err)
		if req.UserKey != v.UserKey || req.Proof.Signature != v.Signature || req.Proof.Audience != v.Audience || req.Proof.Time != v.Time {
			t.Errorf("request %+v, want %+v", req, v)
		}
		if statement := string(api.SignupStatement(req, v.Token)); statement != v.Statement {
			t.Errorf("statement %q, want %q", statement, v.Statement)
		}
	}
}

// signupService is a service that keeps what it is asked and answers as it is told.
func signupService(t *testing.T, answer func(api.UserSignupRequest) (int, any)) (url string, asked func() string) {
	var body string
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		data, err := io.ReadAll(r.Body)
		var req api.UserSignupRequest
		if err != nil || json.Unmarshal(data, &req) != nil || r.URL.Path != "/v1/user.signup" {
			t.Errorf("asked %s for %s: %v", r.URL, data, err)
		}
		body = r.Header.Get("Authorization") + " " + string(data)
		code, v := answer(req)
		w.WriteHeader(code)
		if err := json.NewEncoder(w).Encode(v); err != nil {
			t.Error(err)
		}
	}))
	t.Cleanup(s.Close)
	return s.URL, func() string { return body }
}

func TestSignUp(t *testing.T) {
	t.Parallel()
	key := newKey(t, nkeys.CreateUser)
	seed, err := key.Seed()
	must(t, err)
	url, asked := signupService(t, func(req api.UserSignupRequest) (int, any) {
		return http.StatusOK, api.UserSignup{JWT: "eyJ", UserKey: req.UserKey, Account: req.Account}
	})
	got, err := SignUp(t.Context(), StaticToken(`{"token":"t0k3n","account":"APP"}`), DirectUser{Service: url + "/", Key: key})
	must(t, err)
	if got.JWT != "eyJ" || got.Account != "APP" {
		t.Errorf("%+v", got)
	}
	if text := asked(); !strings.HasPrefix(text, "Bearer t0k3n {") || !strings.Contains(text, `"audience":"`+url+`"`) || strings.Contains(text, string(seed)) {
		t.Errorf("asked %s", text)
	}
}

func TestSignUpIsRefused(t *testing.T) {
	t.Parallel()
	user, account := newKey(t, nkeys.CreateUser), newKey(t, nkeys.CreateAccount)
	url, asked := signupService(t, func(api.UserSignupRequest) (int, any) {
		return http.StatusForbidden, api.Error{Reason: "direct_not_granted", Message: "no", RequestID: "r1"}
	})
	for name, c := range map[string]struct {
		user   DirectUser
		source TokenSource
		want   string
		asked  bool
	}{
		"by the service":       {DirectUser{Service: url, Key: user}, StaticToken("t"), "direct_not_granted", true},
		"in the clear":         {DirectUser{Service: "http://gatehouse.example.com", Key: user}, StaticToken("t"), "use https", false},
		"without a service":    {DirectUser{Key: user}, StaticToken("t"), "not the HTTP address", false},
		"without a key":        {DirectUser{Service: url}, StaticToken("t"), "nkeys.CreateUser", false},
		"an account's key":     {DirectUser{Service: url, Key: account}, StaticToken("t"), "user key alone", false},
		"without a token":      {DirectUser{Service: url, Key: user}, TokenFunc(func(context.Context) (string, error) { return "", errors.New("gone") }), "gone", false},
		"a malformed envelope": {DirectUser{Service: url, Key: user}, StaticToken(`{"tok":1}`), "envelope", false},
	} {
		before := asked()
		_, err := SignUp(t.Context(), c.source, c.user)
		if err == nil || !strings.Contains(err.Error(), c.want) || (asked() != before) != c.asked {
			t.Errorf("%s: %v, want one with %q", name, err, c.want)
		}
		if refused, ok := errors.AsType[*api.Error](err); ok != c.asked || ok && (refused.Code != http.StatusForbidden || refused.RequestID != "r1") {
			t.Errorf("%s: %#v", name, err)
		}
	}
}

// A service that answers for another key would have the caller use somebody else's user JWT.
func TestSignUpComparesTheKey(t *testing.T) {
	t.Parallel()
	url, _ := signupService(t, func(api.UserSignupRequest) (int, any) {
		return http.StatusOK, api.UserSignup{JWT: "eyJ", UserKey: newKey(t, nkeys.CreateUser).public}
	})
	if got, err := SignUp(t.Context(), StaticToken("t"), DirectUser{Service: url, Key: newKey(t, nkeys.CreateUser)}); err == nil {
		t.Errorf("took %+v", got)
	}
}
