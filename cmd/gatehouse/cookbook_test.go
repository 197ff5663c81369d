package main

import (
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"

	"github.com/gatehouse-nats/gatehouse/cmd/gatehouse/config"
	"github.com/gatehouse-nats/gatehouse/policy"
	"github.com/gatehouse-nats/gatehouse/policy/cases"
)

// recipe is a section of docs/cookbook.md.
type recipe struct {
	title         string
	policy, cases string // YAML
}

func cookbook(t *testing.T) []recipe {
	t.Helper()
	page, err := os.ReadFile("../../docs/cookbook.md")
	if err != nil {
		t.Fatal(err)
	}
	block := regexp.MustCompile("(?s)```yaml (\\S+)\n(.*?)```")
	var all []recipe
	for _, section := range strings.Split(string(page), "\n## ")[1:] {
		title, text, _ := strings.Cut(section, "\n")
		r := recipe{title: title}
		for _, b := range block.FindAllStringSubmatch(text, -1) {
			switch b[1] {
			case "gatehouse.yaml":
				r.policy += b[2]
			case "cases.yaml":
				r.cases += b[2]
			default:
				t.Fatalf("%s: what is %s?", title, b[1])
			}
		}
		if r.policy == "" || r.cases == "" {
			t.Fatalf("%s: policy or cases are missing", title)
		}
		all = append(all, r)
	}
	if len(all) < 10 {
		t.Fatalf("found %d recipes, the page has more", len(all))
	}
	return all
}

// TestCookbook holds every recipe to its cases, first by policy test and then by the logins of real
// clients, who try what the cases name on a real nats-server.
func TestCookbook(t *testing.T) {
	t.Parallel()
	w := newWorld(t, worldOptions{ways: true})
	w.edit(func(yaml string) string { return strings.Replace(yaml, "name: demo", "name: corp", 1) })
	written, err := os.ReadFile(w.config())
	if err != nil {
		t.Fatal(err)
	}
	head, _, found := strings.Cut(string(written), "\nroles:")
	if !found {
		t.Fatal("the configuration has no roles")
	}
	// A recipe for browsers needs keys that gatehouse login does not make unless it is told to.
	head = regexp.MustCompile(`(?m)^ *login:.*\n`).ReplaceAllString(head, "")
	recipes := cookbook(t)
	file := filepath.Join(w.dir, "cases.yaml")
	put := func(t *testing.T, r recipe) []cases.Case {
		w := w.in(t)
		if err := os.WriteFile(file, []byte(r.cases), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(w.config(), []byte(head+"\n"+r.policy), 0o600); err != nil {
			t.Fatal(err)
		}
		cfg, err := config.Load(w.config(), nil)
		if err != nil {
			t.Fatal(err)
		}
		if len(cfg.Warnings) > 0 {
			t.Errorf("a recipe draws warnings: %v", cfg.Warnings)
		}
		list, err := config.ReadCases(file, cfg)
		if err != nil {
			t.Fatal(err)
		}
		return list
	}
	put(t, recipes[0])
	service := w.serve(serveOptions{})
	for _, r := range recipes {
		t.Run(r.title, func(t *testing.T) {
			list := put(t, r)
			if got := command(t, service.env, "", "policy", "test", file); got.code != exitDone || strings.Contains(got.out, "gets anything by") {
				t.Fatalf("policy test ends with %d:\n%s%s", got.code, got.out, got.err)
			}
			w := w.in(t)
			on := *service
			on.world = w
			on.must("reload")
			tried := 0
			for _, c := range list {
				if tryable(c) {
					t.Run(c.Name, func(t *testing.T) { w.in(t).try(c) })
					tried++
				}
			}
			if tried == 0 {
				t.Error("no case was tried for real")
			}
		})
	}
}

// tryable reports whether a case can be tried from this host.
func tryable(c cases.Case) bool {
	return !c.Conn.Source.IsValid() || c.Conn.Source == netip.MustParseAddr("127.0.0.1")
}

// try logs in as the case says and compares what comes of it.
func (w *world) try(c cases.Case) {
	w.Helper()
	// Claims of the demo user that the case does not have must not decide.
	claims := map[string]any{"groups": nil, "team": nil, "email": nil, "email_verified": nil, "azp": nil}
	maps.Copy(claims, c.Claims)
	var options []nats.Option
	if _, bound := claims["nonce"]; bound {
		key, err := nkeys.CreateUser()
		if err != nil {
			w.Fatal(err)
		}
		public, err := key.PublicKey()
		if err != nil {
			w.Fatal(err)
		}
		claims["nonce"] = public
		options = append(options, nats.Nkey(public, key.Sign))
	}
	token := w.token("alice", claims)
	allowed := c.Expect.Refuse == ""
	if c.Conn.Type == policy.MQTT || c.Conn.Type == policy.LeafNode {
		_, err := w.enter(c.Conn.Type, 0, attempt{token: token})
		if allowed && err != nil || !allowed && !turnedAway(c.Conn.Type, err) {
			w.Errorf("the login ended with %v, wanted allowed %t", err, allowed)
		}
		return
	}
	url := w.servers[0].ClientURL()
	if c.Conn.Type == policy.WebSocket {
		url = w.servers[0].WebSocketURL()
	}
	nc, err := dial(url, token, append(options, nats.ErrorHandler(func(*nats.Conn, *nats.Subscription, error) {}))...)
	if !allowed {
		if err == nil {
			nc.Close()
		}
		if !turnedAway(c.Conn.Type, err) {
			w.Errorf("the login ended with %v, wanted %s", err, c.Expect.Refuse)
		}
		return
	}
	if err != nil {
		w.Fatalf("the login was not admitted: %v", err)
	}
	defer nc.Close()
	for want, probe := range map[bool][2][]string{true: {c.Expect.Publish.Can, c.Expect.Subscribe.Can}, false: {c.Expect.Publish.Cannot, c.Expect.Subscribe.Cannot}} {
		for _, subject := range probe[0] {
			mayPublish(w, nc, subject, want)
		}
		for _, subject := range probe[1] {
			maySubscribe(w, nc, subject, want)
		}
	}
}
