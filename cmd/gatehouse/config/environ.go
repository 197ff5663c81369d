package config

import (
	"reflect"
	"regexp"
	"slices"
	"strings"
)

// prefix begins the name of every variable that is looked at.
const prefix = "GATEHOUSE_"

// otherVariables are variables of Gatehouse that are not of the configuration.
var otherVariables = []string{"GATEHOUSE_CONFIG", "GATEHOUSE_TOKEN", "GATEHOUSE_HOME", "GATEHOUSE_PROVE"}

// kubernetesVariable matches what Kubernetes sets in every container for a service whose name
// begins with gatehouse.
var kubernetesVariable = regexp.MustCompile(`^GATEHOUSE_([A-Z0-9_]+_)?(SERVICE_HOST|SERVICE_PORT(_[A-Z0-9_]+)?|PORT|PORT_[0-9]+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)$`)

// variable returns the name of the variable that sets a path.
func variable(path string) string {
	return prefix + strings.Trim(strings.Map(func(c rune) rune {
		switch {
		case 'a' <= c && c <= 'z':
			return c - 'a' + 'A'
		case 'A' <= c && c <= 'Z', '0' <= c && c <= '9':
			return c
		default:
			return '_'
		}
	}, path), "_")
}

// environment sets what the variables of env (NAME=value) say; they win over the file.
// A list becomes its only element. Elements of maps and lists exist only when the file has them.
func (r *report) environment(f *File, env []string) {
	given := map[string]string{}
	for _, e := range env {
		name, value, _ := strings.Cut(e, "=")
		if strings.HasPrefix(name, prefix) && !ignoredVariable(name) {
			given[name] = value
		}
	}
	if len(given) == 0 {
		return
	}
	paths := map[string]string{}
	var names []string
	walk(reflect.ValueOf(f), leaf{}, func(l leaf) {
		// The keys of match are not the configuration's own.
		if !l.isLeaf() {
			return
		}
		name := variable(l.name)
		names = append(names, name)
		text, ok := given[name]
		if !ok {
			return
		}
		if other, twice := paths[name]; twice {
			r.where[l.path] = place{source: "$" + name}
			r.problem(l.path, "the variable could also mean %s: set it in the file", other)
			return
		}
		paths[name] = l.path
		r.setVariable(l, "$"+name, text)
	})
	for name := range given {
		if _, ok := paths[name]; !ok {
			r.problems = append(r.problems, Problem{File: "$" + name, Message: unknownVariable(name, names)})
		}
	}
}

func (r *report) setVariable(l leaf, source, text string) {
	// What the file says about it no longer counts, nor what is wrong there.
	r.problems = slices.DeleteFunc(r.problems, func(p Problem) bool {
		return p.Path == l.path || strings.HasPrefix(p.Path, l.path+"[")
	})
	r.where[l.path] = place{source: source}
	v := l.value
	v.SetZero()
	if !isScalar(v.Type()) {
		v.Set(reflect.MakeSlice(v.Type(), 1, 1))
		v = v.Index(0)
		r.where[index(l.path, 0)] = place{source: source}
	}
	if err := set(v, text, asVariable, l.tags); err != nil {
		r.problem(l.path, "%s", err)
	}
}

func unknownVariable(name string, names []string) string {
	if s := didYouMean(name, names); strings.HasPrefix(s, "did you mean") {
		return "there is no such setting: " + s
	}
	return "there is no such setting: unset it; docs/configuration.md lists the variables"
}

func ignoredVariable(name string) bool {
	return slices.Contains(otherVariables, name) || strings.HasPrefix(name, "GATEHOUSE_TEST_") || kubernetesVariable.MatchString(name)
}
