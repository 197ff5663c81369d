package replica

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"time"
)

// Who closes whose connections, and when.
func TestFrozen(t *testing.T) {
	t.Parallel()
	now := time.Now()
	kick := func(context.Context, string, uint64) error { return nil }
	ago := func(d time.Duration) time.Time { return now.Add(-d) }
	prompt := echo{began: ago(time.Hour), heard: ago(beatEvery), sent: map[uint64]time.Time{7: ago(beatEvery)}}
	there := []Connection{{"NA", 7}}
	peerAt := func(silent time.Duration) *peer {
		return &peer{last: beat{Connections: there}, heard: ago(silent)}
	}
	for name, c := range map[string]struct {
		self   string
		own    echo
		peers  map[string]*peer
		unable bool
		want   int
	}{
		"nobody is silent":                    {self: "a", own: prompt, peers: map[string]*peer{"b": peerAt(time.Second)}},
		"one is silent":                       {self: "a", own: prompt, peers: map[string]*peer{"b": peerAt(1300 * time.Millisecond)}, want: 1},
		"it was fenced before":                {self: "a", own: prompt, peers: map[string]*peer{"b": {last: beat{Connections: there}, heard: ago(time.Minute), fenced: true}}},
		"it was tried just now":               {self: "a", own: prompt, peers: map[string]*peer{"b": {last: beat{Connections: there}, heard: ago(time.Minute), tried: ago(time.Second)}}},
		"it was tried some time ago":          {self: "a", own: prompt, peers: map[string]*peer{"b": {last: beat{Connections: there}, heard: ago(time.Minute), tried: ago(tryAgain)}}, want: 1},
		"it has no connections":               {self: "a", own: prompt, peers: map[string]*peer{"b": {heard: ago(2 * time.Second)}}},
		"another one is first":                {self: "b", own: prompt, peers: map[string]*peer{"a": peerAt(0), "c": peerAt(1300 * time.Millisecond)}},
		"another one was first and did not":   {self: "b", own: prompt, peers: map[string]*peer{"a": peerAt(0), "c": peerAt(1800 * time.Millisecond)}, want: 1},
		"the silent one is none before me":    {self: "b", own: prompt, peers: map[string]*peer{"a": peerAt(1300 * time.Millisecond)}, want: 1},
		"two are silent":                      {self: "a", own: prompt, peers: map[string]*peer{"b": peerAt(2 * time.Second), "c": peerAt(3 * time.Second)}, want: 2},
		"it cannot close":                     {self: "a", own: prompt, peers: map[string]*peer{"b": peerAt(2 * time.Second)}, unable: true},
		"it does not hear itself":             {self: "a", own: echo{began: ago(time.Hour), heard: ago(2 * time.Second)}, peers: map[string]*peer{"b": peerAt(2 * time.Second)}},
		"it has never heard itself":           {self: "a", own: echo{began: ago(time.Hour)}, peers: map[string]*peer{"b": peerAt(2 * time.Second)}},
		"its last beat has not come back":     {self: "a", own: echo{began: ago(time.Hour), heard: ago(700 * time.Millisecond), sent: map[uint64]time.Time{9: ago(700 * time.Millisecond)}}, peers: map[string]*peer{"b": peerAt(2 * time.Second)}},
		"a beat came back late a moment ago":  {self: "a", own: echo{began: ago(time.Hour), heard: ago(beatEvery), late: ago(calm - time.Millisecond)}, peers: map[string]*peer{"b": peerAt(2 * time.Second)}},
		"a beat came back late some time ago": {self: "a", own: echo{began: ago(time.Hour), heard: ago(beatEvery), late: ago(calm + time.Millisecond)}, peers: map[string]*peer{"b": peerAt(2 * time.Second)}, want: 1},
	} {
		o := Options{Name: c.self, Kick: kick}
		if c.unable {
			o.Kick = nil
		}
		g := New(o)
		g.own, g.peers = c.own, c.peers
		if got := g.frozen(now); len(got) != c.want {
			t.Errorf("%s: %d are to be fenced, want %d", name, len(got), c.want)
		}
		if again := g.frozen(now); len(again) != 0 {
			t.Errorf("%s: %d are to be fenced again", name, len(again))
		}
	}
}

// A replica that was frozen itself hears itself again after a pause: it fences nobody for a while.
func TestPauseIsLate(t *testing.T) {
	t.Parallel()
	now := time.Now()
	e := echo{began: now.Add(-time.Hour), heard: now.Add(-10 * time.Second), sent: map[uint64]time.Time{5: now.Add(-10 * time.Millisecond)}}
	if !e.hear(5, now) {
		t.Error("a pause is not late")
	}
	if e.prompt(now) || e.prompt(now.Add(calm/2)) {
		t.Error("after a pause it would fence at once")
	}
	for n := uint64(6); n < 60; n++ {
		now = now.Add(beatEvery)
		e.sent[n] = now
		if e.hear(n, now.Add(time.Millisecond)) {
			t.Fatal("a beat that comes back in time is late")
		}
	}
	if !e.prompt(now) {
		t.Error("it never fences again")
	}
}

// A replica whose clock has jumped takes none of the others for frozen, whose beats it drops, and closes nobody's connections.
func TestWrongClockFencesNobody(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	var jump atomic.Int64
	var closed atomic.Int64
	wrong := b.join("r1", func(o *Options) {
		o.Now = func() time.Time { return time.Now().Add(time.Duration(jump.Load())) }
		o.Kick = func(context.Context, string, uint64) error { closed.Add(1); return nil }
	})
	b.join("r2", nil)
	eventually(t, func() error {
		if len(wrong.Peers()) == 0 {
			return errors.New("r2 is not heard")
		}
		return nil
	})
	jump.Store(int64(5 * time.Minute))
	// The own beats that were under way are dropped as well, so that it keeps calm at first.
	until := wrong.dropped.Load() + int64(2*(silence+calm)/beatEvery)
	eventually(t, func() error {
		if n := wrong.dropped.Load(); n < until {
			return fmt.Errorf("%d beats were dropped, of %d", n, until)
		}
		return nil
	})
	if n := closed.Load(); n != 0 {
		t.Errorf("%d connections of a healthy replica were closed", n)
	}
}

func TestHeard(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	one := b.join("r1", nil)
	if err := one.Heard(); err != nil {
		t.Error(err)
	}
	one.mu.Lock()
	one.own.began, one.own.heard = time.Now().Add(-time.Hour), time.Now().Add(-time.Minute)
	one.mu.Unlock()
	one.stop() // so that it does not hear itself again
	one.mu.Lock()
	one.own.heard = time.Now().Add(-time.Minute)
	one.mu.Unlock()
	if err := one.Heard(); !errors.Is(err, ErrUnheard) {
		t.Errorf("%v, want %v", err, ErrUnheard)
	}
}
