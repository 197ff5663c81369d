package login

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gatehouse-nats/gatehouse"
)

// A login is a source of tokens for the client library.
var _ gatehouse.TokenSource = (*Client)(nil)

// rewrite changes the login that is kept.
func rewrite(t *testing.T, c *Client, change func(*kept)) kept {
	t.Helper()
	k, err := c.cache.read()
	must(t, err)
	change(&k)
	must(t, c.cache.write(k))
	return k
}

// endsIn makes the token that is kept end so soon.
func endsIn(d time.Duration) func(*kept) {
	return func(k *kept) {
		k.Expires = time.Now().Add(d)
		k.Obtained = k.Expires.Add(-time.Hour)
	}
}

func TestTokenIsRenewedInTime(t *testing.T) {
	i := startIssuer(t)
	for name, tc := range map[string]struct {
		ends    time.Duration
		renewed bool
	}{
		"long before":     {10 * time.Minute, false},
		"in good time":    {62 * time.Second, false},
		"within a minute": {58 * time.Second, true},
		"after the end":   {-24 * time.Hour, true},
	} {
		t.Run(name, func(t *testing.T) {
			c := i.loggedIn()
			old := rewrite(t, c, endsIn(tc.ends))
			before := i.renewed()
			token, err := c.Token(t.Context())
			must(t, err)
			if (token != old.IDToken) != tc.renewed || (i.renewed() != before) != tc.renewed {
				t.Errorf("renewed %v, want %v", token != old.IDToken, tc.renewed)
			}
			if again, err := c.Token(t.Context()); err != nil || again != token {
				t.Errorf("a second call gives another token, %v", err)
			}
		})
	}
}

func TestFreshness(t *testing.T) {
	start := time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)
	for _, tc := range []struct {
		life, age     time.Duration
		fresh, usable bool
	}{
		{time.Hour, 0, true, true},
		{time.Hour, 59*time.Minute - time.Second, true, true},
		{time.Hour, 59 * time.Minute, false, true},
		{time.Hour, time.Hour - 5*time.Second, false, false},
		{20 * time.Second, 14 * time.Second, true, true}, // a quarter of its life
		{20 * time.Second, 15 * time.Second, false, false},
		{0, 0, false, false},
	} {
		k := kept{Session: Session{Obtained: start, Expires: start.Add(tc.life)}}
		if now := start.Add(tc.age); k.fresh(now) != tc.fresh || k.usable(now) != tc.usable {
			t.Errorf("%v old of %v: fresh %v, usable %v", tc.age, tc.life, k.fresh(now), k.usable(now))
		}
	}
}

func TestTokenOfConcurrentProcessesIsRenewedOnce(t *testing.T) {
	i := startIssuer(t)
	c := i.loggedIn()
	old := rewrite(t, c, endsIn(time.Second))
	var wg sync.WaitGroup
	tokens := make([]string, 8)
	for n := range tokens {
		wg.Go(func() {
			token, err := i.clientIn(c.config.Dir).Token(t.Context()) // as another process would
			if err != nil {
				t.Error(err)
			}
			tokens[n] = token
		})
	}
	wg.Wait()
	for _, token := range tokens {
		if token != tokens[0] || token == old.IDToken {
			t.Error("they got different tokens")
		}
	}
	if i.renewed() != 1 {
		t.Errorf("%d renewals, want one: a refresh token is good for one use", i.renewed())
	}
}

func TestTokenWhenRenewalFails(t *testing.T) {
	for name, tc := range map[string]struct {
		behaviour behaviour
		want      string
		needed    bool // a new login
	}{
		"login ended":         {behaviour{tokenError: "invalid_grant"}, "the issuer has ended the login of alice", true},
		"another error":       {behaviour{tokenError: "server_error"}, "try again later", false},
		"no ID token":         {behaviour{noIDToken: true}, "returned no ID token", false},
		"somebody else":       {behaviour{claims: map[string]any{"sub": "u-2"}}, "somebody else", false},
		"keys not available":  {behaviour{jwksDown: true}, "its ID token", false},
		"discovery elsewhere": {behaviour{discovery: map[string]any{"issuer": "x"}}, "calls itself", false},
	} {
		t.Run(name, func(t *testing.T) {
			i := startIssuer(t)
			ending := func(d time.Duration) (*Client, kept) {
				i.behave(behaviour{})
				c := i.loggedIn()
				i.behave(tc.behaviour)
				return c, rewrite(t, c, endsIn(d))
			}
			c, k := ending(30 * time.Second)
			if token, err := c.Token(t.Context()); err != nil || token != k.IDToken {
				t.Errorf("a token that is still good is not given: %v", err)
			}
			c, k = ending(time.Second)
			token, err := c.Token(t.Context())
			if err == nil || token != "" || !strings.Contains(err.Error(), tc.want) || errors.Is(err, ErrLoginNeeded) != tc.needed {
				t.Errorf("got %v, want %q", err, tc.want)
			}
			if err != nil && (strings.Contains(err.Error(), k.RefreshToken) || strings.Contains(err.Error(), k.IDToken)) {
				t.Errorf("the error holds a token: %v", err)
			}
		})
	}
}

// An issuer that rotates refresh tokens has voided the former one, whatever else it got wrong.
func TestTokenKeepsTheNewRefreshToken(t *testing.T) {
	i := startIssuer(t)
	c := i.loggedIn()
	i.behave(behaviour{jwksDown: true})
	rewrite(t, c, endsIn(0))
	if _, err := c.Token(t.Context()); !errors.Is(err, ErrIssuer) {
		t.Fatalf("got %v", err)
	}
	i.behave(behaviour{})
	if _, err := c.Token(t.Context()); err != nil {
		t.Errorf("after the outage: %v", err)
	}
}

