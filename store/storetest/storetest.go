// Package storetest is the conformance suite of [store.Store]: every implementation runs
// it against the real thing.
package storetest

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/gatehouse-nats/gatehouse/policy"
	"github.com/gatehouse-nats/gatehouse/store"
)

// Opener makes an empty store that is closed with the test.
type Opener func(t testing.TB) store.Store

// Run runs the suite, each test on a store of its own.
func Run(t *testing.T, open Opener) {
	for _, area := range []struct {
		name  string
		tests map[string]func(*testing.T, store.Store)
	}{
		{"revocations", revocationTests},
		{"targets", targetTests},
		{"progress", progressTests},
		{"audit", auditTests},
		{"arrivals", arrivalTests},
		{"logins", loginTests},
		{"identities", identityTests},
		{"replicas", replicaTests},
		{"user keys", userKeyTests},
		{"claims", claimsTests},
		{"accounts", accountTests},
		{"feed", feedTests},
		{"lifecycle", lifecycleTests},
	} {
		for name, test := range area.tests {
			t.Run(area.name+"/"+name, func(t *testing.T) {
				t.Parallel()
				test(t, open(t))
			})
		}
	}
}

// patience is how long a test waits for what should come at once.
const patience = 30 * time.Second

const issuer = "https://login.example.com"

// base is a time with microseconds, some hours ago.
var base = time.Now().UTC().Add(-6 * time.Hour).Truncate(time.Second).Add(123456 * time.Microsecond)

func newID() string { return uuid.Must(uuid.NewV7()).String() }

func block(subject string) store.Revocation {
	return store.Revocation{
		Revocation: policy.Revocation{
			ID:     newID(),
			Kind:   policy.Block,
			Target: policy.Target{Principal: policy.Principal{Issuer: issuer, Subject: subject}},
			At:     base,
		},
		Reason: "left the company",
		Actor:  "root",
	}
}

func logout(subject string) store.Revocation {
	r := block(subject)
	r.Kind = policy.Logout
	return r
}

var clock atomic.Int64

// login returns an audit entry that is later than the one before it.
func login(subject string) store.AuditEntry {
	return store.AuditEntry{
		ID:      newID(),
		At:      base.Add(time.Duration(clock.Add(1)) * time.Millisecond),
		Kind:    store.LoginEntry,
		Outcome: "allowed",
		Reason:  "allowed",
		Issuer:  issuer,
		Subject: subject,
	}
}

func revoke(t *testing.T, s store.Store, r store.Revocation) store.Revocation {
	t.Helper()
	stored, existing, err := s.Revoke(t.Context(), r, "")
	if err != nil || existing {
		t.Fatalf("Revoke(%s) = existing %t, %v", r.Subject, existing, err)
	}
	return stored
}

func lift(t *testing.T, s store.Store, id string) store.Revocation {
	t.Helper()
	r, err := s.Lift(t.Context(), store.Lift{ID: id, At: base.Add(time.Hour), Actor: "root", Note: "came back"})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func record(t *testing.T, s store.Store, entries ...store.AuditEntry) {
	t.Helper()
	if err := s.Record(t.Context(), entries); err != nil {
		t.Fatal(err)
	}
}

func load(t *testing.T, s store.Store) store.State {
	t.Helper()
	state, err := s.Load(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return state
}

// allRevocations reads every page.
func allRevocations(ctx context.Context, s store.Store, f store.RevocationFilter) ([]store.Revocation, error) {
	return pages(func(cursor string) ([]store.Revocation, string, error) {
		f.Cursor = cursor
		return s.Revocations(ctx, f)
	})
}

// allAudit reads every page.
func allAudit(ctx context.Context, s store.Store, f store.AuditFilter) ([]store.AuditEntry, error) {
	return pages(func(cursor string) ([]store.AuditEntry, string, error) {
		f.Cursor = cursor
		return s.Audit(ctx, f)
	})
}

func pages[T any](page func(cursor string) ([]T, string, error)) (all []T, err error) {
	cursor := ""
	for range 1000 {
		list, next, err := page(cursor)
		if err != nil {
			return nil, err
		}
		all = append(all, list...)
		if next == "" {
			return all, nil
		}
		if next == cursor {
			return nil, fmt.Errorf("cursor %q leads to itself", cursor)
		}
		cursor = next
	}
	return nil, fmt.Errorf("no end after 1000 pages")
}

// oddTexts are what a column may choke on.
var oddTexts = map[string]string{
	"nul":             "a\x00b",
	"only nul":        "\x00",
	"not UTF-8":       "a\xff\xfe\xc3(",
	"backslash":       `CORP\alice`,
	"looks escaped":   `\x00 \\x41 \`,
	"quotes":          `'; DROP TABLE audit; --"`,
	"newlines":        "a\r\n\tb",
	"wildcards":       "%_*>.",
	"unicode":         "żółć 名前 🜁 \u202e",
	"replacement":     "\ufffd",
	"like a number":   "0012",
	"json":            `{"a":"\u0000"}`,
	"blanks":          "  a  ",
	"upper and lower": "AlIcE",
}
