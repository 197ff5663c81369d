package gatehouse

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"
)

// an issuer gives numbered tokens that are valid for a time, or fails.
type issuer struct {
	t     *testing.T
	valid time.Duration
	calls atomic.Int64
	fails atomic.Bool
	takes atomic.Int64 // nanoseconds of a call
	same  atomic.Bool  // the token before once more
	last  atomic.Value
}

func (i *issuer) Token(ctx context.Context) (string, error) {
	n := i.calls.Add(1)
	select {
	case <-time.After(time.Duration(i.takes.Load())):
	case <-ctx.Done():
		return "", ctx.Err()
	}
	if i.fails.Load() {
		return "", errors.New("issuer is down")
	}
	if i.same.Load() {
		return i.last.Load().(string), nil
	}
	token := expiring(i.t, int(n), time.Now().Add(i.valid))
	i.last.Store(token)
	return token, nil
}

// keeping runs a test of a supply in a bubble, with the last of each range as random number.
func keeping(t *testing.T, valid time.Duration, test func(t *testing.T, i *issuer, s *supply)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		life, end := context.WithCancel(t.Context())
		defer synctest.Wait()
		defer end()
		i := &issuer{t: t, valid: valid}
		test(t, i, &supply{source: i, life: life, random: func(n int64) int64 { return n - 1 }})
	})
}

// take returns what a login gets and how long it waited.
func take(t *testing.T, s *supply) (string, time.Duration) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), loginWait)
	defer cancel()
	start := time.Now()
	token, err := s.take(ctx)
	if err != nil && !errors.Is(err, ErrNoToken) {
		t.Errorf("got %v", err)
	}
	return token, time.Since(start)
}

func (i *issuer) asked(t *testing.T, want int64) {
	t.Helper()
	synctest.Wait()
	if got := i.calls.Load(); got != want {
		t.Errorf("the source was asked %d times, want %d", got, want)
	}
}

func TestSupplyAsksAheadOfTime(t *testing.T) {
	keeping(t, time.Hour, func(t *testing.T, i *issuer, s *supply) {
		first, _ := take(t, s)
		time.Sleep(53 * time.Minute)
		if again, _ := take(t, s); again != first {
			t.Error("a valid token was not used again")
		}
		i.asked(t, 1)
		time.Sleep(2 * time.Minute) // 90 % of an hour are over
		i.asked(t, 2)
		i.takes.Store(int64(time.Minute))
		if second, waited := take(t, s); second == first || waited != 0 {
			t.Errorf("the successor is not at hand: waited %v", waited)
		}
		i.asked(t, 2)
	})
}

func TestSupplyUsesAValidTokenWhileTheSourceFails(t *testing.T) {
	keeping(t, time.Hour, func(t *testing.T, i *issuer, s *supply) {
		first, _ := take(t, s)
		i.fails.Store(true)
		time.Sleep(59 * time.Minute)
		if calls := i.calls.Load(); calls < 3 || calls > 12 {
			t.Errorf("the source was asked %d times while it failed", calls)
		}
		if token, waited := take(t, s); token != first || waited != 0 {
			t.Errorf("a login waited %v", waited)
		}
		time.Sleep(55 * time.Second) // in its last moments it is asked for another, and still serves
		i.takes.Store(int64(time.Hour))
		if token, waited := take(t, s); token != first || waited != loginWait {
			t.Errorf("in the last moments: waited %v for %q", waited, token)
		}
		time.Sleep(time.Minute)
		if token, _ := take(t, s); token != "" {
			t.Error("an expired token was sent")
		}
		calls := i.calls.Load()
		time.Sleep(time.Hour)
		if i.calls.Load() > calls+1 {
			t.Error("a source that fails is asked though nobody logs in")
		}
	})
}

func TestSupplyGetsOverASourceThatKeepsTokens(t *testing.T) {
	keeping(t, time.Hour, func(t *testing.T, i *issuer, s *supply) {
		first, _ := take(t, s)
		i.same.Store(true)
		time.Sleep(time.Hour - 11*time.Second)
		i.same.Store(false) // as oauth2 does, ten seconds before the end
		time.Sleep(6 * time.Second)
		if calls := i.calls.Load(); calls > 20 {
			t.Errorf("asked %d times", calls)
		}
		if token, waited := take(t, s); token == first || waited != 0 {
			t.Errorf("waited %v", waited)
		}
	})
}

