package api

import "time"

// KeysRequest asks for the signing keys that there are.
type KeysRequest struct {
	Account string `json:"account,omitempty"`                 // self-service account, by name or id; empty: all
	Limit   int    `json:"limit,omitempty" min:"0" max:"500"` // most accounts of an answer; 0 means 500
	Cursor  string `json:"cursor,omitempty"`
}

// KeysPage is signing keys: public keys, and nothing of a seed.
type KeysPage struct {
	// Operator is the public key that signs account claims, OperatorFrom where it comes from, operator.signing_key or store;
	// empty where there is none.
	Operator     string `json:"operator,omitempty"`
	OperatorFrom string `json:"operator_from,omitempty"`
	// SealingKey is the id of the key that seals seeds, OpeningKeys the ids of all that open them; empty where none is configured.
	SealingKey  string   `json:"sealing_key,omitempty"`
	OpeningKeys []string `json:"opening_keys,omitempty"`
	// Configured are keys of the configuration, on the first page alone.
	Configured []ConfiguredKey `json:"configured,omitempty"`
	Keys       []SigningKey    `json:"keys"`
	Next       string          `json:"next,omitempty"`
}

// ConfiguredKey is a signing key that the configuration names a file of.
type ConfiguredKey struct {
	Key     string `json:"key"` // public
	Path    string `json:"path"`
	Account string `json:"account,omitempty"` // id
}

// SigningKey is a signing key of a self-service account.
type SigningKey struct {
	Key       string    `json:"key"` // public
	Account   string    `json:"account"`
	AccountID string    `json:"account_id"`
	Stage     string    `json:"stage"` // added, current or leaving
	Since     time.Time `json:"since"`
	Until     time.Time `json:"until,omitzero"` // of one that is leaving: when its last credential has ended
	// SealedWith is the id of the key that its seed is sealed with; empty when the store has no seed.
	SealedWith string `json:"sealed_with,omitempty"`
	// Problem says why the service cannot sign with it; empty when it can.
	Problem string `json:"problem,omitempty"`
}

// ResealRequest has seeds sealed anew with the key that seals now, some of them in one call.
type ResealRequest struct {
	Cursor string `json:"cursor,omitempty"` // next of the call before; empty: from the start
}

// Resealed says what a call has sealed anew.
type Resealed struct {
	SealingKey string `json:"sealing_key"` // id
	Resealed   int    `json:"resealed"`
	Already    int    `json:"already"` // were sealed with that key before
	// Left are those that were not sealed anew, and why: the keys that they are sealed with are still needed.
	Left []SealedSeed `json:"left,omitempty"`
	Next string       `json:"next,omitempty"` // empty: that was all
}

// SealedSeed is the seed of a signing key in the store.
type SealedSeed struct {
	Key        string `json:"key"` // public
	AccountID  string `json:"account_id"`
	SealedWith string `json:"sealed_with,omitempty"` // id of the sealing key
	Problem    string `json:"problem"`
}

// RotateRequest gives a self-service account another signing key. The old one signs until every server has the new one, and stays in
// the claims until the last credential that it signed has ended, so that nobody is cut.
type RotateRequest struct {
	Account string `json:"account"` // name or id
	Reason  string `json:"reason,omitempty" max:"1024"`
	// Now is for a key that leaked, and for admins: the current keys are taken away at once, with all that was signed with them,
	// and the account waits for the servers to have the new one. It takes a reason.
	Now bool `json:"now,omitempty"`
	// Key is the one key to take away at once, whatever its stage; empty: those that are current.
	Key string `json:"key,omitempty"`
	// DryRun changes nothing, and says who would be cut now.
	DryRun         bool   `json:"dry_run,omitempty"`
	IdempotencyKey string `json:"idempotency_key,omitempty"`
}

// Rotation is an account whose signing key is changing.
type Rotation struct {
	Account  Account   `json:"account"`
	Revoked  []string  `json:"revoked,omitempty"`  // ids of the revocations of keys that were taken away at once
	Affected *Affected `json:"affected,omitempty"` // of a dry run
}
