package setup

import (
	_ "embed"
	"fmt"
	"net"
	"path/filepath"
	"strconv"
	"strings"
	"text/template"

	"github.com/gatehouse-nats/gatehouse/api"
)

//go:embed templates/nats-server.conf.tmpl
var serverTemplate string

var confFuncs = template.FuncMap{"q": confQuote, "list": confList}

var serverConf = template.Must(template.New("nats-server.conf").Funcs(confFuncs).Parse(serverTemplate))

var serverPreload = template.Must(template.New("preload.conf").Funcs(confFuncs).Parse(`resolver_preload {
{{- range .}}
  # {{.Name}}
  {{.ID}}: {{q .JWT}}
{{- end}}
}
`))

// accountsURL returns where servers fetch accounts from Gatehouse.
func (o Options) accountsURL() string {
	host, port, _ := net.SplitHostPort(o.HTTP)
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		host = "127.0.0.1"
	}
	return "http://" + net.JoinHostPort(host, port) + api.AccountsPath
}

// confQuote returns s as a string of nats-server's configuration language, whose escapes
// are \\ and \" here (control characters never get this far).
func confQuote(s string) string {
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(s) + `"`
}

// confList returns items as a list of nats-server's configuration language.
func confList(items []string) string {
	quoted := make([]string, len(items))
	for i, item := range items {
		quoted[i] = confQuote(item)
	}
	return "[" + strings.Join(quoted, ", ") + "]"
}

// ServerFile returns the name of server i's configuration file, counted from 0.
func (s *Set) ServerFile(i int) string {
	if s.options.Servers == 1 {
		return "nats-server.conf"
	}
	return fmt.Sprintf("server-%d.conf", i+1)
}

// dataFolder returns where server i keeps data of a kind, below the folder of the set.
func (s *Set) dataFolder(kind string, i int) string {
	if s.options.Servers == 1 {
		return kind
	}
	return fmt.Sprintf("%s/server-%d", kind, i+1)
}

func (s *Set) dataFolders() []string {
	var folders []string
	for i := range s.options.Servers {
		if s.Users == nil && s.options.Resolver == fullResolver {
			folders = append(folders, s.dataFolder("jwt", i))
		}
		if !s.options.NoJetStream {
			folders = append(folders, s.dataFolder("jetstream", i))
		}
	}
	return folders
}

// TokenCookie is the name of the cookie from which the servers take a token that a WebSocket
// client does not send itself.
const TokenCookie = "gatehouse_token"

// ServerConfig returns the configuration of server i, counted from 0, for a set that lies
// in the folder dir. Give an absolute path: nats-server resolves relative ones from its
// working directory.
func (s *Set) ServerConfig(i int, dir string) string {
	o, ports := s.options, s.options.Ports[i]
	inDir := func(path string) string { return filepath.Join(dir, filepath.FromSlash(path)) }
	data := struct {
		Name, File                 string
		Number, Servers            int
		Client, WebSocket, Monitor string
		TLS                        bool
		Cert, Key                  string
		Origins                    []string
		JetStream                  bool
		JetStreamDir, ResolverDir  string
		Resolver, AccountsURL      string
		Cluster, ClusterListen     string
		RoutePassword              string
		Routes                     []string
		Operator, Sentinel         string
		System                     Account
		Accounts                   []Account
		TokenCookie                string
		Users                      *FileUsers // nil with an operator
		Issuer, XKey               string     // without an operator
		App, Callout               string
	}{
		Name:      fmt.Sprintf("%s-%d", o.Name, i+1),
		File:      inDir(s.ServerFile(i)),
		Number:    i + 1,
		Servers:   o.Servers,
		Client:    address(o.Listen, ports.Client),
		WebSocket: address(o.Listen, ports.WebSocket),
		Monitor:   address("127.0.0.1", ports.Monitor),
		TLS:       o.TLSCert != "", Cert: o.TLSCert, Key: o.TLSKey,
		Origins:   o.Origins,
		JetStream: !o.NoJetStream, JetStreamDir: inDir(s.dataFolder("jetstream", i)),
		ResolverDir: inDir(s.dataFolder("jwt", i)),
		Resolver:    o.Resolver, AccountsURL: o.accountsURL(),
		Operator: s.OperatorJWT, Sentinel: s.SentinelJWT,
		System: s.System, Accounts: s.accounts(),
		TokenCookie: TokenCookie,
		Users:       s.Users, Issuer: s.issuer, XKey: s.xkeyPublic, App: s.App.Name, Callout: s.Callout.Name,
	}
	if o.Servers > 1 {
		data.Cluster, data.RoutePassword = o.Name, s.routePassword
		data.ClusterListen = address("127.0.0.1", ports.Cluster)
		for j, p := range o.Ports {
			if j != i {
				data.Routes = append(data.Routes, fmt.Sprintf("nats-route://route:%s@%s", s.routePassword, address("127.0.0.1", p.Cluster)))
			}
		}
	}
	return render(serverConf, data)
}

func address(host string, port int) string { return net.JoinHostPort(host, strconv.Itoa(port)) }

// render fills in a template of this package. A failure is a mistake in the template,
// which every test of the package would hit.
func render(t *template.Template, data any) string {
	var b strings.Builder
	if err := t.Execute(&b, data); err != nil {
		panic(err)
	}
	return b.String()
}
