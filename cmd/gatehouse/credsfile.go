package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nkeys"

	"github.com/gatehouse-nats/gatehouse/internal/login"
)

// maxCreds bounds a creds file in bytes.
const maxCreds = 256 << 10

// What may be of a file with a key.
var (
	errNoFile   = errors.New("there is no such file") // yet
	errNotCreds = errors.New("it is not a creds file")
	errExposed  = errors.New("others may read it, so that its key may be known: have that key revoked if it is in use")
)

// credsFile is a user JWT with the key that it is for.
type credsFile struct {
	key     nkeys.KeyPair
	jwt     string // empty until there is one
	name    string // of the user JWT
	account string // id of its account
}

// readCreds returns what a creds file holds; [errNoFile] when there is none. Errors hold nothing of it.
func readCreds(path string) (credsFile, error) {
	data, err := readPrivate(path)
	defer clear(data)
	if err != nil && !errors.Is(err, errExposed) {
		return credsFile{}, err
	}
	f, wrong := parseCreds(data)
	if err == nil || errors.Is(wrong, errNotCreds) { // what holds no key exposes none
		err = wrong
	}
	if err != nil {
		return credsFile{}, err
	}
	return f, nil
}

// readKey returns the user key whose seed is in a file.
func readKey(path string) (nkeys.KeyPair, error) {
	data, err := readPrivate(path)
	defer clear(data)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	key, err := nkeys.FromSeed(bytes.TrimSpace(data))
	if err != nil {
		return nil, fmt.Errorf("%s holds no seed of a user key (SU…)", path)
	}
	if public, err := key.PublicKey(); err != nil || !nkeys.IsValidPublicUserKey(public) {
		return nil, fmt.Errorf("%s holds a seed of another kind: give one of a user key (SU…)", path)
	}
	return key, nil
}

// readPrivate returns the content of a file that nobody else may read; with [errExposed] that of one that others may.
func readPrivate(path string) ([]byte, error) {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, errNoFile
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	switch {
	case err != nil:
		return nil, err
	case !info.Mode().IsRegular():
		return nil, errors.New("it is not a regular file")
	}
	data, err := io.ReadAll(io.LimitReader(f, maxCreds))
	if err == nil && info.Mode().Perm()&0o077 != 0 {
		err = errExposed
	}
	return data, err
}

func parseCreds(data []byte) (credsFile, error) {
	token, err := jwt.ParseDecoratedJWT(data)
	if err != nil {
		return credsFile{}, errNotCreds
	}
	claims, err := jwt.DecodeUserClaims(token)
	if err != nil {
		return credsFile{}, errNotCreds
	}
	key, err := jwt.ParseDecoratedUserNKey(data)
	if err != nil {
		return credsFile{}, errNotCreds
	}
	if public, err := key.PublicKey(); err != nil || public != claims.Subject {
		return credsFile{}, errors.New("its user JWT is for another key than the one in it")
	}
	account := claims.IssuerAccount
	if account == "" {
		account = claims.Issuer
	}
	return credsFile{key: key, jwt: token, name: claims.Name, account: account}, nil
}

// write replaces the file at once, mode 0600.
func (f credsFile) write(path string) error {
	seed, err := f.key.Seed()
	if err != nil {
		return err
	}
	defer clear(seed)
	data, err := jwt.FormatUserConfig(f.jwt, seed)
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	defer clear(data)
	return login.WriteSecret(path, data)
}
