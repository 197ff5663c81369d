package api

import (
	"crypto/sha256"
	"encoding/hex"
	"strconv"
	"strings"
	"time"
)

// AccountSignupRequest asks for an account under a plan. The token travels in the Authorization header. The same call again,
// by the same owner, is answered with the account that there is.
type AccountSignupRequest struct {
	// Name has 1 to 64 of A-Z a-z 0-9 . _ -, beginning and ending with a letter or a digit; upper and lower case are one name.
	Name string `json:"name"`
	Plan string `json:"plan,omitempty"` // needed where several are offered
	// Key is the identity key of the account where that is the requester's own: the public one (A…), with Proof. Without it
	// one is made, and its seed is thrown away.
	Key         string       `json:"key,omitempty"`
	Proof       *SignupProof `json:"proof,omitempty"` // with Key: its signature of [AccountStatement]
	Description string       `json:"description,omitempty"`
	Tags        []string     `json:"tags,omitempty"`
	// Owner is for admins alone, who sign somebody else up.
	Owner *Owner `json:"owner,omitempty"`
}

// Owner names who becomes the owner of an account.
type Owner struct {
	Issuer  string `json:"issuer"` // its configured name or exact URL
	Subject string `json:"subject"`
}

// accountPurpose begins every statement, so that no signature for something else can stand for one.
const accountPurpose = "gatehouse account.signup v1"

// AccountStatement returns the bytes that the proof of an account's key signs: seven lines, parted by single newlines and
// without one at the end: the purpose, the audience, the key, the name and the plan as in the request (the plan may be
// empty), the SHA-256 of the token in small hex digits, and the time in decimal digits. No field may hold a newline.
func AccountStatement(req AccountSignupRequest, token string) []byte {
	var proof SignupProof
	if req.Proof != nil {
		proof = *req.Proof
	}
	sum := sha256.Sum256([]byte(token))
	return []byte(strings.Join([]string{
		accountPurpose, proof.Audience, req.Key, req.Name, req.Plan, hex.EncodeToString(sum[:]), strconv.FormatInt(proof.Time, 10),
	}, "\n"))
}

// AccountSignup is an account that was signed up for. Users are let in once its state is active or published.
type AccountSignup struct {
	Name    string `json:"name"`
	Account string `json:"account"` // id: its public key
	State   string `json:"state"`   // requested, creating, active or published
}

// Person is an identity.
type Person struct {
	Issuer  string `json:"issuer"` // exact iss
	Subject string `json:"subject"`
	Name    string `json:"name,omitempty"` // principal name, when the issuer is configured
}

// Account is an account of sign-up.
type Account struct {
	Name    string `json:"name"`
	Account string `json:"account"` // id: its public key
	// State is requested (it waits for an admin), creating (not every server has it yet), active, published (as active, where
	// servers store no claims), deleting (closed; it can be had back until DeleteAt) or deleted.
	State string `json:"state"`
	Plan  string `json:"plan"`
	// PlanGone says that the plan is not in the configuration: nobody gets in as a member, and the limits stay as they were last written.
	PlanGone bool `json:"plan_gone,omitempty"`
	// Revision counts the changes of the account; a call that changes it says which one it has read.
	Revision int64 `json:"revision"`
	// Applied is the newest revision that every server was seen to have; 0 is none.
	Applied     int64    `json:"applied"`
	Owner       Person   `json:"owner"`
	Description string   `json:"description,omitempty"`
	Tags        []string `json:"tags,omitempty"`
	// Limits are those in force, none of an account that was taken over, whose claims say them; Changed are the ones among
	// them that an admin gave in place of the plan's.
	Limits      AccountLimits  `json:"limits"`
	Changed     *AccountLimits `json:"changed_limits,omitempty"`
	Roles       []string       `json:"roles"`   // that its members may have
	Members     int            `json:"members"` // invitations included
	SigningKeys []AccountKey   `json:"signing_keys"`
	Suspended   bool           `json:"suspended"` // a suspension is in force: nobody is let in
	// Problem says to admins why not every server has what the account is to have. Only the replica knows that writes account
	// claims (claims.writer in status); of an account alone, not in lists.
	Problem  string    `json:"problem,omitempty"`
	Created  time.Time `json:"created"`
	Updated  time.Time `json:"updated"`
	DeleteAt time.Time `json:"delete_at,omitzero"`
}

// AccountKey is a signing key of an account.
type AccountKey struct {
	Key   string    `json:"key"`   // public
	Stage string    `json:"stage"` // added, current (it signs) or leaving
	Since time.Time `json:"since"`
	Until time.Time `json:"until,omitzero"` // end of the last credential that it signed, once it is leaving
}

// AccountLimits are limits of an account, -1 where there is none.
type AccountLimits struct {
	Connections   *int64 `json:"connections,omitempty"`
	LeafNodes     *int64 `json:"leaf_nodes,omitempty"`
	Subscriptions *int64 `json:"subscriptions,omitempty"`
	Payload       *int64 `json:"payload,omitempty"` // bytes of one message
	Data          *int64 `json:"data,omitempty"`    // bytes; servers do not hold to it
	Imports       *int64 `json:"imports,omitempty"`
	Exports       *int64 `json:"exports,omitempty"`
	// JetStream is flat, or by replica tier (R1, R3) in Tiers, never both; neither means none.
	JetStream *JetStreamLimits           `json:"jetstream,omitempty"`
	Tiers     map[string]JetStreamLimits `json:"tiers,omitempty"`
}

