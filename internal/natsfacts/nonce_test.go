package natsfacts

import (
	"encoding/base64"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"
)

// newDefaultSentinel starts a server with a default sentinel, and a callout that admits into an account;
// more is put into the server's configuration.
func newDefaultSentinel(t *testing.T, more string) *callout {
	t.Helper()
	d := newPrivate(t)
	c := makeCallout(t)
	d.startServer(t, fmt.Sprintf("%s\ndefault_sentinel: %s\n%s", d.config("nonce", t.TempDir(), false), c.sentinel, more))
	c.join(t, d)
	c.listen(t)
	c.answerWith(c.admit(d.newAccount(t, "APP")))
	return c
}

// last returns the newest request.
func (c *callout) last(t *testing.T) *request {
	t.Helper()
	seen := c.seen()
	if len(seen) == 0 {
		t.Fatal("no request has arrived")
	}
	return seen[len(seen)-1]
}

// signedBy checks that the request holds the key's signature of the nonce beside it, and returns the nonce.
func (r *request) signedBy(t *testing.T, key nkeys.KeyPair) string {
	t.Helper()
	nonce := r.ClientInformation.Nonce
	signature, err := base64.RawURLEncoding.DecodeString(r.ConnectOptions.SignedNonce)
	check(t, err)
	if nonce == "" {
		t.Fatal("the request has no nonce")
	}
	if err := key.Verify([]byte(nonce), signature); err != nil {
		t.Errorf("signature of %q: %v", nonce, err)
	}
	return nonce
}

// Fact: with a default sentinel too, over TCP and over WebSocket, each connection gets a nonce of its own, and
// the signature of a client that names an nkey reaches the service. Key-bound tokens rest on it.
func TestDefaultSentinelNonceOnEachTransport(t *testing.T) {
	t.Parallel()
	c := newDefaultSentinel(t, `websocket { listen: "127.0.0.1:-1", no_tls: true }`)
	key := newNkeyUser(t)
	nonces := map[string]bool{}
	for _, url := range []string{c.deployment.servers[0].ClientURL(), c.deployment.servers[0].WebsocketURL()} {
		for range 2 {
			nc, err := nats.Connect(url, withNkey(key), nats.Token("token"), nats.Timeout(patience))
			check(t, err)
			t.Cleanup(nc.Close)
			r := c.last(t)
			nonces[r.signedBy(t, key)] = true
			if r.ConnectOptions.Nkey != public(key) || r.ConnectOptions.Token != "token" {
				t.Errorf("%s: service saw %+v", url, r.ConnectOptions)
			}
		}
	}
	if len(nonces) != 4 {
		t.Errorf("%d nonces for 4 connections", len(nonces))
	}
}

// Fact: a nonce that the client did not sign does not reach the service.
func TestNonceReachesServiceOnlyWithASignature(t *testing.T) {
	t.Parallel()
	c := newDefaultSentinel(t, "")
	_, err := dial(t, c.deployment.servers[0], nats.Token("token"))
	check(t, err)
	if got := c.last(t).ClientInformation.Nonce; got != "" {
		t.Errorf("the nonce %q came without a signature", got)
	}
}

// Fact: a leaf node whose remote has an nkey (its seed, in the configuration) signs the hub's nonce with it, and signature, key and the URL's
// user and password reach the service: a leaf node can use a key-bound token. With a bearer sentinel as credentials
// it signs with the seed beside that.
func TestLeafNodeSignsNonce(t *testing.T) {
	t.Parallel()
	c := newDefaultSentinel(t, `leafnodes { listen: "127.0.0.1:-1" }`)
	varz, err := c.deployment.servers[0].Varz(nil)
	check(t, err)
	key := newNkeyUser(t)
	seed, err := key.Seed()
	check(t, err)
	creds := filepath.Join(t.TempDir(), "key.creds")
	check(t, os.WriteFile(creds, fmt.Appendf(nil, "-----BEGIN NATS USER JWT-----\n%s\n------END NATS USER JWT------\n\n"+
		"-----BEGIN USER NKEY SEED-----\n%s\n------END USER NKEY SEED------\n", c.sentinel, seed), 0o600))
	for name, remote := range map[string]string{"nkey": fmt.Sprintf("nkey: %s", seed), "credentials": fmt.Sprintf("credentials: %q", creds)} {
		before := len(c.seen())
		leaf, err := runServer(fmt.Sprintf("leafnodes { remotes: [ { url: \"nats-leaf://account%%3AAPP:token@127.0.0.1:%d\", %s } ] }", varz.LeafNode.Port, remote))
		check(t, err)
		check(t, poll(func() error {
			if leaf.NumLeafNodes() != 1 || len(c.seen()) == before {
				return fmt.Errorf("%s: %d leaf connections, %d requests", name, leaf.NumLeafNodes(), len(c.seen())-before)
			}
			return nil
		}))
		r := c.last(t)
		r.signedBy(t, key)
		if r.ClientInformation.Kind != "Leafnode" || r.ConnectOptions.Username != "account:APP" || r.ConnectOptions.Password != "token" {
			t.Errorf("%s: service saw %+v of %+v", name, r.ConnectOptions, r.ClientInformation)
		}
		if name == "nkey" && r.ConnectOptions.Nkey != public(key) {
			t.Errorf("the service saw the key %q", r.ConnectOptions.Nkey)
		}
		leaf.Shutdown()
		leaf.WaitForShutdown()
	}
}
