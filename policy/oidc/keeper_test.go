package oidc_test

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/gatehouse-nats/gatehouse/policy"
	"github.com/gatehouse-nats/gatehouse/policy/oidc"
)

// interval is the default time between two fetches with the most that jitter may add.
const interval = 10*time.Second + 10*time.Second/4

// inBubble runs a test on a clock of its own. The issuer there answers without network, and
// t.Context ends before the verifier is waited for.
func inBubble(t *testing.T, test func(t *testing.T, i *issuer)) {
	t.Helper()
	t.Parallel()
	rsaKey() // made outside: what a bubble makes for others must not belong to it
	ecKey()
	edKey()
	otherKey()
	synctest.Test(t, func(t *testing.T) { test(t, newIssuer()) })
}

// outlast is what becomes of a token once a fetch for its key was allowed, wherever in the
// pause between two fetches the first try falls.
func outlast(t *testing.T, v *oidc.Verifier, token string) policy.Reason {
	t.Helper()
	if got := wait(t, v, token); got != policy.KeysUnavailable {
		return got
	}
	time.Sleep(interval)
	return wait(t, v, token)
}

func TestRotation(t *testing.T) {
	inBubble(t, func(t *testing.T, i *issuer) {
		v := startLoaded(t, oidc.Config{}, i)
		fresh := sign(jose.EdDSA, "new", otherKey(), i.claims(nil))
		i.set(func() { i.keys = append(i.keys, public("new", otherKey())) })

		// A refusal would be final for a client whose issuer has just begun to use a key.
		if got := now(t, v, fresh); got != policy.KeysUnavailable {
			t.Errorf("right after a fetch: %s", got)
		}
		time.Sleep(interval)
		_, _, pending := v.Verify(fresh)
		if pending == nil {
			t.Fatal("a fetch is allowed again, and yet the token is not pending")
		}
		<-pending
		if got := now(t, v, fresh); got != policy.Allowed {
			t.Errorf("after the fetch: %s", got)
		}
		if got := i.fetched.Load(); got != 2 {
			t.Errorf("the JWKS was fetched %d times", got)
		}
	})
}

// Whoever floods random key ids must not have logins with a new key refused for good; a key
// that was asked for and is not there is refused.
func TestUnknownKeyIsRefusedOnlyOnceAskedFor(t *testing.T) {
	inBubble(t, func(t *testing.T, i *issuer) {
		v := startLoaded(t, oidc.Config{}, i)
		time.Sleep(interval)
		gone := sign(jose.EdDSA, "gone", otherKey(), i.claims(nil))
		if got := wait(t, v, gone); got != policy.KeyUnknown {
			t.Errorf("a key that was asked for: %s", got)
		}
		if got := now(t, v, sign(jose.EdDSA, "new", otherKey(), i.claims(nil))); got != policy.KeysUnavailable {
			t.Errorf("a key that was not asked for: %s", got)
		}
		time.Sleep(interval)
		if got := wait(t, v, gone); got != policy.KeyUnknown {
			t.Errorf("the next time: %s", got)
		}
	})
}

// An issuer that is pinned to nothing may begin another algorithm with a new key, and must not be locked out until its
// keys are due. One that is pinned, or a key that is known, is refused without asking.
func TestRotationToAnotherAlgorithm(t *testing.T) {
	inBubble(t, func(t *testing.T, i *issuer) {
		i.set(func() { i.algorithms = []string{"EdDSA", "RS256"} })
		v := startLoaded(t, oidc.Config{}, i)
		time.Sleep(interval)
		i.set(func() { i.keys, i.algorithms = []jose.JSONWebKey{public("new", ecKey())}, []string{"ES256"} })
		before := i.fetched.Load()
		for name, raw := range map[string]string{
			"known key": sign(jose.PS256, "rsa", rsaKey(), i.claims(nil)),
			"no kid":    sign(jose.ES256, "", ecKey(), i.claims(nil)),
			"symmetric": craft(`{"alg":"HS256","kid":"new"}`, `{"iss":"`+i.url+`"}`),
		} {
			if got := now(t, v, raw); got != policy.AlgorithmRefused || i.fetched.Load() != before {
				t.Errorf("%s: %s, %d fetches", name, got, i.fetched.Load()-before)
			}
		}
		raw := sign(jose.ES256, "new", ecKey(), i.claims(nil))
		if got := wait(t, v, raw); got != policy.Allowed {
			t.Errorf("the new key: %s", got)
		}
		if got := outlast(t, v, sign(jose.RS256, "rsa", rsaKey(), i.claims(nil))); got != policy.KeyUnknown {
			t.Errorf("the former key: %s", got)
		}

		pinned := i.config()
		pinned.Algorithms = []string{"RS256"}
		if err := v.SetIssuers([]oidc.Issuer{pinned}); err != nil {
			t.Fatal(err)
		}
		if got := now(t, v, sign(jose.ES256, "newer", ecKey(), i.claims(nil))); got != policy.AlgorithmRefused {
			t.Errorf("another algorithm of an issuer that is pinned: %s", got)
		}
	})
}

