package store

import (
	"time"

	"github.com/gatehouse-nats/gatehouse/policy"
)

// UserKey is the key of a direct user: somebody holds a user JWT for it.
type UserKey struct {
	Key       string // public key
	Account   string // name of the account
	AccountID string
	Issuer    string // exact iss of the identity whose it is
	Subject   string
	Name      string // principal name
	Program   string // of the identity, when the key is a program's
	Issued    time.Time
	Expires   time.Time // of the user JWT; zero: never
}

// UserKeyFilter chooses user keys; zero fields do not filter.
type UserKeyFilter struct {
	Principal policy.Principal // issuer URL and subject, or the issuer URL alone
	AccountID string
	Key       string
	Program   string
	ValidAt   time.Time // only those that have not expired then
	Limit     int
	Cursor    string
}
