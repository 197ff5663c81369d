package api

import (
	"encoding/json"
	"time"
)

// WhoamiRequest asks what the caller's token would get now. The token travels in the
// Authorization header.
type WhoamiRequest struct {
	Account string `json:"account,omitempty"` // the account to ask for, as a client would name it
}

// Whoami is what a token gets now, and the last refusal of its identity.
type Whoami struct {
	Identity
	Decision
	// Administration is set where the identity has rights to administer, and for tokens that are for that.
	Administration *Administration `json:"administration,omitempty"`
	LastRefusal    *LastRefusal    `json:"last_refusal,omitempty"`
	RequestID      string          `json:"request_id"`
}

// Administration says what an identity may do as an admin.
type Administration struct {
	// Token says that the token is for administration; with another one of the same claims it takes a login for that.
	Token   bool     `json:"token"`
	Rights  []string `json:"rights" enum:"revoke sessions accounts audit explain"`
	Reason  string   `json:"reason,omitempty" enum:"reasons"` // why there are none
	Message string   `json:"message,omitempty"`
}

// Identity is who a token speaks of.
type Identity struct {
	Name      string    `json:"name"`   // principal name, as connection reports show it
	Issuer    string    `json:"issuer"` // configured name
	IssuerURL string    `json:"issuer_url"`
	Subject   string    `json:"subject"`
	Expires   time.Time `json:"token_expires,omitzero"`
	Inbox     string    `json:"inbox_prefix"` // the identity's private inbox prefix
	// BoundTo names the key that clients must sign with to use the token; empty when whoever has the token can use it.
	BoundTo string `json:"bound_to,omitempty"`
}

// Decision is what an identity gets, or why it gets nothing.
type Decision struct {
	Allowed     bool         `json:"allowed"`
	Reason      string       `json:"reason" enum:"reasons"`
	Message     string       `json:"message,omitempty"`
	RetryAfter  int          `json:"retry_after,omitempty"` // seconds
	Account     string       `json:"account,omitempty"`
	AccountID   string       `json:"account_id,omitempty"`
	Roles       []string     `json:"roles,omitempty"`
	Bindings    []string     `json:"bindings,omitempty"`
	Permissions *Permissions `json:"permissions,omitempty"`
	// ScopedKey is set where a scoped signing key's template holds the permissions; Permissions are
	// then those of the template, with its {{…}} functions, or missing where no server was asked.
	ScopedKey string    `json:"scoped_key,omitempty"`
	Tags      []string  `json:"tags,omitempty"` // of the user, for the template
	Expires   time.Time `json:"expires,omitzero"`
	TTL       string    `json:"ttl,omitempty"`
	// Creates is the account that the login leads to where that is not there yet.
	Creates *Creation `json:"creates,omitempty"`
}

// Creation is an account that a login makes.
type Creation struct {
	Account string `json:"account"` // name
	Plan    string `json:"plan"`
	Binding string `json:"binding"` // that leads there
}

// Permissions are the subjects that a user may use; deny wins, an empty allow allows nothing.
type Permissions struct {
	Publish   SubjectSet `json:"publish"`
	Subscribe SubjectSet `json:"subscribe"`
	Respond   *Respond   `json:"respond,omitempty"`
}

// Respond says that a user may publish to the reply subject of each message that it gets.
type Respond struct {
	Max int    `json:"max"` // replies to one message
	TTL string `json:"ttl"` // from the message's arrival to the last of them, such as 2m0s
}

// SubjectSet is a list of allowed subjects less the denied ones.
type SubjectSet struct {
	Allow []string `json:"allow"`
	Deny  []string `json:"deny,omitempty"`
}

// LastRefusal is the newest recorded login of an identity that was refused or left unanswered.
type LastRefusal struct {
	At        time.Time `json:"at"`
	Reason    string    `json:"reason" enum:"reasons"`
	Message   string    `json:"message,omitempty"`
	RequestID string    `json:"request_id"`
	Source    string    `json:"source,omitempty"`
	Server    string    `json:"server,omitempty"`
}

// AuditRequest lists the audit trail. Empty fields do not filter.
type AuditRequest struct {
	// Order is "newest" first (default), or that of "arrival" in the store, oldest first: so the trail can be
	// exported and followed without missing what replicas bring late, or getting anything twice.
	Order   string    `json:"order,omitempty" enum:"newest arrival"`
	Kind    string    `json:"kind,omitempty" enum:"login admin"`
	Outcome string    `json:"outcome,omitempty" enum:"allowed refused silent done"`
	Reason  string    `json:"reason,omitempty"`
	Issuer  string    `json:"issuer,omitempty"`
	Subject string    `json:"subject,omitempty"`
	Name    string    `json:"name,omitempty"`    // principal name
	Account string    `json:"account,omitempty"` // name or id: what led to it, and what was done to it
	Actor   string    `json:"actor,omitempty"`
	Request string    `json:"request_id,omitempty"`
	Op      string    `json:"op,omitempty"`
	Session string    `json:"session,omitempty"` // sid of the token
	Display string    `json:"display,omitempty"` // value of a display claim
	Claims  bool      `json:"claims,omitempty"`  // only those with claims
	Since   time.Time `json:"since,omitzero"`
	Before  time.Time `json:"before,omitzero"`
	Tail    bool      `json:"tail,omitempty"` // by arrival without a cursor: only what arrives from now on
	Limit   int       `json:"limit,omitempty"`
	Cursor  string    `json:"cursor,omitempty"`
}

