package callout

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// named is a login that tests tell apart by its id.
func named(id, source string, arrived time.Time) *login {
	l := &login{id: id, arrived: arrived, deadline: arrived.Add(patience)}
	if source != "" {
		l.opened = true
		l.source = sourceOf(netip.MustParseAddr(source))
	}
	return l
}

func throttled(l *login) *login {
	l.throttled = true
	return l
}

// dropLog is what a queue under test has given up.
type dropLog struct{ entries []string }

func (d *dropLog) drop(l *login, why dropReason) {
	d.entries = append(d.entries, fmt.Sprintf("%s:%d", l.id, why))
}

func take(t *testing.T, q *queue, n int) []string {
	t.Helper()
	var ids []string
	for range n {
		ids = append(ids, q.next().id)
	}
	return ids
}

func TestQueueServesNewestFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := newQueue(time.Now, (&dropLog{}).drop)
		for i := range 3 {
			q.add(named(fmt.Sprint(i), "", time.Now()))
			time.Sleep(time.Millisecond)
		}
		if got, want := take(t, q, 3), []string{"2", "1", "0"}; !slices.Equal(got, want) {
			t.Errorf("served %v, want %v", got, want)
		}
	})
}

func TestQueueSharesBetweenSources(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := newQueue(time.Now, (&dropLog{}).drop)
		for i := range 5 {
			q.addOpened(named(fmt.Sprint("loud", i), "192.0.2.1", time.Now()))
		}
		q.addOpened(named("quiet", "192.0.2.2", time.Now()))
		q.addOpened(throttled(named("bad", "192.0.2.3", time.Now())))
		got := take(t, q, 7)
		if i := slices.Index(got, "quiet"); i > 1 {
			t.Errorf("the quiet source came as number %d of %v", i, got)
		}
		if got[6] != "bad" {
			t.Errorf("the throttled source did not come last: %v", got)
		}
	})
}

// A throttled source whose requests never end must not keep a quiet one waiting.
func TestQueueServesTheQuietDuringAThrottledFlood(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var d dropLog
		q := newQueue(time.Now, d.drop)
		q.addOpened(named("quiet", "192.0.2.2", time.Now()))
		for n := 0; ; n++ {
			q.add(named(fmt.Sprint("flood", n), "", time.Now())) // there is always one more to open
			l := q.next()
			if l.id == "quiet" {
				return
			}
			if n > openings {
				t.Fatalf("the quiet source waits behind %d of the flood; dropped: %v", n, d.entries)
			}
			q.addOpened(throttled(named(l.id, "192.0.2.1", l.arrived)))
		}
	})
}

func TestQueueDropsWhatNobodyWaitsFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var d dropLog
		q := newQueue(time.Now, d.drop)
		q.add(named("old", "", time.Now()))
		q.addOpened(named("opened", "192.0.2.1", time.Now()))
		q.addOpened(throttled(named("throttled", "192.0.2.1", time.Now())))
		time.Sleep(patience + time.Millisecond)
		q.add(named("new", "", time.Now()))
		if got := take(t, q, 1); got[0] != "new" {
			t.Errorf("served %v, want the new one", got)
		}
		slices.Sort(d.entries)
		if !slices.Equal(d.entries, []string{"old:0", "opened:0", "throttled:2"}) {
			t.Errorf("dropped %v", d.entries)
		}
	})
}

func TestQueueIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var d dropLog
		q := newQueue(time.Now, d.drop)
		for i := range maxRaw + 2 {
			q.add(named(fmt.Sprint(i), "", time.Now()))
		}
		if !slices.Equal(d.entries, []string{"0:1", "1:1"}) {
			t.Errorf("dropped %v, want the two oldest", d.entries)
		}
		if n, _ := q.depth(); n != maxRaw {
			t.Errorf("depth %d, want %d", n, maxRaw)
		}
		d.entries = nil
		for i := range maxOpened + 1 {
			q.addOpened(named(fmt.Sprint(i), "192.0.2.1", time.Now()))
		}
		if len(d.entries) != 1 {
			t.Errorf("dropped %v, want one", d.entries)
		}
	})
}

func TestQueueCloseWakesWorkers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := newQueue(time.Now, (&dropLog{}).drop)
		done := make(chan *login)
		go func() { done <- q.next() }()
		synctest.Wait()
		q.close()
		if l := <-done; l != nil {
			t.Errorf("a closed queue gave %v", l)
		}
	})
}

func TestThrottleCountsRefusalsOnly(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	th := newThrottle()
	bad, good := sourceOf(netip.MustParseAddr("192.0.2.1")), sourceOf(netip.MustParseAddr("192.0.2.2"))
	for range refusalBurst - 1 {
		th.refused(bad, now)
	}
	if th.spent(bad, now) {
		t.Error("spent before the burst was")
	}
	th.refused(bad, now)
	if !th.spent(bad, now) || th.spent(good, now) {
		t.Error("the source with the refusals must be spent, the other not")
	}
	if th.spent(bad, now.Add(time.Second)) {
		t.Error("a second did not earn anything back")
	}
}

func TestThrottleIsBounded(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	th := newThrottle()
	for i := range maxSources + 10 {
		th.refused(netip.PrefixFrom(netip.AddrFrom4([4]byte{byte(i >> 24), byte(i >> 16), byte(i >> 8), byte(i)}), 32), now)
	}
	if len(th.sources) > maxSources {
		t.Errorf("%d sources remembered", len(th.sources))
	}
}

func TestSourceOf(t *testing.T) {
	for addr, want := range map[string]string{
		"192.0.2.1": "192.0.2.1/32", "::ffff:192.0.2.1": "192.0.2.1/32",
		"2001:db8:1:2:3:4:5:6": "2001:db8:1:2::/64", "fe80::1%eth0": "fe80::/64",
	} {
		if got := sourceOf(netip.MustParseAddr(addr)).String(); got != want {
			t.Errorf("source of %s is %s, want %s", addr, got, want)
		}
	}
	if sourceOf(netip.Addr{}) != (netip.Prefix{}) {
		t.Error("an unknown address has a source")
	}
}
