package login

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/gatehouse-nats/gatehouse/policy"
)

// Session is a login that is kept; it holds neither token nor seed.
type Session struct {
	Issuer    string    `json:"issuer"` // exact URL
	ClientID  string    `json:"client_id"`
	Subject   string    `json:"subject"`
	Display   string    `json:"display"` // preferred_username, email or name; else the subject
	Obtained  time.Time `json:"obtained"`
	Expires   time.Time `json:"expires"`       // of the ID token
	Renewable bool      `json:"renewable"`     // the issuer gave a refresh token
	Key       string    `json:"key,omitempty"` // public key that the ID token is bound to, if any
}

// InboxPrefix returns the identity's private inbox prefix, see [policy.InboxPrefix].
func (s Session) InboxPrefix() string { return policy.InboxPrefix(s.Issuer, s.Subject) }

// kept is the content of a login's file.
type kept struct {
	Version int `json:"version"`
	Session
	IDToken      string `json:"id_token"`
	RefreshToken string `json:"refresh_token,omitempty"`
	KeySeed      string `json:"key_seed,omitempty"` // of Key
}

const keptVersion = 1

// Margins before the end of an ID token.
const (
	renewBefore   = time.Minute     // a quarter of its life, if that is shorter
	usableAtLeast = 5 * time.Second // the service refuses to let anybody in for less
)

// fresh reports whether the ID token need not be renewed yet.
func (k kept) fresh(now time.Time) bool {
	return now.Before(k.Expires.Add(-min(renewBefore, k.Expires.Sub(k.Obtained)/4)))
}

// usable reports whether the ID token is still good for a login.
func (k kept) usable(now time.Time) bool { return now.Before(k.Expires.Add(-usableAtLeast)) }

// Dir returns where logins are kept: $GATEHOUSE_HOME, else the folder gatehouse of the user's
// configuration (~/.config on Linux).
func Dir() (string, error) {
	if dir := os.Getenv("GATEHOUSE_HOME"); dir != "" {
		return filepath.Abs(dir)
	}
	dir, err := os.UserConfigDir()
	if err != nil {
		return "", fmt.Errorf("where to keep the login: %w: set GATEHOUSE_HOME", err)
	}
	return filepath.Join(dir, "gatehouse"), nil
}

// cache is the file of one login.
type cache struct {
	path, issuer, clientID string
}

// newCache names the file after the issuer and the client, which may hold any character.
func newCache(dir, issuer, clientID string) cache {
	sum := sha256.Sum256([]byte(issuer + "\n" + clientID))
	return cache{filepath.Join(dir, "logins", hex.EncodeToString(sum[:16])+".json"), issuer, clientID}
}

// read returns the login. Errors wrap [ErrLoginNeeded] when a new login would help.
func (c cache) read() (kept, error) {
	data, err := readSecret(c.path)
	if errors.Is(err, fs.ErrNotExist) {
		return kept{}, fmt.Errorf("%w (for %s)", ErrLoginNeeded, c.issuer)
	}
	if err != nil {
		return kept{}, err
	}
	var k kept
	// The decoder's own error may quote a token.
	if json.Unmarshal(data, &k) != nil || k.IDToken == "" || k.Subject == "" || k.Issuer != c.issuer || k.ClientID != c.clientID {
		return kept{}, fmt.Errorf("%w: %s does not hold the login that it should", ErrLoginNeeded, c.path)
	}
	if k.Version != keptVersion {
		return kept{}, fmt.Errorf("%w: %s was written by another release", ErrLoginNeeded, c.path)
	}
	return k, nil
}

func (c cache) write(k kept) error {
	k.Version = keptVersion
	data, err := json.MarshalIndent(k, "", "  ")
	if err != nil {
		return err
	}
	if err := WriteSecret(c.path, append(data, '\n')); err != nil {
		return fmt.Errorf("keep the login: %w", err)
	}
	return nil
}

func (c cache) remove() error {
	if err := os.Remove(c.path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// lock keeps other processes from renewing the same login: most issuers accept a refresh token
// once, and end the login when it is used again.
func (c cache) lock(ctx context.Context) (unlock func(), err error) {
	return lockFile(ctx, c.path+".lock")
}
