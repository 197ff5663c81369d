package setup_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/gatehouse-nats/gatehouse/internal/setup"
)

func TestBadOptions(t *testing.T) {
	t.Parallel()
	service := func(s setup.Service) setup.Options { return setup.Options{Service: s} }
	issuer := func(i setup.Issuer) setup.Options { return service(setup.Service{Issuer: &i}) }
	for name, c := range map[string]struct {
		options setup.Options
		says    string
	}{
		"two servers":       {setup.Options{Servers: 2}, "servers 2"},
		"too many servers":  {setup.Options{Servers: setup.MaxServers + 1}, "servers 10"},
		"no servers":        {setup.Options{Servers: -1}, "servers -1"},
		"name":              {setup.Options{Name: "a b"}, `name "a b"`},
		"account":           {setup.Options{Account: "../x"}, `account "../x"`},
		"reserved account":  {setup.Options{Account: "auth"}, "taken"},
		"origin":            {setup.Options{Origins: []string{"portal.example.com"}}, "origin"},
		"ports":             {setup.Options{Ports: make([]setup.Ports, 2)}, "2 sets for 1"},
		"port zero":         {setup.Options{Ports: make([]setup.Ports, 1)}, "not a TCP port"},
		"port twice":        {setup.Options{Ports: []setup.Ports{{Client: 1, Monitor: 1, WebSocket: 2}}}, "given twice"},
		"half TLS":          {setup.Options{TLSCert: "x"}, "together"},
		"missing TLS files": {setup.Options{TLSCert: "x", TLSKey: "y"}, "no such file"},
		"CA alone":          {setup.Options{TLSCA: "x"}, "of no use"},
		"host":              {setup.Options{Host: "nats://x"}, "host"},
		"http":              {service(setup.Service{HTTP: "8420"}), "8420"},
		"issuer name":       {issuer(setup.Issuer{Name: "Corp", URL: "https://x", Audiences: []string{"nats"}}), "issuer name"},
		"reserved issuer":   {issuer(setup.Issuer{Name: "prog", URL: "https://x", Audiences: []string{"nats"}}), "reserved"},
		"issuer URL":        {issuer(setup.Issuer{Name: "corp", URL: "x", Audiences: []string{"nats"}}), "issuer URL"},
		"issuer in clear":   {issuer(setup.Issuer{Name: "corp", URL: "http://x", Audiences: []string{"nats"}}), "issuer URL"},
		"no audience":       {issuer(setup.Issuer{Name: "corp", URL: "https://x"}), "audience"},
	} {
		if _, err := setup.New(c.options); !errors.Is(err, setup.ErrOptions) || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: got %v, want ErrOptions that says %q", name, err, c.says)
		}
	}
	_, err := setup.New(setup.Options{Servers: 2, Name: "a b"})
	if err == nil || !strings.Contains(err.Error(), "servers") || !strings.Contains(err.Error(), "name") {
		t.Errorf("not all mistakes are said at once: %v", err)
	}
}

// TestSecretsDoNotPrint shows that a set can end up in a log without harm.
func TestSecretsDoNotPrint(t *testing.T) {
	t.Parallel()
	set, err := setup.New(setup.Options{})
	if err != nil {
		t.Fatal(err)
	}
	asJSON, err := json.Marshal(set)
	if err != nil {
		t.Fatal(err)
	}
	seed := set.App.SigningKey.Reveal()
	for _, text := range []string{fmt.Sprintf("%v", set.App), fmt.Sprintf("%+v %#v", set.App, set.App), string(asJSON)} {
		if strings.Contains(text, seed) || !strings.Contains(text, "[secret]") {
			t.Errorf("secret shows, or nothing does: %s", text)
		}
	}
}
