package account

import "time"

// MaxLeaving bounds the members of an account who have left and whose connections are still looked for.
const MaxLeaving = 100

// Left is a member who was removed, or whose membership ends earlier now: what they have open by it must end.
type Left struct {
	ID      string    `json:"id"`
	Member  Member    `json:"member"`
	Until   time.Time `json:"until,omitzero"` // the earlier end; zero: removed
	At      time.Time `json:"at"`
	By      string    `json:"by,omitempty"`      // actor
	Request string    `json:"request,omitempty"` // id of the call
}

// Leave notes that a membership has ended, or ends earlier.
func (a *Account) Leave(l Left) {
	a.Leaving = append(a.Leaving[:len(a.Leaving):len(a.Leaving)], l)
	if more := len(a.Leaving) - MaxLeaving; more > 0 {
		a.Leaving = a.Leaving[more:]
	}
}

// LookAt returns when somebody who has left is to be looked for next, that long after they left; false when nobody is.
func (a *Account) LookAt(after time.Duration) (at time.Time, waits bool) {
	for _, l := range a.Leaving {
		if due := l.At.Add(after); !waits || due.Before(at) {
			at, waits = due, true
		}
	}
	return at, waits
}
