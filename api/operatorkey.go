package api

// OperatorKeyRequest asks how the operator signing key stands.
type OperatorKeyRequest struct{}

// OperatorKey is how the operator signing key stands, which signs the claims of accounts: public keys, and nothing of a seed.
type OperatorKey struct {
	Key  string `json:"key,omitempty"`                                    // public, of the one that signs; empty: there is none
	From string `json:"from,omitempty" enum:"operator.signing_key store"` // where it comes from
	// Sealed is the public key of the one in the store, which signs where operator.signing_key is not configured; SealedWith the id of
	// the key that it is sealed with.
	Sealed     string `json:"sealed,omitempty"`
	SealedWith string `json:"sealed_with,omitempty"`
	// Problem says why the service cannot sign with the one in the store; empty when it can.
	Problem string           `json:"problem,omitempty"`
	Servers []OperatorServer `json:"servers,omitempty"`
	// SignedBy are the operator keys that have signed what servers hold, of the accounts that Gatehouse knows. A key that is not among
	// them can be taken out of the operator JWT.
	SignedBy []OperatorSigned `json:"signed_by,omitempty"`
	// Incomplete says what could not be asked; empty: nothing.
	Incomplete string `json:"incomplete,omitempty"`
}

// OperatorServer says whether a server takes what the key signs.
type OperatorServer struct {
	Server string `json:"server"`
	Trusts string `json:"trusts" enum:"yes no unknown"` // unknown: it does not say
	Strict bool   `json:"strict,omitempty"`             // it takes no claims that the operator's identity key signed
}

// OperatorSigned are the accounts whose claims an operator key has signed.
type OperatorSigned struct {
	Key      string   `json:"key"` // public
	Accounts int      `json:"accounts"`
	Some     []string `json:"some"` // names of some, or ids where no name is known
}

// OperatorKeyImport gives the service an operator signing key in place of the one in the store.
type OperatorKeyImport struct {
	Seed   string `json:"seed"` // of a signing key of the operator (SO…), never of its identity
	Reason string `json:"reason,omitempty" max:"1024"`
}

// OperatorKeyRemove deletes the operator signing key that the store has.
type OperatorKeyRemove struct {
	Reason string `json:"reason" max:"1024"`
}
