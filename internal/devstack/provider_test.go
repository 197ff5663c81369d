package devstack

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"log/slog"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"github.com/google/go-cmp/cmp"
	"golang.org/x/oauth2"
)

// startProvider starts a provider with an HTTP client of its own, so that no connection outlives the test.
func startProvider(t *testing.T, opts ProviderOptions) (*Provider, *http.Client) {
	t.Helper()
	opts.Log = slog.New(slog.DiscardHandler)
	p, err := StartProvider(opts)
	if err != nil {
		t.Fatal(err)
	}
	transport := &http.Transport{}
	t.Cleanup(func() {
		transport.CloseIdleConnections()
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	})
	return p, &http.Client{
		Transport: transport, Timeout: 10 * time.Second,
		CheckRedirect: func(r *http.Request, _ []*http.Request) error {
			if r.URL.Path == RedirectPath { // the application's
				return http.ErrUseLastResponse
			}
			return nil
		},
	}
}

func discover(t *testing.T, p *Provider, client *http.Client) (context.Context, *oidc.Provider) {
	t.Helper()
	ctx := oidc.ClientContext(t.Context(), client)
	discovered, err := oidc.NewProvider(ctx, p.Issuer())
	if err != nil {
		t.Fatal(err)
	}
	return ctx, discovered
}

func oauthConfig(discovered *oidc.Provider) *oauth2.Config {
	return &oauth2.Config{
		ClientID: ClientID, Endpoint: discovered.Endpoint(), RedirectURL: "http://127.0.0.1:49152/callback",
		Scopes: []string{"openid", "profile", "email", "groups", "offline_access"},
	}
}

var hiddenID = regexp.MustCompile(`name="id" value="([^"]+)"`)

// logIn goes from the authorization URL through the login form and returns the answer that sends the browser back.
func logIn(t *testing.T, client *http.Client, authURL, user, password string) *http.Response {
	t.Helper()
	page := get(t, client, authURL)
	body, err := io.ReadAll(page.Body)
	if err != nil {
		t.Fatal(err)
	}
	id := hiddenID.FindSubmatch(body)
	if id == nil {
		t.Fatalf("%s: no login form: %s", page.Status, body)
	}
	form := url.Values{"id": {string(id[1])}, "username": {user}, "password": {password}}
	answer, err := client.PostForm(page.Request.URL.ResolveReference(&url.URL{Path: loginPath}).String(), form)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { answer.Body.Close() })
	return answer
}

func get(t *testing.T, client *http.Client, url string) *http.Response {
	t.Helper()
	answer, err := client.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { answer.Body.Close() })
	return answer
}

func redirectQuery(t *testing.T, answer *http.Response) url.Values {
	t.Helper()
	location, err := answer.Location()
	if err != nil {
		t.Fatalf("%s: %v", answer.Status, err)
	}
	return location.Query()
}

// tokensOf completes a login of alice.
func tokensOf(t *testing.T, ctx context.Context, client *http.Client, config *oauth2.Config) *oauth2.Token {
	t.Helper()
	verifier := oauth2.GenerateVerifier()
	answer := logIn(t, client, config.AuthCodeURL("state", oauth2.S256ChallengeOption(verifier)), "alice", "alice")
	tokens, err := config.Exchange(ctx, redirectQuery(t, answer).Get("code"), oauth2.VerifierOption(verifier))
	if err != nil {
		t.Fatal(err)
	}
	return tokens
}

type userClaims struct {
	Subject  string   `json:"sub"`
	Email    string   `json:"email"`
	Verified bool     `json:"email_verified"`
	Name     string   `json:"name"`
	Username string   `json:"preferred_username"`
	Groups   []string `json:"groups"`
}

var aliceClaims = userClaims{
	Subject: "alice", Email: "alice@example.com", Verified: true, Name: "Alice Example", Username: "alice",
	Groups: []string{"dev", "team-blue"},
}

func checkUserClaims(t *testing.T, from interface{ Claims(any) error }) {
	t.Helper()
	var got userClaims
	if err := from.Claims(&got); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(aliceClaims, got); diff != "" {
		t.Errorf("claims (-want +got):\n%s", diff)
	}
}

