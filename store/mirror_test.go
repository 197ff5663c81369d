package store_test

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/uuid"
	"go.uber.org/goleak"

	"github.com/gatehouse-nats/gatehouse/policy"
	"github.com/gatehouse-nats/gatehouse/store"
	"github.com/gatehouse-nats/gatehouse/store/sqlite"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// faulty is the real store with faults put in.
type faulty struct {
	store.Store
	mu       sync.Mutex
	beat     error // answers of Beat
	beatAt   *store.Position
	read     error // answers of Load and Changes
	standby  *store.State
	loads    int
	unhinted bool
}

func (f *faulty) set(beat, read error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.beat, f.read = beat, read
}

// lag makes reads come from a standby that stays at this state; nil from the primary again.
func (f *faulty) lag(state *store.State) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.standby = state
}

func (f *faulty) Beat(ctx context.Context, h store.Heartbeat) (store.Position, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case f.beat != nil:
		return store.Position{}, f.beat
	case f.beatAt != nil:
		at := *f.beatAt
		f.beatAt = nil // once
		return at, nil
	}
	return f.Store.Beat(ctx, h)
}

func (f *faulty) Load(ctx context.Context) (store.State, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.loads++
	switch {
	case f.read != nil:
		return store.State{}, f.read
	case f.standby != nil:
		return *f.standby, nil
	}
	return f.Store.Load(ctx)
}

func (f *faulty) Changes(ctx context.Context, after store.Position, limit int) ([]store.Change, store.Position, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case f.read != nil:
		return nil, after, f.read
	case f.standby != nil && after.Seq > f.standby.Position.Seq:
		return nil, after, store.ErrLost
	case f.standby != nil:
		return nil, after, nil
	}
	return f.Store.Changes(ctx, after, limit)
}

func (f *faulty) Hints(ctx context.Context) <-chan struct{} {
	if f.unhinted {
		return nil
	}
	return f.Store.Hints(ctx)
}

func (f *faulty) loaded() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.loads
}

func openStore(t *testing.T) *faulty {
	t.Helper()
	return openAt(t, filepath.Join(t.TempDir(), "gatehouse.db"))
}