func TestTokenWithoutRefreshToken(t *testing.T) {
	i := startIssuer(t)
	i.behave(behaviour{noRefresh: true})
	c := i.loggedIn()
	if session, err := c.Session(); err != nil || session.Renewable {
		t.Errorf("%+v, %v", session, err)
	}
	rewrite(t, c, endsIn(0))
	if _, err := c.Token(t.Context()); !errors.Is(err, ErrLoginNeeded) || !strings.Contains(err.Error(), "no refresh token") {
		t.Errorf("got %v", err)
	}
}

func TestTokenOfADamagedLogin(t *testing.T) {
	i := startIssuer(t)
	c := i.loggedIn()
	right, err := os.ReadFile(c.cache.path)
	must(t, err)
	for name, tc := range map[string]struct {
		content string
		want    string
	}{
		"garbled":         {"{" + string(right[:100]), "does not hold the login"},
		"empty":           {"", "does not hold the login"},
		"null":            {"null", "does not hold the login"},
		"another issuer":  {strings.Replace(string(right), i.server.URL, "https://evil.example.com", 1), "does not hold the login"},
		"another release": {strings.Replace(string(right), `"version": 1`, `"version": 2`, 1), "another release"},
	} {
		t.Run(name, func(t *testing.T) {
			must(t, os.WriteFile(c.cache.path, []byte(tc.content), 0o600))
			if _, err := c.Token(t.Context()); !errors.Is(err, ErrLoginNeeded) || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("got %v, want %q", err, tc.want)
			}
		})
	}
	must(t, os.WriteFile(c.cache.path, right, 0o600))
	must(t, os.Chmod(c.cache.path, 0o644))
	if _, err := c.Token(t.Context()); err == nil || !strings.Contains(err.Error(), "chmod 600") {
		t.Errorf("readable by others: %v", err)
	}
	_, err = c.Login(t.Context(), newBrowser(t).prompt())
	must(t, err)
	if _, err := c.Token(t.Context()); err != nil {
		t.Errorf("after a new login: %v", err)
	}
}

func TestLockEndsWithItsContext(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock")
	unlock, err := lockFile(t.Context(), path)
	must(t, err)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if _, err := lockFile(ctx, path); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a second lock: %v", err)
	}
	unlock()
	unlock, err = lockFile(t.Context(), path)
	must(t, err)
	unlock()
}

func TestWriteToken(t *testing.T) {
	path := filepath.Join(t.TempDir(), "deep", "token")
	for account, want := range map[string]string{"": "a.b.c", "APP": `{"token":"a.b.c","account":"APP"}`} {
		must(t, kept{IDToken: "a.b.c"}.writeToken(path, account))
		got, err := os.ReadFile(path)
		must(t, err)
		if string(got) != want {
			t.Errorf("account %q: %q, want %q", account, got, want)
		}
	}
	info, err := os.Stat(path)
	must(t, err)
	if info.Mode() != 0o600 {
		t.Errorf("mode %v", info.Mode())
	}
	entries, err := os.ReadDir(filepath.Dir(path))
	if err != nil || len(entries) != 1 {
		t.Errorf("left beside it: %v, %v", entries, err)
	}
}

func TestWatch(t *testing.T) {
	i := startIssuer(t)
	signedIn := i.loggedIn()
	path := filepath.Join(t.TempDir(), "token")

	// In the bubble there is no network: renewals are made outside, by writing the login's file.
	synctest.Test(t, func(t *testing.T) {
		k, err := signedIn.cache.read()
		must(t, err)
		keep := func(token string, life time.Duration) {
			t.Helper()
			k.IDToken, k.RefreshToken = token, ""
			k.Obtained, k.Expires = time.Now(), time.Now().Add(life)
			must(t, signedIn.cache.write(k))
		}
		reports := make(chan error, 10)
		done := make(chan error, 1)
		watch := func() context.CancelFunc {
			ctx, cancel := context.WithCancel(t.Context())
			go func() { done <- signedIn.Watch(ctx, path, "APP", func(err error) { reports <- err }) }()
			return cancel
		}
		holds := func(token string) {
			t.Helper()
			if err := <-reports; err != nil {
				t.Errorf("reported %v", err)
			}
			got, err := os.ReadFile(path)
			must(t, err)
			if want := gatehouse.Envelope(token, "APP"); string(got) != want {
				t.Errorf("the file holds %q, want %q", got, want)
			}
		}

		keep("t.1.x", time.Hour)
		cancel := watch()
		holds("t.1.x")
		time.Sleep(5 * time.Minute)
		if len(reports) != 0 {
			t.Error("an unchanged token was written again")
		}
		keep("t.2.x", 10*time.Minute)
		start := time.Now()
		holds("t.2.x")
		if late := time.Since(start); late > watchEvery {
			t.Errorf("the new token was written after %v", late)
		}
		must(t, os.Chmod(signedIn.cache.path, 0o644)) // a failure that may pass
		if err := <-reports; err == nil || !strings.Contains(err.Error(), "chmod 600") {
			t.Errorf("reported %v", err)
		}
		must(t, os.Chmod(signedIn.cache.path, 0o600))
		if err := <-done; !errors.Is(err, ErrLoginNeeded) {
			t.Errorf("at the end of the login: %v", err)
		}

		keep("t.3.x", time.Hour)
		for len(reports) > 0 {
			<-reports
		}
		cancel()
		cancel = watch()
		holds("t.3.x")
		cancel()
		if err := <-done; err != nil {
			t.Errorf("stopped: %v", err)
		}
	})
}
