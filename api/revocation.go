package api

import "time"

// Target is whom or what a revocation concerns. Which fields are set says what sort of thing that is:
// issuer and subject an identity, the issuer alone all of its identities, account alone an account.
type Target struct {
	Issuer  string `json:"issuer,omitempty"`  // its configured name or exact URL; in answers the URL
	Subject string `json:"subject,omitempty"` // the raw sub
	Session string `json:"session,omitempty"` // sid of a login session of the issuer
	Token   string `json:"token,omitempty"`   // jti of a token of the issuer
	// Match means the identities of the issuer whose claims match, as in a binding's match: all claims
	// must hold, each with one of its values, * in a text stands for any characters.
	Match   map[string][]any `json:"match,omitempty"`
	Account string           `json:"account,omitempty"` // its configured name or id; in answers the id
	Key     string           `json:"key,omitempty"`     // public key of a user, a signing key, or the account that imports
	Export  string           `json:"export,omitempty"`  // subject of the export that the account imports
}

// RevokeRequest takes access back.
type RevokeRequest struct {
	// Kind is block (default), logout, user_key, signing_key, activation or suspension.
	Kind string `json:"kind,omitempty" enum:"block logout user_key signing_key activation suspension"`
	Target
	// All must be set to revoke everybody of an issuer: a subject that was left out by mistake must not.
	All    bool   `json:"all,omitempty"`
	Reason string `json:"reason" max:"1024"`
	// At is the point in time of a logout, until which tokens are void; zero means now.
	At time.Time `json:"at,omitzero"`
	// Until ends the revocation by itself; zero means until lifted.
	Until time.Time `json:"until,omitzero"`
	// Programs includes the programs that the identity owns.
	Programs bool `json:"programs,omitempty"`
	// Force is needed to revoke oneself.
	Force bool `json:"force,omitempty"`
	// DryRun changes nothing, and says what would be stored.
	DryRun bool `json:"dry_run,omitempty"`
	// IdempotencyKey gives the first answer again when the same call is repeated.
	IdempotencyKey string `json:"idempotency_key,omitempty" max:"128"`
}

// Revocation is a block, a logout or their like as it is stored.
type Revocation struct {
	ID   string `json:"id"`
	Kind string `json:"kind" enum:"block logout user_key signing_key activation suspension"`
	Target
	Name        string    `json:"name,omitempty"`         // principal name, when the issuer is configured
	AccountName string    `json:"account_name,omitempty"` // when the account is configured
	Programs    bool      `json:"programs,omitempty"`
	Reason      string    `json:"reason"`
	Actor       string    `json:"actor"`
	At          time.Time `json:"at"`
	Until       time.Time `json:"until,omitzero"`
	LiftedAt    time.Time `json:"lifted_at,omitzero"`
	LiftedBy    string    `json:"lifted_by,omitempty"`
	LiftCause   string    `json:"lift_reason,omitempty"`
	InForce     bool      `json:"in_force"`
	// DoneAt is when it was proved that nothing is left of what it ends.
	DoneAt time.Time `json:"done_at,omitzero"`
}

// RevokeResult is the answer to a revocation.
type RevokeResult struct {
	Revocation Revocation `json:"revocation"`
	// Existing says that an equal one was in force already and nothing was changed.
	Existing bool `json:"existing,omitempty"`
	// Unseen says that no login of the identity is recorded: the subject may be misspelt.
	Unseen bool `json:"unseen,omitempty"`
	// Affected is what a dry run would end.
	Affected *Affected `json:"affected,omitempty"`
}

// Affected is what a revocation ends as things are now.
type Affected struct {
	Connections int       `json:"connections"` // live ones
	Sessions    []Session `json:"sessions"`    // of them, the oldest 1000
	KeysFound   int       `json:"keys_found"`  // of direct users with a user JWT that has not ended
	// Keys are 1000 of them at most; those with a program are concerned only when programs are included.
	Keys []UserKey `json:"keys"`
	// Incomplete says that not everything could be looked at.
	Incomplete bool     `json:"incomplete,omitempty"`
	Unanswered []string `json:"unanswered,omitempty"` // servers that did not answer
}

