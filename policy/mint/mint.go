package mint

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nkeys"

	"github.com/gatehouse-nats/gatehouse/policy"
)

// Jitter is the largest share of a credential's life that is taken off its end, so that
// clients that logged in together do not come back together.
const Jitter = 0.1

// ErrRefused says that a decision that admits nobody was given to mint.
var ErrRefused = errors.New("decision is a refusal")

// ErrNotScoped says that a decision whose permissions are in a scoped signing key's template was
// to be signed with another key.
var ErrNotScoped = errors.New("key is not the scoped signing key of the decision")

// ErrDirect says that a decision on a direct user was to be minted for a callout user or another key, or one on a
// login for a direct user.
var ErrDirect = errors.New("decision is not on this kind of user and key")

// User is whom a credential is for and where it is valid.
type User struct {
	Name    string // principal name
	UserKey string // the public key that the server made for this connection (U…), or a direct user's own
	Type    policy.ConnectionType
}

// Credential is a signed user JWT.
type Credential struct {
	JWT     string
	Issued  time.Time
	Expires time.Time
}

// Expiry returns when a credential of the decision ends: its latest end less a share of its
// life given by random in [0,1), at least [policy.MinLife] from now, in whole seconds.
func Expiry(d policy.Decision, now time.Time, random float64) time.Time {
	end := d.Expires.Add(-time.Duration(random * Jitter * float64(d.Expires.Sub(now))))
	if least := now.Add(policy.MinLife); end.Before(least) {
		end = least
	}
	if end.After(d.Expires) {
		end = d.Expires
	}
	return end.Truncate(time.Second)
}

// Mint returns a credential for the decision, signed with the key, which must be a signing
// key of the decision's account, and the scoped one where the decision names one. The
// credential carries only what nats-server enforces for callout users: name, permissions,
// end and connection types; with a scoped key the template has the permissions.
func Mint(d policy.Decision, u User, key *Key, now time.Time) (Credential, error) {
	if !d.Allowed() {
		return Credential{}, ErrRefused
	}
	if d.Key != "" {
		return Credential{}, ErrDirect
	}
	uc, err := claims(d, u, key)
	if err != nil {
		return Credential{}, err
	}
	// nats-server refuses limits of a scoped key's users, connection types among them; the decision was
	// made for this one connection anyway.
	if d.ScopedKey == "" && d.RestrictType {
		uc.AllowedConnectionTypes.Add(connectionTypes(u.Type)...)
	}
	uc.Expires = Expiry(d, now, rand.Float64()).Unix()
	return sign(uc, key)
}

// claims returns what the user JWTs of callout users and direct users have in common.
func claims(d policy.Decision, u User, key *Key) (*jwt.UserClaims, error) {
	// Signed by another key, a credential without permissions may do anything.
	if d.ScopedKey != "" && d.ScopedKey != key.public {
		return nil, ErrNotScoped
	}
	uc := jwt.NewUserClaims(u.UserKey)
	if uc == nil {
		return nil, errors.New("mint: the user key is empty")
	}
	uc.Name = u.Name
	switch {
	case d.Account.ByName:
		// Without an operator aud names the account, and issuer_account must be empty
		// (nats-server server/auth_callout.go, assignAccountAndPermissions).
		uc.Audience = d.Account.ID
	case key.public != d.Account.ID:
		// An account's identity key must not name itself as issuer_account.
		uc.IssuerAccount = d.Account.ID
	}
	if d.ScopedKey != "" {
		uc.SetScoped(true)
		uc.Tags = d.Tags
	} else {
		uc.Permissions = permissions(d.Permissions)
	}
	return uc, nil
}

// sign validates and signs the claims.
func sign(uc *jwt.UserClaims, key *Key) (Credential, error) {
	var vr jwt.ValidationResults
	uc.Validate(&vr)
	// nats-server rejects a credential for any issue, even a warning.
	if len(vr.Issues) > 0 {
		return Credential{}, fmt.Errorf("mint: the user JWT is not valid: %s", vr.Issues[0].Description)
	}
	if !nkeys.IsValidPublicUserKey(uc.Subject) {
		return Credential{}, errors.New("mint: the user key is not one")
	}
	var room [usual]byte
	token := string(appendUser(room[:0], uc, key))
	return Credential{JWT: token, Issued: time.Unix(uc.IssuedAt, 0), Expires: time.Unix(uc.Expires, 0)}, nil
}

// permissions denies everything where nothing is allowed: to nats-server an empty list
// means that all is allowed, or what the account's default permissions say.
func permissions(p policy.Permissions) jwt.Permissions {
	out := jwt.Permissions{Pub: permission(p.Publish), Sub: permission(p.Subscribe)}
	// Zero would mean nats-server's own bounds, and below zero none (server/auth.go).
	if p.Respond.Max > 0 && p.Respond.TTL > 0 {
		out.Resp = &jwt.ResponsePermission{MaxMsgs: p.Respond.Max, Expires: p.Respond.TTL}
	}
	return out
}

func permission(s policy.SubjectSet) jwt.Permission {
	if len(s.Allow) == 0 {
		return jwt.Permission{Deny: jwt.StringList{">"}}
	}
	return jwt.Permission{Allow: jwt.StringList(s.Allow), Deny: jwt.StringList(s.Deny)}
}

// connectionTypes names a type to nats-server, which reports MQTT and leaf nodes alike with
// and without WebSocket, but checks them apart.
func connectionTypes(t policy.ConnectionType) []string {
	switch t {
	case policy.WebSocket:
		return []string{jwt.ConnectionTypeWebsocket}
	case policy.MQTT:
		return []string{jwt.ConnectionTypeMqtt, jwt.ConnectionTypeMqttWS}
	case policy.LeafNode:
		return []string{jwt.ConnectionTypeLeafnode, jwt.ConnectionTypeLeafnodeWS}
	default:
		return []string{jwt.ConnectionTypeStandard}
	}
}
