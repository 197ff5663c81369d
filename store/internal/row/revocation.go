package row

import (
	"crypto/sha256"
	"encoding/binary"
	"time"

	"github.com/gatehouse-nats/gatehouse/policy"
	"github.com/gatehouse-nats/gatehouse/store"
)

// RevocationColumns are the columns of a revocation, in the order of [RevocationTargets].
const RevocationColumns = `id, kind, issuer, subject, at, until, reason, actor, lifted_at, lifted_by, lift_note`

// RevocationTargets returns where a row is scanned to; at makes a target of a time.
func RevocationTargets(r *store.Revocation, at func(*time.Time) any) []any {
	return []any{
		(*Text)(&r.ID), (*string)(&r.Kind), (*Text)(&r.Issuer), (*Text)(&r.Subject), at(&r.At), at(&r.Until),
		(*Text)(&r.Reason), (*Text)(&r.Actor), at(&r.LiftedAt), (*Text)(&r.LiftedBy), (*Text)(&r.LiftNote),
	}
}

// Normal returns the revocation as it will be read back: not lifted, times as rows keep them.
func Normal(r store.Revocation) store.Revocation {
	r.At = Time(r.At)
	if !r.Until.IsZero() {
		r.Until = Time(r.Until)
	}
	return FirstAnswer(r)
}

// FirstAnswer returns the revocation as it was when it was made.
func FirstAnswer(r store.Revocation) store.Revocation {
	r.LiftedAt, r.LiftedBy, r.LiftNote = time.Time{}, "", ""
	return r
}

// RevocationCursor returns the place of a revocation in the list.
func RevocationCursor(r store.Revocation) Cursor { return Cursor{r.At, r.ID} }

// PrincipalHash returns the SHA-256 that stands for a principal in indexes, whose keys are bounded.
func PrincipalHash(p policy.Principal) []byte { return hash(p.Issuer, p.Subject) }

// KeyHash returns the SHA-256 that stands for an idempotency key of any length.
func KeyHash(key string) []byte { return hash(key) }

// CallHash returns the SHA-256 of what a call to revoke asks for. Its id and time are left out,
// since a client that repeats the call makes them anew.
func CallHash(r store.Revocation) []byte {
	until := ""
	if !r.Until.IsZero() {
		until = r.Until.UTC().Format(time.RFC3339Nano)
	}
	return hash("revoke", string(r.Kind), r.Issuer, r.Subject, until, r.Reason, r.Actor)
}

// hash is injective up to SHA-256: each part goes in with its length.
func hash(parts ...string) []byte {
	h := sha256.New()
	for _, p := range parts {
		h.Write(binary.BigEndian.AppendUint64(nil, uint64(len(p))))
		h.Write([]byte(p))
	}
	return h.Sum(nil)
}
