package store

import (
	"encoding/json"

	"github.com/gatehouse-nats/gatehouse/account"
	"github.com/gatehouse-nats/gatehouse/policy"
)

// AccountChange is one change of an account's record.
type AccountChange struct {
	// Account is the record as it shall be. Its revision is one more than that of the record that it
	// replaces; 1 makes a new one.
	Account account.Account
	// Entry is the audit entry of the act.
	Entry AuditEntry
	// Keys are sealed seeds that are kept from now on, DropKeys the public keys of those that no longer are.
	Keys     []SealedKey
	DropKeys []string
	// Close is a suspension of the account that is made with the record, beside those that it equals; nil makes none.
	Close *Revocation
	// Lifts end revocations with the record. One that is not there, or is lifted already, stays as it is.
	Lifts []Lift
	// Most is how many accounts of the plan that are not deleted the owner may have, this one among them;
	// 0 is any number.
	Most int
	// MostMade is how many accounts that are not deleted the binding in the record's origin may have made, this one among them;
	// 0 is any number.
	MostMade int
	// Exporters are accounts that the record was checked against and imports from: [ErrChanged] when one is at another revision.
	// They are told of it by their Imported.
	Exporters []AccountAt
	// Exports says that the record exports something else: [ErrChanged] also when another account has come to import since
	// it was read.
	Exports bool
	// Once makes the change once for a call that may be sent again; nil does not.
	Once *Once
}

// AccountAt is an account at a revision of its record.
type AccountAt struct {
	ID       string
	Revision int64
}

// Once is a call that may be sent again: the first answer is kept, and given again.
type Once struct {
	Key    string          // idempotency key, of one caller
	Call   []byte          // hash of what is asked
	Answer json.RawMessage // what to answer
}

// Applied says that all servers have applied a revision of an account.
type Applied struct {
	ID       string
	Revision int64
	Issued   int64  // the second in which the claims were signed
	Signer   string // public operator key that signed them
	// Given are the limits of the account's plan in them.
	Given *account.Limits
	// Published says that servers store nothing: the account is published then, never active.
	Published bool
}

// ServedClaims are claims of a self-service account as servers without a store of their own are given them.
type ServedClaims struct {
	Account  string
	Revision int64 // of its record
	Token    string
}

// AccountFilter chooses accounts; zero fields do not filter.
type AccountFilter struct {
	IDs   []string // at most [MaxPage]
	Name  string   // as [account.Key] compares names
	Owner policy.Principal
	Plan  string
	State account.State
	// Mentions chooses those whose record has the text, such as the id of an account that they import from: all of them, and
	// some that have it elsewhere.
	Mentions string
	// Unapplied chooses those of which servers should hold another revision than they were seen to.
	Unapplied bool
	// Deleted includes deleted ones.
	Deleted bool
	Limit   int
	Cursor  string
}

// OfOperator is the account of the sealed operator signing key, of which there is one at most.
const OfOperator = ""

// SealedKey is the seed of a signing key of an account, or of the operator, sealed.
type SealedKey struct {
	Public  string // A…, or O… of the operator
	Account string // id, or [OfOperator]
	Box     []byte // what package seal makes
}

// Row is what the seed of a signing key is sealed for: in another key's row it does not open.
func (k SealedKey) Row() string { return "signing key " + k.Public }

// SealedKeyFilter chooses sealed keys; zero fields do not filter.
type SealedKeyFilter struct {
	Accounts []string // ids, at most [MaxPage]
	Limit    int
	Cursor   string
}
