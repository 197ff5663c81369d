package gatehouse

import (
	"fmt"
	"math"
	"math/rand/v2"
	"net/url"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nats-io/nats.go"
	"pgregory.net/rapid"
)

func TestDelayBound(t *testing.T) {
	t.Parallel()
	for failures, want := range map[int]time.Duration{
		-1: 4 * time.Second, 0: 4 * time.Second, 1: 12 * time.Second,
		2: 30 * time.Second, 3: 30 * time.Second, math.MaxInt: 30 * time.Second,
	} {
		if got := delayBound(failures); got != want {
			t.Errorf("after %d failures: %v, want %v", failures, got, want)
		}
	}
}

func TestJitterIsAnyPartOfItsBound(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		failures := rapid.Int().Draw(t, "failures")
		share := rapid.Float64Range(0, 1).Draw(t, "share")
		random := func(n int64) int64 { return min(int64(share*float64(n)), n-1) }
		got, bound := jitter(failures, random), delayBound(failures)
		if got < 0 || got >= bound || bound > maxDelay || bound > delayBound(max(failures, failures+1)) {
			t.Fatalf("after %d failures: %v of %v", failures, got, bound)
		}
		if math.Abs(float64(got)-share*float64(bound)) > 1 {
			t.Fatalf("after %d failures: %v is not %v of %v", failures, got, share, bound)
		}
	})
}

// paced stands for nats.go's side of a pace: the pool of servers, and the INFO of the latest that was reached.
type paced struct {
	pace    *pace
	servers []nats.Server
	info    nats.ServerInfo
}

// newPaced returns one whose pauses are as long as they may be.
func newPaced(t testing.TB, servers int) *paced {
	p := &paced{pace: &pace{random: func(n int64) int64 { return n }}}
	for i := range servers {
		u, err := url.Parse(fmt.Sprintf("nats://server-%d:4222", i))
		if err != nil {
			t.Fatal(err)
		}
		p.servers = append(p.servers, nats.Server{URL: u})
	}
	return p
}

// outcome is what becomes of an attempt.
type outcome int

const (
	unreached outcome = iota
	failed            // a server was reached
	connected
)

// attempt asks the pace, waits as it says, and returns the pause with the server's number.
func (p *paced) attempt(what outcome) (time.Duration, int) {
	server, delay := p.pace.next(p.servers, p.info)
	time.Sleep(delay)
	for i := range p.servers {
		if &p.servers[i] != server {
			continue
		}
		server.Reconnects++
		if what != unreached {
			p.info.CID++
		}
		if what == connected {
			server.Reconnects = 0
		}
		return delay, i
	}
	return delay, -1
}

func TestPaceGrowsWithEachAttemptThatReachedAServer(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := newPaced(t, 3)
		for i, want := range []time.Duration{4, 12, 30, 30, 30} {
			got, server := p.attempt(failed)
			if got != want*time.Second || server != (i+1)%3 {
				t.Errorf("attempt %d: server %d after %v, want server %d after %vs", i, server, got, (i+1)%3, int(want))
			}
		}
	})
}

func TestPaceGrowsWithEachRoundOfServersThatAreNotThere(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := newPaced(t, 3)
		for i, want := range []time.Duration{4, 4, 4, 12, 12, 12, 30} {
			if got, _ := p.attempt(unreached); got != want*time.Second {
				t.Errorf("attempt %d after %v, want %vs", i, got, int(want))
			}
		}
		p.attempt(failed)
		if got, _ := p.attempt(unreached); got != maxDelay {
			t.Errorf("after one that reached a server: %v", got)
		}
	})
}

func TestPaceForgetsOnceAConnectionHasHeld(t *testing.T) {
	t.Parallel()
	for held, want := range map[time.Duration]time.Duration{
		0:           maxDelay,
		holdFor - 1: maxDelay,
		holdFor:     firstDelay,
		time.Hour:   firstDelay,
	} {
		synctest.Test(t, func(t *testing.T) {
			p := newPaced(t, 2)
			p.attempt(failed)
			p.attempt(failed)
			p.attempt(connected)
			time.Sleep(held)
			if got, _ := p.attempt(failed); got != want {
				t.Errorf("held for %v: the next pause is %v, want %v", held, got, want)
			}
		})
	}
}

// All clients lose their connection at once and nobody lets them in: there are fewer attempts the longer it lasts,
// they are spread, and no client ever pauses for longer than the cap.
func TestAttemptsOfManyClientsBecomeFewer(t *testing.T) {
	t.Parallel()
	const clients = 2000
	for _, servers := range []int{1, 3} {
		seconds := map[int]int{}
		for i := range clients {
			synctest.Test(t, func(t *testing.T) {
				random := rand.New(rand.NewPCG(uint64(i), uint64(servers)))
				p := newPaced(t, servers)
				p.pace.random = random.Int64N
				start := time.Now()
				for time.Since(start) < 5*time.Minute {
					if pause, _ := p.attempt(failed); pause > maxDelay {
						t.Fatalf("a pause of %v", pause)
					}
					seconds[int(time.Since(start)/time.Second)]++
				}
			})
		}
		perSecond := func(from, to int) (sum, most int) {
			for s := from; s < to; s++ {
				sum, most = sum+seconds[s], max(most, seconds[s])
			}
			return sum / (to - from), most
		}
		before := math.MaxInt
		for _, span := range [][2]int{{0, 2}, {2, 8}, {10, 60}} {
			mean, most := perSecond(span[0], span[1])
			t.Logf("%d servers, seconds %v: %d attempts a second, at most %d", servers, span, mean, most)
			if mean >= before {
				t.Errorf("%d servers: not fewer in seconds %v", servers, span)
			}
			before = mean
		}
		// Full jitter over the cap: each client tries 2/30 times a second, and no second is much above that.
		if mean, most := perSecond(120, 300); mean > clients/14 || most > clients/8 {
			t.Errorf("%d servers: %d attempts a second, at most %d", servers, mean, most)
		}
	}
}
