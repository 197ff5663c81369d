package setup

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"time"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nkeys"

	"github.com/gatehouse-nats/gatehouse/api"
)

// Listener is an account that may import the events of accounts, and what shows that: the token is of use in that account alone.
type Listener struct {
	Account string // id
	Callout string // id of the account that exports them
	Token   string
}

// NewListener lets the account with the id importer import the events of accounts until then, the zero time for good, by a token
// that the signing key of the callout account signs. The error wraps [ErrOptions] when that cannot be.
func NewListener(importer, callout string, signingKey []byte, until time.Time) (*Listener, error) {
	switch {
	case !nkeys.IsValidPublicAccountKey(importer):
		return nil, fmt.Errorf("%w: account %q: give its public key (A...), which gatehouse account get prints", ErrOptions, importer)
	case !until.IsZero() && !until.After(time.Now()):
		return nil, fmt.Errorf("%w: the token would end before it is made: give a time such as 8760h", ErrOptions)
	}
	signing, err := keyOf(signingKey)
	if err != nil {
		return nil, fmt.Errorf("signing key of the callout account: %w", err)
	}
	claims := jwt.NewActivationClaims(importer)
	claims.Name, claims.IssuerAccount = "events", callout
	claims.ImportSubject, claims.ImportType = api.EventSubjects, jwt.Stream
	if !until.IsZero() {
		claims.Expires = until.Unix()
	}
	var f forge
	token := f.sign(claims, signing)
	if f.err != nil {
		return nil, f.err
	}
	return &Listener{Account: importer, Callout: callout, Token: token}, nil
}

// File returns the path of the token's file below the folder of the set-up.
func (l *Listener) File(dir string) string { return filepath.Join(dir, "events", l.Account+".jwt") }

// Write writes the token's file, 0600. The error wraps [ErrExists] when there is one for the account.
func (l *Listener) Write(dir string) error {
	dir, err := absolute(dir)
	if err != nil {
		return err
	}
	path := l.File(dir)
	w := writer{dir: dir}
	if err := w.folder(filepath.Dir(path)); err != nil {
		return err
	}
	err = w.file(path, l.Token+"\n")
	if errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("%s: %w: move it away to make another", path, ErrExists)
	}
	return err
}

// Instructions returns what was written and how to use it, for a terminal.
func (l *Listener) Instructions(dir string) string {
	return fmt.Sprintf(`wrote %s, for account %[2]s alone
# An owner there, or an admin, imports the events with it:
gatehouse account imports add %[2]s events --from %s --subject "%s" --activation %[1]s
`, shellQuote(l.File(dir)), l.Account, l.Callout, api.EventSubjects)
}