func TestAuthorizationCodeFlow(t *testing.T) {
	t.Parallel()
	for _, algorithm := range []Algorithm{RS256, ES256, EdDSA} {
		t.Run(string(algorithm), func(t *testing.T) {
			t.Parallel()
			p, client := startProvider(t, ProviderOptions{Algorithm: algorithm})
			ctx, discovered := discover(t, p, client)
			config := oauthConfig(discovered)
			verifier := oauth2.GenerateVerifier()
			authURL := config.AuthCodeURL("the state", oauth2.S256ChallengeOption(verifier), oidc.Nonce("the nonce"))
			back := redirectQuery(t, logIn(t, client, authURL, "alice", "alice"))
			if back.Get("state") != "the state" {
				t.Errorf("state: %q", back.Get("state"))
			}
			tokens, err := config.Exchange(ctx, back.Get("code"), oauth2.VerifierOption(verifier))
			if err != nil {
				t.Fatal(err)
			}

			idToken, err := discovered.Verifier(&oidc.Config{ClientID: ClientID}).Verify(ctx, tokens.Extra("id_token").(string))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff([]string{Audience, ClientID}, idToken.Audience); diff != "" {
				t.Errorf("aud (-want +got):\n%s", diff)
			}
			if idToken.Nonce != "the nonce" {
				t.Errorf("nonce: %q", idToken.Nonce)
			}
			if err := idToken.VerifyAccessToken(tokens.AccessToken); err != nil {
				t.Error(err)
			}
			checkUserClaims(t, idToken)
			var ids struct{ Jti, Sid string }
			if err := idToken.Claims(&ids); err != nil || ids.Jti == "" || ids.Sid == "" {
				t.Errorf("jti and sid: %+v, %v", ids, err)
			}

			accessToken, err := discovered.Verifier(&oidc.Config{ClientID: Audience}).Verify(ctx, tokens.AccessToken)
			if err != nil {
				t.Fatal(err)
			}
			checkUserClaims(t, accessToken)
			info, err := discovered.UserInfo(ctx, oauth2.StaticTokenSource(tokens))
			if err != nil {
				t.Fatal(err)
			}
			checkUserClaims(t, info)

			if _, err := config.Exchange(ctx, back.Get("code"), oauth2.VerifierOption(verifier)); !isOAuthError(err, "invalid_grant") {
				t.Errorf("the code worked twice: %v", err)
			}
		})
	}
}

func isOAuthError(err error, code string) bool {
	failed, ok := errors.AsType[*oauth2.RetrieveError](err)
	return ok && failed.ErrorCode == code
}

func TestCodeNeedsItsVerifierAndRedirect(t *testing.T) {
	t.Parallel()
	p, client := startProvider(t, ProviderOptions{})
	ctx, discovered := discover(t, p, client)
	config := oauthConfig(discovered)
	verifier := oauth2.GenerateVerifier()
	elsewhere := oauthConfig(discovered)
	elsewhere.RedirectURL = "http://127.0.0.1:1/callback"
	for name, exchange := range map[string]func(code string) error{
		"no verifier": func(code string) error {
			_, err := config.Exchange(ctx, code)
			return err
		},
		"another verifier": func(code string) error {
			_, err := config.Exchange(ctx, code, oauth2.VerifierOption(oauth2.GenerateVerifier()))
			return err
		},
		"another redirect URI": func(code string) error {
			_, err := elsewhere.Exchange(ctx, code, oauth2.VerifierOption(verifier))
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			answer := logIn(t, client, config.AuthCodeURL("", oauth2.S256ChallengeOption(verifier)), "alice", "alice")
			err := exchange(redirectQuery(t, answer).Get("code"))
			if !isOAuthError(err, "invalid_grant") && !isOAuthError(err, "invalid_request") {
				t.Errorf("got %v", err)
			}
		})
	}
}

