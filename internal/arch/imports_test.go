package arch

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"path"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const module = "github.com/gatehouse-nats/gatehouse"

// A goPackage is what the rules read of a package, as go list reports it. Test files are
// left out of all three lists: tests may import what they need.
type goPackage struct {
	ImportPath string
	Name       string
	Imports    []string // named in its own files
	Deps       []string // linked with it, its own imports included
}

// path returns the import path below the module's root; empty for the root package.
func (p goPackage) path() string {
	return strings.TrimPrefix(strings.TrimPrefix(p.ImportPath, module), "/")
}

// among reports whether the package is one of the named ones or below one.
func (p goPackage) among(names []string) bool {
	return slices.ContainsFunc(names, func(name string) bool { return under(p.path(), name) })
}

// A rule says what is wrong with a package, one line for each fault.
type rule func(goPackage) []string

// rules are the import rules of the module.
var rules = []rule{
	standardOnly("policy", "api"),
	apart("callout", "provision", "resolver", "replica"),
	// Which store is used is decided where the service is put together.
	linkedOnlyBy("store/sqlite", "cmd/gatehouse", "store/storetest"),
	linkedOnlyBy("store/postgres", "cmd/gatehouse", "store/storetest"),
	// The embedded server and what starts it must not grow into the service.
	linkedOnlyBy("github.com/nats-io/nats-server/v2/server", "internal/devstack", "cmd/gatehouse"),
	importedOnlyBy("github.com/nats-io/nats-server/v2/server", "internal/devstack"),
	linkedOnlyBy("internal/devstack", "internal/devstack", "cmd/gatehouse"),
	notNamed("util", "utils", "common", "models", "manager", "helper", "helpers"),
}

// standardOnly lets the named packages, not those below them, import the standard library only.
func standardOnly(names ...string) rule {
	return func(p goPackage) (faults []string) {
		if !slices.Contains(names, p.path()) {
			return nil
		}
		for _, i := range p.Imports {
			if !standard(i) {
				faults = append(faults, fmt.Sprintf("%s imports %s: it may import the standard library only", p.path(), local(i)))
			}
		}
		return faults
	}
}

// standard reports whether an import path is of the standard library: no others have a first
// element without a dot.
func standard(importPath string) bool {
	first, _, _ := strings.Cut(importPath, "/")
	return !strings.Contains(first, ".")
}

// apart keeps the named packages, and all below them, from depending on each other.
func apart(names ...string) rule {
	return func(p goPackage) (faults []string) {
		for _, own := range names {
			if !under(p.path(), own) {
				continue
			}
			for _, other := range names {
				if i := slices.IndexFunc(p.Deps, func(d string) bool { return under(local(d), other) }); other != own && i >= 0 {
					faults = append(faults, fmt.Sprintf("%s depends on %s: %s never depend on each other",
						p.path(), local(p.Deps[i]), strings.Join(names, ", ")))
				}
			}
		}
		return faults
	}
}

// linkedOnlyBy lets only the named packages, and those below them, depend on target, be it
// through others.
func linkedOnlyBy(target string, names ...string) rule {
	return func(p goPackage) []string {
		if p.among(names) || !slices.ContainsFunc(p.Deps, func(d string) bool { return local(d) == target }) {
			return nil
		}
		return []string{fmt.Sprintf("%s depends on %s: only %s may", p.path(), target, strings.Join(names, ", "))}
	}
}

// importedOnlyBy lets only the named packages, and those below them, import target themselves.
func importedOnlyBy(target string, names ...string) rule {
	return func(p goPackage) []string {
		if p.among(names) || !slices.ContainsFunc(p.Imports, func(i string) bool { return local(i) == target }) {
			return nil
		}
		return []string{fmt.Sprintf("%s imports %s: only %s may", p.path(), target, strings.Join(names, ", "))}
	}
}

// notNamed refuses names that say nothing of what a package is for.
func notNamed(names ...string) rule {
	return func(p goPackage) []string {
		for _, name := range []string{p.Name, path.Base(p.path())} {
			if slices.Contains(names, name) {
				return []string{fmt.Sprintf("%s is named %s: name it for what it provides", p.path(), name)}
			}
		}
		return nil
	}
}

// local returns the path of a package of this module below its root, and any other as it is.
func local(importPath string) string { return strings.TrimPrefix(importPath, module+"/") }

// under reports whether a path is the folder or below it.
func under(path, folder string) bool { return path == folder || strings.HasPrefix(path, folder+"/") }

// check returns what is wrong with the packages.
func check(packages []goPackage) (faults []string) {
	for _, p := range packages {
		for _, r := range rules {
			faults = append(faults, r(p)...)
		}
	}
	return faults
}

func TestImportRules(t *testing.T) {
	packages, err := list()
	if err != nil {
		t.Fatal(err)
	}
	if !slices.ContainsFunc(packages, func(p goPackage) bool { return p.path() == "policy" }) {
		t.Fatalf("go list did not see package policy among %d packages: the rules would check nothing", len(packages))
	}
	for _, fault := range check(packages) {
		t.Error(fault)
	}
}

