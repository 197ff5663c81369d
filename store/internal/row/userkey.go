package row

import (
	"fmt"
	"time"

	"github.com/gatehouse-nats/gatehouse/policy"
	"github.com/gatehouse-nats/gatehouse/store"
)

// UserKeyColumns are the columns of a user key, in the order of [UserKeyTargets].
const UserKeyColumns = `key, account, account_id, issuer, subject, name, program, issued, expires`

// UserKeyTargets returns where a row is scanned to; at makes a target of a time.
func UserKeyTargets(k *store.UserKey, at func(*time.Time) any) []any {
	return []any{
		(*Text)(&k.Key), (*Text)(&k.Account), (*Text)(&k.AccountID), (*Text)(&k.Issuer), (*Text)(&k.Subject),
		(*Text)(&k.Name), (*Text)(&k.Program), at(&k.Issued), at(&k.Expires),
	}
}

// UserKeyValues returns the values to store, after them the id and the owner; at makes one of a time.
func UserKeyValues(k store.UserKey, at func(time.Time) any) []any {
	return []any{
		Text(k.Key), Text(k.Account), Text(k.AccountID), Text(k.Issuer), Text(k.Subject),
		Text(k.Name), Text(k.Program), at(k.Issued), at(k.Expires), UserKeyID(k), Owner(k),
	}
}

// UserKeyID returns the id of a key's row: one key may be of users of several accounts.
func UserKeyID(k store.UserKey) Text { return Text(k.Key + " " + k.AccountID) }

// Owner returns the hash of the identity whose key it is.
func Owner(k store.UserKey) []byte {
	return PrincipalHash(policy.Principal{Issuer: k.Issuer, Subject: k.Subject})
}

// UserKeyCursor returns the place of a user key in the list.
func UserKeyCursor(k store.UserKey) Cursor { return Cursor{k.Issued, escape(string(UserKeyID(k)))} }

// TooMany returns the error of an identity that has as many keys as it may.
func TooMany(k store.UserKey, most int) error {
	return fmt.Errorf("user keys of %q of %s in account %s: %w: %d", k.Subject, k.Issuer, k.AccountID, store.ErrTooMany, most)
}

// Taken returns the error of a key that is another identity's.
func Taken(k store.UserKey) error {
	return fmt.Errorf("user key %s in account %s: %w", k.Key, k.AccountID, store.ErrTaken)
}