// AuditPage is one page of the audit trail. Newest first, an empty cursor means the last. By arrival
// there always is one, after which later arrivals come, and more says that there may be some already.
type AuditPage struct {
	Entries []AuditEntry `json:"entries"`
	Cursor  string       `json:"cursor,omitempty"`
	More    bool         `json:"more,omitempty"`
}

// AuditEntry is one login decision or one act of an admin.
type AuditEntry struct {
	ID      string    `json:"id"` // also the request id of a login
	At      time.Time `json:"at"`
	Kind    string    `json:"kind" enum:"login admin"`
	Outcome string    `json:"outcome" enum:"allowed refused silent done"` // done: an act of an admin
	Reason  string    `json:"reason"`                                     // reason code; of an admin: the reason given
	Detail  string    `json:"detail,omitempty"`

	Issuer  string            `json:"issuer,omitempty"` // exact iss
	Subject string            `json:"subject,omitempty"`
	Name    string            `json:"name,omitempty"`
	Display map[string]string `json:"display,omitempty"` // display claims, as configured for the issuer
	TokenID string            `json:"token_id,omitempty"`
	// SessionID is the sid of the token, and Issued its iat.
	SessionID string    `json:"session_id,omitempty"`
	Issued    time.Time `json:"issued,omitzero"`
	// Claims are those that the rules read, so that the login can be decided anew.
	Claims json.RawMessage `json:"claims,omitempty"`
	// ClaimsCut says that there would be claims, but too many to keep.
	ClaimsCut bool `json:"claims_cut,omitempty"`

	Account  string    `json:"account,omitempty"`
	Roles    []string  `json:"roles,omitempty"`
	Bindings []string  `json:"bindings,omitempty"`
	Expires  time.Time `json:"expires,omitzero"` // of the credential

	ServerID   string `json:"server_id,omitempty"`
	ServerName string `json:"server_name,omitempty"`
	CID        uint64 `json:"cid,omitempty"`
	UserKey    string `json:"user_key,omitempty"`
	Source     string `json:"source,omitempty"`
	ConnType   string `json:"connection_type,omitempty"`
	Client     string `json:"client,omitempty"` // the client's library and version
	Asked      string `json:"asked,omitempty"`  // account that the client named

	Actor  string `json:"actor,omitempty"`
	Op     string `json:"op,omitempty"`
	Target string `json:"target,omitempty"`
	// Revision is which change of an account's record that is, and State what the account is since then.
	Revision int64  `json:"revision,omitempty"`
	State    string `json:"state,omitempty"`

	Replica string `json:"replica,omitempty"`
	Rules   string `json:"rules,omitempty"` // version of the rules that decided
	Count   int    `json:"count,omitempty"` // how many equal entries a sampled one stands for
}

// ExplainRequest asks what a token, or claims as if verified, would get and why; or somebody who
// is not there, by the claims of the last recorded login.
type ExplainRequest struct {
	Token          string         `json:"token,omitempty"`
	Claims         map[string]any `json:"claims,omitempty"`
	Subject        string         `json:"subject,omitempty"` // sub, or the value of a display claim
	Issuer         string         `json:"issuer,omitempty"`  // of the subject: name or URL
	Account        string         `json:"account,omitempty"`
	Source         string         `json:"source,omitempty"`
	ConnectionType string         `json:"connection_type,omitempty" enum:"standard websocket mqtt leafnode"`
}

// Explanation says what an identity gets and how that came about.
type Explanation struct {
	Identity
	Decision
	// Administration is set where the identity has rights to administer, and for tokens that are for that.
	Administration *Administration `json:"administration,omitempty"`
	Verdicts       []Verdict       `json:"verdicts"`
	// Recorded is the login whose claims were decided on, when only a subject was given.
	Recorded *RecordedLogin `json:"recorded,omitempty"`
}

// RecordedLogin is a login of the audit trail, as far as another one like it needs it.
type RecordedLogin struct {
	At             time.Time `json:"at"`
	RequestID      string    `json:"request_id"`
	Reason         string    `json:"reason"`
	Source         string    `json:"source,omitempty"`
	ConnectionType string    `json:"connection_type,omitempty"`
	Asked          string    `json:"asked,omitempty"` // account that the client named
	// OtherRules says that other rules were in force then: a claim that only those of now read
	// is not recorded, and counts as missing.
	OtherRules bool `json:"other_rules,omitempty"`
}

