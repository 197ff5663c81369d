package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"
	"github.com/nats-io/nats.go"

	"github.com/gatehouse-nats/gatehouse/internal/devstack/devtest"
	"github.com/gatehouse-nats/gatehouse/internal/setup"
	"github.com/gatehouse-nats/gatehouse/policy"
)

// protocolPolicy has bindings with and without leaf nodes.
const protocolPolicy = matrixPolicy + `  - name: clients
    issuer: demo
    match: { groups: clients }
    grant: { account: APP, role: developer }
`

// protocols is one world that listens on every way in, with a service.
func protocols(t *testing.T) (*world, *replica) {
	w := newWorld(t, worldOptions{ways: true, policy: protocolPolicy})
	return w, w.serve(serveOptions{})
}

// envelope returns a token together with the name of an account.
func envelope(t testing.TB, token, account string) string {
	t.Helper()
	data, err := json.Marshal(map[string]string{"token": token, "account": account})
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// TestAccountOnEveryWay names the account by the envelope, and by the user, through each way in.
func TestAccountOnEveryWay(t *testing.T) {
	t.Parallel()
	w, r := protocols(t)
	sentinel := filepath.Join(w.dir, "creds", "sentinel.creds")
	for _, way := range policy.ConnectionTypes() {
		for name, try := range map[string]func(token, account string) attempt{
			"envelope": func(token, account string) attempt { return attempt{token: envelope(t, token, account)} },
			"user":     func(token, account string) attempt { return attempt{token: token, user: "account:" + account} },
			"envelope before user": func(token, account string) attempt {
				return attempt{token: envelope(t, token, account), user: "account:ELSE"}
			},
			"envelope, own sentinel": func(token, account string) attempt {
				return attempt{token: envelope(t, token, account), sentinel: sentinel}
			},
		} {
			if strings.Contains(name, "sentinel") && (cell{deployment{mode: operatorMode}, way, ownSentinel}).impossible() != "" {
				continue
			}
			subject := someone()
			publish, err := w.enter(way, 0, try(w.token("alice", developer(subject)), "APP"))
			if err != nil {
				t.Errorf("%s, %s: not admitted: %v", way, name, err)
				continue
			}
			w.mustReach(publish, "app."+subject)
			for _, account := range []string{"SYS", "AUTH"} {
				spoof := someone()
				if _, err := w.enter(way, 0, try(w.token("alice", developer(spoof)), account)); !turnedAway(way, err) {
					t.Errorf("%s, %s: who asks for %s got %v", way, name, account, err)
				}
				eventually(t, func() error { return r.refused("demo-"+spoof, "account_not_granted") })
			}
		}
	}
}

// TestTokenCookie logs in over WebSocket with the cookie that init names.
func TestTokenCookie(t *testing.T) {
	t.Parallel()
	w, r := protocols(t)
	url := w.servers[0].WebSocketURL()
	cookie := func(value string) nats.Option {
		return nats.WebSocketConnectionHeaders(http.Header{"Cookie": {setup.TokenCookie + "=" + value}})
	}
	alice, bob := someone(), someone()
	aliceToken, bobToken := w.token("alice", developer(alice)), w.token("bob", developer(bob))

	publish, err := w.enterNATS(url, attempt{}, cookie(aliceToken))
	if err != nil {
		t.Fatalf("the cookie alone: %v", err)
	}
	w.mustReach(publish, "app."+alice)
	eventually(t, func() error { return r.ended("demo-"+alice, "allowed") })

	// What the client itself says wins: a cookie of somebody else neither helps nor harms.
	publish, err = w.enterNATS(url, attempt{token: bobToken}, cookie(aliceToken))
	if err != nil {
		t.Fatalf("a token beside somebody else's cookie: %v", err)
	}
	w.mustReach(publish, "app."+bob)
	eventually(t, func() error { return r.ended("demo-"+bob, "allowed") })
	eventually(t, func() error { return r.ended("demo-"+alice, "allowed") }) // and no second entry
	stranger := someone()
	if _, err := w.enterNATS(url, attempt{token: w.token("carol", map[string]any{"sub": stranger})}, cookie(aliceToken)); !turnedAway(policy.WebSocket, err) {
		t.Errorf("a stranger with somebody else's cookie got %v", err)
	}
	eventually(t, func() error { return r.ended("demo-"+stranger, "no_binding") })

	// The cookie is no part of the CONNECT line, so that only max_token_size bounds it ...
	long := someone()
	publish, err = w.enterNATS(url, attempt{}, cookie(w.token("alice", map[string]any{"sub": long, "groups": []string{"dev"}, "pad": strings.Repeat("x", 10<<10)})))
	if err != nil {
		t.Fatalf("a cookie of over 13 kB: %v", err)
	}
	w.mustReach(publish, "app."+long)
	if _, err := w.enterNATS(url, attempt{}, cookie(strings.Repeat("x", 17<<10))); !turnedAway(policy.WebSocket, err) {
		t.Errorf("a cookie longer than max_token_size: %v", err)
	}
	eventually(t, func() error { return r.counted("token_too_large") })
	// ... until the server's HTTP headers have a megabyte.
	if _, err := w.enterNATS(url, attempt{}, cookie(strings.Repeat("x", 2<<20))); err == nil || errors.Is(err, nats.ErrAuthorization) {
		t.Errorf("a cookie of two megabytes: %v, want the handshake to fail", err)
	}
	// A page of another origin cannot use the cookie that a browser sends along.
	_, err = w.enterNATS(url, attempt{}, nats.WebSocketConnectionHeaders(http.Header{
		"Cookie": {setup.TokenCookie + "=" + aliceToken}, "Origin": {"https://evil.example.com"},
	}))
	if err == nil {
		t.Error("a page of another origin used the cookie")
	}
	eventually(t, func() error { return r.ended("demo-"+alice, "allowed") })
}

// TestTokenInTheJWTField: a token there never reaches Gatehouse, and the log says what to do.
func TestTokenInTheJWTField(t *testing.T) {
	t.Parallel()
	w, r := protocols(t)
	token := w.token("alice", developer(someone()))
	_, err := nats.Connect(w.set.ClientURL(), nats.NoReconnect(), nats.Timeout(wayTimeout), nats.UserJWT(
		func() (string, error) { return token, nil }, func([]byte) ([]byte, error) { return nil, nil }))
	if !errors.Is(err, nats.ErrAuthorization) {
		t.Errorf("a token in the jwt field got %v", err)
	}
	eventually(t, func() error { return r.counted("token_missing") })
	eventually(t, func() error {
		if !strings.Contains(r.log.String(), "a token in the jwt field is lost") {
			return errors.New("the log does not say where the token has to be")
		}
		return nil
	})
}

// TestMQTT logs in over MQTT 3.1.1: what the client says of itself changes nothing, and its role
// needs the topics alone.
func TestMQTT(t *testing.T) {
	t.Parallel()
	for _, mode := range []devtest.Mode{devtest.InProcess, devtest.OldestProcess} {
		t.Run(mode.String(), func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, worldOptions{ways: true, mode: mode, policy: snippet(t, "MQTT", "yaml")})
			w.testMQTT(w.serve(serveOptions{}))
		})
	}
}