func TestSupplyDoesNotRepeatARefusedToken(t *testing.T) {
	keeping(t, time.Hour, func(t *testing.T, i *issuer, s *supply) {
		first, _ := take(t, s)
		s.doubt("another")
		if token, _ := take(t, s); token != first {
			t.Error("the refusal of another token counted")
		}
		s.doubt(first)
		i.fails.Store(true)
		if token, _ := take(t, s); token != first { // nothing better is there
			t.Error("a source that fails kept the valid token from being sent")
		}
		i.fails.Store(false)
		if token, _ := take(t, s); token == first || token == "" {
			t.Errorf("the refused token was sent again")
		}
		i.asked(t, 3)
	})
}

func TestSupplyAsksWhenLoginsFollowEachOther(t *testing.T) {
	keeping(t, time.Hour, func(t *testing.T, i *issuer, s *supply) {
		for range 2 {
			for range repeats {
				take(t, s)
			}
			i.asked(t, 1)
			time.Sleep(soon)
		}
		for range repeats + 1 {
			take(t, s)
		}
		i.asked(t, 2)
	})
}

func TestSupplyReadsAFileForEachLogin(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "token")
	s := &supply{source: TokenFile(path), life: t.Context()}
	write := func(token string) {
		t.Helper()
		must(t, os.WriteFile(path, []byte(token), 0o600))
	}
	first, second := expiring(t, 1, time.Now().Add(time.Hour)), Envelope(expiring(t, 2, time.Now().Add(time.Hour)), "APP")
	var got []string
	for _, token := range []string{first, second, ""} {
		write(token)
		token, err := s.take(t.Context())
		must(t, err)
		got = append(got, token)
	}
	if !slices.Equal(got, []string{first, second, second}) {
		t.Errorf("got %q", got)
	}
	if s.refresh != nil {
		t.Error("a file is read ahead of time")
	}
}

func TestKeepTakesOnlyWhatExpires(t *testing.T) {
	t.Parallel()
	now := time.Now()
	for name, tc := range map[string]struct {
		token string
		kept  bool
	}{
		"valid":          {expiring(t, 1, now.Add(time.Minute)), true},
		"envelope":       {Envelope(expiring(t, 1, now.Add(time.Minute)), "APP"), true},
		"expired":        {expiring(t, 1, now.Add(-time.Minute)), false},
		"without exp":    {idToken(t, "alice"), false},
		"opaque":         {"opaque", false},
		"empty":          {"", false},
		"exp of no use":  {unsigned(t, map[string]any{"exp": "soon"}), false},
		"exp far beyond": {unsigned(t, map[string]any{"exp": 1e300}), false},
		"garbled":        {`{"token":`, false},
	} {
		t.Run(name, func(t *testing.T) {
			k := keep(tc.token, now)
			if k.valid(now) != tc.kept || tc.kept && k.raw != tc.token {
				t.Errorf("kept %v", k.valid(now))
			}
		})
	}
}

func TestRefreshAfter(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		left := time.Duration(rapid.Int64Range(0, int64(1000*time.Hour)).Draw(t, "left"))
		fresh := rapid.Bool().Draw(t, "fresh")
		share := rapid.Float64Range(0, 1).Draw(t, "share")
		got := refreshAfter(left, fresh, func(n int64) int64 { return min(int64(share*float64(n)), n-1) })
		low, high := .2, .4
		if fresh {
			low, high = .7, .9
		}
		part := float64(got) / float64(left)
		if got < retryRefresh || got > retryRefresh && (part < low-.001 || part > high+.001) {
			t.Fatalf("%v of %v", got, left)
		}
	})
}

// However logins, failures and refusals follow each other, a login gets a token that has not expired, or none, and
// it gets one whenever a valid one was there; and the source is never called twice at the same time.
func TestSupplyLaw(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		steps := rapid.SliceOfN(rapid.IntRange(0, 5), 1, 60).Draw(rt, "steps")
		valid := time.Duration(rapid.Int64Range(5, 4000).Draw(rt, "valid")) * time.Second
		keeping(t, valid, func(t *testing.T, i *issuer, s *supply) {
			var until time.Time // of the latest token that was given
			for n, step := range steps {
				switch step {
				case 0:
					i.fails.Store(!i.fails.Load())
				case 1:
					time.Sleep(valid / 3)
				case 2:
					time.Sleep(time.Second)
				case 3:
					s.doubt(s.kept.token)
				default:
					token, _ := take(t, s)
					now := time.Now()
					var claims struct {
						Expires int64 `json:"exp"`
					}
					if token == "" {
						if now.Before(until) {
							rt.Fatalf("step %d: no token while one was valid until %v", n, until)
						}
						continue
					}
					must(t, payload(token, &claims))
					if until = time.Unix(claims.Expires, 0); !now.Before(until) {
						rt.Fatalf("step %d: an expired token", n)
					}
				}
				synctest.Wait()
			}
		})
	})
}