func openAt(t *testing.T, path string) *faulty {
	t.Helper()
	s, err := sqlite.Open(t.Context(), sqlite.Options{Path: path, Migrate: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return &faulty{Store: s, unhinted: true}
}

var quiet = slog.New(slog.NewTextHandler(io.Discard, nil))

const maxStaleness = time.Minute

// bubble runs a test of a mirror in a synctest bubble, in which time passes only when all wait.
func bubble(t *testing.T, o store.MirrorOptions, test func(*testing.T, *store.Mirror, *faulty)) {
	synctest.Test(t, func(t *testing.T) {
		s := openStore(t)
		o.Replica, o.MaxStaleness, o.Logger = "r1", maxStaleness, quiet
		m := store.NewMirror(s, o)
		m.SetRules(&policy.Rules{})
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- m.Run(ctx) }()
		test(t, m, s)
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
		_ = s.Close()
	})
}

func block(t *testing.T, s store.Store, subject string) store.Revocation {
	t.Helper()
	r, _, err := s.Revoke(t.Context(), store.Revocation{
		Revocation: policy.Revocation{
			ID: uuid.NewString(), Kind: policy.Block, At: time.Now(),
			Target: policy.Target{Principal: policy.Principal{Issuer: "https://login.example.com", Subject: subject}},
		},
		Actor: "root",
	}, "")
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func blocked(m *store.Mirror, subject string) bool {
	p := policy.Principal{Issuer: "https://login.example.com", Subject: subject}
	_, ok := m.Snapshot().Revocations.Blocked(&policy.Identity{IssuerURL: p.Issuer, Subject: p.Subject}, time.Now())
	return ok
}

// pass lets time pass, and whoever then has something to do come to rest.
func pass(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

func fresh(m *store.Mirror) bool { return !time.Now().After(m.Snapshot().FreshUntil) }

func TestMirrorFollowsTheStore(t *testing.T) {
	bubble(t, store.MirrorOptions{}, func(t *testing.T, m *store.Mirror, s *faulty) {
		pass(time.Second)
		r := block(t, s, "alice")
		if blocked(m, "alice") {
			t.Fatal("the snapshot changed before it was polled")
		}
		old := m.Snapshot()
		pass(store.DefaultPoll)
		if !blocked(m, "alice") {
			t.Error("a poll later the block is not there")
		}
		if old.Revocations.Len() != 0 {
			t.Error("an old snapshot changed")
		}
		if _, err := s.Lift(t.Context(), store.Lift{ID: r.ID, At: time.Now(), Actor: "root"}); err != nil {
			t.Fatal(err)
		}
		pass(store.DefaultPoll)
		if blocked(m, "alice") {
			t.Error("a poll after the lift the block is there")
		}
		if s.loaded() != 1 {
			t.Errorf("loaded %d times", s.loaded())
		}
	})
}

func TestMirrorNeedsRulesAndTheStore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := openStore(t)
		s.set(store.ErrUnavailable, nil)
		m := store.NewMirror(s, store.MirrorOptions{Replica: "r1", Logger: quiet})
		ready := func(want string) {
			t.Helper()
			if err := m.Ready(); err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("Ready() = %v, want %q", err, want)
			}
			if m.Snapshot() != nil {
				t.Error("there is a snapshot")
			}
		}
		ready("no rules")
		m.SetRules(&policy.Rules{})
		ready("not answered yet")
		if err := m.Refresh(t.Context()); !errors.Is(err, store.ErrUnavailable) {
			t.Errorf("Refresh: %v", err)
		}
		ready("never read")
		// A store that can only be read confirms nothing, not even at the start.
		s.set(store.ErrUnavailable, nil)
		_ = m.Refresh(t.Context())
		ready("never read")

		s.set(nil, nil)
		if err := m.Refresh(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := m.Ready(); err != nil || m.Snapshot() == nil {
			t.Errorf("Ready() = %v, snapshot %v", err, m.Snapshot())
		}
		rules := &policy.Rules{Version: "2"}
		m.SetRules(rules)
		if m.Snapshot().Rules != rules {
			t.Error("the snapshot has other rules")
		}
		_ = s.Close()
	})
}

func TestMirrorStalenessBound(t *testing.T) {
	down := errors.New("down")
	for name, c := range map[string]struct {
		fault func(*testing.T, *store.Mirror, *faulty)
		heal  func(*faulty)
	}{
		"unreachable": {
			func(_ *testing.T, _ *store.Mirror, s *faulty) { s.set(down, down) },
			func(s *faulty) { s.set(nil, nil) },
		},
		"a standby that is read-only": {
			func(_ *testing.T, _ *store.Mirror, s *faulty) { s.set(store.ErrUnavailable, nil) },
			func(s *faulty) { s.set(nil, nil) },
		},
		"reads from a standby that lags": {
			func(t *testing.T, _ *store.Mirror, s *faulty) {
				state, err := s.Load(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				s.lag(&state)
				block(t, s, "mallory") // which the standby does not show
			},
			func(s *faulty) { s.lag(nil) },
		},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, store.MirrorOptions{}, func(t *testing.T, m *store.Mirror, s *faulty) {
				block(t, s, "alice")
				pass(5 * time.Second)
				if !fresh(m) || m.Ready() != nil {
					t.Fatal("the snapshot is not fresh")
				}
				if m.Age() > store.DefaultBeat+store.DefaultPoll {
					t.Errorf("age %s", m.Age())
				}
				c.fault(t, m, s)
				pass(maxStaleness - store.DefaultBeat - store.DefaultPoll)
				if !fresh(m) {
					t.Errorf("stale already, at an age of %s", m.Age())
				}
				if !blocked(m, "alice") {
					t.Error("the last snapshot is gone")
				}
				pass(store.DefaultBeat + store.DefaultPoll + time.Nanosecond)
				if fresh(m) || m.Ready() == nil {
					t.Errorf("fresh still, at an age of %s", m.Age())
				}
				pass(10 * time.Minute)
				if fresh(m) || !blocked(m, "alice") {
					t.Error("it changed in the course of time")
				}
				c.heal(s)
				pass(5 * time.Second)
				if err := m.Ready(); err != nil || !fresh(m) {
					t.Errorf("it did not recover: %v", err)
				}
			})
		})
	}
}

