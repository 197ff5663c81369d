package row

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/gatehouse-nats/gatehouse/policy"
	"github.com/gatehouse-nats/gatehouse/store"
)

// decided are the columns that decisions need, in the order of decidedTargets.
var decided = []string{"id", "kind", "issuer", "subject", "session_id", "token_id", "claim_match", "account", "key", "export", "at", "until", "programs"}

// Decided returns the columns of what decisions need of a revocation, in the table of that name.
func Decided(table string) string { return table + "." + strings.Join(decided, ", "+table+".") }

func decidedTargets(r *policy.Revocation, at func(*time.Time) any) []any {
	return []any{
		(*Text)(&r.ID), (*Text)(&r.Kind), (*Text)(&r.Issuer), (*Text)(&r.Subject), (*Text)(&r.Session), (*Text)(&r.Token), (*Text)(&r.Match),
		(*Text)(&r.Account), (*Text)(&r.Key), (*Text)(&r.Export), at(&r.At), at(&r.Until), (*flag)(&r.Programs),
	}
}

// flag reads a truth value; there is none where nothing was joined.
type flag bool

// Scan implements [sql.Scanner].
func (f *flag) Scan(src any) error {
	switch v := src.(type) {
	case nil:
		*f = false
	case bool:
		*f = flag(v)
	case int64:
		*f = v != 0
	default:
		return typeError("a truth value", src)
	}
	return nil
}

// The columns of a revocation, in the order of [RevocationTargets]: as it is now, and as it was when it
// was made.
var (
	RevocationColumns = strings.Join(decided, ", ") + `, reason, actor, lifted_at, lifted_by, lift_note,
		coalesce(lift_epoch, epoch), coalesce(lift_seq, seq), done_at, progress`
	FirstColumns = strings.Join(decided, ", ") + `, reason, actor, NULL, '', '', epoch, seq, NULL, ''`
)

// RevocationTargets returns where a row is scanned to; at makes a target of a time.
func RevocationTargets(r *store.Revocation, at func(*time.Time) any) []any {
	return append(decidedTargets(&r.Revocation, at),
		(*Text)(&r.Reason), (*Text)(&r.Actor), at(&r.LiftedAt), (*Text)(&r.LiftedBy), (*Text)(&r.LiftNote),
		&r.Position.Epoch, &r.Position.Seq, at(&r.DoneAt), (*object)(&r.Progress))
}

// InsertColumns are those that are set when a revocation is made, in the order of [InsertValues].
var InsertColumns = strings.Join(decided, ", ") + `, target, reason, actor`

// InsertValues returns the values to store; at makes one of a time.
func InsertValues(r store.Revocation, at func(time.Time) any) []any {
	return []any{
		Text(r.ID), string(r.Kind), Text(r.Issuer), Text(r.Subject), Text(r.Session), Text(r.Token), Text(r.Match),
		Text(r.Account), Text(r.Key), Text(r.Export), at(r.At), at(r.Until), r.Programs,
		TargetHash(r.Target), Text(r.Reason), Text(r.Actor),
	}
}

// BesideValues is [InsertValues] for a revocation that no other equals, whatever it concerns.
func BesideValues(r store.Revocation, at func(time.Time) any) []any {
	values := InsertValues(r, at)
	values[len(decided)] = hash(append(targetParts(r.Target), r.ID)...)
	return values
}

// EqualOnce is what the revocations meet of which there is one at a time for a target, kind and end; the
// predicate of the unique index.
const EqualOnce = `lifted_at IS NULL AND (kind <> 'logout' OR session_id <> '' OR token_id <> '')`

// Normal returns the revocation as it will be read back: not lifted nor carried out, times as rows keep
// them. Its error says that its kind and target do not go together.
func Normal(r store.Revocation) (store.Revocation, error) {
	if wrong := r.Legal(); wrong != "" {
		return r, fmt.Errorf("the revocation cannot be stored: %s", wrong)
	}
	n := store.Revocation{Revocation: r.Revocation, Reason: r.Reason, Actor: r.Actor}
	n.At = Time(r.At)
	if !r.Until.IsZero() {
		n.Until = Time(r.Until)
	}
	return n, nil
}

// Progress returns an error when the text is no progress that may be kept.
func Progress(p []byte) error {
	if len(p) > store.MaxProgress {
		return fmt.Errorf("the progress of a revocation has %d bytes, and %d are the most", len(p), store.MaxProgress)
	}
	if !json.Valid(p) {
		return errors.New("the progress of a revocation is no JSON")
	}
	return nil
}

// RevocationCursor returns the place of a revocation in the list.
func RevocationCursor(r store.Revocation) Cursor { return Cursor{r.At, r.ID} }

// PrincipalHash returns the SHA-256 that stands for a principal in indexes, whose keys are bounded.
func PrincipalHash(p policy.Principal) []byte { return hash(p.Issuer, p.Subject) }

// TargetHash returns the SHA-256 that stands for a target in indexes; that of an identity is its
// principal's, which the first release has stored.
func TargetHash(t policy.Target) []byte { return hash(targetParts(t)...) }

func targetParts(t policy.Target) []string {
	if t == (policy.Target{Principal: t.Principal}) {
		return []string{t.Issuer, t.Subject}
	}
	return []string{t.Issuer, t.Subject, t.Session, t.Token, t.Match, t.Account, t.Key, t.Export}
}

// KeyHash returns the SHA-256 that stands for an idempotency key of any length.
func KeyHash(key string) []byte { return hash(key) }

// CallHash returns the SHA-256 of what a call to revoke asks for. Its id and time are left out,
// since a client that repeats the call makes them anew.
func CallHash(r store.Revocation) []byte {
	until := ""
	if !r.Until.IsZero() {
		until = r.Until.UTC().Format(time.RFC3339Nano)
	}
	parts := append([]string{"revoke", string(r.Kind)}, targetParts(r.Target)...)
	parts = append(parts, until, r.Reason, r.Actor)
	if r.Programs {
		parts = append(parts, "programs")
	}
	return hash(parts...)
}

// hash is injective up to SHA-256: each part goes in with its length, and so lists of other lengths differ.
func hash(parts ...string) []byte {
	h := sha256.New()
	for _, p := range parts {
		h.Write(binary.BigEndian.AppendUint64(nil, uint64(len(p))))
		h.Write([]byte(p))
	}
	return h.Sum(nil)
}
