package oidc

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// ErrKeys says that a JWKS cannot stand for an issuer's keys.
var ErrKeys = errors.New("the JWKS cannot be used")

// Keys are the keys of an issuer that are given instead of fetched. They are immutable; make
// them with [ParseKeys].
type Keys struct {
	set     keySet
	skipped []error // why some were left out
}

// ParseKeys reads a JWKS (RFC 7517 section 5) that somebody gives for an issuer, or returns an
// error that wraps [ErrKeys] and tells everything that is wrong. It is stricter than with a JWKS
// that is fetched, because whoever gives it can mend it: no key may be secret, no two may suit
// one token, and one at least must be fit to verify signatures. Keys for other uses are left out.
func ParseKeys(data []byte) (*Keys, error) {
	keys, skipped, err := parseKeys(data)
	if err != nil {
		return nil, fmt.Errorf("%w: %w: take what the issuer shows at its jwks_uri, {\"keys\": […]}", ErrKeys, err)
	}
	var errs []error
	for _, s := range skipped {
		if errors.Is(s, errSecret) || errors.Is(s, errRival) {
			errs = append(errs, s)
		}
	}
	given := &Keys{set: keySet{keys: keys, digest: sha256.Sum256(data)}, skipped: skipped}
	given.set.algorithms = given.set.derived()
	errs = append(errs, given.set.nameless()...)
	if len(keys) == 0 && errs == nil {
		errs = append(errs, noKey(skipped))
	}
	if errs != nil {
		return nil, fmt.Errorf("%w: %w", ErrKeys, errors.Join(errs...))
	}
	return given, nil
}

// Algorithms lists the signature algorithms that are accepted with the keys when the issuer is
// pinned to none: what a key's alg says; without one the only algorithm of its curve, and for
// RSA RS256, which each issuer must have (Discovery 1.0 section 3).
func (k *Keys) Algorithms() []string { return slices.Clone(k.set.algorithms) }

// Fit reports whether one of the keys may sign with one of the algorithms.
func (k *Keys) Fit(algorithms []string) bool {
	for i := range k.set.keys {
		if slices.ContainsFunc(algorithms, func(a string) bool { return fits(&k.set.keys[i], a) }) {
			return true
		}
	}
	return false
}

// derived returns the algorithms that the keys themselves name, see [Keys.Algorithms].
func (s *keySet) derived() []string {
	var algorithms []string
	for i := range s.keys {
		own := signs(&s.keys[i])
		if len(own) > 1 { // RSA without alg
			own = own[:1]
		}
		algorithms = append(algorithms, own...)
	}
	slices.Sort(algorithms)
	return slices.Compact(algorithms)
}

// nameless returns an error for each key without kid that no token can mean, since it is not
// the only one for its algorithm.
func (s *keySet) nameless() (errs []error) {
	for i := range s.keys {
		own := signs(&s.keys[i])
		if s.keys[i].KeyID != "" || slices.ContainsFunc(own, func(a string) bool { key, _ := s.find("", a); return key != nil }) {
			continue
		}
		errs = append(errs, fmt.Errorf("key %d has no kid and is not the only one for %s: give it the kid that the issuer's tokens name", i, strings.Join(own, ", ")))
	}
	return errs
}

// noKey says that a JWKS is of no use, and why the first of its keys is not.
func noKey(skipped []error) error {
	err := errors.New("it holds no key to verify signatures with")
	if len(skipped) > 0 {
		err = fmt.Errorf("%w: %w", err, skipped[0])
	}
	return err
}