// Verdict says what became of one binding.
type Verdict struct {
	Binding string `json:"binding"`
	Applies bool   `json:"applies"`
	Why     string `json:"why"`
}

// Reloaded is the answer to a reload.
type Reloaded struct {
	Version string `json:"version"` // of the rules in force now
	Changed bool   `json:"changed"`
	// NeedRestart lists the keys that were changed and take effect at the next start only.
	NeedRestart []string `json:"need_restart,omitempty"`
	// Warnings say of what the store has that the configuration does not fit it, such as plans that accounts are of and that are gone.
	Warnings []string `json:"warnings,omitempty"`
}

// Status says how a replica is.
type Status struct {
	Replica  string         `json:"replica"`
	Version  string         `json:"version"`
	Rules    string         `json:"rules"`
	Ready    bool           `json:"ready"`
	NotReady []string       `json:"not_ready,omitempty"`
	Warnings []string       `json:"warnings,omitempty"` // what works and is not as it seems
	Servers  []ServerStatus `json:"servers"`
	// Replicas are the other ones that this one hears.
	Replicas []ReplicaStatus `json:"replicas"`
	Issuers  []IssuerStatus  `json:"issuers"`
	Claims   ClaimsStatus    `json:"claims"`
	// AuditStream is how the copy of the audit trail stands; none when none is made.
	AuditStream *AuditStreamStatus `json:"audit_stream,omitempty"`
}

// AuditStreamStatus is how the copy of the audit trail in a JetStream stream stands, as far as a replica knows.
type AuditStreamStatus struct {
	Stream  string    `json:"stream"`
	Copying bool      `json:"copying"`          // this replica copies; one at a time does
	Copied  int       `json:"copied"`           // entries that this replica has copied since it started
	Current time.Time `json:"current,omitzero"` // when it last had copied all there was
	Error   string    `json:"error,omitempty"`  // why it waits
}

// ClaimsStatus is how the claims of the accounts that Gatehouse changes stand, as a replica sees it.
type ClaimsStatus struct {
	Unmanaged string   `json:"unmanaged,omitempty"` // why no claims can be changed
	Resolver  string   `json:"resolver,omitempty"`  // url or memory where servers store no claims
	Writer    bool     `json:"writer"`              // whether this replica is the one that writes; only that one knows more
	Accounts  int      `json:"accounts"`
	Settled   int      `json:"settled"` // of those, as they are to be on every server
	Problems  []string `json:"problems,omitempty"`
	// SelfService are the accounts of sign-up, Waiting those of them that are not as they are to be on every server.
	SelfService int `json:"self_service,omitempty"`
	Waiting     int `json:"waiting,omitempty"`
	// Unknown are accounts that servers store and that are neither configured nor stored; Gone are deleted ones.
	Unknown []string `json:"unknown,omitempty"`
	Gone    []string `json:"gone,omitempty"`
}

// ReplicaStatus is another replica as a replica hears it.
type ReplicaStatus struct {
	Name    string `json:"name"`
	Serving bool   `json:"serving"` // in the queue group
	Silent  string `json:"silent"`  // since it was heard last
	Current bool   `json:"current"` // its decisions follow the store as far as this one's
}

// ServerStatus is one nats-server as a replica sees it.
type ServerStatus struct {
	ID          string `json:"id"`
	Name        string `json:"name"`
	Version     string `json:"version"`
	ClockOffset string `json:"clock_offset"` // its clock less the replica's
}

// IssuerStatus is one issuer as a replica sees it.
type IssuerStatus struct {
	Name       string    `json:"name"`
	URL        string    `json:"url"`
	KeysLoaded bool      `json:"keys_loaded"`
	LoadedAt   time.Time `json:"loaded_at,omitzero"`
	Error      string    `json:"error,omitempty"`
}

// AdminTokenRequest asks for a token to administer with while no issuer can make one.
type AdminTokenRequest struct {
	Rights []string `json:"rights" enum:"revoke sessions accounts audit explain"`
	Reason string   `json:"reason" min:"1" max:"1024"`
	TTL    string   `json:"ttl,omitempty"` // such as 15m, which is the default; at most 1h
	// IdempotencyKey makes the call happen once. Sent again it is told what was made, and not the secret: that is kept nowhere.
	IdempotencyKey string `json:"idempotency_key,omitempty" max:"128"`
}

// AdminToken is such a token. It is taken by every replica, and void once its id is logged out.
type AdminToken struct {
	Token   string    `json:"token"`
	ID      string    `json:"id"`
	Actor   string    `json:"actor"` // who made it
	Rights  []string  `json:"rights"`
	Expires time.Time `json:"expires"`
}
