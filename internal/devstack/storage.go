package devstack

import (
	"cmp"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/zitadel/oidc/v3/pkg/oidc"
	"github.com/zitadel/oidc/v3/pkg/op"
)

const (
	stateFile   = "oidc-state.json"
	scopeGroups = "groups"

	loginLifetime   = 10 * time.Minute
	refreshLifetime = 30 * 24 * time.Hour

	// The stores are bounded: beyond these, new logins and device codes are refused until others end, and the oldest
	// refresh tokens are dropped.
	maxLogins  = 1000
	maxDevices = 100
	maxRefresh = 1000
)

var (
	errTooMany     = errors.New("too many logins in progress; wait until some end")
	errUnknown     = errors.New("unknown, used or expired")
	errNotOffered  = errors.New("the demo provider does not offer this")
	errWrongSecret = errors.New("the demo provider's client is public: it has no secret")
)

// storage holds what the provider knows between requests: logins in progress, device codes and refresh tokens. It
// implements op.Storage and op.DeviceAuthorizationStorage. Only refresh tokens outlive the process.
type storage struct {
	keys     *Keys
	users    []User
	tokenTTL time.Duration
	path     string // of the state file; empty: in memory only

	mu      sync.Mutex
	logins  map[string]login   // by request id
	devices map[string]device  // by device code
	refresh map[string]session // by SHA-256 of the refresh token
}

// login is an authorization request on its way from /authorize to its code's use. Values are replaced, never changed.
type login struct {
	id      string
	request oidc.AuthRequest
	code    string // empty until it is issued
	expires time.Time
	session session // its Subject is empty until the user has logged in
}

// session is one login of a user at the client; refreshing keeps it.
type session struct {
	ID       string    `json:"sid"`
	Client   string    `json:"client"`
	Subject  string    `json:"sub"`
	Scopes   []string  `json:"scopes"`
	AuthTime time.Time `json:"auth_time"`
	Expires  time.Time `json:"expires"`
}

// device is a device authorization (RFC 8628) that waits for a user.
type device struct {
	userCode string
	state    op.DeviceAuthorizationState
}

func newStorage(keys *Keys, users []User, tokenTTL time.Duration, dir string) (*storage, error) {
	s := &storage{
		keys: keys, users: users, tokenTTL: tokenTTL,
		logins: map[string]login{}, devices: map[string]device{}, refresh: map[string]session{},
	}
	if dir == "" {
		return s, nil
	}
	s.path = filepath.Join(dir, stateFile)
	data, err := os.ReadFile(s.path)
	if errors.Is(err, fs.ErrNotExist) {
		return s, nil
	}
	if err == nil {
		err = json.Unmarshal(data, &s.refresh)
	}
	if err != nil {
		return nil, fmt.Errorf("demo provider's state in %s (delete it to start anew): %w", s.path, err)
	}
	return s, nil
}

func newSession(client string, user User, scopes []string) session {
	return session{ID: rand.Text(), Client: client, Subject: user.Name, Scopes: scopes, AuthTime: time.Now()}
}

// login implements op.AuthRequest.

func (l login) GetID() string                      { return l.id }
func (l login) GetACR() string                     { return "" }
func (l login) GetAMR() []string                   { return []string{"pwd"} }
func (l login) GetAudience() []string              { return audienceOf(l.request.ClientID) }
func (l login) GetAuthTime() time.Time             { return l.session.AuthTime }
func (l login) GetClientID() string                { return l.request.ClientID }
func (l login) GetNonce() string                   { return l.request.Nonce }
func (l login) GetRedirectURI() string             { return l.request.RedirectURI }
func (l login) GetResponseType() oidc.ResponseType { return l.request.ResponseType }
func (l login) GetResponseMode() oidc.ResponseMode { return l.request.ResponseMode }
func (l login) GetScopes() []string                { return l.request.Scopes }
func (l login) GetState() string                   { return l.request.State }
func (l login) GetSubject() string                 { return l.session.Subject }
func (l login) Done() bool                         { return l.session.Subject != "" }
func (l login) sessionID() string                  { return l.session.ID }

func (l login) GetCodeChallenge() *oidc.CodeChallenge {
	return &oidc.CodeChallenge{Challenge: l.request.CodeChallenge, Method: l.request.CodeChallengeMethod}
}

// refreshRequest is the use of a refresh token; it implements op.RefreshTokenRequest.
type refreshRequest struct {
	session session
	scopes  []string // those asked for, among the session's
}

