package row

import (
	"database/sql/driver"
	"encoding/json"
	"fmt"
	"time"

	"github.com/gatehouse-nats/gatehouse/policy"
	"github.com/gatehouse-nats/gatehouse/store"
)

// UserKeyColumns are the columns of a user key, in the order of [UserKeyTargets].
const UserKeyColumns = `key, account, account_id, issuer, subject, name, program, issued, expires, obtained`

// UserKeyTargets returns where a row is scanned to; at makes a target of a time.
func UserKeyTargets(k *store.UserKey, at func(*time.Time) any) []any {
	return []any{
		(*Text)(&k.Key), (*Text)(&k.Account), (*Text)(&k.AccountID), (*Text)(&k.Issuer), (*Text)(&k.Subject),
		(*Text)(&k.Name), (*Text)(&k.Program), at(&k.Issued), at(&k.Expires),
		(*SignUps)(&k.Obtained),
	}
}

// UserKeyValues returns the values to store, after them the id and the owner; at makes one of a time.
func UserKeyValues(k store.UserKey, at func(time.Time) any) []any {
	return []any{
		Text(k.Key), Text(k.Account), Text(k.AccountID), Text(k.Issuer), Text(k.Subject),
		Text(k.Name), Text(k.Program), at(k.Issued), at(k.Expires), SignUps(k.Obtained), UserKeyID(k), Owner(k),
	}
}

// SignUps are those by which a key's user JWTs were got, in a JSON column.
type SignUps []store.Obtained

// Value implements [driver.Valuer].
func (l SignUps) Value() (driver.Value, error) {
	if len(l) == 0 {
		return "[]", nil
	}
	data, err := json.Marshal(l)
	return string(data), err
}

// Scan implements [database/sql.Scanner].
func (l *SignUps) Scan(src any) error {
	*l = nil
	switch v := src.(type) {
	case string:
		return l.read([]byte(v))
	case []byte:
		return l.read(v)
	default:
		return fmt.Errorf("sign-ups of a user key are %T", src)
	}
}

func (l *SignUps) read(data []byte) error {
	if err := json.Unmarshal(data, (*[]store.Obtained)(l)); err != nil {
		return err
	}
	if len(*l) == 0 {
		*l = nil
	}
	return nil
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
