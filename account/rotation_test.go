package account

import (
	"errors"
	"testing"
	"time"
)

var start = time.Date(2030, 5, 6, 7, 8, 9, 0, time.UTC)

func rotating() *Account {
	return &Account{
		State: Active, Revision: 3, Applied: 3, Keys: []SigningKey{{Public: "A1", Stage: Current, Since: start}},
	}
}

func stages(a *Account) (s string) {
	for _, k := range a.Keys {
		s += k.Public + " " + string(k.Stage) + ", "
	}
	return s
}

func TestRotation(t *testing.T) {
	t.Parallel()
	a := rotating()
	expect := func(when time.Time, turned bool, gone, want string) {
		t.Helper()
		a.Applied = a.Revision
		g, did := a.Turn(when, time.Hour)
		if did != turned || g != gone || stages(a) != want {
			t.Fatalf("turned %v, gone %q, keys %q; want %v, %q, %q", did, g, stages(a), turned, gone, want)
		}
		if did {
			a.Revision++
		}
	}
	expect(start.Add(time.Minute), false, "", "A1 current, ")
	now := start.Add(time.Hour)
	if err := a.AddKey("A2", now); err != nil {
		t.Fatal(err)
	}
	a.Revision++
	if _, turned := a.Turn(now, time.Hour); turned || a.Keys[0].Stage != Added {
		t.Fatal("a key signs that is not on every server")
	}
	if err := a.AddKey("A3", now); !errors.Is(err, ErrKeys) {
		t.Errorf("another one on top: %v", err)
	}
	expect(now, true, "", "A2 current, A1 leaving, ")
	if until := a.Keys[1].Until; !until.Equal(now.Add(time.Hour)) {
		t.Errorf("the old one leaves at %v", until)
	}
	if at, waits := a.TurnAt(); !waits || !at.Equal(now.Add(time.Hour)) {
		t.Errorf("the next step is at %v, %v", at, waits)
	}
	expect(now.Add(time.Hour-time.Second), false, "", "A2 current, A1 leaving, ")

	// Another rotation while the first one's key is leaving.
	if err := a.AddKey("A3", now); err != nil {
		t.Fatal(err)
	}
	a.Revision++
	expect(now.Add(10*time.Minute), true, "", "A3 current, A2 leaving, A1 leaving, ")
	expect(now.Add(time.Hour), true, "A1", "A3 current, A2 leaving, ")
	expect(now.Add(2*time.Hour), true, "A2", "A3 current, ")
	expect(now.Add(3*time.Hour), false, "", "A3 current, ")
}

func TestTurnWithoutServers(t *testing.T) {
	t.Parallel()
	// A key that waits for servers keeps no other from leaving.
	a := rotating()
	a.Keys = []SigningKey{{Public: "A3", Stage: Added}, {Public: "A2", Stage: Current}, {Public: "A1", Stage: Leaving, Until: start}}
	a.Revision++
	if gone, turned := a.Turn(start, time.Hour); !turned || gone != "A1" || stages(a) != "A3 added, A2 current, " {
		t.Errorf("%q, %v, %s", gone, turned, stages(a))
	}
	a.State = Deleted
	if _, waits := a.TurnAt(); waits {
		t.Error("a deleted account waits for something")
	}
}

func TestMostKeys(t *testing.T) {
	t.Parallel()
	a := rotating()
	for range MaxKeys - 1 {
		a.Keys = append(a.Keys, SigningKey{Public: "A", Stage: Leaving})
	}
	if err := a.AddKey("A2", start); !errors.Is(err, ErrKeys) {
		t.Errorf("key %d: %v", MaxKeys+1, err)
	}
}

func TestDropKeys(t *testing.T) {
	t.Parallel()
	a := rotating()
	a.Keys = append(a.Keys, SigningKey{Public: "A0", Stage: Leaving})
	if a.DropKeys([]string{"A0"}, "A2", start) || stages(a) != "A1 current, " {
		t.Errorf("one that is leaving: %s", stages(a))
	}
	if !a.DropKeys([]string{"A1"}, "A2", start) || stages(a) != "A2 current, " {
		t.Errorf("the current one: %s", stages(a))
	}
}

func TestSignedBy(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		stage  Stage
		issued time.Duration // after the stage began
		want   bool
	}{
		{Current, time.Second, true}, {Current, -time.Second, true}, {Current, -time.Hour, false},
		{Leaving, -time.Hour, true}, {Leaving, time.Second, true}, {Leaving, time.Hour, false}, {Added, 0, false},
	} {
		if got := (SigningKey{Stage: c.stage, Since: start}).SignedBy(start.Add(c.issued), time.Minute); got != c.want {
			t.Errorf("%s, issued %v after: %v", c.stage, c.issued, got)
		}
	}
}