func TestKeyTakenBack(t *testing.T) {
	inBubble(t, func(t *testing.T, i *issuer) {
		v := startLoaded(t, oidc.Config{}, i)
		old := i.token(nil)
		i.set(func() { i.keys = i.keys[:2] })
		if got := now(t, v, old); got != policy.Allowed {
			t.Errorf("before the next fetch: %s", got)
		}
		time.Sleep(5*time.Minute + time.Second) // fetched anew, unasked
		if got := outlast(t, v, old); got != policy.KeyUnknown {
			t.Errorf("after the issuer took its key back: %s", got)
		}
	})
}

func TestAllKeysTakenBack(t *testing.T) {
	inBubble(t, func(t *testing.T, i *issuer) {
		v := startLoaded(t, oidc.Config{}, i)
		i.set(func() { i.keys = []jose.JSONWebKey{} })
		time.Sleep(5*time.Minute + time.Second)
		if got := wait(t, v, i.token(nil)); got != policy.KeysUnavailable {
			t.Errorf("an issuer without keys: %s", got)
		}
		if s := v.Status()[0]; s.Keys != 0 || !strings.Contains(s.LastError, "holds no key") {
			t.Errorf("status: %+v", s)
		}
	})
}

func TestRandomKidsFetchOncePerInterval(t *testing.T) {
	inBubble(t, func(t *testing.T, i *issuer) {
		v := startLoaded(t, oidc.Config{}, i)
		before := i.fetched.Load()
		const tokens, every = 10_000, 5 * time.Millisecond // 50 s in all
		answers := make(map[policy.Reason]int)
		payload := string(must(json.Marshal(i.claims(nil))))
		for n := range tokens {
			_, refusal, pending := v.Verify(craft(fmt.Sprintf(`{"alg":"EdDSA","kid":"random-%d"}`, n), payload))
			switch {
			case refusal != nil:
				answers[refusal.Reason]++
			case pending != nil:
				answers["pending"]++
			default:
				t.Fatal("accepted")
			}
			time.Sleep(every)
		}
		if fetches, most := i.fetched.Load()-before, int64(tokens*every/(10*time.Second)); fetches > most || fetches == 0 {
			t.Errorf("%d tokens in %s caused %d fetches, want 1 to %d", tokens, tokens*every, fetches, most)
		}
		if answers[policy.KeysUnavailable] < tokens-10 {
			t.Errorf("answers: %v", answers)
		}
		if got := now(t, v, i.token(nil)); got != policy.Allowed {
			t.Errorf("a known key: %s", got)
		}
	})
}

func TestRandomKidsAtOnceAreOneFetch(t *testing.T) {
	inBubble(t, func(t *testing.T, i *issuer) {
		v := startLoaded(t, oidc.Config{MaxParked: 100}, i)
		time.Sleep(interval)
		i.set(func() { i.delay = time.Second })
		before := i.fetched.Load()
		var pending, unavailable atomic.Int64
		var wg sync.WaitGroup
		payload := string(must(json.Marshal(i.claims(nil))))
		for n := range 1000 {
			wg.Go(func() {
				raw := craft(fmt.Sprintf(`{"alg":"EdDSA","kid":"random-%d"}`, n), payload)
				_, refusal, done := v.Verify(raw)
				switch {
				case done != nil:
					pending.Add(1)
					<-done
					if _, refusal, _ := v.Verify(raw); refusal == nil || refusal.Reason != policy.KeyUnknown {
						t.Errorf("after the fetch: %v", refusal)
					}
				case refusal != nil && refusal.Reason == policy.KeysUnavailable:
					unavailable.Add(1)
				default:
					t.Errorf("answered %v", refusal)
				}
			})
		}
		wg.Wait()
		if got := i.fetched.Load() - before; got != 1 {
			t.Errorf("%d fetches", got)
		}
		if pending.Load() != 100 || unavailable.Load() != 900 {
			t.Errorf("%d waited and %d were left unanswered, want 100 and 900", pending.Load(), unavailable.Load())
		}
	})
}