// A read-only store still shows blocks, and they count.
func TestMirrorReadsWithoutConfirmation(t *testing.T) {
	bubble(t, store.MirrorOptions{}, func(t *testing.T, m *store.Mirror, s *faulty) {
		pass(time.Second)
		s.set(store.ErrUnavailable, nil)
		pass(10 * time.Second)
		block(t, s, "alice")
		pass(10 * time.Second)
		if !blocked(m, "alice") {
			t.Error("the block is not there")
		}
	})
}

// TestMirrorKeepsBlocksFromAStandby: reading an older state must not undo a block.
func TestMirrorKeepsBlocksFromAStandby(t *testing.T) {
	bubble(t, store.MirrorOptions{}, func(t *testing.T, m *store.Mirror, s *faulty) {
		older, err := s.Load(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		block(t, s, "alice")
		pass(5 * time.Second)
		s.lag(&older)
		for range 60 {
			pass(time.Second)
			if !blocked(m, "alice") {
				t.Fatal("the block was undone")
			}
		}
	})
}

func TestMirrorReloads(t *testing.T) {
	const reload = time.Minute
	for name, change := range map[string]func(*testing.T, *faulty){
		"after an outage": func(_ *testing.T, s *faulty) {
			s.set(nil, store.ErrUnavailable)
			pass(10 * time.Second)
			s.set(nil, nil)
		},
		"when its cursor is lost": func(t *testing.T, s *faulty) {
			block(t, s, "bob")
			if err := s.PruneFeed(t.Context(), time.Now().Add(time.Hour)); err != nil {
				t.Fatal(err)
			}
		},
		"when a heartbeat finds the feed behind it": func(t *testing.T, s *faulty) {
			state, err := s.Load(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			// By the time of the next read others have written as much again.
			s.mu.Lock()
			defer s.mu.Unlock()
			s.loads--
			s.beatAt = &store.Position{Epoch: state.Position.Epoch, Seq: state.Position.Seq - 1}
		},
		"in the course of time": func(*testing.T, *faulty) { pass(reload) },
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, store.MirrorOptions{Reload: reload}, func(t *testing.T, m *store.Mirror, s *faulty) {
				block(t, s, "alice")
				pass(time.Second)
				before := s.loaded()
				change(t, s)
				pass(5 * time.Second)
				if s.loaded() == before {
					t.Error("it did not reload")
				}
				block(t, s, "carol")
				pass(time.Second)
				if !blocked(m, "alice") || !blocked(m, "carol") || !fresh(m) {
					t.Errorf("alice %t, carol %t, fresh %t", blocked(m, "alice"), blocked(m, "carol"), fresh(m))
				}
			})
		})
	}
}