func (r *refreshRequest) GetAMR() []string                 { return []string{"pwd"} }
func (r *refreshRequest) GetAudience() []string            { return audienceOf(r.session.Client) }
func (r *refreshRequest) GetAuthTime() time.Time           { return r.session.AuthTime }
func (r *refreshRequest) GetClientID() string              { return cmp.Or(r.session.Client, ClientID) }
func (r *refreshRequest) GetScopes() []string              { return r.scopes }
func (r *refreshRequest) GetSubject() string               { return r.session.Subject }
func (r *refreshRequest) SetCurrentScopes(scopes []string) { r.scopes = scopes }
func (r *refreshRequest) sessionID() string                { return r.session.ID }

// CreateAuthRequest begins a login. PKCE with S256 is required (RFC 8252, section 8.1); op would let a request without
// a challenge pass until its code is used, and reads a missing method as "plain".
func (s *storage) CreateAuthRequest(_ context.Context, request *oidc.AuthRequest, _ string) (op.AuthRequest, error) {
	if request.CodeChallenge == "" || request.CodeChallengeMethod != oidc.CodeChallengeMethodS256 {
		return nil, oidc.ErrInvalidRequest().WithDescription("PKCE is required: send code_challenge and code_challenge_method=S256")
	}
	if slices.Contains(request.Prompt, oidc.PromptNone) {
		return nil, oidc.ErrLoginRequired().WithDescription("the demo provider keeps no browser session, so each login is asked for")
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	maps.DeleteFunc(s.logins, func(_ string, l login) bool { return now.After(l.expires) })
	if len(s.logins) >= maxLogins {
		return nil, oidc.ErrServerError().WithDescription("%s", errTooMany)
	}
	l := login{id: rand.Text(), request: *request, expires: now.Add(loginLifetime)}
	s.logins[l.id] = l
	return l, nil
}

// completeLogin records who logged in for the request.
func (s *storage) completeLogin(id string, user User) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	l, ok := s.logins[id]
	if !ok || l.Done() || time.Now().After(l.expires) {
		return fmt.Errorf("login request: %w", errUnknown)
	}
	l.session = newSession(l.request.ClientID, user, l.request.Scopes)
	s.logins[id] = l
	return nil
}

// AuthRequestByID returns the login of that request id.
func (s *storage) AuthRequestByID(_ context.Context, id string) (op.AuthRequest, error) {
	return s.loginByID(id)
}

func (s *storage) loginByID(id string) (login, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	l, ok := s.logins[id]
	if !ok || time.Now().After(l.expires) {
		return login{}, fmt.Errorf("login request: %w", errUnknown)
	}
	return l, nil
}

// SaveAuthCode binds code to the login.
func (s *storage) SaveAuthCode(_ context.Context, id, code string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	l, ok := s.logins[id]
	if !ok {
		return fmt.Errorf("login request: %w", errUnknown)
	}
	l.code = code
	s.logins[id] = l
	return nil
}

// AuthRequestByCode returns the login of code and forgets it: a code is good for one attempt (RFC 6749, section 4.1.2).
func (s *storage) AuthRequestByCode(_ context.Context, code string) (op.AuthRequest, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for id, l := range s.logins {
		if l.code != "" && l.code == code && time.Now().Before(l.expires) {
			delete(s.logins, id)
			return l, nil
		}
	}
	return nil, fmt.Errorf("authorization code: %w", errUnknown)
}

// DeleteAuthRequest ends a login.
func (s *storage) DeleteAuthRequest(_ context.Context, id string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.logins, id)
	return nil
}

// CreateAccessToken names a new access token; it is a JWT, so nothing is kept.
func (s *storage) CreateAccessToken(context.Context, op.TokenRequest) (string, time.Time, error) {
	return rand.Text(), time.Now().Add(s.tokenTTL), nil
}

// CreateAccessAndRefreshTokens makes a refresh token for the request's session in place of current, which is void from then on.
func (s *storage) CreateAccessAndRefreshTokens(ctx context.Context, request op.TokenRequest, current string) (string, string, time.Time, error) {
	refresh := rand.Text()
	if err := s.replaceRefreshToken(s.sessionOf(request), current, refresh); err != nil {
		return "", "", time.Time{}, err
	}
	id, expires, err := s.CreateAccessToken(ctx, request)
	return id, refresh, expires, err
}

// sessionOf returns the session that a token request belongs to; a device code begins one.
func (s *storage) sessionOf(request op.TokenRequest) session {
	switch r := request.(type) {
	case login:
		return r.session
	case *refreshRequest:
		return r.session
	default:
		user := User{Name: request.GetSubject()}
		return newSession(clientOf(request.GetAudience()), user, request.GetScopes())
	}
}