func TestAuthorizationRequests(t *testing.T) {
	t.Parallel()
	p, client := startProvider(t, ProviderOptions{})
	good := url.Values{
		"client_id": {ClientID}, "response_type": {"code"}, "scope": {"openid"}, "redirect_uri": {"http://127.0.0.1:3/callback"},
		"code_challenge": {oauth2.S256ChallengeFromVerifier(oauth2.GenerateVerifier())}, "code_challenge_method": {"S256"},
	}
	for _, test := range []struct {
		name, parameter, value string
		status                 int
		sentBack               string // error code in the redirect
	}{
		{"as it should be", "", "", http.StatusOK, ""},
		{"another port", "redirect_uri", "http://127.0.0.1:61000/callback", http.StatusOK, ""},
		{"IPv6 loopback", "redirect_uri", "http://[::1]:3/callback", http.StatusOK, ""},
		{"localhost", "redirect_uri", "http://localhost:3/callback", http.StatusOK, ""},
		{"another path", "redirect_uri", "http://127.0.0.1:3/elsewhere", http.StatusBadRequest, ""},
		{"another machine", "redirect_uri", "http://192.0.2.1:3/callback", http.StatusBadRequest, ""},
		{"a web site", "redirect_uri", "https://evil.example/callback", http.StatusBadRequest, ""},
		{"a name that begins with loopback", "redirect_uri", "http://127.0.0.1.evil.example/callback", http.StatusBadRequest, ""},
		{"no redirect", "redirect_uri", "", http.StatusBadRequest, ""},
		{"unknown client", "client_id", "other", http.StatusBadRequest, ""},
		{"no PKCE", "code_challenge", "", http.StatusFound, "invalid_request"},
		{"plain PKCE", "code_challenge_method", "plain", http.StatusFound, "invalid_request"},
		{"PKCE method left out", "code_challenge_method", "", http.StatusFound, "invalid_request"},
		{"implicit flow", "response_type", "id_token token", http.StatusFound, "unauthorized_client"},
		{"no interaction", "prompt", "none", http.StatusFound, "login_required"},
	} {
		t.Run(test.name, func(t *testing.T) {
			query := url.Values{}
			for name, values := range good {
				query[name] = values
			}
			if test.parameter != "" {
				query.Set(test.parameter, test.value)
			}
			answer := get(t, client, p.Issuer()+"/authorize?"+query.Encode())
			if answer.StatusCode != test.status {
				body, _ := io.ReadAll(answer.Body)
				t.Fatalf("%s: %s", answer.Status, body)
			}
			if test.sentBack == "" {
				return
			}
			location, _ := url.Parse(answer.Header.Get("Location"))
			if got := location.Query().Get("error") + fragmentError(location); got != test.sentBack {
				t.Errorf("sent back to %s", location)
			}
		})
	}
}

// fragmentError returns the error that an answer to an implicit flow carries.
func fragmentError(location *url.URL) string {
	values, _ := url.ParseQuery(location.Fragment)
	return values.Get("error")
}