func TestBadSignaturesNeverFetch(t *testing.T) {
	inBubble(t, func(t *testing.T, i *issuer) {
		v := startLoaded(t, oidc.Config{}, i)
		time.Sleep(interval)
		before := i.fetched.Load()
		for range 100 {
			if got := now(t, v, sign(jose.EdDSA, "ed", otherKey(), i.claims(nil))); got != policy.SignatureInvalid {
				t.Fatalf("answered %s", got)
			}
		}
		synctest.Wait()
		if got := i.fetched.Load(); got != before {
			t.Errorf("%d fetches", got-before)
		}
	})
}

func TestKeysOutliveAnOutage(t *testing.T) {
	inBubble(t, func(t *testing.T, i *issuer) {
		v := startLoaded(t, oidc.Config{}, i)
		i.set(func() { i.down = true })
		time.Sleep(24 * time.Hour)
		if got := now(t, v, i.token(nil)); got != policy.Allowed {
			t.Errorf("a known key: %s", got)
		}
		unknown := sign(jose.EdDSA, "new", otherKey(), i.claims(nil))
		if got := wait(t, v, unknown); got != policy.KeysUnavailable {
			t.Errorf("a key that cannot be asked for: %s", got)
		}
		if s := v.Status()[0]; s.LastError == "" || s.Keys != 3 || time.Since(s.LastSuccess) < 23*time.Hour {
			t.Errorf("status: %+v", s)
		}
		// Growing pauses, of a minute at most.
		if tries := i.discovered.Load(); tries < 24*60-10 || tries > 24*60*5/4+10 {
			t.Errorf("%d tries in a day", tries)
		}
		i.set(func() { i.down, i.keys = false, append(i.keys, public("new", otherKey())) })
		time.Sleep(time.Minute * 5 / 4)
		if got := now(t, v, unknown); got != policy.Allowed {
			t.Errorf("after the outage: %s", got)
		}
		if s := v.Status()[0]; s.LastError != "" || s.Keys != 4 {
			t.Errorf("status: %+v", s)
		}
	})
}

func TestStartWhileDown(t *testing.T) {
	inBubble(t, func(t *testing.T, i *issuer) {
		i.down = true
		v := start(t, oidc.Config{}, i.config())
		if got := wait(t, v, i.token(nil)); got != policy.KeysUnavailable {
			t.Errorf("while down: %s", got)
		}
		if got := now(t, v, i.token(nil)); got != policy.KeysUnavailable {
			t.Errorf("and again at once: %s", got)
		}
		i.set(func() { i.down = false })
		time.Sleep(interval)
		if got := now(t, v, i.token(nil)); got != policy.Allowed {
			t.Errorf("loaded by itself: %s", got)
		}
	})
}

func TestLoginLoadsKeysBeforeTheNextTry(t *testing.T) {
	inBubble(t, func(t *testing.T, i *issuer) {
		i.down = true
		v := start(t, oidc.Config{}, i.config())
		betweenTries(v)
		i.set(func() { i.down = false })
		if got := wait(t, v, i.token(nil)); got != policy.Allowed {
			t.Errorf("answered %s", got)
		}
	})
}

// betweenTries sleeps until a verifier that cannot reach its issuer would fetch when asked,
// and not for some time unasked.
func betweenTries(v *oidc.Verifier) {
	time.Sleep(10 * time.Minute) // the pause has grown to a minute
	for time.Until(v.Status()[0].NextRefresh) < 30*time.Second {
		time.Sleep(time.Second)
	}
	time.Sleep(interval)
}

