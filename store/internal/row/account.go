package row

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/gatehouse-nats/gatehouse/account"
	"github.com/gatehouse-nats/gatehouse/store"
)

// AccountColumns are the columns of an account, in the order of [AccountValues].
const AccountColumns = `id, name_key, owner, plan, state, revision, applied, record, maker`

// AccountValues returns the values of an account's columns.
func AccountValues(a account.Account) ([]any, error) {
	record, err := json.Marshal(a)
	if err != nil {
		return nil, err
	}
	return []any{
		Text(a.ID), Text(account.Key(a.Name)), PrincipalHash(a.Owner.Principal), Text(a.Plan), string(a.State), a.Revision, a.Applied, string(record), Text(Maker(a)),
	}, nil
}

// Maker returns the name of the binding whose login made the account; empty when none did.
func Maker(a account.Account) string {
	if a.Origin == nil {
		return ""
	}
	return a.Origin.Binding
}

// Record is the column that holds an account whole.
type Record struct{ Account *account.Account }

// Scan implements [database/sql.Scanner]; where nothing was joined there is no account.
func (r *Record) Scan(src any) error {
	var text []byte
	switch s := src.(type) {
	case nil:
		return nil
	case string:
		text = []byte(s)
	case []byte:
		text = s
	default:
		return typeError("record", src)
	}
	r.Account = new(account.Account)
	return json.Unmarshal(text, r.Account)
}

// Accounts returns the accounts of records.
func Accounts(records []Record) []account.Account {
	var list []account.Account
	for _, r := range records {
		if r.Account != nil {
			list = append(list, *r.Account)
		}
	}
	return list
}

// Apply notes in the record that all servers have applied the revision, in claims of that second, and reports whether
// that is new.
func Apply(a *account.Account, applied store.Applied, now time.Time) bool {
	state := account.Active
	if applied.Published {
		state = account.Published
	}
	newer := applied.Revision > a.Applied || applied.Revision == a.Applied && (applied.Issued > a.Issued || a.State.InUse() && a.State != state)
	if !a.Lives() || !newer || applied.Revision > a.Revision {
		return false
	}
	a.Applied, a.Updated = applied.Revision, Time(now)
	if applied.Issued >= a.Issued {
		a.Issued, a.Signer, a.Given = applied.Issued, applied.Signer, applied.Given
	}
	if a.State == account.Creating || a.State.InUse() {
		a.State = state
	}
	return true
}

// Keep leaves in a record that takes the place of another what was noted of that one since it was read: that servers have
// applied it changes no revision.
func Keep(a *account.Account, before *account.Account) {
	a.Imported = max(a.Imported, before.Imported)
	a.Applied = max(a.Applied, before.Applied)
	if before.Issued > a.Issued {
		a.Issued, a.Signer, a.Given = before.Issued, before.Signer, before.Given
	}
	if before.State.InUse() && (a.State == account.Creating || a.State.InUse()) {
		a.State = before.State
	}
}

// Served returns the query of [store.Store.Served], with the placeholder of the account's id.
func Served(id string) string {
	const lives = ` NOT IN ('requested', 'deleted')`
	return `SELECT s.token FROM served_claims s JOIN accounts a ON a.id = s.account WHERE s.account = ` + id + ` AND a.state` + lives + `
		UNION ALL SELECT c.desired FROM account_claims c LEFT JOIN accounts a ON a.id = c.account WHERE c.account = ` + id + ` AND (a.id IS NULL OR a.state` + lives + `)
		LIMIT 1`
}

// Others are the accounts that a change was checked against, and that must be as they were then.
type Others struct {
	change store.AccountChange
	want   map[string]int64 // revisions, by id
}

// OthersOf returns those of a change.
func OthersOf(c store.AccountChange) Others {
	o := Others{c, map[string]int64{}}
	for _, e := range c.Exporters {
		o.want[e.ID] = e.Revision
	}
	return o
}

// IDs returns which accounts are to be locked, in one order, so that two changes do not wait for each other.
func (o Others) IDs() []string {
	if len(o.want) == 0 && !o.change.Exports {
		return nil
	}
	return slices.Compact(slices.Sorted(slices.Values(append(slices.Collect(maps.Keys(o.want)), o.change.Account.ID))))
}

