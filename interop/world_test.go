package interop

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/gatehouse-nats/gatehouse/internal/devstack/devtest"
	"github.com/gatehouse-nats/gatehouse/internal/setup"
)

// policy lets in developers, by group or e-mail, and a program; nobody else.
const policy = `roles:
  app:
    publish: { allow: ["app.>"] }
    subscribe: { allow: ["app.>"] }
bindings:
  - name: people
    issuer: idp
    match: { groups: [dev, authors] }
    grant: { account: APP, role: app }
  - name: alice
    issuer: idp
    match: { email: alice@example.com, email_verified: true }
    grant: { account: APP, role: app }
  - name: batch
    issuer: idp
    match: { client_id: batch }
    grant: { account: APP, role: app }
`

// clientID is the public client that every provider here has for gatehouse login.
const clientID = "gatehouse-cli"

// web asks over fresh connections, so that none is left when a provider stops.
var web = &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}

// world is a nats-server and gatehouse serve, as processes, that accept the tokens of one issuer.
type world struct {
	testing.TB
	dir     string
	url     string // of the nats-server
	http    string
	metrics string
}

func newWorld(t testing.TB, issuer string, audiences ...string) *world {
	t.Helper()
	p := devtest.Ports(t, 6)
	address := func(port int) string { return fmt.Sprintf("127.0.0.1:%d", port) }
	set, err := setup.New(setup.Options{
		Ports: []setup.Ports{{Client: p[0], Cluster: p[1], Monitor: p[2], WebSocket: p[3]}}, NoJetStream: true,
		Service: setup.Service{
			HTTP: address(p[4]), Metrics: address(p[5]), Policy: policy,
			Issuer: &setup.Issuer{Name: "idp", URL: issuer, Audiences: audiences, ClientID: clientID},
		},
	})
	must(t, err)
	w := &world{t, shortDir(t), set.ClientURL(), "http://" + address(p[4]), "http://" + address(p[5])}
	must(t, set.Write(w.dir))
	w.acceptLogouts()
	devtest.StartServers(t, []string{filepath.Join(w.dir, set.ServerFile(0))}, devtest.AsProcess)
	start(t, exec.Command(program("gatehouse"), "serve", "-c", w.config()))
	eventually(t, func() error {
		if text, err := get(w.metrics + "/readyz"); err != nil || text != "ready\n" {
			return fmt.Errorf("/readyz: %q, %w", text, err)
		}
		return nil
	})
	return w
}

// acceptLogouts has the service accept the issuer's logout tokens.
func (w *world) acceptLogouts() {
	w.Helper()
	data, err := os.ReadFile(w.config())
	must(w, err)
	yaml := strings.Replace(string(data), "    audiences:", "    logout: { audiences: ["+clientID+"] }\n    audiences:", 1)
	must(w, os.WriteFile(w.config(), []byte(yaml), 0o600))
}

// shortDir returns a folder whose path leaves room for sockets in it.
func shortDir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "gh")
	must(t, err)
	t.Cleanup(func() { must(t, os.RemoveAll(dir)) })
	return dir
}

func (w *world) config() string { return filepath.Join(w.dir, "gatehouse.yaml") }

func get(url string) (string, error) {
	resp, err := web.Get(url)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	return string(text), err
}

// admit logs in with a token and sends a message to itself.
func (w *world) admit(token string) error {
	nc, err := nats.Connect(w.url, nats.Token(token), nats.Timeout(5*time.Second), nats.NoReconnect())
	if err != nil {
		return err
	}
	defer nc.Close()
	sub, err := nc.SubscribeSync("app.hello")
	if err != nil {
		return err
	}
	if err := nc.Publish("app.hello", nil); err != nil {
		return err
	}
	_, err = sub.NextMsg(5 * time.Second)
	return err
}

// mustAdmit demands that each token is admitted at once.
func (w *world) mustAdmit(tokens ...string) {
	w.Helper()
	for _, token := range tokens {
		if err := w.admit(token); err != nil {
			w.Fatalf("a token of key %s: %v", keyID(w, token), err)
		}
	}
}

// eventuallyAdmit waits until a token is admitted: its key has to be fetched first.
func (w *world) eventuallyAdmit(token string) {
	w.Helper()
	eventually(w, func() error { return w.admit(token) })
}

// eventuallyRefuse waits until each token is refused for that reason. While a key is being asked for, a login is left
// unanswered, which looks like a refusal to the client: the service's own figures tell the difference.
func (w *world) eventuallyRefuse(reason string, tokens ...string) {
	w.Helper()
	for _, token := range tokens {
		eventually(w, func() error {
			before := w.refusals(reason)
			if err := w.admit(token); !errors.Is(err, nats.ErrAuthorization) {
				return fmt.Errorf("a token of key %s: %w", keyID(w, token), err)
			}
			if w.refusals(reason) != before+1 {
				return fmt.Errorf("a token of key %s is not refused as %s", keyID(w, token), reason)
			}
			return nil
		})
	}
}

// refusals returns how many logins were refused for a reason, as the service counts them.
func (w *world) refusals(reason string) int {
	w.Helper()
	text, err := get(w.metrics + "/metrics")
	must(w, err)
	sum := 0
	for _, count := range regexp.MustCompile(`gatehouse_logins_total\{[^}]*reason="`+reason+`"\} ([0-9]+)`).FindAllStringSubmatch(text, -1) {
		n, err := strconv.Atoi(count[1])
		must(w, err)
		sum += n
	}
	return sum
}

// keyID returns the kid of a token.
func keyID(t testing.TB, token string) string {
	t.Helper()
	var header struct {
		KeyID string `json:"kid"`
	}
	decodePart(t, token, 0, &header)
	return header.KeyID
}

// published returns the key ids of a key set.
func published(t testing.TB, url string) (ids []string) {
	t.Helper()
	text, err := get(url)
	must(t, err)
	var set struct {
		Keys []struct {
			KeyID string `json:"kid"`
		} `json:"keys"`
	}
	must(t, json.NewDecoder(strings.NewReader(text)).Decode(&set))
	for _, key := range set.Keys {
		ids = append(ids, key.KeyID)
	}
	return ids
}
