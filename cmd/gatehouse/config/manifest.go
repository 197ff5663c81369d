package config

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/goccy/go-yaml"
	"github.com/nats-io/nkeys"

	"github.com/gatehouse-nats/gatehouse/account"
	"github.com/gatehouse-nats/gatehouse/policy"
)

// ManifestFile is what a file of accounts for gatehouse apply says. Its tags are those of [File].
type ManifestFile struct {
	// The accounts.
	Accounts []*Manifest `yaml:"accounts" required:"the accounts, each with name, plan and owner"`
}

// Manifest is what an account shall be. What is left out shall not be there, but for members.
type Manifest struct {
	// Its name.
	Name string `yaml:"name" required:"the name of the account"`
	// The name of its plan.
	Plan string `yaml:"plan" required:"the name of its plan"`
	// Who owns it.
	Owner ManifestOwner `yaml:"owner"`
	// What it is for.
	Description string `yaml:"description"`
	// Tags.
	Tags []string `yaml:"tags"`
	// Limits in place of the plan's.
	Limits ManifestLimits `yaml:"limits"`
	// Who is in it besides the owner. Without this key members are not looked at.
	Members []*ManifestMember `yaml:"members"`
	// What it offers to others.
	Exports []*ManifestExport `yaml:"exports"`
	// What it uses of others.
	Imports []*ManifestImport `yaml:"imports"`
}

// ManifestOwner is an identity.
type ManifestOwner struct {
	// Name or URL of its issuer.
	Issuer string `yaml:"issuer" required:"the name or the URL of the owner's issuer"`
	// Its sub.
	Subject string `yaml:"subject" required:"the sub of the owner"`
}

// ManifestLimits are limits in place of the plan's.
type ManifestLimits struct {
	Connections   Quota                     `yaml:"connections"`
	LeafNodes     Quota                     `yaml:"leaf_nodes"`
	Subscriptions Quota                     `yaml:"subscriptions"`
	Payload       Quota                     `yaml:"payload"`
	Data          Quota                     `yaml:"data"`
	Imports       Quota                     `yaml:"imports"`
	Exports       Quota                     `yaml:"exports"`
	JetStream     PlanJetStream             `yaml:"jetstream"`
	Tiers         map[string]*PlanJetStream `yaml:"tiers"`
}

// ManifestMember is who has a role.
type ManifestMember struct {
	// The role: one of the plan, or owner.
	Role string `yaml:"role" required:"the role"`
	// Name or URL of the issuer.
	Issuer string `yaml:"issuer" required:"the name or the URL of the issuer"`
	// The sub; or claims.
	Subject string `yaml:"subject"`
	// Claims that whoever is meant has.
	Match map[string][]MatchValue `yaml:"match"`
}

// ManifestExport is what an account offers.
type ManifestExport struct {
	Name        string `yaml:"name" required:"a name"`
	Subject     string `yaml:"subject" required:"the subject"`
	Type        string `yaml:"type" required:"stream or service" enum:"stream service"`
	Private     bool   `yaml:"private" default:"false"`
	Response    string `yaml:"response" enum:"Singleton Stream Chunked"`
	Description string `yaml:"description"`
}

// ManifestImport is what an account uses of another.
type ManifestImport struct {
	Name string `yaml:"name" required:"a name"`
	// Name or public key of the account that exports.
	From    string `yaml:"from" required:"the account that exports"`
	Subject string `yaml:"subject" required:"the subject in that account"`
	Local   string `yaml:"local"`
	Type    string `yaml:"type" required:"stream or service" enum:"stream service"`
	Share   bool   `yaml:"share" default:"false"`
}

// maxManifests bounds the files of a folder.
const maxManifests = 10_000

