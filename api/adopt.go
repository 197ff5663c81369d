package api

// AccountAdoptRequest has Gatehouse take an account over that others made, with nsc or nats auth.
type AccountAdoptRequest struct {
	// Account is its public key (A…), or the name in its claims.
	Account string `json:"account"`
	// Token is its JWT where that is not to be asked of the servers; Operator the JWT of the operator, which says whose
	// signatures count beside those of the operator signing key of the configuration.
	Token    string `json:"token,omitempty"`
	Operator string `json:"operator,omitempty"`
	// Seeds are those of signing keys of the account (SA…): they are sealed and kept. Never that of its identity key.
	Seeds []string `json:"seeds,omitempty"`
	Name  string   `json:"name,omitempty"` // by which Gatehouse has it; without it the one in its claims, which stays there
	Plan  string   `json:"plan,omitempty"` // needed where there are several
	Owner *Owner   `json:"owner,omitempty"`
	// DryRun changes nothing, and says what would become of it.
	DryRun bool `json:"dry_run,omitempty"`
	// IdempotencyKey gives the first answer again when the same call is repeated.
	IdempotencyKey string `json:"idempotency_key,omitempty" max:"128"`
}

// AccountAdoption says what was, or would be, taken over.
type AccountAdoption struct {
	Name    string `json:"name"`
	Account string `json:"account"` // id: its public key
	State   string `json:"state"`   // creating or active; empty in a dry run
	Plan    string `json:"plan"`
	Issuer  string `json:"issuer"` // key of the operator that signed its claims
	// Sealed are the signing keys whose seeds Gatehouse keeps from now on, Made is one that it has made because there were none,
	// Elsewhere are those in the claims whose seeds stay where they are: what they sign goes on working.
	Sealed    []string `json:"sealed,omitempty"`
	Made      string   `json:"made,omitempty"` // new, so that a dry run names none
	Elsewhere []string `json:"elsewhere,omitempty"`
}

// AccountHandoverRequest asks for accounts as others keep them.
type AccountHandoverRequest struct {
	Account string `json:"account"` // name or id
	Keys    bool   `json:"keys"`    // the seeds of its signing keys too, unsealed
	Reason  string `json:"reason,omitempty"`
}

// AccountHandover is an account as others keep it.
type AccountHandover struct {
	Name    string   `json:"name"`
	Account string   `json:"account"`         // id
	JWT     string   `json:"jwt"`             // as the servers hold it
	Seeds   []string `json:"seeds,omitempty"` // of its signing keys
}
