package provision

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nkeys"

	"github.com/gatehouse-nats/gatehouse/api"
	"github.com/gatehouse-nats/gatehouse/policy"
	"github.com/gatehouse-nats/gatehouse/store"
)

// Admin tokens are made on a host of the service, for when no issuer can make one. They are signed with the key
// that every replica signs its answers with, so that each takes them and nothing has to be fetched. They
// are JWTs (RFC 7519) whose header no NATS JWT has and whose purpose nothing else takes.
const (
	// AdminTokenIssuer is the iss of admin tokens. No OIDC issuer can have it: theirs are http(s) URLs.
	AdminTokenIssuer = "gatehouse:admin-token"
	// adminTokenName stands for it where an issuer's name does; no configured name holds a dash.
	adminTokenName  = "admin-token"
	adminTokenType  = "gatehouse-admin+jwt"
	adminAudience   = "gatehouse:admin"
	maxAdminToken   = time.Hour
	usualAdminToken = 15 * time.Minute
	maxAdminSize    = 8 << 10 // bytes of one
)

// Signer signs admin tokens with an account key (A…).
type Signer interface {
	Sign(input []byte) ([]byte, error)
	Public() string
}

// adminClaims are those of an admin token.
type adminClaims struct {
	Issuer   string         `json:"iss"`
	Subject  string         `json:"sub"` // who made it
	Audience string         `json:"aud"`
	ID       string         `json:"jti"`
	Issued   int64          `json:"iat"`
	Expires  int64          `json:"exp"`
	Rights   []policy.Right `json:"rights"`
	Reason   string         `json:"reason"`
}

// adminHeader returns the header of admin tokens that the key signs, the only one that is accepted.
func adminHeader(public string) string {
	header, _ := json.Marshal(struct { // texts
		Algorithm string `json:"alg"`
		KeyID     string `json:"kid"`
		Type      string `json:"typ"`
	}{"EdDSA", public, adminTokenType})
	return base64.RawURLEncoding.EncodeToString(header)
}

// isAdminToken reports whether a token says that it is one; nothing is verified.
func isAdminToken(token string) bool {
	head, _, ok := strings.Cut(token, ".")
	if !ok || len(head) > 512 {
		return false
	}
	raw, err := base64.RawURLEncoding.DecodeString(head)
	var header struct {
		Type string `json:"typ"`
	}
	return err == nil && json.Unmarshal(raw, &header) == nil && header.Type == adminTokenType
}

// MakeAdminToken makes an admin token with some rights for a short time.
func (s *Service) MakeAdminToken(ctx context.Context, c Caller, req api.AdminTokenRequest) (api.AdminToken, error) {
	if err := c.admin(); err != nil {
		return api.AdminToken{}, err
	}
	r := keyed[api.AdminToken](party{Caller: c}, api.OpAdminToken, req.IdempotencyKey, req)
	r.withhold = withholdToken
	return once(ctx, s, r, func() (api.AdminToken, error) { return s.makeAdminToken(c, req) })
}

// withholdToken takes the token out of an answer.
func withholdToken(made *api.AdminToken) error {
	made.Token = ""
	return shownOnce("admin token %s was made by the first call with this idempotency key, until %s, and was shown in that answer alone: make another with a new key; gatehouse revoke --issuer %s --jti %s voids that one",
		made.ID, made.Expires.Format(time.RFC3339), adminTokenName, made.ID)
}

func (s *Service) makeAdminToken(c Caller, req api.AdminTokenRequest) (api.AdminToken, error) {
	var out api.AdminToken
	claims, err := s.adminClaims(c, req)
	if err != nil {
		return out, err
	}
	payload, err := json.Marshal(claims)
	if err != nil {
		return out, err
	}
	signed := adminHeader(s.Signer.Public()) + "." + base64.RawURLEncoding.EncodeToString(payload)
	signature, err := s.Signer.Sign([]byte(signed))
	if err != nil {
		return out, err
	}
	out = api.AdminToken{
		Token: signed + "." + base64.RawURLEncoding.EncodeToString(signature), ID: claims.ID, Actor: claims.Subject,
		Rights: req.Rights, Expires: time.Unix(claims.Expires, 0).UTC(),
	}
	return out, s.announce(c, claims)
}

// adminClaims checks the request and returns the claims of what it asks for.
func (s *Service) adminClaims(c Caller, req api.AdminTokenRequest) (adminClaims, error) {
	now := s.Now()
	ttl := usualAdminToken
	if req.TTL != "" {
		d, err := time.ParseDuration(req.TTL)
		if err != nil || d < time.Second || d > maxAdminToken {
			return adminClaims{}, badRequest("ttl %.40q is not possible: give 1s to %s", req.TTL, maxAdminToken)
		}
		ttl = d
	}
	claims := adminClaims{
		Issuer: AdminTokenIssuer, Subject: c.Actor, Audience: adminAudience, ID: newID(),
		Issued: now.Unix(), Expires: now.Add(ttl).Unix(), Reason: req.Reason,
	}
	for _, right := range req.Rights {
		if !slices.Contains(policy.AllRights(), policy.Right(right)) {
			return adminClaims{}, badRequest("right %.40q is not one: use %s", right, listed(policy.AllRights()))
		}
		claims.Rights = append(claims.Rights, policy.Right(right))
	}
	switch {
	case len(claims.Rights) == 0, len(claims.Rights) > len(policy.AllRights()):
		return adminClaims{}, badRequest("rights is empty, or names some twice: name what the token is for, of %s", listed(policy.AllRights()))
	case req.Reason == "":
		return adminClaims{}, badRequest("reason is empty: say why the issuer is gone around, for the audit trail")
	case len(req.Reason) > MaxReason:
		return adminClaims{}, badRequest("reason has %d bytes, at most %d are kept", len(req.Reason), MaxReason)
	case s.Signer == nil:
		return adminClaims{}, again(http.StatusServiceUnavailable, api.ReasonUnavailable, "there is no key to sign with")
	}
	return claims, s.blockedAdmin(claims, now)
}