func (w *world) testMQTT(r *replica) {
	subject := someone()
	client, err := w.enterMQTT(0, attempt{token: w.token("alice", developer(subject)), user: "root", client: "account:SYS"})
	if err != nil {
		w.Fatal(err)
	}
	eventually(w, func() error { return r.ended("demo-"+subject, "allowed") })
	for qos := range byte(3) {
		w.checkQoS(client, qos)
	}
	for filter, want := range map[string]byte{"app/+/x": 1, "app/#": 1, "app": 1, "other/x": 0x80, "#": 0x80, "$MQTT/sub/x": 0x80} {
		token := client.Subscribe(filter, 1, nil)
		_ = delivered(token) // the library makes an error of a refused filter
		if got := token.(*mqtt.SubscribeToken).Result()[filter]; got != want {
			w.Errorf("subscription to %s: %#x, want %#x", filter, got, want)
		}
	}

	// Without a user MQTT 3.1.1 has no password.
	if _, err := w.enterMQTT(0, attempt{token: w.token("alice", developer(someone()))}); !turnedAway(policy.MQTT, err) {
		w.Errorf("a client without user: %v, want code 5", err)
	}
	eventually(w, func() error { return r.counted("token_missing") })
}

// checkQoS sends and receives one message.
func (w *world) checkQoS(client mqtt.Client, qos byte) {
	w.Helper()
	topic, got := fmt.Sprintf("app/qos%d", qos), make(chan byte, 1)
	if err := delivered(client.Subscribe(topic, qos, func(_ mqtt.Client, m mqtt.Message) { got <- m.Qos() })); err != nil {
		w.Fatalf("subscribe with QoS %d: %v", qos, err)
	}
	if err := delivered(client.Publish(topic, qos, false, "x")); err != nil {
		w.Fatalf("publish with QoS %d: %v", qos, err)
	}
	select {
	case have := <-got:
		if have != qos {
			w.Errorf("message came with QoS %d, want %d", have, qos)
		}
	case <-time.After(wayTimeout):
		w.Errorf("a message with QoS %d did not arrive", qos)
	}
}

