package natsfacts

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"testing"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"

	"github.com/gatehouse-nats/gatehouse/internal/devstack/devtest"
)

// proxied dials as a proxy does that speaks for a client: the header comes before anything else.
type proxied struct{ header string }

func (p proxied) Dial(network, address string) (net.Conn, error) {
	conn, err := net.Dial(network, address)
	if err == nil {
		_, err = io.WriteString(conn, p.header)
	}
	return conn, err
}

// Fact: with proxy_protocol the client's address in a request is the one that the proxy names.
// It holds for the TCP listener, and anybody who reaches that listener directly can then name
// any address: docs/protocols.md says so where source is explained.
func TestProxyProtocolNamesTheClient(t *testing.T) {
	t.Parallel()
	d := newPrivate(t)
	c := makeCallout(t)
	s := d.startServer(t, d.config("proxied", t.TempDir(), false)+"proxy_protocol: true\n")
	c.join(t, d)
	c.listen(t)
	app := d.newAccount(t, "APP")
	c.answerWith(c.admit(app))
	_, err := dial(t, s, withJWT(c.sentinel), nats.SetCustomDialer(proxied{"PROXY TCP4 192.0.2.7 127.0.0.1 4000 4222\r\n"}))
	check(t, err)
	if got := c.seen()[0].ClientInformation.Host; got != "192.0.2.7" {
		t.Errorf("host = %q, want the client's", got)
	}
}

// Fact: on the WebSocket listener X-Forwarded-For only reaches the server's log: the request
// names the peer, which is the proxy. So source cannot be spoofed there, nor told apart behind
// one proxy.
func TestForwardedForIsNotTheSource(t *testing.T) {
	t.Parallel()
	d := newPrivate(t)
	c := makeCallout(t)
	s := d.startServer(t, d.config("forwarded", t.TempDir(), false)+"proxy_protocol: true\nwebsocket { listen: \"127.0.0.1:-1\", no_tls: true }\n")
	c.join(t, d)
	c.listen(t)
	app := d.newAccount(t, "APP")
	c.answerWith(c.admit(app))
	nc, err := nats.Connect(s.PortsInfo(patience).WebSocket[0], withJWT(c.sentinel), nats.Timeout(patience),
		nats.WebSocketConnectionHeaders(http.Header{"X-Forwarded-For": {"192.0.2.7"}}))
	check(t, err)
	t.Cleanup(nc.Close)
	if got := c.seen()[0].ClientInformation; got.Host != "127.0.0.1" || got.Type != "websocket" {
		t.Errorf("host = %q, type = %q, want that of the peer, websocket", got.Host, got.Type)
	}
}

// Fact: a leaf node's request has no type but the kind Leafnode, and user and password of the
// remote's URL beside the sentinel of its credentials; the account's limit of leaf nodes holds
// for callout users. A token alone in the URL is sent as the user as well, into the server's log.
func TestLeafNodeRequest(t *testing.T) {
	t.Parallel()
	d := newPrivate(t)
	c := makeCallout(t)
	hub := fmt.Sprintf("127.0.0.1:%d", devtest.Ports(t, 1)[0])
	d.startServer(t, d.config("hub", t.TempDir(), false)+fmt.Sprintf("leafnodes { listen: %q }\ndefault_sentinel: %s\n", hub, c.sentinel))
	c.join(t, d)
	c.listen(t)
	app := d.newAccount(t, "APP", func(a *jwt.AccountClaims) { a.Limits.LeafNodeConn = 1 })
	c.answerWith(c.admit(app))
	first := startLeaf(t, "nats-leaf://account%3AAPP:token@"+hub)
	check(t, poll(func() error {
		if got := first.NumLeafNodes(); got != 1 {
			return fmt.Errorf("%d leaf connections, want 1", got)
		}
		return nil
	}))
	r := c.seen()[0]
	if r.ClientInformation.Kind != "Leafnode" || r.ClientInformation.Type != "" || r.ConnectOptions.Username != "account:APP" || r.ConnectOptions.Password != "token" {
		t.Errorf("kind %q, type %q, user %q, password %q", r.ClientInformation.Kind, r.ClientInformation.Type, r.ConnectOptions.Username, r.ConnectOptions.Password)
	}
	startLeaf(t, "nats-leaf://token@"+hub)
	check(t, poll(func() error {
		if got := len(c.seen()); got < 3 {
			return fmt.Errorf("%d requests, want that of the first leaf node and two of the second, which is closed and tries again", got)
		}
		return nil
	}))
	if r := c.seen()[1].ConnectOptions; r.Token != "token" || r.Username != "token" {
		t.Errorf("token %q, user %q, want the token in both", r.Token, r.Username)
	}
}

// startLeaf runs a server that connects to the URL as a leaf node, until the test ends.
func startLeaf(t *testing.T, url string) *server.Server {
	t.Helper()
	s, err := runServer(fmt.Sprintf("leafnodes { reconnect: \"100ms\", remotes: [ { url: %q } ] }", url))
	check(t, err)
	t.Cleanup(func() {
		s.Shutdown()
		s.WaitForShutdown()
	})
	return s
}
