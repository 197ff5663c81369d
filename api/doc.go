// Package api is Gatehouse's wire contract: subjects, requests, responses and reason
// codes, the same over NATS, HTTP and the local socket. It imports the standard library
// only, so that a client can depend on it alone.
//
// The tags enum, min and max of a field, and the comments, are for the OpenAPI document that is made of these types: enum lists the
// texts that it may have ("reasons" for any reason code), min and max bound a number, or the bytes of a text.
package api

// Version is the version of the contract; it is part of every subject and path.
const Version = "v1"

// Subject returns the NATS subject of an operation, such as gatehouse.v1.whoami.
func Subject(op string) string { return "gatehouse." + Version + "." + op }

// EventSubjects are the NATS subjects of events of accounts, in the callout account.
const EventSubjects = "gatehouse.events.account.>"

// OnBehalfHeader names, in calls of a portal's backend, the identity that it acts for: {"issuer": NAME or URL, "subject": SUB}.
const OnBehalfHeader = "Gatehouse-On-Behalf-Of"

// Path returns the HTTP path of an operation, such as /v1/whoami. It is served for POST.
func Path(op string) string { return "/" + Version + "/" + op }

// LogoutPath returns the HTTP path that an issuer with that configured name calls to log somebody out
// (OpenID Connect Back-Channel Logout 1.0).
func LogoutPath(issuer string) string { return "/backchannel-logout/" + issuer }

// The operations.
const (
	OpWhoami      = "whoami"
	OpUserSignup  = "user.signup"
	OpExplain     = "explain"
	OpRevoke      = "revoke"
	OpRevokeLift  = "revoke.lift"
	OpProgress    = "revoke.progress"
	OpRevocations = "revocations"
	OpIdentities  = "identities"
	OpSessions    = "sessions"
	OpKick        = "kick"
	OpAudit       = "audit"
	OpAdminToken  = "admin-token"
	OpReload      = "reload"
	OpStatus      = "status"

	OpAccountSignup   = "account.signup"
	OpAccountGet      = "account.get"
	OpAccountList     = "account.list"
	OpAccountUpdate   = "account.update"
	OpAccountRename   = "account.rename"
	OpAccountApprove  = "account.approve"
	OpAccountReject   = "account.reject"
	OpAccountSuspend  = "account.suspend"
	OpAccountResume   = "account.resume"
	OpAccountDelete   = "account.delete"
	OpAccountUndelete = "account.undelete"
	OpAccountAdopt    = "account.adopt"
	OpAccountHandover = "account.handover"
	OpAccountPreload  = "account.preload"

	OpAccountRotate = "account.rotate"
	OpKeysList      = "keys.list"
	OpKeysReseal    = "keys.reseal"

	OpOperatorKey       = "keys.operator"
	OpOperatorKeyImport = "keys.operator.import"
	OpOperatorKeyRemove = "keys.operator.remove"

	OpAccountExchange     = "account.exchange"
	OpAccountExchangeSet  = "account.exchange.set"
	OpAccountExportAdd    = "account.export.add"
	OpAccountExportRemove = "account.export.remove"
	OpAccountImportAdd    = "account.import.add"
	OpAccountImportRemove = "account.import.remove"
	OpAccountActivate     = "account.activate"
	OpAccountGraph        = "account.graph"

	OpMemberAdd    = "member.add"
	OpMemberInvite = "member.invite"
	OpMemberAccept = "member.accept"
	OpMemberRemove = "member.remove"
	OpMemberList   = "member.list"
)

// Error is the body of every answer that is not a success. Reason is stable, Message is
// for people, RequestID finds the entry in the service's log and audit trail.
type Error struct {
	Code      int    `json:"-"` // the HTTP status, also in the header Nats-Service-Error-Code
	Reason    string `json:"reason" enum:"reasons"`
	Message   string `json:"message"`
	RequestID string `json:"request_id,omitempty"`
	// RetryAfter is after how many seconds the same call may succeed; 0 when it will not.
	RetryAfter int `json:"retry_after,omitempty"`
}

// Error returns the message with its reason code.
func (e *Error) Error() string { return e.Message + " (" + e.Reason + ")" }

// The reason codes of operations; those of logins are listed by [Reasons].
const (
	ReasonBadRequest       = "bad_request"
	ReasonNotFound         = "not_found"
	ReasonUnauthenticated  = "unauthenticated"
	ReasonForbidden        = "forbidden"
	ReasonConflict         = "conflict"
	ReasonUnfinished       = "unfinished" // the call with that idempotency key was begun, and its answer is not known
	ReasonShownOnce        = "shown_once" // the call with that idempotency key was answered with a secret, which is kept nowhere
	ReasonUnavailable      = "unavailable"
	ReasonTooLarge         = "too_large"
	ReasonRateLimited      = "rate_limited"
	ReasonMethodNotAllowed = "method_not_allowed"
	ReasonOriginRefused    = "origin_refused" // a web page calls whose origin is not in http.origins
	// ReasonNotManaged says that the call needs a change of account claims, and that there is no operator signing key.
	ReasonNotManaged = "not_managed"
	// ReasonNotInConfigMode says that the call needs account claims, and that the servers have no operator.
	ReasonNotInConfigMode = "not_in_config_mode"
	ReasonKeyUntrusted    = "key_untrusted" // a server does not trust the operator signing key
	ReasonSealMissing     = "seal_missing"  // seeds that are made could not be kept: seal.key is not configured

	ReasonNameInvalid   = "name_invalid"
	ReasonNameReserved  = "name_reserved" // or an account of the configuration has it
	ReasonNameTaken     = "name_taken"
	ReasonPlanUnknown   = "plan_unknown" // or it is not offered to the caller
	ReasonQuotaExceeded = "quota_exceeded"
	ReasonKeyInvalid    = "key_invalid"  // not the public identity key of an account
	ReasonKeyTaken      = "key_taken"    // an account with that key is, or was
	ReasonChanged       = "changed"      // the account was changed since the caller has read it
	ReasonWrongState    = "wrong_state"  // the account is not in the state that the call needs
	ReasonHasData       = "has_data"     // the account has streams, and with_data is not set
	ReasonRoleUnknown   = "role_unknown" // the plan has no such role
	ReasonMembersFull   = "members_full" // the account has as many members as it may have
	// ReasonExchangeInvalid says that exports or imports would not do what they say.
	ReasonExchangeInvalid = "exchange_invalid"
	ReasonCutsImports     = "cuts_imports" // imports of other accounts would end, and cut is not set
	ReasonLastOwner       = "last_owner"   // the account would have no owner
	ReasonEmailUntrusted  = "email_untrusted"
	// ReasonInvitationInvalid says that there is no such account, or in it nothing that the caller could accept.
	ReasonInvitationInvalid = "invitation_invalid"
)