// TestMQTTSessionsBelongToTheAccount: whoever connects with a client id that somebody else of the
// account uses takes that session over. The documentation warns of it.
func TestMQTTSessionsBelongToTheAccount(t *testing.T) {
	t.Parallel()
	w, _ := protocols(t)
	lost := make(chan error, 1)
	o := mqtt.NewClientOptions().AddBroker(fmt.Sprintf("tcp://127.0.0.1:%d", w.listeners[0].mqtt)).SetClientID("shared").
		SetUsername("a").SetPassword(w.token("alice", developer(someone()))).SetAutoReconnect(false).
		SetConnectionLostHandler(func(_ mqtt.Client, err error) { lost <- err })
	first := mqtt.NewClient(o)
	if err := delivered(first.Connect()); err != nil {
		t.Fatal(err)
	}
	if _, err := w.enterMQTT(0, attempt{token: w.token("bob", developer(someone())), user: "b", client: "shared"}); err != nil {
		t.Fatal(err)
	}
	select {
	case <-lost:
	case <-time.After(wayTimeout):
		t.Error("two clients hold one session")
	}
}

// TestLeafNodes: only a binding that names leafnode lets one in, and a token of ten kilobytes fits.
func TestLeafNodes(t *testing.T) {
	t.Parallel()
	w, r := protocols(t)
	subject := someone()
	claims := map[string]any{"sub": subject, "groups": []string{"clients"}}
	if _, err := w.enter(policy.LeafNode, 0, attempt{token: w.token("alice", claims)}); !turnedAway(policy.LeafNode, err) {
		t.Errorf("a leaf node whose binding does not name leafnode: %v", err)
	}
	eventually(t, func() error { return r.refused("demo-"+subject, "connection_type_refused") })
	if _, err := w.enter(policy.Standard, 0, attempt{token: w.token("alice", claims)}); err != nil {
		t.Errorf("the same identity as a client: %v", err)
	}
	long := someone()
	publish, err := w.enter(policy.LeafNode, 0, attempt{token: w.token("alice", map[string]any{"sub": long, "groups": []string{"dev"}, "pad": strings.Repeat("x", 10<<10)})})
	if err != nil {
		t.Fatalf("a long token in the remote's URL: %v", err)
	}
	w.mustReach(publish, "app."+long)
}