func TestLoginPage(t *testing.T) {
	t.Parallel()
	p, client := startProvider(t, ProviderOptions{})
	_, discovered := discover(t, p, client)
	verifier := oauth2.GenerateVerifier()
	authURL := oauthConfig(discovered).AuthCodeURL("", oauth2.S256ChallengeOption(verifier), oauth2.SetAuthURLParam("login_hint", `bob"><script>`))

	t.Run("shows users and escapes the hint", func(t *testing.T) {
		page := get(t, client, authURL)
		body, _ := io.ReadAll(page.Body)
		for _, want := range []string{"carol", "contractors", "nats-admins", `value="bob&#34;&gt;&lt;script&gt;"`, `<label for="password">`} {
			if !strings.Contains(string(body), want) {
				t.Errorf("the page lacks %q", want)
			}
		}
		if policy := page.Header.Get("Content-Security-Policy"); !strings.Contains(policy, "default-src 'none'") {
			t.Errorf("policy: %q", policy)
		}
		style := get(t, client, p.Issuer()+stylePath)
		if kind := style.Header.Get("Content-Type"); style.StatusCode != http.StatusOK || !strings.HasPrefix(kind, "text/css") {
			t.Errorf("style sheet: %s, %s", style.Status, kind)
		}
	})
	for _, test := range []struct{ name, user, password string }{
		{"bad password", "alice", "secret-typo"},
		{"another's password", "alice", "bob"},
		{"no password", "alice", ""},
		{"unknown user", "mallory", "mallory"},
	} {
		t.Run(test.name, func(t *testing.T) {
			answer := logIn(t, client, authURL, test.user, test.password)
			body, _ := io.ReadAll(answer.Body)
			if answer.StatusCode != http.StatusUnauthorized || !strings.Contains(string(body), `role="alert"`) {
				t.Errorf("%s: %s", answer.Status, body)
			}
			if strings.Contains(string(body), "secret-typo") {
				t.Error("the page repeats the password")
			}
			if !hiddenID.Match(body) {
				t.Error("the form cannot be tried again")
			}
		})
	}
	t.Run("stale login", func(t *testing.T) {
		if page := get(t, client, p.Issuer()+loginPath+"?id=unknown"); page.StatusCode != http.StatusNotFound {
			t.Error(page.Status)
		}
		answer, err := client.PostForm(p.Issuer()+loginPath, url.Values{"id": {"unknown"}, "username": {"bob"}, "password": {"bob"}})
		if err != nil {
			t.Fatal(err)
		}
		answer.Body.Close()
		if answer.StatusCode != http.StatusNotFound {
			t.Error(answer.Status)
		}
	})
	t.Run("not before the user has logged in", func(t *testing.T) {
		page := get(t, client, authURL)
		answer := get(t, client, p.Issuer()+callbackURL(page.Request.URL.Query().Get("id")))
		if code := redirectQuery(t, answer).Get("error"); code != "interaction_required" {
			t.Errorf("error: %q", code)
		}
	})
	for _, test := range []struct {
		name   string
		change func(*http.Request)
		status int
	}{
		{"post from a web site", func(r *http.Request) { r.Header.Set("Sec-Fetch-Site", "cross-site") }, http.StatusForbidden},
		{"rebound host name", func(r *http.Request) { r.Host = "evil.example" }, http.StatusMisdirectedRequest},
	} {
		t.Run(test.name, func(t *testing.T) {
			request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, p.Issuer()+loginPath, http.NoBody)
			if err != nil {
				t.Fatal(err)
			}
			test.change(request)
			answer, err := client.Do(request)
			if err != nil {
				t.Fatal(err)
			}
			answer.Body.Close()
			if answer.StatusCode != test.status {
				t.Error(answer.Status)
			}
		})
	}
}

func refresh(ctx context.Context, config *oauth2.Config, token string) (*oauth2.Token, error) {
	return config.TokenSource(ctx, &oauth2.Token{RefreshToken: token}).Token()
}

func TestRefreshTokens(t *testing.T) {
	t.Parallel()
	p, client := startProvider(t, ProviderOptions{})
	ctx, discovered := discover(t, p, client)
	config := oauthConfig(discovered)
	first := tokensOf(t, ctx, client, config)
	second, err := refresh(ctx, config, first.RefreshToken)
	if err != nil {
		t.Fatal(err)
	}
	verifier := discovered.Verifier(&oidc.Config{ClientID: Audience})
	var sessions [2]struct{ Sid, Jti string }
	for i, tokens := range []*oauth2.Token{first, second} {
		idToken, err := verifier.Verify(ctx, tokens.Extra("id_token").(string))
		if err != nil {
			t.Fatal(err)
		}
		checkUserClaims(t, idToken)
		if err := idToken.Claims(&sessions[i]); err != nil {
			t.Fatal(err)
		}
	}
	if sessions[0].Sid != sessions[1].Sid || sessions[0].Jti == sessions[1].Jti {
		t.Errorf("the session must stay and the token differ: %+v", sessions)
	}
	if _, err := refresh(ctx, config, first.RefreshToken); !isOAuthError(err, "invalid_grant") {
		t.Errorf("a used refresh token works: %v", err)
	}
	answer, err := client.PostForm(p.Issuer()+"/revoke", url.Values{"token": {second.RefreshToken}, "client_id": {ClientID}})
	if err != nil {
		t.Fatal(err)
	}
	answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		t.Errorf("revoke: %s", answer.Status)
	}
	if _, err := refresh(ctx, config, second.RefreshToken); !isOAuthError(err, "invalid_grant") {
		t.Errorf("a revoked refresh token works: %v", err)
	}
	config.Scopes = []string{"openid"}
	if tokens := tokensOf(t, ctx, client, config); tokens.RefreshToken != "" {
		t.Error("a refresh token came unasked")
	}
}

