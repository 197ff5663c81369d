// Package store is the persistence contract, and the mirror that keeps the snapshot
// which decisions read current.
//
// There are two implementations, store/sqlite and store/postgres; the suite in
// store/storetest runs the same tests on both. Every mutation, its audit entry and its
// feed entry are one transaction.
package store

import (
	"context"
	"encoding/json"
	"errors"
	"time"

	"github.com/gatehouse-nats/gatehouse/account"
	"github.com/gatehouse-nats/gatehouse/policy"
)

// The conditions that callers tell apart; implementations wrap them.
var (
	// ErrNotFound says that what was asked for is not in the store.
	ErrNotFound = errors.New("not found")
	// ErrConflict says that an idempotency key was used before for a different call.
	ErrConflict = errors.New("idempotency key was used for another call")
	// ErrLost says that a cursor does not belong to the feed (another epoch, ahead of it,
	// or behind what it still holds): load the whole state again.
	ErrLost = errors.New("cursor is not of this feed")
	// ErrInUse says that another process serves from this store, which only one may.
	ErrInUse = errors.New("store is in use")
	// ErrSchema says that the store's schema is one that this release may not run on.
	ErrSchema = errors.New("schema is not one that this release can use")
	// ErrUnavailable says that the store cannot do it now: it does not answer, is read-only,
	// full or locked. The same call may succeed later.
	ErrUnavailable = errors.New("store is unavailable")
	// ErrCursor says that the cursor of a list was not one that the list gave.
	ErrCursor = errors.New("cursor of the list is not valid")
	// ErrTooMany says that somebody has as many of something as they may have.
	ErrTooMany = errors.New("there are as many as there may be")
	// ErrTooManyMade says that a binding has made as many accounts as it may.
	ErrTooManyMade = errors.New("the binding has made as many as it may")
	// ErrTaken says that what was to be recorded belongs to somebody else.
	ErrTaken = errors.New("it belongs to somebody else")
	// ErrChanged says that what was to be replaced is no longer what the caller has read.
	ErrChanged = errors.New("it was changed meanwhile")
	// ErrClosed says that the store was closed.
	ErrClosed = errors.New("store is closed")
)

