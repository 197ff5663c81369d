package store_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/google/uuid"
	"pgregory.net/rapid"

	"github.com/gatehouse-nats/gatehouse/policy"
	"github.com/gatehouse-nats/gatehouse/store"
)

// ahead returns a block that the store does not have.
func ahead(subject string) policy.RevocationChange {
	return policy.RevocationChange{Revocation: policy.Revocation{
		ID: uuid.NewString(), Kind: policy.Block, At: time.Now(),
		Target: policy.Target{Principal: policy.Principal{Issuer: "https://login.example.com", Subject: subject}},
	}}
}

func after(p store.Position, n int64) store.Position {
	return store.Position{Epoch: p.Epoch, Seq: p.Seq + n}
}

// mirrorOf returns a mirror of the store that has read it once.
func mirrorOf(t *testing.T, s store.Store) *store.Mirror {
	t.Helper()
	m := store.NewMirror(s, store.MirrorOptions{Replica: "r1", Logger: quiet, Beat: time.Nanosecond, MaxStaleness: time.Hour})
	m.SetRules(&policy.Rules{})
	refresh(t, m)
	return m
}

func refresh(t *testing.T, m *store.Mirror) {
	t.Helper()
	if err := m.Refresh(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func lift(t *testing.T, s store.Store, id string) store.Revocation {
	t.Helper()
	r, err := s.Lift(t.Context(), store.Lift{ID: id, At: time.Now(), Actor: "root"})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestLearnAheadOfTheFeed(t *testing.T) {
	t.Parallel()
	s := openStore(t)
	m := mirrorOf(t, s)
	r := block(t, s, "alice")
	if blocked(m, "alice") {
		t.Fatal("the block was seen before it was learnt")
	}
	change := policy.RevocationChange{Revocation: r.Revocation}
	for range 2 { // told twice
		if !m.Learn(change, r.Position) || !blocked(m, "alice") {
			t.Fatal("what was learnt does not hold")
		}
	}
	if n := m.Snapshot().Revocations.Len(); n != 1 {
		t.Errorf("%d are in force", n)
	}
	refresh(t, m)
	if n := m.Snapshot().Revocations.Len(); n != 1 || !blocked(m, "alice") {
		t.Errorf("%d are in force after the feed came to it", n)
	}
	lift(t, s, r.ID)
	refresh(t, m)
	if blocked(m, "alice") {
		t.Error("the feed's lift does not hold")
	}
	if !m.Learn(change, r.Position) || blocked(m, "alice") {
		t.Error("what came late brought back what was lifted")
	}
}

func TestLearnSurvivesPolls(t *testing.T) {
	t.Parallel()
	s := openStore(t)
	m := mirrorOf(t, s)
	at := m.Applied()
	m.Learn(ahead("alice"), after(at, 2)) // the feed has something else before it
	for i := range 2 {
		refresh(t, m)
		if !blocked(m, "alice") {
			t.Fatalf("poll %d lost it", i)
		}
		block(t, s, fmt.Sprint("other ", i))
	}
	// The feed has come to its place, and has something else there: a failover lost it.
	refresh(t, m)
	if blocked(m, "alice") || !blocked(m, "other 0") || !blocked(m, "other 1") {
		t.Error("what the feed does not have at its place still holds")
	}
}

func TestLearnOfALift(t *testing.T) {
	t.Parallel()
	s := openStore(t)
	m := mirrorOf(t, s)
	r := block(t, s, "alice")
	lifted := lift(t, s, r.ID)
	// In either order, and before the feed has either.
	m.Learn(policy.RevocationChange{Revocation: r.Revocation, Lifted: true}, lifted.Position)
	m.Learn(policy.RevocationChange{Revocation: r.Revocation}, r.Position)
	if blocked(m, "alice") {
		t.Error("the earlier of two changes that came later holds")
	}
	refresh(t, m)
	if blocked(m, "alice") {
		t.Error("lifted, and blocked still")
	}
	again := block(t, s, "alice")
	refresh(t, m)
	other := store.Position{Epoch: "another", Seq: again.Position.Seq + 1}
	if m.Learn(policy.RevocationChange{Revocation: again.Revocation, Lifted: true}, other) || !blocked(m, "alice") {
		t.Error("a lift of another feed admits")
	}
}

func TestLearnBeforeTheFirstLoad(t *testing.T) {
	t.Parallel()
	s := openStore(t)
	at, err := s.Beat(t.Context(), store.Heartbeat{Replica: "other"})
	if err != nil {
		t.Fatal(err)
	}
	m := store.NewMirror(s, store.MirrorOptions{Replica: "r1", Logger: quiet})
	m.SetRules(&policy.Rules{})
	if m.Applied() != (store.Position{}) {
		t.Errorf("applied %v before anything was read", m.Applied())
	}
	if !m.Learn(ahead("alice"), after(at, 5)) || m.Snapshot() != nil {
		t.Error("it is not learnt, or there is a snapshot before the first load")
	}
	refresh(t, m)
	if !blocked(m, "alice") || m.Applied() != at {
		t.Errorf("blocked %t, applied %v, want %v", blocked(m, "alice"), m.Applied(), at)
	}
}

// TestLearnAndReload: what a reload does to changes that the store does not show.
func TestLearnAndReload(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		at    func(store.Position) store.Position
		lift  bool
		holds bool
	}{
		"a block that the position covers":  {func(p store.Position) store.Position { return p }, false, false},
		"a block ahead of it":               {func(p store.Position) store.Position { return after(p, 1) }, false, true},
		"a block of another feed":           {func(p store.Position) store.Position { return store.Position{Epoch: "another", Seq: 1 << 40} }, false, false},
		"a block without a place":           {func(store.Position) store.Position { return store.Position{} }, false, false},
		"a lift ahead of it, which is lost": {func(p store.Position) store.Position { return after(p, 1) }, true, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := openStore(t)
			m := mirrorOf(t, s)
			var change policy.RevocationChange
			if c.lift {
				change = policy.RevocationChange{Revocation: block(t, s, "alice").Revocation, Lifted: true}
			} else {
				block(t, s, "bob")
				change = ahead("alice")
			}
			refresh(t, m)
			at := m.Applied()
			// An outage, in which it is told.
			s.set(store.ErrUnavailable, store.ErrUnavailable)
			if c.lift {
				m.Learn(change, c.at(at))
			}
			_ = m.Refresh(t.Context())
			if m.Applied() != (store.Position{}) {
				t.Errorf("applied %v in an outage", m.Applied())
			}
			m.Learn(change, c.at(at))
			if blocked(m, "alice") == c.lift {
				t.Error("it does not hold in the outage")
			}
			s.set(nil, nil)
			refresh(t, m)
			if m.Applied() != at {
				t.Errorf("applied %v, want %v", m.Applied(), at)
			}
			if got := blocked(m, "alice") != c.lift; got != c.holds {
				t.Errorf("after the reload it holds: %t", got)
			}
		})
	}
}

func TestLearnIsBounded(t *testing.T) {
	t.Parallel()
	m := mirrorOf(t, openStore(t))
	taken := 0
	for i := 0; i < 20_000 && m.Learn(ahead(fmt.Sprint(i)), after(m.Applied(), 1)); i++ {
		taken++
	}
	if taken != 10_000 || blocked(m, fmt.Sprint(taken)) || !blocked(m, fmt.Sprint(taken-1)) {
		t.Errorf("%d were taken", taken)
	}
}

// TestBeatSaysWhatIsApplied: other replicas read in the store up to where this one decides by the feed.
func TestBeatSaysWhatIsApplied(t *testing.T) {
	t.Parallel()
	s := openStore(t)
	m := mirrorOf(t, s)
	r := block(t, s, "alice")
	refresh(t, m) // applies it, after its heartbeat
	refresh(t, m)
	list, err := s.Replicas(t.Context())
	if err != nil || len(list) != 1 || list[0].Applied != r.Position || list[0].MaxStaleness != time.Hour {
		t.Errorf("the store has %+v, %v; want %v", list, err, r.Position)
	}
}

// TestLearnInAnyOrder: whatever is told, in whatever order, late, twice or never, and however the feed is
// read in between: who is known to be blocked is denied, and in the end all is as the store has it.
func TestLearnInAnyOrder(t *testing.T) {
	t.Parallel()
	type told struct {
		change policy.RevocationChange
		at     store.Position
	}
	s, n := openStore(t), 0
	rapid.Check(t, func(rt *rapid.T) {
		m := store.NewMirror(s, store.MirrorOptions{Replica: "r1", Logger: quiet, Beat: time.Nanosecond})
		m.SetRules(&policy.Rules{})
		if err := m.Refresh(t.Context()); err != nil {
			rt.Fatal(err)
		}
		var made []store.Revocation // in force
		var all []told
		denied := map[string]bool{} // that the mirror must deny, by id
		read := true                // whether the mirror has read all that there is
		same := func() {
			var want, got []string
			for _, r := range made {
				want = append(want, r.ID)
			}
			for _, r := range m.Snapshot().Revocations.All(func(policy.Revocation) bool { return true }) {
				got = append(got, r.ID)
			}
			slices.Sort(want)
			slices.Sort(got)
			if !slices.Equal(got, want) {
				rt.Fatalf("it holds %v, and the store %v", got, want)
			}
		}
		for range rapid.IntRange(1, 40).Draw(rt, "steps") {
			switch rapid.IntRange(0, 4).Draw(rt, "what") {
			case 0:
				n++
				r := block(t, s, fmt.Sprint(n))
				made, read = append(made, r), false
				all = append(all, told{policy.RevocationChange{Revocation: r.Revocation}, r.Position})
			case 1:
				if len(made) == 0 {
					continue
				}
				i := rapid.IntRange(0, len(made)-1).Draw(rt, "lifted")
				r := lift(t, s, made[i].ID)
				made, read = slices.Delete(made, i, i+1), false
				delete(denied, r.ID)
				all = append(all, told{policy.RevocationChange{Revocation: r.Revocation, Lifted: true}, r.Position})
			case 2:
				if len(all) == 0 {
					continue
				}
				c := rapid.SampledFrom(all).Draw(rt, "told")
				took := m.Learn(c.change, c.at)
				still := slices.ContainsFunc(made, func(r store.Revocation) bool { return r.ID == c.change.Revocation.ID })
				if took && still && !c.change.Lifted {
					denied[c.change.Revocation.ID] = true
				}
			case 3:
				if err := m.Refresh(t.Context()); err != nil {
					rt.Fatal(err)
				}
				read = true
			case 4:
				read = false
				s.set(store.ErrUnavailable, store.ErrUnavailable)
				_ = m.Refresh(t.Context())
				s.set(nil, nil)
			}
			if read {
				same()
			}
			for _, r := range made {
				if denied[r.ID] && !blocked(m, r.Subject) {
					rt.Fatalf("%s was told to be blocked and is admitted", r.Subject)
				}
			}
		}
		if err := m.Refresh(t.Context()); err != nil {
			rt.Fatal(err)
		}
		same()
		for _, r := range made { // for the next
			lift(t, s, r.ID)
		}
	})
}