// blockedAdmin returns why a token for these claims would be refused by every replica, as far as that is known here.
func (s *Service) blockedAdmin(claims adminClaims, now time.Time) error {
	state := s.State()
	if state == nil {
		return nil
	}
	if b, ok := state.Revocations.Blocked(claims.identity(), now); ok {
		return refuse(http.StatusForbidden, string(policy.Blocked),
			"admin tokens of %s are blocked, and a new one would be refused everywhere: gatehouse revoke lift %s --reason WHY ends that", claims.Subject, b.ID)
	}
	return nil
}

// identity returns whom the token speaks of.
func (c *adminClaims) identity() *policy.Identity {
	return &policy.Identity{
		Issuer: adminTokenName, IssuerURL: c.Issuer, Subject: c.Subject, TokenID: c.ID,
		IssuedAt: time.Unix(c.Issued, 0), Expires: time.Unix(c.Expires, 0),
	}
}

// announce says loudly that an admin token was made, and records it: a token that nobody knows of is not
// given out.
func (s *Service) announce(c Caller, claims adminClaims) error {
	s.Logger.Warn("an admin token was made on this host", "actor", c.Actor, "token", claims.ID, "rights", claims.Rights,
		"reason", claims.Reason, "expires", time.Unix(claims.Expires, 0).UTC(), "request_id", c.RequestID)
	e := store.AuditEntry{
		ID: newID(), At: s.now(), Kind: store.AdminEntry, Outcome: "done", Op: api.OpAdminToken, Actor: c.Actor, Reason: claims.Reason,
		Target: claims.ID, TokenID: claims.ID, Issuer: claims.Issuer, Subject: claims.Subject, Expires: time.Unix(claims.Expires, 0).UTC(),
		Detail: "an admin token with the rights " + listed(claims.Rights), Replica: s.Replica,
	}
	if s.Records == nil {
		ctx, cancel := context.WithTimeout(context.Background(), handlerTimeout)
		defer cancel()
		if err := s.Store.Record(ctx, []store.AuditEntry{e}); err != nil {
			return s.storeError(api.OpAdminToken, err)
		}
		return nil
	}
	if err := s.keep(e); err != nil {
		s.Logger.Error("an admin token could not be recorded and was not given out", "token", claims.ID, "error", err)
		return errNotRecorded
	}
	return nil
}

// verifyAdminToken returns whom an admin token speaks of and its rights, or why it is refused. The identity comes
// along with a refusal when the token is truly of it.
func (s *Service) verifyAdminToken(token string, state *policy.Snapshot) (*policy.Identity, []policy.Right, *policy.Refusal) {
	claims, r := s.openAdminToken(token)
	if r != nil {
		return nil, nil, r
	}
	now := s.Now()
	id := claims.identity()
	switch {
	case !now.Before(id.Expires):
		return id, nil, policy.Refuse(policy.TokenExpired, "the admin token expired at %s", id.Expires.UTC().Format(time.RFC3339))
	case id.IssuedAt.After(now.Add(state.Rules.Leeway)):
		return id, nil, policy.Refuse(policy.TokenNotYet, "the admin token was issued in the future: compare the hosts' clocks")
	}
	return id, claims.Rights, policy.Standing(state, id, now)
}

// openAdminToken returns the claims of an admin token that this installation signed for what it is.
func (s *Service) openAdminToken(token string) (adminClaims, *policy.Refusal) {
	var claims adminClaims
	malformed := policy.Refuse(policy.TokenMalformed, "the admin token is not one that Gatehouse makes")
	part := strings.Split(token, ".")
	if len(token) > maxAdminSize || len(part) != 3 {
		return claims, malformed
	}
	if s.Signer == nil || part[0] != adminHeader(s.Signer.Public()) {
		return claims, policy.Refuse(policy.KeyUnknown, "the admin token is not signed with the key nats.callout.signing_key of this installation")
	}
	signature, err := base64.RawURLEncoding.Strict().DecodeString(part[2])
	if err != nil {
		return claims, malformed
	}
	key, err := nkeys.FromPublicKey(s.Signer.Public())
	if err != nil || key.Verify([]byte(part[0]+"."+part[1]), signature) != nil {
		return claims, policy.Refuse(policy.SignatureInvalid, "the admin token's signature does not verify")
	}
	payload, err := base64.RawURLEncoding.Strict().DecodeString(part[1])
	if err != nil {
		return claims, malformed
	}
	dec := json.NewDecoder(bytes.NewReader(payload))
	dec.DisallowUnknownFields()
	unknown := func(r policy.Right) bool { return !slices.Contains(policy.AllRights(), r) }
	if dec.Decode(&claims) != nil || claims.Issuer != AdminTokenIssuer || claims.Audience != adminAudience || claims.ID == "" || claims.Subject == "" ||
		len(claims.Rights) == 0 || slices.ContainsFunc(claims.Rights, unknown) ||
		claims.Expires-claims.Issued > int64(maxAdminToken/time.Second) {
		return adminClaims{}, malformed
	}
	return claims, nil
}