// ReadManifests reads the accounts of a file, or of all files of a folder that end in .yaml or .yml, and checks them whole. Accounts
// that they import from and that are not among them are left to whoever knows them, who says with the places where they are
// named. The error is of type [Errors].
func ReadManifests(path string) ([]account.Manifest, ManifestPlaces, error) {
	files := []string{path}
	if info, err := os.Stat(path); err == nil && info.IsDir() {
		files = nil
		entries, err := os.ReadDir(path)
		if err != nil {
			return nil, nil, Errors{{File: path, Message: "cannot be read: " + err.Error()}}
		}
		for _, e := range entries {
			if ext := filepath.Ext(e.Name()); !e.IsDir() && (ext == ".yaml" || ext == ".yml") {
				files = append(files, filepath.Join(path, e.Name()))
			}
		}
		if len(files) == 0 || len(files) > maxManifests {
			return nil, nil, Errors{{File: path, Message: fmt.Sprintf("holds %d files that end in .yaml or .yml: give 1 to %d", len(files), maxManifests)}}
		}
	}
	var all []account.Manifest
	var places ManifestPlaces
	var problems Errors
	for _, file := range files {
		r := newReport(file)
		list := r.manifests(file)
		for i := range list {
			all, places = append(all, list[i]), append(places, manifestPlace{r, index("accounts", i)})
		}
		problems = append(problems, r.problems...)
	}
	if len(problems) == 0 {
		checkManifests(all, places)
		for i, p := range places {
			if i == 0 || p.report != places[i-1].report {
				problems = append(problems, p.report.problems...)
			}
		}
	}
	if len(problems) > 0 {
		sortProblems(problems)
		return nil, nil, problems
	}
	return all, places, nil
}

// ManifestPlaces is where manifests were written, in their order.
type ManifestPlaces []manifestPlace

// From returns a problem with the account from which a manifest imports, both by their indexes, where the file names it.
func (p ManifestPlaces) From(manifest, imported int, format string, args ...any) Problem {
	at := p[manifest]
	return at.report.at(join(index(join(at.path, "imports"), imported), "from"), format, args)
}

// manifestPlace is where a manifest was written.
type manifestPlace struct {
	report *report
	path   string
}

// manifests decodes a file.
func (r *report) manifests(file string) []account.Manifest {
	r.such = "accounts:"
	data, err := readBounded(file)
	if err != nil {
		r.whole("cannot be read: %s", err)
		return nil
	}
	f := &ManifestFile{}
	root := parseYAML(data, r)
	if root != nil {
		r.decodeBlock("", root, reflect.ValueOf(f).Elem())
	}
	if len(r.problems) == 0 || root != nil {
		r.missing(f, "")
	}
	var list []account.Manifest
	for i, m := range f.Accounts {
		if m != nil {
			list = append(list, r.manifest(index("accounts", i), m))
		}
	}
	return list
}

// manifest returns what a mapping says.
func (r *report) manifest(at string, m *Manifest) account.Manifest {
	out := account.Manifest{
		Name: m.Name, Plan: m.Plan, Owner: account.ManifestPerson(m.Owner), Description: m.Description, Tags: m.Tags,
		Limits: r.manifestLimits(join(at, "limits"), &m.Limits),
	}
	for i, who := range m.Members {
		here := index(join(at, "members"), i)
		member := account.ManifestMember{Role: who.Role, ManifestPerson: account.ManifestPerson{Issuer: who.Issuer, Subject: who.Subject}}
		if (who.Subject == "") == (len(who.Match) == 0) {
			r.problem(here, "says who by subject or by match: give one of them")
		}
		if len(who.Match) > 0 {
			member.Match = r.manifestMatch(join(here, "match"), who.Match)
		}
		out.Members = append(out.Members, member)
	}
	for _, e := range m.Exports {
		out.Exports = append(out.Exports, account.Export{
			Name: e.Name, Subject: e.Subject, Type: account.ExportType(e.Type), Private: e.Private, Response: e.Response, Description: e.Description,
		})
	}
	for _, i := range m.Imports {
		out.Imports = append(out.Imports, account.Import{Name: i.Name, Account: i.From, Subject: i.Subject, Local: i.Local, Type: account.ExportType(i.Type), Share: i.Share})
	}
	return out
}

func (r *report) manifestMatch(at string, match map[string][]MatchValue) string {
	claims := map[string][]any{}
	for claim, values := range match {
		for _, v := range values {
			switch {
			case v.Bool != nil:
				claims[claim] = append(claims[claim], *v.Bool)
			case v.Text != nil:
				claims[claim] = append(claims[claim], v.text)
			default:
				claims[claim] = append(claims[claim], json.Number(strings.TrimPrefix(v.text, "+")))
			}
		}
	}
	text, err := policy.FormatMatch(claims)
	if err == nil {
		_, err = policy.ParseMatch(text)
	}
	if err != nil {
		r.problem(at, "%s", err)
	}
	return text
}

