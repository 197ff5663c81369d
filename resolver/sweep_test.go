package resolver

import (
	"testing"
	"time"
)

// When a server is asked again, by what it has shown.
func TestNextLook(t *testing.T) {
	t.Parallel()
	now := revokedAt
	soonOver, over := now.Add(time.Second), now.Add(-time.Minute)
	for name, c := range map[string]struct {
		found   found
		looks   int
		settled time.Time
		want    time.Duration // from now; less than 0: never
		left    int
		clean   bool
	}{
		"something closed":              {found{closed: 2}, 1, soonOver, secondLook, 0, false},
		"something could not be":        {found{closed: 1, failed: 1}, 1, soonOver, lookAgain, 1, false},
		"a record is on its way":        {found{waiting: 1, pending: true}, 1, soonOver, secondLook, 1, false},
		"claims are on their way":       {found{waiting: 3}, 1, soonOver, idleLook, 3, false},
		"records that cannot be read":   {found{unread: true}, 1, over, idleLook, 0, false},
		"nothing, for the first time":   {found{}, 0, soonOver, secondLook, 0, true},
		"nothing, replicas missing":     {found{}, 1, time.Time{}, idleLook, 0, true},
		"nothing, too early to count":   {found{}, 1, soonOver, time.Second, 0, true},
		"nothing, late enough":          {found{}, 1, over, -1, 0, true},
		"nothing, the only look counts": {found{}, 0, over, -1, 0, true},
	} {
		st := &standing{looks: c.looks, failed: 3, due: now}
		st.note(c.found, now, now, c.settled)
		never := st.due.IsZero()
		if never != (c.want < 0) || !never && st.due != now.Add(c.want) || st.left != c.left || st.clean.IsZero() == c.clean || st.failed != 0 {
			t.Errorf("%s: %+v, want the next look %s later", name, *st, c.want)
		}
	}
}

// Settling never puts off a look that is due before.
func TestSettleKeepsEarlierLooks(t *testing.T) {
	t.Parallel()
	now := revokedAt
	w := &sweep{servers: map[string]*standing{"new": {due: now}, "idle": {due: now.Add(time.Hour), clean: now}, "shown": {clean: now.Add(time.Minute)}}}
	w.settle(now.Add(time.Second))
	if st := w.servers["new"]; !st.due.Equal(now) {
		t.Errorf("the first look is put off to %s", st.due)
	}
	if st := w.servers["idle"]; !st.due.Equal(now.Add(time.Second)) {
		t.Errorf("the look that counts is due at %s", st.due)
	}
	if st := w.servers["shown"]; !st.due.IsZero() {
		t.Errorf("a server that has shown it is asked again at %s", st.due)
	}
}

func TestRetriesOfSilentServer(t *testing.T) {
	t.Parallel()
	st := &standing{}
	for i, want := range []time.Duration{lookAgain, 2 * lookAgain, 4 * lookAgain, 8 * lookAgain, 16 * lookAgain, mostLookAgain, mostLookAgain} {
		st.fail(revokedAt)
		if st.due != revokedAt.Add(want) {
			t.Errorf("try %d: again after %s, want %s", i, st.due.Sub(revokedAt), want)
		}
	}
	for range 100 {
		st.fail(revokedAt)
	}
	if st.due != revokedAt.Add(mostLookAgain) {
		t.Errorf("after many: %s", st.due.Sub(revokedAt))
	}
}

func TestOnGrid(t *testing.T) {
	t.Parallel()
	for at, want := range map[time.Duration]time.Duration{0: 0, 1: grid, grid - 1: grid, grid: grid, grid + 1: 2 * grid} {
		if got := onGrid(revokedAt.Add(at)); got != revokedAt.Add(want) {
			t.Errorf("%s: %s, want %s", at, got.Sub(revokedAt), want)
		}
	}
}