// TestMirrorOfARestoredStore: another feed takes the place of the one that the mirror follows.
func TestMirrorOfARestoredStore(t *testing.T) {
	for name, c := range map[string]struct {
		copied bool     // the other feed has the same epoch, as after a failover that lost the latest
		there  []string // who is blocked there
	}{
		"made anew":                  {false, []string{"dave"}},
		"made anew, as long":         {false, []string{"dave", "eve", "frank"}},
		"the same epoch, behind":     {true, []string{"dave"}},
		"the same epoch, none there": {true, nil},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				path, other := filepath.Join(t.TempDir(), "a.db"), filepath.Join(t.TempDir(), "b.db")
				if c.copied {
					if err := sqlite.Migrate(t.Context(), path); err != nil {
						t.Fatal(err)
					}
					content, err := os.ReadFile(path)
					if err != nil {
						t.Fatal(err)
					}
					if err := os.WriteFile(other, content, 0o600); err != nil {
						t.Fatal(err)
					}
				}
				s, restored := openAt(t, path), openAt(t, other)
				for _, subject := range []string{"alice", "bob", "carol"} {
					block(t, s, subject)
				}
				for _, subject := range c.there {
					block(t, restored, subject)
				}
				m := store.NewMirror(s, store.MirrorOptions{Replica: "r1", Logger: quiet})
				m.SetRules(&policy.Rules{})
				refresh := func() {
					t.Helper()
					time.Sleep(store.DefaultBeat)
					if err := m.Refresh(t.Context()); err != nil {
						t.Fatal(err)
					}
				}
				refresh()
				if !blocked(m, "alice") || blocked(m, "dave") {
					t.Fatal("the first load is wrong")
				}
				s.Store, restored.Store = restored.Store, s.Store
				refresh()
				if blocked(m, "alice") || m.Snapshot().Revocations.Len() != len(c.there) || !fresh(m) {
					t.Errorf("the mirror holds %d revocations of another feed", m.Snapshot().Revocations.Len())
				}
				_, _ = s.Close(), restored.Close()
			})
		})
	}
}

func TestMirrorHints(t *testing.T) {
	bubble(t, store.MirrorOptions{Poll: time.Hour, Beat: time.Hour}, func(t *testing.T, m *store.Mirror, s *faulty) {
		synctest.Wait()
		block(t, s, "alice")
		synctest.Wait()
		if blocked(m, "alice") {
			t.Fatal("without hints and polls the block is there")
		}
	})
	synctest.Test(t, func(t *testing.T) {
		s := openStore(t)
		s.unhinted = false
		m := store.NewMirror(s, store.MirrorOptions{Replica: "r1", Poll: time.Hour, Logger: quiet})
		m.SetRules(&policy.Rules{})
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- m.Run(ctx) }()
		for m.Snapshot() == nil {
			time.Sleep(time.Millisecond)
		}
		began := time.Now()
		block(t, s, "alice")
		for !blocked(m, "alice") && time.Since(began) < time.Minute {
			time.Sleep(time.Millisecond)
		}
		if took := time.Since(began); took > time.Second {
			t.Errorf("the hint took %s", took)
		}
		cancel()
		<-done
		_ = s.Close()
	})
}

func TestMirrorRefresh(t *testing.T) {
	s := openStore(t)
	m := store.NewMirror(s, store.MirrorOptions{Replica: "r1", Logger: quiet})
	m.SetRules(&policy.Rules{})
	var wg sync.WaitGroup
	for _, subject := range []string{"alice", "bob", "carol", "dave"} {
		wg.Go(func() {
			block(t, s, subject)
			if err := m.Refresh(t.Context()); err != nil {
				t.Error(err)
			}
			if !blocked(m, subject) {
				t.Errorf("after its refresh %s is not blocked", subject)
			}
		})
	}
	wg.Wait()
	loads := s.loaded()
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if err := m.Refresh(ended); err == nil {
		t.Error("a refresh without time succeeded")
	}
	if err := m.Refresh(t.Context()); err != nil || s.loaded() != loads {
		t.Errorf("a caller that gave up made it load again: %v", err)
	}
}

func TestMirrorReportsErrors(t *testing.T) {
	var seen []error
	s := openStore(t)
	m := store.NewMirror(s, store.MirrorOptions{Replica: "r1", Logger: quiet, OnError: func(err error) { seen = append(seen, err) }})
	s.set(store.ErrUnavailable, nil)
	for range 2 {
		_ = m.Refresh(t.Context())
	}
	s.set(nil, nil)
	if err := m.Refresh(t.Context()); err != nil {
		t.Fatal(err)
	}
	if len(seen) != 2 || !errors.Is(seen[0], store.ErrUnavailable) {
		t.Errorf("reported %v", seen)
	}
}