func (s *storage) replaceRefreshToken(of session, current, next string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	refresh := maps.Clone(s.refresh)
	if current != "" {
		if _, ok := refresh[digest(current)]; !ok { // another request used it first
			return oidc.ErrInvalidGrant().WithDescription("refresh token unknown, used or expired")
		}
		delete(refresh, digest(current))
	}
	now := time.Now()
	maps.DeleteFunc(refresh, func(_ string, kept session) bool { return now.After(kept.Expires) })
	for len(refresh) >= maxRefresh {
		delete(refresh, oldest(refresh))
	}
	of.Expires = now.Add(refreshLifetime)
	refresh[digest(next)] = of
	return s.saveRefresh(refresh)
}

func oldest(refresh map[string]session) string {
	return slices.MinFunc(slices.Collect(maps.Keys(refresh)), func(a, b string) int {
		return refresh[a].Expires.Compare(refresh[b].Expires)
	})
}

// saveRefresh writes the refresh tokens to the state file, where there is one, and then adopts them. The caller holds the lock.
func (s *storage) saveRefresh(refresh map[string]session) error {
	if s.path != "" {
		if err := writeSecretJSON(s.path, refresh); err != nil {
			return oidc.ErrServerError().WithDescription("the demo provider cannot keep its state").WithParent(err)
		}
	}
	s.refresh = refresh
	return nil
}

// TokenRequestByRefreshToken returns the session of a refresh token, which stays valid until it is replaced.
func (s *storage) TokenRequestByRefreshToken(_ context.Context, token string) (op.RefreshTokenRequest, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	kept, ok := s.refresh[digest(token)]
	if !ok || time.Now().After(kept.Expires) {
		return nil, fmt.Errorf("refresh token: %w", errUnknown)
	}
	if _, err := FindUser(s.users, kept.Subject); err != nil {
		return nil, err
	}
	return &refreshRequest{session: kept, scopes: kept.Scopes}, nil
}

// TerminateSession voids the user's refresh tokens.
func (s *storage) TerminateSession(_ context.Context, subject, _ string) error {
	return s.dropRefresh(func(_ string, kept session) bool { return kept.Subject == subject })
}

// RevokeToken voids the refresh token with that digest, as GetRefreshTokenInfo returned it; access tokens are JWTs and just expire.
func (s *storage) RevokeToken(_ context.Context, tokenID, _, _ string) *oidc.Error {
	err := s.dropRefresh(func(id string, _ session) bool { return id == tokenID })
	if err != nil {
		return oidc.ErrServerError().WithParent(err)
	}
	return nil
}

func (s *storage) dropRefresh(drop func(id string, kept session) bool) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	refresh := maps.Clone(s.refresh)
	maps.DeleteFunc(refresh, drop)
	return s.saveRefresh(refresh)
}

// GetRefreshTokenInfo returns the user and the digest of a refresh token.
func (s *storage) GetRefreshTokenInfo(_ context.Context, _, token string) (string, string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	kept, ok := s.refresh[digest(token)]
	if !ok {
		return "", "", op.ErrInvalidRefreshToken
	}
	return kept.Subject, digest(token), nil
}

func digest(token string) string {
	sum := sha256.Sum256([]byte(token))
	return hex.EncodeToString(sum[:])
}

// StoreDeviceAuthorization begins a device login.
func (s *storage) StoreDeviceAuthorization(_ context.Context, clientID, deviceCode, userCode string, expires time.Time, scopes []string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	maps.DeleteFunc(s.devices, func(_ string, d device) bool { return now.After(d.state.Expires) })
	if len(s.devices) >= maxDevices {
		return errTooMany
	}
	for _, d := range s.devices {
		if d.userCode == plainUserCode(userCode) {
			return op.ErrDuplicateUserCode
		}
	}
	s.devices[deviceCode] = device{
		userCode: plainUserCode(userCode),
		state: op.DeviceAuthorizationState{
			ClientID: clientID, Audience: audienceOf(clientID), Scopes: scopes, Expires: expires,
		},
	}
	return nil
}

// completeDevice records what the user with that code decided.
func (s *storage) completeDevice(userCode string, user User, approved bool) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for code, d := range s.devices {
		open := !d.state.Done && !d.state.Denied && time.Now().Before(d.state.Expires)
		if !open || d.userCode != plainUserCode(userCode) {
			continue
		}
		d.state.Done, d.state.Denied = approved, !approved
		d.state.Subject, d.state.AMR, d.state.AuthTime = user.Name, []string{"pwd"}, time.Now()
		s.devices[code] = d
		return nil
	}
	return fmt.Errorf("device code: %w", errUnknown)
}

// plainUserCode drops what people type differently: case, blanks and dashes.
func plainUserCode(code string) string {
	return strings.ToUpper(strings.NewReplacer("-", "", " ", "").Replace(code))
}