func (r *report) manifestLimits(at string, l *ManifestLimits) *account.LimitsPatch {
	if !r.given(at) {
		return nil
	}
	out := &account.LimitsPatch{}
	for _, f := range []struct {
		key  string
		from Quota
		to   **int64
	}{
		{"connections", l.Connections, &out.Connections}, {"leaf_nodes", l.LeafNodes, &out.LeafNodes}, {"subscriptions", l.Subscriptions, &out.Subscriptions},
		{"payload", l.Payload, &out.Payload}, {"data", l.Data, &out.Data}, {"imports", l.Imports, &out.Imports}, {"exports", l.Exports, &out.Exports},
	} {
		if r.given(join(at, f.key)) {
			n := int64(f.from)
			*f.to = &n
		}
	}
	if r.given(join(at, "jetstream")) {
		js := l.JetStream.limits()
		out.JetStream = &js
	}
	for tier, js := range l.Tiers {
		if out.Tiers == nil {
			out.Tiers = map[string]account.JetStream{}
		}
		out.Tiers[tier] = js.limits()
	}
	if reflect.ValueOf(*out).IsZero() {
		r.problem(at, "is empty: give a limit, or leave the key out")
	}
	return out
}

// checkManifests reports what is wrong with the accounts by themselves and with one another.
func checkManifests(all []account.Manifest, places ManifestPlaces) {
	records, byName := make([]*account.Account, len(all)), map[string]int{}
	for i := range all {
		m, at := &all[i], places[i]
		if first, twice := byName[account.Key(m.Name)]; twice {
			other := places[first].report.at(join(places[first].path, "name"), "", nil)
			at.report.problem(join(at.path, "name"), "is that of another account, at %s:%d", other.File, other.Line)
		}
		byName[account.Key(m.Name)] = i
		if err := account.CheckName(m.Name); err != nil {
			at.report.problem(join(at.path, "name"), "%s", err)
		}
		if err := account.CheckTexts(m.Description, m.Tags); err != nil {
			at.report.problem(at.path, "%s", err)
		}
		if m.Limits != nil {
			if err := (account.Limits{Connections: account.NoLimit, LeafNodes: account.NoLimit}).With(m.Limits).Check(); err != nil {
				at.report.problem(join(at.path, "limits"), "%s", err)
			}
		}
		records[i] = &account.Account{ID: madeID(), Name: m.Name, State: account.Active, Exports: m.Exports, Imports: slices.Clone(m.Imports)}
	}
	known := map[string]*account.Account{}
	for _, a := range records {
		known[a.ID] = a
		for n := range a.Imports {
			if i, is := byName[account.Key(a.Imports[n].Account)]; is {
				a.Imports[n].Account = records[i].ID
			}
		}
	}
	for i, a := range records {
		for _, p := range account.CheckExchange(a, func(id string) (*account.Account, bool) { return known[id], known[id] != nil }, noLimits(a), time.Time{}) {
			elsewhere := p.List == "imports" && p.Index >= 0 && known[a.Imports[p.Index].Account] == nil && p.Field == "account"
			if p.Warning || p.Field == "token" || elsewhere {
				continue // tokens are made, and other accounts are known where it is applied
			}
			at := places[i].path
			if p.List != "claims" {
				at = join(at, p.List)
			}
			if p.Index >= 0 {
				at = index(at, p.Index)
				if field := map[string]string{"account": "from"}[p.Field]; field != "" {
					at = join(at, field)
				} else if p.Field != "" {
					at = join(at, p.Field)
				}
			}
			places[i].report.problem(at, "%s", p.Text)
		}
	}
}

func noLimits(a *account.Account) account.Limits {
	return account.Limits{Imports: account.NoLimit, Exports: account.NoLimit}.With(a.Limits)
}