func TestDeviceFlow(t *testing.T) {
	t.Parallel()
	p, client := startProvider(t, ProviderOptions{})
	ctx, discovered := discover(t, p, client)
	config := oauthConfig(discovered)
	decide := func(t *testing.T, userCode, decision string) *http.Response {
		t.Helper()
		answer, err := client.PostForm(p.Issuer()+devicePath, url.Values{
			"user_code": {userCode}, "username": {"alice"}, "password": {"alice"}, "decision": {decision},
		})
		if err != nil {
			t.Fatal(err)
		}
		answer.Body.Close()
		return answer
	}
	begin := func(t *testing.T) *oauth2.DeviceAuthResponse {
		t.Helper()
		device, err := config.DeviceAuth(ctx)
		if err != nil {
			t.Fatal(err)
		}
		return device
	}
	poll := func(t *testing.T, device *oauth2.DeviceAuthResponse) (answer struct {
		IDToken      string `json:"id_token"`
		RefreshToken string `json:"refresh_token"`
		Error        string
	}) {
		t.Helper()
		response, err := client.PostForm(discovered.Endpoint().TokenURL, url.Values{
			"grant_type": {"urn:ietf:params:oauth:grant-type:device_code"}, "device_code": {device.DeviceCode}, "client_id": {ClientID},
		})
		if err != nil {
			t.Fatal(err)
		}
		defer response.Body.Close()
		if err := json.NewDecoder(response.Body).Decode(&answer); err != nil {
			t.Fatal(err)
		}
		return answer
	}
	t.Run("approved", func(t *testing.T) {
		device := begin(t)
		if answer := poll(t, device); answer.Error != "authorization_pending" {
			t.Errorf("before the decision: %+v", answer)
		}
		page := get(t, client, device.VerificationURIComplete)
		body, _ := io.ReadAll(page.Body)
		if !strings.Contains(string(body), device.UserCode) {
			t.Error("the form lacks the code")
		}
		if answer := decide(t, strings.ToLower(strings.ReplaceAll(device.UserCode, "-", " ")), "approve"); answer.StatusCode != http.StatusOK {
			t.Fatal(answer.Status)
		}
		tokens := poll(t, device)
		idToken, err := discovered.Verifier(&oidc.Config{ClientID: Audience}).Verify(ctx, tokens.IDToken)
		if err != nil {
			t.Fatal(err)
		}
		checkUserClaims(t, idToken)
		if _, err := refresh(ctx, config, tokens.RefreshToken); err != nil {
			t.Error(err)
		}
		if answer := poll(t, device); answer.Error != "access_denied" {
			t.Errorf("the device code worked twice: %+v", answer)
		}
	})
	t.Run("refused", func(t *testing.T) {
		device := begin(t)
		if answer := decide(t, device.UserCode, "refuse"); answer.StatusCode != http.StatusOK {
			t.Fatal(answer.Status)
		}
		if answer := poll(t, device); answer.Error != "access_denied" {
			t.Errorf("got %+v", answer)
		}
	})
	t.Run("wrong code", func(t *testing.T) {
		begin(t)
		if answer := decide(t, "AAAA-AAAA", "approve"); answer.StatusCode != http.StatusNotFound {
			t.Error(answer.Status)
		}
	})
}

func TestKeyRotation(t *testing.T) {
	t.Parallel()
	p, client := startProvider(t, ProviderOptions{})
	mint := func() string {
		t.Helper()
		token, err := p.Token("alice", "", time.Hour, nil)
		if err != nil {
			t.Fatal(err)
		}
		return token
	}
	verifies := func(token string) bool { // with a fresh key set each time
		ctx, discovered := discover(t, p, client)
		_, err := discovered.Verifier(&oidc.Config{ClientID: Audience}).Verify(ctx, token)
		return err == nil
	}
	old := mint()
	if err := p.RotateKeys(); err != nil {
		t.Fatal(err)
	}
	current := mint()
	if !verifies(old) || !verifies(current) {
		t.Fatal("old and new tokens must verify while both keys are published")
	}
	if err := p.SetAlgorithm(EdDSA); err != nil {
		t.Fatal(err)
	}
	if !verifies(mint()) || !verifies(old) {
		t.Fatal("tokens of both algorithms must verify")
	}
	if err := p.RetireKeys(); err != nil {
		t.Fatal(err)
	}
	if verifies(old) || verifies(current) || !verifies(mint()) {
		t.Fatal("only the signing key's tokens may verify once the others are retired")
	}
	for range 2 * maxKeys {
		if err := p.RotateKeys(); err != nil {
			t.Fatal(err)
		}
	}
	if n := len(p.Keys().all()); n != maxKeys {
		t.Errorf("%d keys are published", n)
	}
	if err := p.SetAlgorithm("HS256"); err == nil {
		t.Error("HS256 was taken")
	}
}