// JetStreamLimits limit what an account may store, -1 where there is none.
type JetStreamLimits struct {
	Memory    int64 `json:"memory"` // bytes
	Disk      int64 `json:"disk"`   // bytes
	Streams   int64 `json:"streams"`
	Consumers int64 `json:"consumers"`
}

// AccountRequest names an account.
type AccountRequest struct {
	Account string `json:"account"` // name or id
}

// AccountListRequest lists accounts by name: of admins all, of everybody else those whose member they are or to which a binding leads them. Empty fields
// do not filter.
type AccountListRequest struct {
	Plan    string `json:"plan,omitempty"`
	State   string `json:"state,omitempty"`
	Issuer  string `json:"issuer,omitempty"`  // of the owner; for admins, as the next two
	Subject string `json:"subject,omitempty"` // of the owner
	Deleted bool   `json:"deleted,omitempty"` // deleted ones too
	Limit   int    `json:"limit,omitempty"`
	Cursor  string `json:"cursor,omitempty"`
}

// AccountsPage is one page of accounts; an empty cursor means the last.
type AccountsPage struct {
	Accounts []Account `json:"accounts"`
	Cursor   string    `json:"cursor,omitempty"`
}

// AccountUpdateRequest changes an account; what is left out stays. Owners change the description and the tags, admins the rest too.
type AccountUpdateRequest struct {
	Account     string    `json:"account"`
	Revision    int64     `json:"revision"` // that the caller has read; when there is a newer one, nothing is changed
	Description *string   `json:"description,omitempty"`
	Tags        *[]string `json:"tags,omitempty"`
	// Limits take the place of all that were changed before; {} gives the plan's alone.
	Limits         *LimitsChange `json:"limits,omitempty"`
	Plan           string        `json:"plan,omitempty"`
	Owner          *Owner        `json:"owner,omitempty"` // becomes an owner at once; who was one stays
	IdempotencyKey string        `json:"idempotency_key,omitempty"`
}

// LimitsChange takes the place of limits of a plan; what is left out stays the plan's. -1 is no limit.
type LimitsChange struct {
	Connections   *int64 `json:"connections,omitempty"`
	LeafNodes     *int64 `json:"leaf_nodes,omitempty"`
	Subscriptions *int64 `json:"subscriptions,omitempty"`
	Payload       *int64 `json:"payload,omitempty"` // bytes of one message
	Data          *int64 `json:"data,omitempty"`    // bytes; servers do not hold to it
	Imports       *int64 `json:"imports,omitempty"`
	Exports       *int64 `json:"exports,omitempty"`
	// JetStream takes the place of what the plan says of it, as a whole or by tier; and so do Tiers (R1, R3). Not both.
	JetStream *JetStreamChange           `json:"jetstream,omitempty"`
	Tiers     map[string]JetStreamChange `json:"tiers,omitempty"`
}

// JetStreamChange limits what an account may store, -1 where there is no limit.
type JetStreamChange struct {
	Memory    int64 `json:"memory"` // bytes
	Disk      int64 `json:"disk"`   // bytes
	Streams   int64 `json:"streams"`
	Consumers int64 `json:"consumers"`
}

// AccountRenameRequest gives an account another name. Clients that name the account have to be told.
type AccountRenameRequest struct {
	Account        string `json:"account"`
	Revision       int64  `json:"revision"` // that the caller has read
	Name           string `json:"name"`
	IdempotencyKey string `json:"idempotency_key,omitempty"`
}

// AccountActRequest approves an account that was requested, rejects it, or takes a suspension or a deletion back.
type AccountActRequest struct {
	Account        string `json:"account"`
	Reason         string `json:"reason,omitempty"` // needed to reject and to resume
	IdempotencyKey string `json:"idempotency_key,omitempty"`
}

// AccountSuspendRequest closes an account to all its users.
type AccountSuspendRequest struct {
	Account string    `json:"account"`
	Reason  string    `json:"reason"`
	Until   time.Time `json:"until,omitzero"` // zero: until it is resumed
	// IdempotencyKey makes the call happen once, also where the account was resumed meanwhile.
	IdempotencyKey string `json:"idempotency_key,omitempty" max:"128"`
}

// AccountDeleteRequest deletes an account: it is closed at once, and gone when its grace ends.
type AccountDeleteRequest struct {
	Account string `json:"account"`
	Reason  string `json:"reason,omitempty"`
	// WithData says that the streams of the account shall go with it.
	WithData bool `json:"with_data,omitempty"`
	// Grace is how long it can be had back, such as 24h or 0s; for admins. Without it: 7 days.
	Grace string `json:"grace,omitempty"`
	// DryRun changes nothing, and says what would go.
	DryRun         bool   `json:"dry_run,omitempty"`
	IdempotencyKey string `json:"idempotency_key,omitempty"`
}

// AccountDeletion says what goes with an account.
type AccountDeletion struct {
	Account Account `json:"account"`
	Streams int     `json:"streams"`
	Bytes   uint64  `json:"bytes"` // in them, of one replica each
	// Unanswered are the servers that did not say what they store.
	Unanswered []string `json:"unanswered,omitempty"`
}