// GetDeviceAuthorizatonState returns how far a device login is. A decided one is forgotten, so that the code works once.
// The misspelt name is op's.
func (s *storage) GetDeviceAuthorizatonState(_ context.Context, clientID, deviceCode string) (*op.DeviceAuthorizationState, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	d, ok := s.devices[deviceCode]
	if !ok || d.state.ClientID != clientID {
		return nil, fmt.Errorf("device code: %w", errUnknown)
	}
	if d.state.Done || d.state.Denied {
		delete(s.devices, deviceCode)
	}
	return &d.state, nil
}

// SigningKey returns the newest key.
func (s *storage) SigningKey(context.Context) (op.SigningKey, error) {
	return webKey{s.keys.signingKey()}, nil
}

// SignatureAlgorithms returns those of the published keys, for discovery.
func (s *storage) SignatureAlgorithms(context.Context) ([]jose.SignatureAlgorithm, error) {
	var algorithms []jose.SignatureAlgorithm
	for _, key := range s.keys.all() {
		if algorithm := jose.SignatureAlgorithm(key.Algorithm); !slices.Contains(algorithms, algorithm) {
			algorithms = append(algorithms, algorithm)
		}
	}
	return algorithms, nil
}

// KeySet returns the public halves of all keys.
func (s *storage) KeySet(context.Context) ([]op.Key, error) {
	var set []op.Key
	for _, key := range s.keys.all() {
		set = append(set, webKey{key.Public()})
	}
	return set, nil
}

// webKey implements op.SigningKey and op.Key.
type webKey struct {
	jwk jose.JSONWebKey
}

func (k webKey) ID() string                         { return k.jwk.KeyID }
func (k webKey) Algorithm() jose.SignatureAlgorithm { return jose.SignatureAlgorithm(k.jwk.Algorithm) }
func (k webKey) Use() string                        { return k.jwk.Use }
func (k webKey) Key() any                           { return k.jwk.Key }

func (k webKey) SignatureAlgorithm() jose.SignatureAlgorithm { return k.Algorithm() }

// GetClientByClientID knows the two clients.
func (s *storage) GetClientByClientID(_ context.Context, id string) (op.Client, error) {
	if id != ClientID && id != AdminClientID {
		return nil, oidc.ErrInvalidClient().WithDescription("unknown client_id; the demo provider knows " + ClientID + " and " + AdminClientID)
	}
	return cliClient{id: id, tokenTTL: s.tokenTTL}, nil
}

// AuthorizeClientIDSecret refuses: there is no confidential client.
func (s *storage) AuthorizeClientIDSecret(context.Context, string, string) error {
	return errWrongSecret
}

// SetUserinfoFromScopes does nothing, as op wants it; SetUserinfoFromRequest does the work.
func (s *storage) SetUserinfoFromScopes(context.Context, *oidc.UserInfo, string, string, []string) error {
	return nil
}

// SetUserinfoFromRequest fills the claims of an ID token.
func (s *storage) SetUserinfoFromRequest(_ context.Context, info *oidc.UserInfo, request op.IDTokenRequest, _ []string) error {
	if err := s.describe(info, request.GetSubject()); err != nil {
		return err
	}
	info.AppendClaims("jti", rand.Text())
	if in, ok := request.(interface{ sessionID() string }); ok {
		info.AppendClaims("sid", in.sessionID())
	}
	return nil
}

// SetUserinfoFromToken fills the answer of the userinfo endpoint.
func (s *storage) SetUserinfoFromToken(_ context.Context, info *oidc.UserInfo, _, subject, _ string) error {
	return s.describe(info, subject)
}

func (s *storage) describe(info *oidc.UserInfo, subject string) error {
	user, err := FindUser(s.users, subject)
	if err != nil {
		return err
	}
	info.Subject = user.Name
	for name, value := range user.claims() {
		info.AppendClaims(name, value)
	}
	return nil
}

// GetPrivateClaimsFromScopes returns the user's claims for an access token.
func (s *storage) GetPrivateClaimsFromScopes(_ context.Context, subject, _ string, _ []string) (map[string]any, error) {
	user, err := FindUser(s.users, subject)
	if err != nil {
		return nil, err
	}
	return user.claims(), nil
}

// SetIntrospectionFromToken refuses: introspection needs a confidential client.
func (s *storage) SetIntrospectionFromToken(context.Context, *oidc.IntrospectionResponse, string, string, string) error {
	return errNotOffered
}

// GetKeyByIDAndClientID refuses: no client authenticates by key.
func (s *storage) GetKeyByIDAndClientID(context.Context, string, string) (*jose.JSONWebKey, error) {
	return nil, errNotOffered
}

// ValidateJWTProfileScopes refuses: there is no JWT profile grant.
func (s *storage) ValidateJWTProfileScopes(context.Context, string, []string) ([]string, error) {
	return nil, errNotOffered
}

// Health reports that memory is always there.
func (s *storage) Health(context.Context) error { return nil }
