package main

import (
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"
	"github.com/eclipse/paho.mqtt.golang/packets"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"

	"github.com/gatehouse-nats/gatehouse/internal/devstack/devtest"
	"github.com/gatehouse-nats/gatehouse/policy"
)

// wayTimeout bounds a login; a refusal comes long before it.
const wayTimeout = 10 * time.Second

// errTurnedAway is what a way in that has no refusal of its own ends with.
var errTurnedAway = errors.New("turned away")

// attempt is one client that wants in.
type attempt struct {
	token    string
	user     string // of CONNECT; empty: none, where the way in can do without
	sentinel string // creds file; empty: the client has none
	client   string // MQTT client id; empty: one of its own
}

// listeners are what the ways in besides TCP need in a server's configuration.
type listeners struct {
	mqtt, leaf int // ports; 0: none
}

// publish is how a client that is in sends an empty message.
type publish func(subject string) error

// enter logs in at one server and returns how to publish, or why it was turned away. The
// client leaves when the test ends.
func (w *world) enter(way policy.ConnectionType, server int, a attempt) (publish, error) {
	w.Helper()
	switch way {
	case policy.MQTT:
		if a.user == "" {
			a.user = "device" // without a user MQTT has no password either
		}
		client, err := w.enterMQTT(server, a)
		if err != nil {
			return nil, err
		}
		return func(subject string) error {
			return delivered(client.Publish(strings.ReplaceAll(subject, ".", "/"), 0, false, ""))
		}, nil
	case policy.LeafNode:
		return w.enterLeaf(server, a)
	case policy.WebSocket:
		return w.enterNATS(w.servers[server].WebSocketURL(), a)
	default:
		return w.enterNATS(w.servers[server].ClientURL(), a)
	}
}

func (w *world) enterNATS(url string, a attempt, options ...nats.Option) (publish, error) {
	w.Helper()
	options = append(options, nats.Timeout(wayTimeout), nats.NoReconnect(), nats.IgnoreDiscoveredServers())
	switch {
	case a.user != "":
		options = append(options, nats.UserInfo(a.user, a.token))
	case a.token != "":
		options = append(options, nats.Token(a.token))
	}
	if a.sentinel != "" {
		options = append(options, nats.UserCredentials(a.sentinel))
	}
	nc, err := nats.Connect(url, options...)
	if err != nil {
		return nil, err
	}
	w.Cleanup(nc.Close)
	return func(subject string) error { return nc.Publish(subject, nil) }, nil
}

// enterMQTT connects an MQTT 3.1.1 client.
func (w *world) enterMQTT(server int, a attempt) (mqtt.Client, error) {
	w.Helper()
	if a.client == "" {
		a.client = someone()
	}
	o := mqtt.NewClientOptions().AddBroker(fmt.Sprintf("tcp://127.0.0.1:%d", w.listeners[server].mqtt)).
		SetClientID(a.client).SetUsername(a.user).SetPassword(a.token).SetProtocolVersion(4).
		SetAutoReconnect(false).SetConnectRetry(false).SetConnectTimeout(wayTimeout)
	client := mqtt.NewClient(o)
	if err := delivered(client.Connect()); err != nil {
		return nil, err
	}
	w.Cleanup(func() { client.Disconnect(100) })
	return client, nil
}

// delivered waits for the end of an MQTT exchange.
func delivered(t mqtt.Token) error {
	if !t.WaitTimeout(wayTimeout) {
		return errors.New("no answer over MQTT")
	}
	return t.Error()
}