func TestRestartKeepsKeysAndSessions(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	p, client := startProvider(t, ProviderOptions{Dir: dir, Algorithm: EdDSA})
	ctx, discovered := discover(t, p, client)
	tokens := tokensOf(t, ctx, client, oauthConfig(discovered))
	address := strings.TrimPrefix(p.Issuer(), "http://")
	client.CloseIdleConnections()
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	for _, file := range []string{keysFile, stateFile} {
		info, err := os.Stat(filepath.Join(dir, file))
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %s", file, info.Mode())
		}
		content, _ := os.ReadFile(filepath.Join(dir, file))
		if strings.Contains(string(content), tokens.RefreshToken) {
			t.Errorf("%s holds the refresh token itself", file)
		}
	}

	keys, err := OpenKeys(dir) // while nothing runs
	if err != nil {
		t.Fatal(err)
	}
	minted, err := keys.MintToken(DemoUsers()[0], "", time.Minute, nil)
	if err != nil {
		t.Fatal(err)
	}

	again, client := startProvider(t, ProviderOptions{Dir: dir, Listen: address})
	ctx, discovered = discover(t, again, client)
	verifier := discovered.Verifier(&oidc.Config{ClientID: Audience, SupportedSigningAlgs: []string{"EdDSA"}})
	for _, token := range []string{minted, tokens.Extra("id_token").(string)} {
		if _, err := verifier.Verify(ctx, token); err != nil {
			t.Error(err)
		}
	}
	if _, err := refresh(ctx, oauthConfig(discovered), tokens.RefreshToken); err != nil {
		t.Error(err)
	}

	elsewhere, _ := startProvider(t, ProviderOptions{Dir: dir, Algorithm: ES256})
	moved, err := OpenKeys(dir)
	if err != nil {
		t.Fatal(err)
	}
	if moved.Issuer() != elsewhere.Issuer() || moved.algorithm() != ES256 || len(moved.all()) != 2 {
		t.Errorf("after a change of port and algorithm: %s, %s, %d keys", moved.Issuer(), moved.algorithm(), len(moved.all()))
	}
}