// madeID returns the public key of an account that is nowhere.
func madeID() string {
	pair, err := nkeys.CreateAccount()
	if err != nil {
		panic(err) // there is no randomness
	}
	public, err := pair.PublicKey()
	if err != nil {
		panic(err)
	}
	return public
}

// WriteManifest returns the file of one account.
func WriteManifest(m account.Manifest) ([]byte, error) {
	entry := yaml.MapSlice{}
	put := func(to *yaml.MapSlice, key string, value any) {
		if v := reflect.ValueOf(value); !v.IsZero() && (v.Kind() != reflect.Slice || v.Len() > 0) {
			*to = append(*to, yaml.MapItem{Key: key, Value: value})
		}
	}
	put(&entry, "name", m.Name)
	put(&entry, "plan", m.Plan)
	put(&entry, "owner", yaml.MapSlice{{Key: "issuer", Value: m.Owner.Issuer}, {Key: "subject", Value: m.Owner.Subject}})
	put(&entry, "description", m.Description)
	put(&entry, "tags", m.Tags)
	put(&entry, "limits", writtenLimits(m.Limits))
	var members, exports, imports []yaml.MapSlice
	for _, who := range m.Members {
		member := yaml.MapSlice{{Key: "role", Value: who.Role}, {Key: "issuer", Value: who.Issuer}}
		put(&member, "subject", who.Subject)
		if who.Match != "" {
			put(&member, "match", policy.MatchClaims(who.Match))
		}
		members = append(members, member)
	}
	for _, e := range m.Exports {
		export := yaml.MapSlice{{Key: "name", Value: e.Name}, {Key: "subject", Value: e.Subject}, {Key: "type", Value: string(e.Type)}}
		put(&export, "private", e.Private)
		put(&export, "response", e.Response)
		put(&export, "description", e.Description)
		exports = append(exports, export)
	}
	for _, i := range m.Imports {
		imported := yaml.MapSlice{{Key: "name", Value: i.Name}, {Key: "from", Value: i.Account}, {Key: "subject", Value: i.Subject}}
		put(&imported, "local", i.Local)
		put(&imported, "type", string(i.Type))
		put(&imported, "share", i.Share)
		imports = append(imports, imported)
	}
	put(&entry, "members", members)
	put(&entry, "exports", exports)
	put(&entry, "imports", imports)
	return yaml.MarshalWithOptions(yaml.MapSlice{{Key: "accounts", Value: []yaml.MapSlice{entry}}}, yaml.Indent(2), yaml.IndentSequence(true))
}

// writtenLimits returns limits as they are written.
func writtenLimits(p *account.LimitsPatch) yaml.MapSlice {
	var out yaml.MapSlice
	if p == nil {
		return out
	}
	for _, f := range []struct {
		key   string
		value *int64
	}{
		{"connections", p.Connections}, {"leaf_nodes", p.LeafNodes}, {"subscriptions", p.Subscriptions}, {"payload", p.Payload},
		{"data", p.Data}, {"imports", p.Imports}, {"exports", p.Exports},
	} {
		if f.value != nil {
			out = append(out, yaml.MapItem{Key: f.key, Value: written(*f.value)})
		}
	}
	jetstream := func(j account.JetStream) yaml.MapSlice {
		return yaml.MapSlice{
			{Key: "memory", Value: written(j.Memory)}, {Key: "disk", Value: written(j.Disk)},
			{Key: "streams", Value: written(j.Streams)}, {Key: "consumers", Value: written(j.Consumers)},
		}
	}
	if p.JetStream != nil {
		out = append(out, yaml.MapItem{Key: "jetstream", Value: jetstream(*p.JetStream)})
	}
	var tiers yaml.MapSlice
	for _, tier := range sorted(p.Tiers) {
		tiers = append(tiers, yaml.MapItem{Key: tier, Value: jetstream(p.Tiers[tier])})
	}
	if tiers != nil {
		out = append(out, yaml.MapItem{Key: "tiers", Value: tiers})
	}
	return out
}

// written returns a limit as it is written: a number, or a text such as 1GiB or the word for none.
func written(limit int64) any {
	text := Quota(limit).String()
	if number, err := strconv.ParseInt(text, 10, 64); err == nil {
		return number
	}
	return text
}