// enterLeaf runs a leaf node that connects to the server, and is turned away when its
// connection is closed before it is up.
func (w *world) enterLeaf(at int, a attempt) (publish, error) {
	w.Helper()
	if a.user == "" {
		a.user = "leaf"
	}
	remote := url.URL{Scheme: "nats-leaf", Host: fmt.Sprintf("127.0.0.1:%d", w.listeners[at].leaf), User: url.UserPassword(a.user, a.token)}
	credentials := ""
	if a.sentinel != "" {
		credentials = fmt.Sprintf("credentials: %q", a.sentinel)
	}
	opts := &server.Options{NoLog: true, NoSigs: true}
	config := fmt.Sprintf("listen: \"127.0.0.1:-1\"\nserver_name: %s\nleafnodes { reconnect: \"1s\", remotes: [ { url: %q, %s } ] }\n", someone(), remote.String(), credentials)
	if err := opts.ProcessConfigString(config); err != nil {
		w.Fatal(err)
	}
	leaf, err := server.NewServer(opts)
	if err != nil {
		w.Fatal(err)
	}
	log := &leafLog{ended: make(chan struct{}, 1)}
	leaf.SetLoggerV2(log, false, false, false)
	leaf.Start()
	w.Cleanup(func() {
		leaf.Shutdown()
		leaf.WaitForShutdown()
	})
	if err := log.await(leaf); err != nil {
		return nil, err
	}
	nc, err := nats.Connect(leaf.ClientURL())
	if err != nil {
		w.Fatal(err)
	}
	w.Cleanup(nc.Close)
	return func(subject string) error { return nc.Publish(subject, nil) }, nil
}

// leafLog notes when a leaf node is told that it may not connect.
type leafLog struct{ ended chan struct{} }

func (l *leafLog) Errorf(format string, v ...any) {
	if text := fmt.Sprintf(format, v...); strings.Contains(text, "Authorization Violation") || strings.Contains(text, "Authentication") {
		select {
		case l.ended <- struct{}{}:
		default:
		}
	}
}

func (*leafLog) Noticef(string, ...any) {}
func (*leafLog) Warnf(string, ...any)   {}
func (*leafLog) Fatalf(string, ...any)  {}
func (*leafLog) Debugf(string, ...any)  {}
func (*leafLog) Tracef(string, ...any)  {}

// await returns once the leaf node is connected, or an error once it was turned away.
func (l *leafLog) await(leaf *server.Server) error {
	tick, deadline := time.NewTicker(10*time.Millisecond), time.After(wayTimeout)
	defer tick.Stop()
	for {
		select {
		case <-l.ended:
			return errTurnedAway
		case <-deadline:
			return errors.New("the leaf node neither connected nor was turned away")
		case <-tick.C:
			if leaf.NumLeafNodes() == 1 {
				return nil
			}
		}
	}
}

// turnedAway reports whether an error is the refusal of a way in.
func turnedAway(way policy.ConnectionType, err error) bool {
	switch way {
	case policy.MQTT:
		return errors.Is(err, packets.ErrorRefusedNotAuthorised) // CONNACK code 5
	case policy.LeafNode:
		return errors.Is(err, errTurnedAway)
	case policy.WebSocket:
		// The connection may be closed before the client has read why.
		return errors.Is(err, nats.ErrAuthorization) || errors.Is(err, syscall.EPIPE) || errors.Is(err, syscall.ECONNRESET)
	default:
		return errors.Is(err, nats.ErrAuthorization)
	}
}

// snippet returns the code in a language that docs/protocols.md shows below a heading.
func snippet(t testing.TB, heading, language string) string {
	t.Helper()
	page, err := os.ReadFile(filepath.Join("..", "..", "docs", "protocols.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, section, found := strings.Cut(string(page), "\n## "+heading+"\n")
	section, _, _ = strings.Cut(section, "\n## ")
	_, code, shown := strings.Cut(section, "```"+language+"\n")
	code, _, _ = strings.Cut(code, "```")
	if !found || !shown {
		t.Fatalf("docs/protocols.md has no %s below %q", language, heading)
	}
	return code
}

// listen adds the listeners for MQTT and leaf nodes that docs/protocols.md shows to the
// configuration of every server.
func (w *world) listen(confs []string) {
	w.Helper()
	mqttConf, leafConf := snippet(w, "MQTT", "conf"), snippet(w, "Leaf nodes", "conf")
	for _, conf := range confs {
		ports := devtest.Ports(w, 2)
		w.listeners = append(w.listeners, listeners{mqtt: ports[0], leaf: ports[1]})
		more := strings.NewReplacer("0.0.0.0:1883", fmt.Sprintf("127.0.0.1:%d", ports[0]), "0.0.0.0:7422", fmt.Sprintf("127.0.0.1:%d", ports[1])).Replace(mqttConf + leafConf)
		before, err := os.ReadFile(conf)
		if err != nil {
			w.Fatal(err)
		}
		if err := os.WriteFile(conf, append(before, more...), 0o600); err != nil {
			w.Fatal(err)
		}
	}
}
