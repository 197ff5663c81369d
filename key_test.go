package gatehouse

import (
	"encoding/base64"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"
)

// seedFile writes the seed of a key as gatehouse login does, and returns the file.
func seedFile(t *testing.T, key nkeys.KeyPair) string {
	t.Helper()
	seed, err := key.Seed()
	must(t, err)
	file := filepath.Join(t.TempDir(), "key")
	must(t, os.WriteFile(file, append(seed, '\n'), 0o600))
	return file
}

// proofs returns the logins so far with the nonce that each signed.
func (s *testSystem) proofs() (logins []jwt.ConnectOptions, nonces []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append(logins, s.logins...), append(nonces, s.nonces...)
}

func TestConnectSignsWithTheKeyAtEachLogin(t *testing.T) {
	t.Parallel()
	key := newKey(t, nkeys.CreateUser)
	for name, tc := range map[string]struct {
		defaultSentinel bool
		opts            func(*testSystem) []Option
	}{
		"default sentinel":       {true, func(*testSystem) []Option { return []Option{WithKey(key)} }},
		"default sentinel, file": {true, func(*testSystem) []Option { return []Option{WithKeyFile(seedFile(t, key))} }},
		"bearer sentinel":        {false, func(s *testSystem) []Option { return []Option{WithKey(key), WithSentinel([]byte(s.sentinel))} }},
		"bearer sentinel, file": {false, func(s *testSystem) []Option {
			return []Option{WithSentinel([]byte(s.sentinel)), WithKeyFile(seedFile(t, key))}
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := startSystem(t, systemOptions{defaultSentinel: tc.defaultSentinel})
			restored, again := reconnected()
			nc := s.mustConnect(StaticToken("token"), append(tc.opts(s), restored)...)
			s.kick(nc)
			receive(t, "the connection is restored", again)
			logins, nonces := s.proofs()
			if len(logins) != 2 || len(nonces) != 2 || nonces[0] == nonces[1] {
				t.Fatalf("%d logins with the nonces %q, want two different ones", len(logins), nonces)
			}
			for i, l := range logins {
				signature, err := base64.RawURLEncoding.DecodeString(l.SignedNonce)
				must(t, err)
				if err := key.Verify([]byte(nonces[i]), signature); err != nil || l.Token != "token" {
					t.Errorf("login %d with token %q: %v", i+1, l.Token, err)
				}
			}
		})
	}
}

// With one signature in a CONNECT, a sentinel that has to sign leaves none for the token's key.
func TestConnectWithKeyNeedsABearerSentinel(t *testing.T) {
	t.Parallel()
	s := startSystem(t, systemOptions{})
	_, err := s.connect(StaticToken("token"), WithKey(newKey(t, nkeys.CreateUser)), WithSentinel(s.creds))
	if err == nil || !strings.Contains(err.Error(), "not a bearer one") {
		t.Errorf("got %v", err)
	}
}

func TestConnectToAServerThatSendsNoNonce(t *testing.T) {
	t.Parallel()
	plain, err := server.NewServer(&server.Options{Host: "127.0.0.1", Port: -1, NoLog: true, NoSigs: true})
	must(t, err)
	plain.Start()
	t.Cleanup(func() { plain.Shutdown(); plain.WaitForShutdown() })
	if !plain.ReadyForConnections(10 * time.Second) {
		t.Fatal("the server does not start")
	}
	s := startSystem(t, systemOptions{})
	key := WithKey(newKey(t, nkeys.CreateUser))
	for name, opts := range map[string][]Option{"no sentinel": {key}, "a sentinel": {key, WithSentinel([]byte(s.sentinel))}} {
		if _, err := Connect(t.Context(), plain.ClientURL(), StaticToken("token"), opts...); !errors.Is(err, ErrNoNonce) {
			t.Errorf("%s: %v, want %v", name, err, ErrNoNonce)
		}
	}
}

// A file whose key goes away stops the logins, and says so, until it is back.
func TestConnectReadsTheKeyFileForEachLogin(t *testing.T) {
	t.Parallel()
	s := startSystem(t, systemOptions{defaultSentinel: true})
	file := seedFile(t, newKey(t, nkeys.CreateUser))
	failures := make(chan error, 1000)
	restored, again := reconnected()
	nc := s.mustConnect(StaticToken("token"), WithKeyFile(file), restored, WithNATSOptions(nats.ErrorHandler(
		func(_ *nats.Conn, _ *nats.Subscription, err error) { failures <- err })))
	must(t, os.Rename(seedFile(t, newKey(t, nkeys.CreateAccount)), file))
	s.kick(nc)
	if err := receive(t, "a report", failures); !strings.Contains(err.Error(), "user key alone") {
		t.Errorf("the error handler got %v", err)
	}
	other := newKey(t, nkeys.CreateUser)
	must(t, os.Rename(seedFile(t, other), file))
	receive(t, "the connection is restored", again)
	logins, nonces := s.proofs()
	signature, err := base64.RawURLEncoding.DecodeString(logins[len(logins)-1].SignedNonce)
	must(t, err)
	must(t, other.Verify([]byte(nonces[len(nonces)-1]), signature))
}

func TestNonce(t *testing.T) {
	key := newKey(t, nkeys.CreateUser)
	if nonce, err := Nonce(key); err != nil || nonce != key.public {
		t.Errorf("nonce %q, %v", nonce, err)
	}
	if _, err := Nonce(newKey(t, nkeys.CreateServer)); err == nil {
		t.Error("a server's key is taken")
	}
}