// Check returns the exporters as they are told of the change, given the accounts as they are; [store.ErrChanged] when one is not as it
// was, or another has come to import what is no longer exported.
func (o Others) Check(are []account.Account) (told []account.Account, err error) {
	for _, a := range are {
		if a.ID == o.change.Account.ID {
			if o.change.Exports && a.Imported != o.change.Account.Imported {
				return nil, AccountChanged(o.change.Account)
			}
			continue
		}
		if a.Revision != o.want[a.ID] {
			return nil, AccountChanged(a)
		}
		a.Imported++
		told = append(told, a)
	}
	if len(told) < len(o.want) {
		return nil, fmt.Errorf("an account that is imported from: %w: it is gone", store.ErrChanged)
	}
	return told, nil
}

// Settle takes those with these ids out of who has left, and reports whether there were any.
func Settle(a *account.Account, left []string) bool {
	n := len(a.Leaving)
	a.Leaving = slices.DeleteFunc(a.Leaving, func(l account.Left) bool { return slices.Contains(left, l.ID) })
	return len(a.Leaving) < n
}

// AccountCursor returns the place of an account in the list by name.
func AccountCursor(a account.Account) string { return account.Key(a.Name) + "\x00" + a.ID }

// NameCursor encodes the place in a list that goes by name and id; the place is the two with a NUL between.
func NameCursor(place string) string { return Cursor{ID: place}.String() }

// ParseNameCursor is the inverse of [NameCursor]; its error wraps [store.ErrCursor].
func ParseNameCursor(s string) (name, id string, err error) {
	c, err := ParseCursor(s)
	if err != nil {
		return "", "", err
	}
	name, id, _ = strings.Cut(c.ID, "\x00")
	return name, id, nil
}

// AnswerHash checks the hash of a call that may be sent again.
func AnswerHash(call []byte) error {
	if len(call) != sha256.Size {
		return fmt.Errorf("the hash of a call has %d bytes, want %d", len(call), sha256.Size)
	}
	return nil
}

// AccountTaken returns the error of a name or an id that cannot be had.
func AccountTaken(what, value string) error {
	return fmt.Errorf("account %s %q: %w", what, value, store.ErrTaken)
}

// AccountChanged returns the error of a record that is not at the revision before.
func AccountChanged(a account.Account) error {
	return fmt.Errorf("account %s at revision %d: %w: read it again", a.ID, a.Revision-1, store.ErrChanged)
}

// TooManyAccounts returns the error of an owner who has as many as the plan lets.
func TooManyAccounts(a account.Account, most int) error {
	return fmt.Errorf("accounts of plan %s of %q of %s: %w: %d", a.Plan, a.Owner.Subject, a.Owner.Issuer, store.ErrTooMany, most)
}

// TooManyMade returns the error of a binding that has made as many as it may.
func TooManyMade(a account.Account, most int) error {
	return fmt.Errorf("accounts that binding %s has made: %w: %d", Maker(a), store.ErrTooManyMade, most)
}

// NamePage cuts rows, of which one more than limit were read when there are so many, to a page of a list that
// goes by name, and returns the cursor of the next one, empty at the end.
func NamePage[T any](rows []T, limit int, place func(T) string) (page []T, next string) {
	if len(rows) <= limit {
		return rows, ""
	}
	return rows[:limit], NameCursor(place(rows[limit-1]))
}

// SealedKeyTargets returns where a sealed key is scanned to: public, account and box.
func SealedKeyTargets(k *store.SealedKey) []any {
	return []any{(*Text)(&k.Public), (*Text)(&k.Account), &k.Box}
}

// NoOperatorKey returns the error of an operator key that is to be given up and is not there.
func NoOperatorKey() error { return fmt.Errorf("operator key: %w", store.ErrNotFound) }

// BoxChanged returns the error of a key whose box is not the one before.
func BoxChanged(k store.SealedKey) error {
	return fmt.Errorf("sealed key %s: %w: read it again", k.Public, store.ErrChanged)
}