// Store is the persistence contract. Methods are safe for concurrent use, honour their
// context, and return errors that wrap the sentinels of this package. Times are UTC and
// kept to the microsecond.
type Store interface {
	// Revoke stores a revocation, whose ID the caller makes (at most 128 bytes), with its audit
	// entry and its feed entry. With an idempotency key that was used for the same call (kind,
	// target, programs, end, reason, actor) it returns the first answer and changes nothing; with one
	// used for another call, [ErrConflict]. An empty key is none. One that has an equal (same kind,
	// target, programs and end) that is not lifted is answered by that, with existing true; but a
	// logout up to a point in time has no equal.
	Revoke(ctx context.Context, r Revocation, key string) (stored Revocation, existing bool, err error)
	// Lift ends the revocation with that id, with audit and feed entry. One that is lifted
	// already is returned unchanged; [ErrNotFound] when there is none.
	Lift(ctx context.Context, l Lift) (Revocation, error)
	// Revocations lists newest first, a page at a time; an empty next cursor means the end.
	Revocations(ctx context.Context, f RevocationFilter) (page []Revocation, next string, err error)
	// Unfinished returns revocations in force that are not carried out, newest first, at most limit.
	Unfinished(ctx context.Context, limit int) ([]Revocation, error)
	// SaveProgress keeps how far a revocation is carried out, and with done when that ended. One that
	// is lifted or carried out stays as it is; [ErrNotFound] when there is none.
	SaveProgress(ctx context.Context, id string, progress json.RawMessage, done bool) error

	// Record stores audit entries; those whose id is stored already are left as they are, so
	// that a batch can be sent again. Of logins it also keeps who they speak of.
	Record(ctx context.Context, entries []AuditEntry) error
	// Audit lists newest first, a page at a time; an empty next cursor means the end.
	Audit(ctx context.Context, f AuditFilter) (page []AuditEntry, next string, err error)
	// Arrivals lists in the order in which the store got the entries, oldest first, whatever their times: those
	// of a replica that could not reach it come late. Next is the cursor after the page, also when the page is
	// empty; more says that there may be others by now. So whoever goes on with next sees each entry once.
	Arrivals(ctx context.Context, f AuditFilter) (page []AuditEntry, next string, more bool, err error)
	// CopyCursor returns up to where the copy of the trail with that name goes, "" when there is none yet.
	CopyCursor(ctx context.Context, name string) (string, error)
	// SaveCopyCursor notes that all before the cursor is copied.
	SaveCopyCursor(ctx context.Context, name, cursor string) error
	// PruneAudit deletes at most limit entries of the kind from before the time and returns how many;
	// of logins also as many identities that were not seen since.
	PruneAudit(ctx context.Context, kind AuditKind, before time.Time, limit int) (int, error)
	// Logins returns the newest allowed login of each connection that has one, in no order; at most
	// [MaxPage] connections are asked for at a time.
	Logins(ctx context.Context, connections []ConnectionID) ([]AuditEntry, error)
	// Identities lists who has logged in, a page at a time, in an order that does not change; an
	// empty next cursor means the end.
	Identities(ctx context.Context, f IdentityFilter) (page []KnownIdentity, next string, err error)

	// Load returns all that decisions need, as of one position of the feed.
	Load(ctx context.Context) (State, error)
	// Changes returns what happened after the position, oldest first, at most limit, and the
	// position after the last of them; [ErrLost] when the position is not of this feed.
	Changes(ctx context.Context, after Position, limit int) ([]Change, Position, error)
	// Beat proves that the store takes writes: it advances the replica's heartbeat and returns
	// the feed's position at that moment.
	Beat(ctx context.Context, h Heartbeat) (Position, error)
	// Replicas lists the heartbeats by name, those of replicas that have long ended included until
	// they are pruned.
	Replicas(ctx context.Context) ([]Replica, error)
	// Leave forgets the heartbeat of a replica that decides no more.
	Leave(ctx context.Context, replica string) error
	// PruneFeed deletes feed entries, heartbeats, idempotency keys with their answers, leases and user keys that ended
	// before the time; a heartbeat only once its max_staleness has passed too.
	PruneFeed(ctx context.Context, before time.Time) error
	// Hints returns a channel that receives when there may be something new; it is a hint only,
	// polling is the guarantee. It is closed when ctx ends.
	Hints(ctx context.Context) <-chan struct{}

	// Acquire takes the lease of that name for the holder, or renews it, until ttl from now by the
	// database's clock. held is false while it is another's, and until is then when that one ends. The
	// holder counts ttl from before the call, by its own clock. Names have 1 to 256 bytes.
	Acquire(ctx context.Context, name, holder string, ttl time.Duration) (held bool, until time.Time, err error)
	// Release gives the lease up if it is the holder's.
	Release(ctx context.Context, name, holder string) error

	// AddUserKey keeps that an identity has a user JWT for a key; one that it has in the account already
	// is renewed, and keeps the later end. [ErrTooMany] when the identity has most other keys in the
	// account that have not expired and this is none of them, [ErrTaken] when the key is in use there by
	// another identity.
	AddUserKey(ctx context.Context, k UserKey, most int) error
	// UserKeys lists newest first, a page at a time; an empty next cursor means the end.
	UserKeys(ctx context.Context, f UserKeyFilter) (page []UserKey, next string, err error)

	// AccountClaims returns the claims of every account that has any, by account.
	AccountClaims(ctx context.Context) ([]AccountClaims, error)
	// SaveAccountClaims stores the claims, whose revision must be one more than that of what is stored
	// (1 when nothing is); otherwise [ErrChanged].
	SaveAccountClaims(ctx context.Context, c AccountClaims) error

	// SaveAccount stores a record with its audit entry, its feed entry, and the seeds and the revocations that change with it.
	// What [Store.MarkApplied] has noted since the record was read stays. [ErrChanged] when the record is not at the revision before, [ErrTaken] when another that is not
	// deleted has the name, or any ever had the id, [ErrTooMany] when the owner has as many as the plan lets,
	// [ErrTooManyMade] when the binding that makes it has made as many as it may.
	// A call that was made before with the same key changes nothing, and its answer is returned;
	// one for another call is [ErrConflict].
	SaveAccount(ctx context.Context, c AccountChange) (first json.RawMessage, err error)
	// Answer returns what the call with the key was answered, nil when there was none; [ErrConflict] when the
	// key was used for another call.
	Answer(ctx context.Context, key string, call []byte) (json.RawMessage, error)
	// Remember keeps what a call is answered, in the place of the answer before: nil when there is none yet. An answer of nil
	// forgets it. When there is another one, that is returned and nothing is changed; [ErrChanged] when there is none any more,
	// [ErrConflict] when the key was used for another call.
	Remember(ctx context.Context, o Once, before json.RawMessage) (first json.RawMessage, err error)
	// Accounts lists by name, a page at a time; an empty next cursor means the end.
	Accounts(ctx context.Context, f AccountFilter) (page []account.Account, next string, err error)
	// Settle forgets those with these ids who have left the account, which is no change of the record.
	Settle(ctx context.Context, account string, left []string) error
	// MarkApplied notes which revisions all servers have applied, and of the newest one the claims that were signed
	// last; an account that was being created is active, or published, from then on. Of what is gone or was noted to be newer
	// nothing is changed. At most [MaxPage] at a time.
	MarkApplied(ctx context.Context, applied []Applied) error
	// Serve keeps claims for servers that ask for them, unless those of a later revision are kept. At most [MaxPage] at a time. [ErrChanged]
	// when the holder has not the lease, by the store's clock: one that was frozen would put back what another has replaced.
	Serve(ctx context.Context, lease, holder string, claims []ServedClaims) error
	// Served returns the claims that a server which asks for the account is to have: of self-service accounts that servers should
	// hold those of [Store.Serve], of others the desired ones of [Store.AccountClaims]; "" when there are none.
	Served(ctx context.Context, account string) (token string, err error)
	// SealedKeys lists by public key, a page at a time; an empty next cursor means the end.
	SealedKeys(ctx context.Context, f SealedKeyFilter) (page []SealedKey, next string, err error)
	// Reseal puts the box of the key in place of the one before; [ErrChanged] when that is not the one stored.
	Reseal(ctx context.Context, k SealedKey, before []byte) error

	// SetOperatorKey keeps the sealed seed of an operator signing key in place of the one before, with its audit entry; nil keeps
	// none. [ErrNotFound] when there is none to give up.
	SetOperatorKey(ctx context.Context, k *SealedKey, e AuditEntry) error

	// Close releases everything; calls in flight fail, later ones return [ErrClosed].
	Close() error
}

