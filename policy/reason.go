package policy

import (
	"fmt"
	"time"
)

// Reason is the stable code of why a login ended as it did; it is part of the
// wire contract (metrics, audit rows, whoami) and never changes its meaning.
type Reason string

// The reasons. Those a client may see are explained in package api.
const (
	Allowed Reason = "allowed"

	// Requests that are not answered: silence costs an honest client one retry,
	// a refusal would cost it its connection (nats.go closes after two).
	RequestMalformed  Reason = "request_malformed"
	RequestUnsealed   Reason = "request_unsealed"
	RequestForged     Reason = "request_forged"
	RequestReplayed   Reason = "request_replayed"
	RequestLate       Reason = "request_late"
	ServerUnknown     Reason = "server_unknown"
	Overloaded        Reason = "overloaded"
	SourceThrottled   Reason = "source_throttled"
	SnapshotStale     Reason = "snapshot_stale"
	KeysUnavailable   Reason = "keys_unavailable"
	AccountUnready    Reason = "account_unready"
	AccountCreating   Reason = "account_creating"
	RecordUnavailable Reason = "record_unavailable"
	Internal          Reason = "internal"

	// Refusals of the token, before its signature was verified.
	TokenMissing      Reason = "token_missing"
	TokenTooLarge     Reason = "token_too_large"
	TokenMalformed    Reason = "token_malformed"
	AlgorithmRefused  Reason = "algorithm_refused"
	IssuerUnknown     Reason = "issuer_unknown"
	KeyUnknown        Reason = "key_unknown"
	SignatureInvalid  Reason = "signature_invalid"
	EnvelopeMalformed Reason = "envelope_malformed"

	// Refusals of the token, after its signature was verified.
	AudienceRefused Reason = "audience_refused"
	TokenExpired    Reason = "token_expired"
	TokenNotYet     Reason = "token_not_yet_valid"
	TokenTooOld     Reason = "token_too_old"
	TokenPurpose    Reason = "token_purpose"
	SubjectInvalid  Reason = "subject_invalid"
	ClaimsInvalid   Reason = "claims_invalid"

	// Refusals of tokens with which somebody would administer.
	LoginToken           Reason = "login_token"
	AdminAudienceRefused Reason = "admin_audience_refused"
	NoRights             Reason = "no_rights"

	// Refusals of the identity.
	Blocked               Reason = "blocked"
	LoggedOut             Reason = "logged_out"
	KeyProofMissing       Reason = "key_proof_missing"
	KeyProofInvalid       Reason = "key_proof_invalid"
	KeyUncheckable        Reason = "key_uncheckable"
	NoBinding             Reason = "no_binding"
	GroupsOverage         Reason = "groups_overage"
	KeyRequired           Reason = "key_required"
	ExpressionFailed      Reason = "expression_failed"
	SourceRefused         Reason = "source_refused"
	ConnectionTypeRefused Reason = "connection_type_refused"
	AccountAmbiguous      Reason = "account_ambiguous"
	RoleAmbiguous         Reason = "role_ambiguous"
	AccountNotGranted     Reason = "account_not_granted"
	AccountForeign        Reason = "account_foreign"
	AccountLimit          Reason = "account_limit"
	AccountExpired        Reason = "account_expired"
	AccountSuspended      Reason = "account_suspended"
	ClaimUnsafe           Reason = "claim_unsafe"
	ExpiresTooSoon        Reason = "expires_too_soon"

	// Refusals of a user JWT for an own key.
	DirectNotGranted    Reason = "direct_not_granted"
	SignUpProofInvalid  Reason = "signup_proof_invalid"
	SignUpProofStale    Reason = "signup_proof_stale"
	SignUpProofReplayed Reason = "signup_proof_replayed"
	UserKeyRevoked      Reason = "user_key_revoked"
	UserKeyTaken        Reason = "user_key_taken"
	TooManyKeys         Reason = "too_many_keys"

	// Refusals of who asks for an account.
	NoSignUp Reason = "no_sign_up"
)

// silent lists the reasons that are met with silence instead of the constant refusal.
var silent = map[Reason]bool{
	RequestMalformed: true, RequestUnsealed: true, RequestForged: true, RequestReplayed: true,
	RequestLate: true, ServerUnknown: true, Overloaded: true, SourceThrottled: true,
	SnapshotStale: true, KeysUnavailable: true, AccountUnready: true, AccountCreating: true, RecordUnavailable: true,
	Internal: true,
}

// Silent reports whether a login that ends for r is left unanswered, so that the
// client tries again, rather than refused. An unknown reason is silent: when in
// doubt Gatehouse neither admits nor ends a client for good.
func (r Reason) Silent() bool {
	return silent[r] || r == ""
}

// Outcome is what the client got.
type Outcome string

// The three outcomes of a login.
const (
	OutcomeAllowed Outcome = "allowed"
	OutcomeRefused Outcome = "refused"
	OutcomeSilent  Outcome = "silent"
)

// Outcome returns what a client whose login ended for r got.
func (r Reason) Outcome() Outcome {
	switch {
	case r == Allowed:
		return OutcomeAllowed
	case r.Silent():
		return OutcomeSilent
	default:
		return OutcomeRefused
	}
}

// Refusal is why a login is refused or left unanswered. It never holds token
// material; Detail is for operators and must not cross the wire to a NATS client.
type Refusal struct {
	Reason     Reason
	Detail     string        // what was wrong, in words for an operator
	RetryAfter time.Duration // when a new token may help; 0 when waiting does not
}

// Refuse returns a Refusal with a formatted detail.
func Refuse(r Reason, format string, args ...any) *Refusal {
	return &Refusal{Reason: r, Detail: fmt.Sprintf(format, args...)}
}

// Error returns the reason code and the detail.
func (r *Refusal) Error() string {
	if r.Detail == "" {
		return string(r.Reason)
	}
	return string(r.Reason) + ": " + r.Detail
}