func TestOpenKeysRefuses(t *testing.T) {
	t.Parallel()
	if _, err := OpenKeys(t.TempDir()); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no file: %v", err)
	}
	keys := &Keys{issuer: "http://127.0.0.1:1"}
	if err := keys.rotate(ES256); err != nil {
		t.Fatal(err)
	}
	public := keysOnDisk{Issuer: keys.issuer, Keys: keys.all()[:1:1]}
	public.Keys[0] = public.Keys[0].Public()
	for name, content := range map[string]any{
		"not an object": "x",
		"no key":        keysOnDisk{Issuer: keys.issuer},
		"no issuer":     keysOnDisk{Keys: keys.all()},
		"a public key":  public,
	} {
		dir := t.TempDir()
		if err := writeSecretJSON(filepath.Join(dir, keysFile), content); err != nil {
			t.Fatal(err)
		}
		if _, err := OpenKeys(dir); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func TestMintToken(t *testing.T) {
	t.Parallel()
	p, client := startProvider(t, ProviderOptions{})
	ctx, discovered := discover(t, p, client)
	verify := func(audience, token string) (*oidc.IDToken, error) {
		return discovered.Verifier(&oidc.Config{ClientID: audience}).Verify(ctx, token)
	}
	token, err := p.Token("alice", "gatehouse-admin", time.Hour, map[string]any{"groups": []string{"other"}, "name": nil, "team": "blue"})
	if err != nil {
		t.Fatal(err)
	}
	idToken, err := verify("gatehouse-admin", token)
	if err != nil {
		t.Fatal(err)
	}
	var claims map[string]any
	if err := idToken.Claims(&claims); err != nil {
		t.Fatal(err)
	}
	if _, ok := claims["name"]; ok || claims["team"] != "blue" || !cmp.Equal(claims["groups"], []any{"other"}) {
		t.Errorf("claims: %v", claims)
	}
	if got := idToken.Expiry.Sub(idToken.IssuedAt); got != time.Hour {
		t.Errorf("lifetime: %s", got)
	}
	expired, err := p.Token("alice", "", -time.Minute, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := verify(Audience, expired); err == nil {
		t.Error("an expired token verified")
	}
	if _, err := p.Token("mallory", "", time.Hour, nil); err == nil || !strings.Contains(err.Error(), "alice, bob, carol, root") {
		t.Errorf("unknown user: %v", err)
	}

	odd, err := p.Keys().Sign(map[string]any{"typ": "logout+jwt", "kid": "unknown"}, map[string]any{"sub": "alice"})
	if err != nil {
		t.Fatal(err)
	}
	encoded, _, _ := strings.Cut(odd, ".")
	header, err := decodeSegment(encoded)
	if err != nil || header["typ"] != "logout+jwt" || header["kid"] != "unknown" || header["alg"] != "ES256" {
		t.Errorf("header: %v, %v", header, err)
	}
}

func TestOutages(t *testing.T) {
	t.Parallel()
	p, client := startProvider(t, ProviderOptions{})
	jwks := p.Issuer() + jwksPath
	get(t, client, jwks)
	get(t, client, p.Issuer()+"/.well-known/openid-configuration")

	p.SetDown(true)
	if answer, err := client.Get(jwks); err == nil {
		answer.Body.Close()
		t.Fatal("a provider that is down answered")
	}
	p.SetDown(false)

	p.SetDelay(time.Hour)
	impatient, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	request, err := http.NewRequestWithContext(impatient, http.MethodGet, jwks, nil)
	if err != nil {
		t.Fatal(err)
	}
	if answer, err := client.Do(request); !errors.Is(err, context.DeadlineExceeded) {
		answer.Body.Close()
		t.Fatalf("a delayed answer came: %v", err)
	}
	answered := make(chan error, 1)
	go func() {
		answer, err := client.Get(jwks)
		if err == nil {
			err = answer.Body.Close()
		}
		answered <- err
	}()
	waitUntil(t, func() bool { return p.JWKSFetches() == 4 }) // it has arrived and waits
	p.SetDelay(0)
	if err := <-answered; err != nil {
		t.Fatal(err)
	}
	if p.JWKSFetches() != 4 || p.DiscoveryFetches() != 1 {
		t.Errorf("%d and %d fetches counted", p.JWKSFetches(), p.DiscoveryFetches())
	}

	p.SetDelay(time.Hour) // Close must not wait for it
	go func() {
		answer, err := client.Get(jwks)
		if err == nil {
			err = answer.Body.Close()
		}
		answered <- err
	}()
	waitUntil(t, func() bool { return p.JWKSFetches() == 5 })
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-answered; err == nil {
		t.Error("a request outlived the provider")
	}
}

func TestProviderRefusesToStart(t *testing.T) {
	t.Parallel()
	broken := t.TempDir()
	if err := os.WriteFile(filepath.Join(broken, stateFile), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, opts := range map[string]ProviderOptions{
		"address that others reach": {Listen: "0.0.0.0:0"},
		"missing folder":            {Dir: filepath.Join(broken, "missing")},
		"broken state":              {Dir: broken},
		"unknown algorithm":         {Algorithm: "none"},
		"user without a name":       {Users: []User{{}}},
	} {
		p, err := StartProvider(opts)
		if err == nil {
			t.Errorf("%s: started", name)
			p.Close()
		}
	}
}

func TestUsersAsJSON(t *testing.T) {
	t.Parallel()
	got, err := json.Marshal(DemoUsers()[0])
	if err != nil {
		t.Fatal(err)
	}
	if want := `{"name":"alice","password":"alice","groups":["dev","team-blue"]}`; string(got) != want {
		t.Errorf("got %s", got)
	}
}

func waitUntil(t *testing.T, done func() bool) {
	t.Helper()
	deadline := time.Now().Add(10 * time.Second)
	for !done() {
		if time.Now().After(deadline) {
			t.Fatal("it did not happen in time")
		}
		time.Sleep(time.Millisecond)
	}
}

func decodeSegment(segment string) (map[string]any, error) {
	data, err := base64.RawURLEncoding.DecodeString(segment)
	if err != nil {
		return nil, err
	}
	var value map[string]any
	err = json.Unmarshal(data, &value)
	return value, err
}
