package gatehouse

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

func TestSupply(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		var calls int
		var plan struct { // of the next call
			takes time.Duration
			fails bool
		}
		will := func(takes time.Duration, fails bool) {
			mu.Lock()
			defer mu.Unlock()
			plan.takes, plan.fails = takes, fails
		}
		s := &supply{life: t.Context(), source: TokenFunc(func(ctx context.Context) (string, error) {
			mu.Lock()
			calls++
			n, plan := calls, plan
			mu.Unlock()
			select {
			case <-time.After(plan.takes):
			case <-ctx.Done():
				return "", ctx.Err()
			}
			if plan.fails {
				return "", errors.New("down")
			}
			return fmt.Sprint("token-", n), nil
		})}
		take := func(want string) {
			t.Helper()
			ctx, cancel := context.WithTimeout(t.Context(), loginWait)
			defer cancel()
			got, err := s.take(ctx)
			if got != want || (want == "") != errors.Is(err, ErrNoToken) {
				t.Errorf("got %q, %v; want %q", got, err, want)
			}
		}

		take("token-1")
		take("token-2") // each is given out once

		will(4*time.Second, false)
		take("")        // not in time
		take("")        // the same call
		take("token-3") // it has ended by now

		will(2*time.Second, false)
		take("")
		time.Sleep(unclaimedFor + 2*time.Second)
		will(0, false)
		take("token-5") // the fourth has waited for too long

		will(2*time.Second, true)
		take("")
		time.Sleep(2 * time.Second)
		will(0, false)
		take("token-7") // a failure that nobody waited for is forgotten

		will(time.Hour, false)
		take("")
		start := time.Now()
		_, err := s.take(t.Context())
		if waited := time.Since(start); !errors.Is(err, context.DeadlineExceeded) || waited > sourceTimeout {
			t.Errorf("after %v: %v, want an end at %v", waited, err, sourceTimeout)
		}
	})
}