func TestSlowIssuerDelaysNobody(t *testing.T) {
	inBubble(t, func(t *testing.T, slow *issuer) {
		slow.url, slow.delay = "https://slow.test", 5*time.Second
		quick := newIssuer()
		config := slow.config()
		config.Name = "slow"
		v := start(t, oidc.Config{}, config, quick.config())
		began := time.Now()
		admit(t, v, quick.token(nil))
		_, _, pending := v.Verify(slow.token(nil))
		if took := time.Since(began); took != 0 {
			t.Errorf("the quick issuer's login and the slow one's first answer took %s", took)
		}
		if pending == nil {
			t.Fatal("the slow issuer's login does not wait for its keys")
		}
		admit(t, v, slow.token(nil))
		if took := time.Since(began); took != 10*time.Second {
			t.Errorf("two answers of 5 s took %s", took)
		}
		// Later fetches are no more in the way than the first.
		time.Sleep(interval)
		began = time.Now()
		unknown := sign(jose.EdDSA, "new", otherKey(), slow.claims(nil))
		if _, _, pending := v.Verify(unknown); pending == nil {
			t.Error("an unknown key does not have the keys fetched")
		}
		for name, raw := range map[string]string{"the same issuer's known key": slow.token(nil), "the other issuer": quick.token(nil)} {
			if got := now(t, v, raw); got != policy.Allowed {
				t.Errorf("%s: %s", name, got)
			}
		}
		if took := time.Since(began); took != 0 {
			t.Errorf("the logins took %s", took)
		}
	})
}

func TestFetchTimeout(t *testing.T) {
	inBubble(t, func(t *testing.T, i *issuer) {
		i.delay = time.Hour
		v := start(t, oidc.Config{FetchTimeout: 3 * time.Second}, i.config())
		began := time.Now()
		if got := wait(t, v, i.token(nil)); got != policy.KeysUnavailable {
			t.Errorf("answered %s", got)
		}
		if took := time.Since(began); took != 3*time.Second {
			t.Errorf("took %s", took)
		}
	})
}

func TestVerifyWaitEndsWithItsContext(t *testing.T) {
	inBubble(t, func(t *testing.T, i *issuer) {
		v, err := oidc.New(oidc.Config{}, []oidc.Issuer{i.config()}) // and nobody runs it
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, refusal := v.VerifyWait(ctx, i.token(nil)); refusal == nil || refusal.Reason != policy.KeysUnavailable {
			t.Errorf("answered %v", refusal)
		}
	})
}

func TestNobodyWaitsAfterTheEnd(t *testing.T) {
	inBubble(t, func(t *testing.T, i *issuer) {
		i.delay = time.Hour
		v, err := oidc.New(oidc.Config{}, []oidc.Issuer{i.config()})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, _, pending := v.Verify(i.token(nil))
		if err := v.Run(ctx); err != nil {
			t.Errorf("Run: %v", err)
		}
		<-pending
		if got := now(t, v, i.token(nil)); got != policy.KeysUnavailable {
			t.Errorf("after the end: %s", got)
		}
		if err := v.Run(t.Context()); err == nil {
			t.Error("Run ran a second time")
		}
	})
}

func TestSetIssuers(t *testing.T) {
	inBubble(t, func(t *testing.T, i *issuer) {
		v := startLoaded(t, oidc.Config{}, i)
		other := newIssuer()
		other.url = "https://other.test"
		added := other.config()
		added.Name = "other"

		if err := v.SetIssuers([]oidc.Issuer{i.config(), {Name: "bad"}}); err == nil {
			t.Fatal("an invalid issuer was accepted")
		}
		if got := len(v.Status()); got != 1 {
			t.Errorf("%d issuers after a refused change", got)
		}

		changed := i.config()
		changed.Audiences = []string{"mqtt"}
		changed.Algorithms = []string{"EdDSA"}
		i.set(func() { i.down = true }) // so that only kept keys can serve
		if err := v.SetIssuers([]oidc.Issuer{changed, added}); err != nil {
			t.Fatal(err)
		}
		if got := now(t, v, i.token(nil)); got != policy.AudienceRefused {
			t.Errorf("the audience of before: %s", got)
		}
		if got := now(t, v, i.token(map[string]any{"aud": "mqtt"})); got != policy.Allowed {
			t.Errorf("the new audience, with kept keys: %s", got)
		}
		if got := now(t, v, sign(jose.ES256, "ec", ecKey(), i.claims(nil))); got != policy.AlgorithmRefused {
			t.Errorf("an algorithm that is not pinned any more: %s", got)
		}
		admit(t, v, other.token(nil))
		var names []string
		for _, s := range v.Status() {
			names = append(names, s.Name)
		}
		if fmt.Sprint(names) != "[corp other]" {
			t.Errorf("status of %v", names)
		}

		if err := v.SetIssuers([]oidc.Issuer{added}); err != nil {
			t.Fatal(err)
		}
		if got := now(t, v, i.token(nil)); got != policy.IssuerUnknown {
			t.Errorf("an issuer that was removed: %s", got)
		}
		before := i.discovered.Load()
		time.Sleep(time.Hour)
		if got := i.discovered.Load(); got != before {
			t.Errorf("an issuer that was removed was fetched %d times", got-before)
		}
		if got := now(t, v, other.token(nil)); got != policy.Allowed {
			t.Errorf("the issuer that stayed: %s", got)
		}
	})
}