// list returns all packages of this module; bench and tools are modules of their own.
func list() ([]goPackage, error) {
	cmd := exec.Command("go", "list", "-json=ImportPath,Name,Imports,Deps", module+"/...")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("%s: %w\n%s", cmd, err, &stderr)
	}
	var packages []goPackage
	for dec := json.NewDecoder(bytes.NewReader(out)); ; {
		var p goPackage
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			return packages, nil
		} else if err != nil {
			return nil, err
		}
		packages = append(packages, p)
	}
}

func TestRulesCatchViolations(t *testing.T) {
	t.Parallel()
	const server = "github.com/nats-io/nats-server/v2/server"
	for name, test := range map[string]struct {
		path    string
		name    string   // of the package; the path's last element when empty
		imports []string // its own; ./ stands for this module
		through []string // linked through others
		want    []string
	}{
		"the root package with the standard library": {
			path: ".", name: "gatehouse", imports: []string{"context", "net/http"},
		},
		"policy with the standard library":      {path: "policy", imports: []string{"net/netip", "time"}},
		"policy with a package of the module":   {path: "policy", imports: []string{"./api"}, want: []string{"policy imports api: it may import the standard library only"}},
		"policy with a third-party package":     {path: "policy", imports: []string{"golang.org/x/sync/errgroup"}, want: []string{"policy imports golang.org/x/sync/errgroup: it may import the standard library only"}},
		"api with policy":                       {path: "api", imports: []string{"./policy"}, want: []string{"api imports policy: it may import the standard library only"}},
		"a package below policy":                {path: "policy/oidc", imports: []string{"./policy", "github.com/go-jose/go-jose/v4"}},
		"callout with what it needs":            {path: "callout", imports: []string{"./policy", "./api", "./store"}},
		"callout with resolver":                 {path: "callout", imports: []string{"./resolver"}, want: []string{"callout depends on resolver: callout, provision, resolver, replica never depend on each other"}},
		"resolver with provision, through more": {path: "resolver", through: []string{"./provision/web"}, want: []string{"resolver depends on provision/web: callout, provision, resolver, replica never depend on each other"}},
		"below provision with callout":          {path: "provision/web", imports: []string{"./callout"}, want: []string{"provision/web depends on callout: callout, provision, resolver, replica never depend on each other"}},
		"provision with a package below it":     {path: "provision", imports: []string{"./provision/web"}},
		"a name that only begins alike":         {path: "callout", imports: []string{"./resolverconfig"}},
		"the command with both stores":          {path: "cmd/gatehouse", name: "main", imports: []string{"./store/sqlite", "./store/postgres", "./internal/devstack"}, through: []string{server}},
		"the conformance suite with both stores": {
			path: "store/storetest", imports: []string{"./store/sqlite", "./store/postgres"},
		},
		"a service package with a concrete store":          {path: "provision", imports: []string{"./store/postgres"}, want: []string{"provision depends on store/postgres: only cmd/gatehouse, store/storetest may"}},
		"a service package with a store through the suite": {path: "callout", through: []string{"./store/sqlite"}, want: []string{"callout depends on store/sqlite: only cmd/gatehouse, store/storetest may"}},
		"the development stack with the server":            {path: "internal/devstack", imports: []string{server}},
		"what tests share of the development stack":        {path: "internal/devstack/devtest", imports: []string{"./internal/devstack"}, through: []string{server}},
		"a service package with the server": {
			path: "resolver", imports: []string{server},
			want: []string{
				"resolver depends on " + server + ": only internal/devstack, cmd/gatehouse may",
				"resolver imports " + server + ": only internal/devstack may",
			},
		},
		"the command with the server itself": {path: "cmd/gatehouse", imports: []string{server}, want: []string{"cmd/gatehouse imports " + server + ": only internal/devstack may"}},
		"a service package with the development stack": {
			path: "callout", imports: []string{"./internal/devstack"},
			want: []string{"callout depends on internal/devstack: only internal/devstack, cmd/gatehouse may"},
		},
		"a folder that says nothing":  {path: "internal/util", want: []string{"internal/util is named util: name it for what it provides"}},
		"a package that says nothing": {path: "store/shared", name: "common", want: []string{"store/shared is named common: name it for what it provides"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := goPackage{ImportPath: path.Join(module, test.path), Name: test.name, Imports: full(test.imports)}
			if p.Name == "" {
				p.Name = path.Base(test.path)
			}
			p.Deps = slices.Concat(p.Imports, full(test.through))
			if diff := cmp.Diff(test.want, check([]goPackage{p})); diff != "" {
				t.Errorf("faults (-want +got):\n%s", diff)
			}
		})
	}
}

// full returns import paths with ./ replaced by the module's path.
func full(paths []string) (all []string) {
	for _, p := range paths {
		if rest, ok := strings.CutPrefix(p, "./"); ok {
			p = module + "/" + rest
		}
		all = append(all, p)
	}
	return all
}
