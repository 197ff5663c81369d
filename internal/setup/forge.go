package setup

import (
	"fmt"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nkeys"
)

// Secret is the text of a private key (an nkeys seed, or a creds file). It prints as
// [secret]: only [Secret.Reveal] and a conversion to []byte show it.
type Secret []byte

// String returns [secret], so that no log or error carries a key.
func (Secret) String() string { return "[secret]" }

// GoString returns [secret].
func (Secret) GoString() string { return "[secret]" }

// MarshalText returns [secret].
func (Secret) MarshalText() ([]byte, error) { return []byte("[secret]"), nil }

// Reveal returns the text itself.
func (s Secret) Reveal() string { return string(s) }

// key is a key pair with both of its texts.
type key struct {
	nkeys.KeyPair
	public string
	seed   Secret
}

// keyOf returns the key of a seed.
func keyOf(seed []byte) (key, error) {
	kp, err := nkeys.FromSeed(seed)
	if err != nil {
		return key{}, err
	}
	public, err := kp.PublicKey()
	if err != nil {
		return key{}, err
	}
	return key{KeyPair: kp, public: public, seed: seed}, nil
}

// accountKeys are the keys of an account under construction.
type accountKeys struct {
	name              string
	identity, signing key
}

// user is a direct user: its public key, user JWT and creds file.
type user struct {
	public, token string
	creds         Secret
}

// forge makes keys and signs claims. Its first error sticks and turns what follows into
// no-ops, so that a recipe reads as a list of what it makes; whoever uses one looks at
// err at the end.
type forge struct {
	err error
}

func (f *forge) fail(err error) {
	if f.err == nil {
		f.err = err
	}
}

func (f *forge) key(prefix nkeys.PrefixByte) key {
	kp, err := nkeys.CreatePair(prefix)
	if err != nil {
		f.fail(fmt.Errorf("make a key: %w", err))
		return key{}
	}
	seed, err := kp.Seed()
	if err != nil {
		f.fail(fmt.Errorf("make a key: %w", err))
		return key{}
	}
	k, err := keyOf(seed)
	if err != nil {
		f.fail(fmt.Errorf("make a key: %w", err))
	}
	return k
}

func (f *forge) account(name string) accountKeys {
	return accountKeys{name: name, identity: f.key(nkeys.PrefixByteAccount), signing: f.key(nkeys.PrefixByteAccount)}
}

// sign returns the JWT of claims that also hold up to the library's own validation,
// which nats-server repeats when it loads an account.
func (f *forge) sign(claims jwt.Claims, by key) string {
	if f.err != nil {
		return ""
	}
	token, err := claims.Encode(by)
	if err != nil {
		f.fail(fmt.Errorf("sign claims of %s: %w", claims.Claims().Name, err))
		return ""
	}
	var found jwt.ValidationResults
	claims.Validate(&found)
	if errs := found.Errors(); len(errs) > 0 {
		f.fail(fmt.Errorf("claims of %s: %w", claims.Claims().Name, errs[0]))
	}
	return token
}

// user makes a user of an account, signed by the account's signing key. shape sets what
// the user may do; without it the user may do everything in its account.
func (f *forge) user(a accountKeys, name string, shape func(*jwt.UserClaims)) user {
	k := f.key(nkeys.PrefixByteUser)
	if f.err != nil {
		return user{}
	}
	claims := jwt.NewUserClaims(k.public)
	claims.Name = name
	claims.IssuerAccount = a.identity.public
	if shape != nil {
		shape(claims)
	}
	token := f.sign(claims, a.signing)
	if f.err != nil {
		return user{}
	}
	creds, err := jwt.FormatUserConfig(token, k.seed)
	if err != nil {
		f.fail(fmt.Errorf("creds of %s: %w", name, err))
	}
	return user{public: k.public, token: token, creds: creds}
}