// UserKey is a key of a direct user.
type UserKey struct {
	Key       string    `json:"key"`     // public
	Account   string    `json:"account"` // configured name when it was signed
	AccountID string    `json:"account_id"`
	Issuer    string    `json:"issuer"` // exact iss of its owner
	Subject   string    `json:"subject"`
	Program   string    `json:"program,omitempty"`
	Issued    time.Time `json:"issued"`
	Expires   time.Time `json:"expires,omitzero"`
}

// Progress says how far a revocation has been carried out. It is done when every replica denies by it
// and every server has shown, after that, that no connection is left which it ends.
type Progress struct {
	Done            bool     `json:"done"`
	Replicas        int      `json:"replicas"`                   // that deny by it
	ReplicasKnown   int      `json:"replicas_known"`             // that there are
	ReplicasMissing []string `json:"replicas_missing,omitempty"` // that have not confirmed and may still admit
	ServersAnswered int      `json:"servers_answered"`           // that have shown that nothing is left
	ServersKnown    int      `json:"servers_known"`
	ServersMissing  []string `json:"servers_missing,omitempty"`
	Closed          int      `json:"closed"`           // connections
	Left            int      `json:"left"`             // connections seen last that are still to be closed
	Claims          string   `json:"claims,omitempty"` // what the account claims wait for
	TookMS          int64    `json:"took_ms"`          // since it was stored
}

// RevocationProgressRequest asks how far a revocation is.
type RevocationProgressRequest struct {
	ID string `json:"id"`
	// Wait is for how many seconds to wait for its end, at most 8; 0 answers at once.
	Wait int `json:"wait,omitempty" min:"0" max:"8"`
}

// LiftRequest ends a revocation before its time: by its id, or every block in force of an identity.
type LiftRequest struct {
	ID      string `json:"id,omitempty"`
	Issuer  string `json:"issuer,omitempty"`
	Subject string `json:"subject,omitempty"`
	Reason  string `json:"reason" min:"1" max:"1024"`
	// IdempotencyKey gives the first answer again when the same call is repeated.
	IdempotencyKey string `json:"idempotency_key,omitempty" max:"128"`
}

// LiftResult lists what was lifted.
type LiftResult struct {
	Lifted []Revocation `json:"lifted"`
}

// RevocationsRequest lists revocations, newest first. Empty fields do not filter.
type RevocationsRequest struct {
	Kind    string `json:"kind,omitempty" enum:"block logout user_key signing_key activation suspension"`
	Issuer  string `json:"issuer,omitempty"`
	Subject string `json:"subject,omitempty"`
	Account string `json:"account,omitempty"`
	All     bool   `json:"all,omitempty"` // also those lifted or ended
	Limit   int    `json:"limit,omitempty"`
	Cursor  string `json:"cursor,omitempty"`
}

// RevocationsPage is one page of revocations; an empty cursor means the last.
type RevocationsPage struct {
	Revocations []Revocation `json:"revocations"`
	Cursor      string       `json:"cursor,omitempty"`
}

// IdentitiesRequest lists who has logged in, by what people are known by.
type IdentitiesRequest struct {
	// Display is the value of a display claim, such as an e-mail address; upper and lower case are one.
	Display string `json:"display,omitempty"`
	Issuer  string `json:"issuer,omitempty"`
	Subject string `json:"subject,omitempty"`
	Limit   int    `json:"limit,omitempty"`
	Cursor  string `json:"cursor,omitempty"`
}

// IdentitiesPage is one page of identities; an empty cursor means the last.
type IdentitiesPage struct {
	Identities []KnownIdentity `json:"identities"`
	Cursor     string          `json:"cursor,omitempty"`
}

// KnownIdentity is somebody who has logged in.
type KnownIdentity struct {
	Issuer   string            `json:"issuer"` // exact iss
	Subject  string            `json:"subject"`
	Name     string            `json:"name"`              // principal name
	Display  map[string]string `json:"display,omitempty"` // display claims of the last login
	LastSeen time.Time         `json:"last_seen"`         // to about an hour
}
