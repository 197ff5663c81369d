package natsfacts

import (
	"testing"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"
)

// account is an account with its keys. claims may be changed and pushed again.
type account struct {
	id       string
	identity nkeys.KeyPair
	signer   nkeys.KeyPair // a plain signing key of the account
	claims   *jwt.AccountClaims
}

func makeAccount(name string) (*account, error) {
	identity, err := nkeys.CreateAccount()
	if err != nil {
		return nil, err
	}
	signer, err := nkeys.CreateAccount()
	if err != nil {
		return nil, err
	}
	claims := jwt.NewAccountClaims(public(identity))
	claims.Name = name
	claims.SigningKeys.Add(public(signer))
	return &account{id: claims.Subject, identity: identity, signer: signer, claims: claims}, nil
}

// newAccount makes an account and has every server of the deployment store it.
func (d *deployment) newAccount(t *testing.T, name string, edits ...func(*jwt.AccountClaims)) *account {
	t.Helper()
	a, err := makeAccount(name)
	check(t, err)
	for _, edit := range edits {
		edit(a.claims)
	}
	d.push(t, a)
	return a
}

// newScoped is newAccount with a scoped signing key, whose users may publish to the one
// subject template.
func (d *deployment) newScoped(t *testing.T, publish string) (*account, nkeys.KeyPair) {
	t.Helper()
	key, err := nkeys.CreateAccount()
	check(t, err)
	scope := jwt.NewUserScope()
	scope.Key = public(key)
	scope.Role = "role"
	scope.Template.Pub.Allow.Add(publish, "$SYS.REQ.USER.INFO")
	return d.newAccount(t, "SCOPED", func(a *jwt.AccountClaims) { a.SigningKeys.AddScopedSigner(scope) }), key
}

// userKey is a user with its key, for users that connect without the callout.
type userKey struct {
	claims *jwt.UserClaims
	key    nkeys.KeyPair
}

// user makes a user of the account with a key of its own.
func (a *account) user(name string) userKey {
	key, err := nkeys.CreateUser()
	if err != nil {
		panic(err)
	}
	claims := jwt.NewUserClaims(public(key))
	claims.Name = name
	claims.IssuerAccount = a.id
	return userKey{claims: claims, key: key}
}

// direct is the connect option of a user that signs the server's nonce.
func (a *account) direct(u userKey) (nats.Option, error) {
	token, err := u.claims.Encode(a.signer)
	if err != nil {
		return nil, err
	}
	return nats.UserJWT(
		func() (string, error) { return token, nil },
		func(nonce []byte) ([]byte, error) { return u.key.Sign(nonce) },
	), nil
}

// bearer makes the JWT of a bearer user of the account that may do nothing by itself.
func (a *account) bearer(t *testing.T, edits ...func(*jwt.UserClaims)) string {
	t.Helper()
	claims := a.user("sentinel").claims
	claims.BearerToken = true
	claims.Pub.Deny.Add(">")
	claims.Sub.Deny.Add(">")
	for _, edit := range edits {
		edit(claims)
	}
	token, err := claims.Encode(a.signer)
	check(t, err)
	return token
}

// userInfo is what the server holds of the connection's user.
func userInfo(t *testing.T, nc *nats.Conn) *server.UserInfo {
	t.Helper()
	msg, err := nc.Request("$SYS.REQ.USER.INFO", nil, patience)
	check(t, err)
	var reply struct{ Data server.UserInfo }
	decode(t, msg.Data, &reply)
	return &reply.Data
}

// public is the public key of a pair; it panics on one that has none.
func public(pair nkeys.KeyPair) string {
	key, err := pair.PublicKey()
	if err != nil {
		panic(err)
	}
	return key
}
