// Command adapter starts Gatehouse in the world that storm has set up: it writes
// gatehouse.yaml and the key files it names beside env.json, then becomes the service.
package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"text/template"

	"github.com/gatehouse-nats/gatehouse/bench/rig"
)

// config grants what the yardstick grants, so that the two do the same work.
var config = template.Must(template.New("gatehouse.yaml").Parse(`nats:
  url: {{.NatsURL}}
  callout:
    creds: {{.ServiceCreds}}
    signing_key: file:callout.nk
{{- if .XKeySeed}}
    xkey: file:callout.xk
{{- end}}
  system: { creds: {{.SysCreds}} }
store: sqlite:gatehouse.db
http: { listen: 127.0.0.1:0 }
metrics: { listen: "{{.MetricsListen}}" }
issuers:
  - name: bench
    url: {{.Issuer}}
    audiences: [{{.Audience}}]
    algorithms: [RS256, ES256, EdDSA]
{{- if .SlowIssuer}}
  - name: slow
    url: {{.SlowIssuer}}
    audiences: [{{.Audience}}]
    algorithms: [ES256]
{{- end}}
accounts:
  APP: { id: {{.AppAccount}}, signing_key: file:app.nk }
roles:
  app:
    publish: { allow: ["app.>"] }
    subscribe: { allow: ["_INBOX.>", "app.>"] }
bindings:
  - name: everyone
    issuer: bench
    grant: { account: APP, role: app }
    ttl: 5m
{{- if .SlowIssuer}}
  - name: late
    issuer: slow
    grant: { account: APP, role: app }
    ttl: 5m
{{- end}}
`))

func main() {
	if len(os.Args) != 3 {
		fail(fmt.Errorf("usage: adapter GATEHOUSE ENV.JSON"))
	}
	path, err := write(os.Args[2])
	if err != nil {
		fail(err)
	}
	gatehouse := os.Args[1]
	fail(fmt.Errorf("start %s: %w", gatehouse, syscall.Exec(gatehouse, []string{gatehouse, "serve", "-c", path}, os.Environ())))
}

func fail(err error) {
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}

// write puts the configuration and its keys beside the description of the world and returns
// the configuration's path.
func write(envPath string) (string, error) {
	b, err := os.ReadFile(envPath)
	if err != nil {
		return "", err
	}
	var env rig.Env
	if err := json.Unmarshal(b, &env); err != nil {
		return "", fmt.Errorf("%s: %w", envPath, err)
	}
	dir := filepath.Dir(envPath)
	for name, seed := range map[string]string{
		"callout.nk": env.AuthSKSeed,
		"callout.xk": env.XKeySeed,
		"app.nk":     env.AppSKSeed,
	} {
		if seed == "" {
			continue
		}
		if err := os.WriteFile(filepath.Join(dir, name), []byte(seed+"\n"), 0o600); err != nil {
			return "", err
		}
	}
	path := filepath.Join(dir, "gatehouse.yaml")
	f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		return "", err
	}
	defer f.Close()
	if err := config.Execute(f, env); err != nil {
		return "", err
	}
	return path, f.Close()
}
