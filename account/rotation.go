package account

import (
	"errors"
	"fmt"
	"slices"
	"time"
)

// MaxKeys bounds the signing keys of an account, those that are leaving among them.
const MaxKeys = 8

// ErrKeys says that an account cannot be given another signing key now.
var ErrKeys = errors.New("no other signing key now")

// AddKey begins a rotation: the key is in the claims from now on, and signs once every server has it. An error that wraps
// [ErrKeys] while another one is on its way, or when there are [MaxKeys].
func (a *Account) AddKey(public string, now time.Time) error {
	if i := slices.IndexFunc(a.Keys, func(k SigningKey) bool { return k.Stage == Added }); i >= 0 {
		return fmt.Errorf("%w: %s was added, and is waited for until every server has it", ErrKeys, a.Keys[i].Public)
	}
	if len(a.Keys) >= MaxKeys {
		return fmt.Errorf("%w: there are %d, and those that are leaving go when the last credential of theirs has ended", ErrKeys, len(a.Keys))
	}
	a.Keys = append([]SigningKey{{Public: public, Stage: Added, Since: now}}, a.Keys...)
	return nil
}

// TurnAt returns when [Account.Turn] has something to do; false when nothing is waited for but the servers.
func (a *Account) TurnAt() (at time.Time, waits bool) {
	if !a.Lives() {
		return at, false
	}
	for _, k := range a.Keys {
		switch {
		case k.Stage == Added && a.Applied >= a.Revision:
			return time.Time{}, true
		case k.Stage == Leaving && (!waits || k.Until.Before(at)):
			at, waits = k.Until, true
		}
	}
	return at, waits
}

// Turn takes the rotation one step on, in a record that servers then have to apply: a key that every server has becomes
// current, and those before it leave once credentials of that life have ended; or one whose time is over is taken out, and is
// returned. False when there is nothing to do.
func (a *Account) Turn(now time.Time, life time.Duration) (gone string, turned bool) {
	if at, waits := a.TurnAt(); !waits || now.Before(at) {
		return "", false
	}
	i := slices.IndexFunc(a.Keys, func(k SigningKey) bool { return k.Stage == Added })
	if i < 0 || a.Applied < a.Revision {
		i = slices.IndexFunc(a.Keys, func(k SigningKey) bool { return k.Stage == Leaving && !now.Before(k.Until) })
		gone = a.Keys[i].Public
		a.Keys = slices.Delete(slices.Clone(a.Keys), i, i+1)
		return gone, true
	}
	a.Keys = slices.Clone(a.Keys)
	for j := range a.Keys {
		if a.Keys[j].Stage == Current {
			a.Keys[j].Stage, a.Keys[j].Since, a.Keys[j].Until = Leaving, now, now.Add(life)
		}
	}
	a.Keys[i].Stage, a.Keys[i].Since = Current, now
	return "", true
}

// DropKeys takes keys out at once. When no current one is left, public is current in their place.
func (a *Account) DropKeys(keys []string, public string, now time.Time) (added bool) {
	a.Keys = slices.DeleteFunc(slices.Clone(a.Keys), func(k SigningKey) bool { return slices.Contains(keys, k.Public) })
	if len(a.Current()) > 0 {
		return false
	}
	a.Keys = append([]SigningKey{{Public: public, Stage: Current, Since: now}}, a.Keys...)
	return true
}

// SignedBy reports whether a credential that was issued then may be the key's: it errs towards yes, by the leeway of clocks.
func (k SigningKey) SignedBy(issued time.Time, leeway time.Duration) bool {
	switch k.Stage {
	case Current:
		return !issued.Before(k.Since.Add(-leeway))
	case Leaving:
		return !issued.After(k.Since.Add(leeway))
	default:
		return false
	}
}
