package setup

import (
	_ "embed"
	"regexp"
	"strconv"
	"strings"
	"text/template"
)

//go:embed templates/gatehouse.yaml.tmpl
var serviceTemplate string

//go:embed templates/offline.md.tmpl
var offlineTemplate string

var (
	serviceConf = template.Must(template.New("gatehouse.yaml").Funcs(template.FuncMap{
		"y":    yamlScalar,
		"file": func(path string) string { return yamlScalar("file:" + path) },
		"list": yamlList,
	}).Parse(serviceTemplate))
	offlineReadme = template.Must(template.New("README.md").Parse(offlineTemplate))
)

var (
	plainScalar = regexp.MustCompile(`^[A-Za-z0-9/_.][A-Za-z0-9/_.:@?=+~-]*$`)
	yamlWord    = regexp.MustCompile(`(?i)^(true|false|yes|no|on|off|y|n|null|[0-9._:+e-]+)$`)
)

// yamlScalar returns s as a YAML string: plain where it reads as one everywhere, in flow
// collections too, otherwise in double quotes, whose escapes Go and YAML share.
func yamlScalar(s string) string {
	if plainScalar.MatchString(s) && !yamlWord.MatchString(s) && !strings.HasSuffix(s, ":") {
		return s
	}
	return strconv.Quote(s)
}

func yamlList(items []string) string {
	quoted := make([]string, len(items))
	for i, item := range items {
		quoted[i] = yamlScalar(item)
	}
	return "[" + strings.Join(quoted, ", ") + "]"
}

// serviceFile is what gatehouse.yaml says; paths are relative to it or absolute.
type serviceFile struct {
	URL, CA                        string
	CalloutCreds, CalloutKey, XKey string
	SystemCreds                    string
	Lobby, LobbyKey                string // the lobby account's id and key; empty without an operator
	OperatorKey                    string
	SealKey                        string // empty where accounts of sign-up are not prepared for
	Resolver                       string
	AccountJWTs                    []string // files, where servers do not keep them
	OperatorIdentity               bool     // there is only the operator's identity key, which is not named
	// Users says that there is no operator, and then these count too.
	Users                                    *FileUsers
	Callout, System, ServiceNkey, SystemNkey string
	Accounts                                 []serviceAccount
	Service
}

type serviceAccount struct {
	Name, ID, Key string
	Notes         []string // lines of comment
}

// FirstAccount returns the account that examples use, as a YAML string.
func (f serviceFile) FirstAccount() string {
	if len(f.Accounts) == 0 {
		return "APP"
	}
	return yamlScalar(f.Accounts[0].Name)
}

// ServiceConfig returns gatehouse.yaml.
func (s *Set) ServiceConfig() string {
	f := serviceFile{
		URL: s.ClientURL(), CA: s.options.TLSCA,
		CalloutCreds: "creds/callout.creds", CalloutKey: "keys/callout.nk",
		SystemCreds: "creds/system.creds", OperatorKey: "keys/operator-signing.nk",
		Accounts: []serviceAccount{{Name: s.App.Name, ID: s.App.ID, Key: s.appKeyFile()}},
		Service:  s.options.Service,
		Users:    s.Users, Callout: s.Callout.Name, System: s.System.Name,
		ServiceNkey: "keys/service.nk", SystemNkey: "keys/system.nk",
	}
	if s.XKey != nil {
		f.XKey = "keys/callout.xk"
	}
	if s.Users == nil && s.options.Resolver != fullResolver {
		f.Resolver = s.options.Resolver
		for _, a := range s.accounts() {
			f.AccountJWTs = append(f.AccountJWTs, a.jwtFile())
		}
	}
	if s.Users == nil {
		f.Lobby, f.LobbyKey = s.Lobby.ID, "keys/lobby.nk"
		f.SealKey = "keys/seal.key"
	}
	return render(serviceConf, f)
}

// offlineReadme returns the text that explains the folder offline.
func (s *Set) offlineReadme(dir string) string {
	text := offlineReadme
	if s.Users != nil {
		text = offlineConfigReadme
	}
	return render(text, struct {
		*Set
		URL, Operator, AppFile, Dir, SystemUser, AppUser string
	}{s, s.ClientURL(), s.options.Name, strings.ToLower(s.App.Name) + ".nk", dir, s.emergencySystemUser, s.emergencyAppUser})
}
