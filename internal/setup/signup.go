package setup

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"

	"github.com/nats-io/jwt/v2"

	"github.com/gatehouse-nats/gatehouse/api"
)

const (
	// requestorPayload bounds a message of a requestor in bytes: the largest call with the largest token fits.
	requestorPayload = 128 << 10
	// requestorSubs bounds its subscriptions: one inbox, and some room.
	requestorSubs = 8
)

// Requestor is a user of the lobby account for those who have no token to connect with. Whoever has its creds file is
// nobody in particular: it reaches the operations of sign-up, to which each call brings a token of its own, and nothing else.
type Requestor struct {
	Name   string
	Public string // key, for whoever must revoke it
	Lobby  string // id of its account
	Inbox  string // prefix that clients must set; all who share the creds hear each other's answers
	Creds  Secret
}

// NewRequestor makes a requestor of the lobby account with that id, signed with the account's signing key. The name is that
// of its file; the error wraps [ErrOptions] when it cannot be.
func NewRequestor(name, lobby string, signingKey []byte) (*Requestor, error) {
	if !plainName.MatchString(name) {
		return nil, fmt.Errorf("%w: requestor %q: use a letter, then up to 62 letters, digits, - and _", ErrOptions, name)
	}
	signing, err := keyOf(signingKey)
	if err != nil {
		return nil, fmt.Errorf("signing key of the lobby account: %w", err)
	}
	r := &Requestor{Name: name, Lobby: lobby, Inbox: "_INBOX_" + name}
	var f forge
	u := f.user(accountKeys{identity: key{public: lobby}, signing: signing}, name, func(c *jwt.UserClaims) {
		for _, op := range []string{api.OpUserSignup, api.OpAccountSignup, api.OpWhoami} {
			c.Pub.Allow.Add(api.Subject(op))
		}
		c.Sub.Allow.Add(r.Inbox + ".>")
		c.Limits.Payload, c.Limits.Subs = requestorPayload, requestorSubs
		c.AllowedConnectionTypes.Add(jwt.ConnectionTypeStandard, jwt.ConnectionTypeWebsocket)
	})
	if f.err != nil {
		return nil, f.err
	}
	r.Public, r.Creds = u.public, u.creds
	return r, nil
}

// File returns the path of the creds file below the folder of the set-up.
func (r *Requestor) File(dir string) string { return filepath.Join(dir, "creds", r.Name+".creds") }

// Write writes the creds file, 0600. The error wraps [ErrExists] when there is one of that name.
func (r *Requestor) Write(dir string) error {
	dir, err := absolute(dir)
	if err != nil {
		return err
	}
	path := r.File(dir)
	w := writer{dir: dir}
	if err := w.folder(filepath.Dir(path)); err != nil {
		return err
	}
	err = w.file(path, r.Creds.Reveal())
	if errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("%s: %w: choose another name", path, ErrExists)
	}
	return err
}

// Instructions returns what was written, how to use it and how to take it back, for a terminal.
func (r *Requestor) Instructions(dir string) string {
	return fmt.Sprintf(`wrote %s, user %s of the lobby account
# It reaches %s, %s and %s, with a token in the header Authorization: Bearer ..., and nothing else:
nats --creds %s --inbox-prefix %s request %s '{}' -H "Authorization: Bearer $TOKEN"
# Those who share it hear each other's answers: make one for each portal or program.
# Taken back for good, everywhere, by
gatehouse revoke --account %s --user-key %s --reason "..."
`, shellQuote(r.File(dir)), r.Public, api.Subject(api.OpUserSignup), api.Subject(api.OpAccountSignup), api.Subject(api.OpWhoami),
		shellQuote(r.File(dir)), r.Inbox, api.Subject(api.OpWhoami), r.Lobby, r.Public)
}
