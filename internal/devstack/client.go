package devstack

import (
	"net/url"
	"slices"
	"time"

	"github.com/zitadel/oidc/v3/pkg/oidc"
	"github.com/zitadel/oidc/v3/pkg/op"
)

const (
	// ClientID is the client for logins of the demo provider: public, with PKCE, the authorization code, refresh token
	// and device code grants.
	ClientID = "gatehouse-cli"
	// AdminClientID is the client for administration, otherwise like it, and the only audience of its tokens.
	AdminClientID = "gatehouse-admin"
	// RedirectPath is the path that the client's redirect URI must have. Its host must be a loopback one and its port may
	// be any (RFC 8252, section 7.3).
	RedirectPath = "/callback"
	// Audience is contained in the aud of all tokens for logins, besides the client's own in ID tokens.
	Audience = "nats"
)

// audienceOf returns the audience of the tokens that a client gets.
func audienceOf(client string) []string {
	if client == AdminClientID {
		return []string{AdminClientID}
	}
	return []string{Audience}
}

// clientOf returns the client whose tokens have that audience.
func clientOf(audience []string) string {
	if slices.Contains(audience, AdminClientID) {
		return AdminClientID
	}
	return ClientID
}

// cliClient is one of the clients; it implements op.Client.
type cliClient struct {
	id       string
	tokenTTL time.Duration
}

func (c cliClient) GetID() string { return c.id }

// RedirectURIs are compared by path alone: op ignores host and port of loopback URIs of native clients.
func (cliClient) RedirectURIs() []string {
	return []string{"http://127.0.0.1" + RedirectPath, "http://[::1]" + RedirectPath, "http://localhost" + RedirectPath}
}

func (cliClient) PostLogoutRedirectURIs() []string    { return nil }
func (cliClient) ApplicationType() op.ApplicationType { return op.ApplicationTypeNative }
func (cliClient) AuthMethod() oidc.AuthMethod         { return oidc.AuthMethodNone }

func (cliClient) ResponseTypes() []oidc.ResponseType {
	return []oidc.ResponseType{oidc.ResponseTypeCode}
}

func (cliClient) GrantTypes() []oidc.GrantType {
	return []oidc.GrantType{oidc.GrantTypeCode, oidc.GrantTypeRefreshToken, oidc.GrantTypeDeviceCode}
}

func (cliClient) LoginURL(requestID string) string {
	return loginPath + "?id=" + url.QueryEscape(requestID)
}

func (cliClient) AccessTokenType() op.AccessTokenType { return op.AccessTokenTypeJWT }
func (c cliClient) IDTokenLifetime() time.Duration    { return c.tokenTTL }
func (cliClient) DevMode() bool                       { return false }

func (cliClient) RestrictAdditionalIdTokenScopes() func([]string) []string {
	return slices.Clone[[]string]
}

func (cliClient) RestrictAdditionalAccessTokenScopes() func([]string) []string {
	return slices.Clone[[]string]
}

func (cliClient) IsScopeAllowed(scope string) bool { return scope == scopeGroups }

// IDTokenUserinfoClaimsAssertion keeps the user's claims in ID tokens that come with an access token.
func (cliClient) IDTokenUserinfoClaimsAssertion() bool { return true }

func (cliClient) ClockSkew() time.Duration { return 0 }