func TestNewClientIsTriedAtOnce(t *testing.T) {
	inBubble(t, func(t *testing.T, i *issuer) {
		broken := i.config()
		broken.Client = &http.Client{Transport: &issuer{down: true}}
		v := start(t, oidc.Config{}, broken)
		betweenTries(v)
		if err := v.SetIssuers([]oidc.Issuer{i.config()}); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if got := now(t, v, i.token(nil)); got != policy.Allowed {
			t.Errorf("answered %s", got)
		}
	})
}

func TestObserveAndStatus(t *testing.T) {
	inBubble(t, func(t *testing.T, i *issuer) {
		i.delay = time.Second
		var fetches []oidc.Fetch
		v := start(t, oidc.Config{Observe: func(f oidc.Fetch) { fetches = append(fetches, f) }}, i.config())
		if s := v.Status()[0]; s.Keys != 0 || !s.LastSuccess.IsZero() || s.LastError != "" {
			t.Errorf("before the first fetch: %+v", s)
		}
		admit(t, v, i.token(nil))
		synctest.Wait()
		loaded := time.Now()
		if s := v.Status()[0]; s.Name != "corp" || s.URL != i.url || s.Keys != 3 || !s.LastSuccess.Equal(loaded) ||
			s.NextRefresh.Sub(loaded) > 5*time.Minute || s.NextRefresh.Sub(loaded) < 4*time.Minute {
			t.Errorf("after it: %+v", s)
		}
		i.set(func() { i.down = true })
		time.Sleep(5*time.Minute + 2*time.Second)
		synctest.Wait()
		if len(fetches) < 2 {
			t.Fatalf("fetches: %+v", fetches)
		}
		if f := fetches[0]; f.Issuer != "corp" || f.Err != nil || f.Took != 2*time.Second {
			t.Errorf("the first: %+v", f)
		}
		if f := fetches[1]; f.Err == nil {
			t.Errorf("the second: %+v", f)
		}
	})
}

func TestLog(t *testing.T) {
	inBubble(t, func(t *testing.T, i *issuer) {
		secret := jose.JSONWebKey{Key: ed25519.NewKeyFromSeed(bytes.Repeat([]byte{7}, 32)), KeyID: "leaked"}
		i.keys = append(i.keys, secret)
		var log bytes.Buffer
		v := startLoaded(t, oidc.Config{Logger: slog.New(slog.NewTextHandler(&log, nil))}, i)
		// logged returns what is logged within some time.
		logged := func(d time.Duration) string {
			time.Sleep(d)
			synctest.Wait()
			defer log.Reset()
			if strings.Contains(log.String(), "BwcHBwcH") {
				t.Errorf("the log holds a secret key:\n%s", &log)
			}
			return log.String()
		}
		if got := logged(time.Hour); strings.Count(got, "leaked") != 1 || strings.Count(got, "loaded the issuer's keys") != 1 {
			t.Errorf("the keys and the one that cannot be used are not told of once:\n%s", got)
		}
		i.set(func() { i.down = true })
		if got := logged(10 * time.Minute); !strings.Contains(got, "answered 503") {
			t.Errorf("the outage is not told of:\n%s", got)
		}
		i.set(func() { i.down = false })
		if got := logged(time.Hour); strings.Count(got, "loaded the issuer's keys") != 1 {
			t.Errorf("the end of the outage is not told of once:\n%s", got)
		}
		if got := outlast(t, v, sign(jose.EdDSA, "leaked", secret.Key, i.claims(nil))); got != policy.KeyUnknown {
			t.Errorf("signed with the leaked key: %s", got)
		}
	})
}