// Position is a place in the feed. Epoch changes when the feed is made anew (a restore from
// a backup, a new database), so that a cursor from before is recognised.
type Position struct {
	Epoch string `json:"epoch"`
	Seq   int64  `json:"seq"`
}

// Change is one entry of the feed: a revocation or an account has changed.
type Change struct {
	Seq        int64
	Revocation policy.RevocationChange
	Account    *account.Account // as it is by now; nil when it is a revocation that has changed
}

// State is all that decisions need of the store, as of a position.
type State struct {
	Position    Position
	Revocations []policy.Revocation // in force: not lifted, not ended
	Accounts    []account.Account   // not deleted
}

// AuditKind tells logins from acts of admins.
type AuditKind = string

// The kinds of audit entries.
const (
	LoginEntry AuditKind = "login"
	AdminEntry AuditKind = "admin"
)

// AuditEntry is one login decision or one act of an admin.
type AuditEntry struct {
	ID      string    `json:"id"` // UUIDv7, made once where the entry is made
	At      time.Time `json:"at"`
	Kind    AuditKind `json:"kind"`
	Outcome string    `json:"outcome"` // allowed, refused, silent; of an admin: done
	Reason  string    `json:"reason"`  // reason code; of an admin: the reason given
	Detail  string    `json:"detail,omitempty"`

	Issuer  string            `json:"issuer,omitempty"` // exact iss
	Subject string            `json:"subject,omitempty"`
	Name    string            `json:"name,omitempty"` // principal name, which [policy.PrincipalName] makes of the subject
	Display map[string]string `json:"display,omitempty"`
	TokenID string            `json:"token_id,omitempty"`
	// SessionID is the sid of the token, and Issued its iat.
	SessionID string    `json:"session_id,omitempty"`
	Issued    time.Time `json:"issued,omitzero"`
	// Claims is the JSON object of the claims that the rules read, none when they are not recorded.
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
	Client     string `json:"client,omitempty"`
	Asked      string `json:"asked,omitempty"` // account that the client named

	Actor  string `json:"actor,omitempty"`
	Op     string `json:"op,omitempty"`
	Target string `json:"target,omitempty"`
	// Revision is which change of the account's record that is, and State what the account is since then.
	Revision int64  `json:"revision,omitempty"`
	State    string `json:"state,omitempty"`

	Replica string `json:"replica,omitempty"`
	Rules   string `json:"rules,omitempty"` // version of the rules that decided
	Count   int    `json:"count,omitempty"` // how many equal entries a sampled one stands for; 0 means 1
}

// AuditFilter chooses audit entries; zero fields do not filter.
type AuditFilter struct {
	ID        string
	Kind      AuditKind
	Outcome   string
	Reason    string
	Principal policy.Principal // issuer URL and subject, or either alone
	Name      string           // as in an entry
	Session   string           // sid of the token
	// Account and AccountID, its id, choose the entries of an account, and those whose target has either, as revocations and
	// kicks have it ("account A…").
	Account   string
	AccountID string
	Actor     string
	Op        string
	Display   string    // value of a display claim; this reads every entry of the time span
	Claims    bool      // only those with claims
	Since     time.Time // inclusive
	Before    time.Time // exclusive
	Tail      bool      // of arrivals without a cursor: from now on
	Limit     int
	Cursor    string
}
