package account

import (
	"cmp"
	"fmt"
	"reflect"
	"slices"
	"strings"
)

// Manifest is what an account shall be, as code. What is left out shall not be there, but for members.
type Manifest struct {
	Name        string
	Plan        string
	Owner       ManifestPerson
	Description string
	Tags        []string
	Limits      *LimitsPatch // in place of the plan's
	// Members are those without an end who were not invited, the owner's role as such left aside; nil: whoever there is.
	Members []ManifestMember
	Exports []Export
	Imports []Import // Account is a name or an id; no token
}

// ManifestPerson names an identity.
type ManifestPerson struct {
	Issuer  string // its name or URL
	Subject string
}

// ManifestMember is an identity or, with a match, whoever of an issuer has such claims.
type ManifestMember struct {
	Role string
	ManifestPerson
	Match string // as policy.FormatMatch makes it
}

// ManifestChange is one difference between an account and its manifest.
type ManifestChange struct {
	Field    string // such as description, member or export "feed"
	From, To string // empty: it is not there
}

// given stands for what there is nothing to say of but that it is there.
const given = "there"

func (c ManifestChange) String() string {
	switch {
	case c.From == "" && c.To == given:
		return "+ " + c.Field
	case c.From == given && c.To == "":
		return "- " + c.Field
	case c.From == "":
		return "+ " + c.Field + ": " + c.To
	case c.To == "":
		return "- " + c.Field + ": " + c.From
	default:
		return "~ " + c.Field + ": " + c.From + " -> " + c.To
	}
}

// Changes returns what has to change for an account that is as m to be as want; none when it is.
func (m *Manifest) Changes(want *Manifest) []ManifestChange {
	var all []ManifestChange
	add := func(field, from, to string) {
		if from != to {
			all = append(all, ManifestChange{Field: field, From: from, To: to})
		}
	}
	add("plan", m.Plan, want.Plan)
	add("owner", m.Owner.String(), want.Owner.String())
	add("description", quoted(m.Description), quoted(want.Description))
	add("tags", strings.Join(m.Tags, ", "), strings.Join(want.Tags, ", "))
	all = append(all, named("limit ", m.Limits.fields(), want.Limits.fields())...)
	if want.Members != nil {
		all = append(all, named("member ", members(m.Members), members(want.Members))...)
	}
	all = append(all, named("export ", exports(m.Exports), exports(want.Exports))...)
	return append(all, named("import ", imports(m.Imports), imports(want.Imports))...)
}

// String returns whom the manifest means; empty: nobody.
func (p ManifestPerson) String() string {
	if p == (ManifestPerson{}) {
		return ""
	}
	return p.Subject + " of " + p.Issuer
}

// String returns who is meant, with the role.
func (m ManifestMember) String() string {
	who := m.ManifestPerson.String()
	if m.Match != "" {
		who = m.Match + " of " + m.Issuer
	}
	return m.Role + ": " + who
}

func quoted(text string) string {
	if text == "" {
		return ""
	}
	return fmt.Sprintf("%q", text)
}

// named compares what has names, in the order of the names.
func named(kind string, from, to map[string]string) []ManifestChange {
	var all []ManifestChange
	for name, value := range from {
		if to[name] != value {
			all = append(all, ManifestChange{Field: kind + name, From: value, To: to[name]})
		}
	}
	for name, value := range to {
		if _, is := from[name]; !is {
			all = append(all, ManifestChange{Field: kind + name, To: value})
		}
	}
	slices.SortFunc(all, func(a, b ManifestChange) int { return cmp.Compare(a.Field, b.Field) })
	return all
}

func members(list []ManifestMember) map[string]string {
	all := map[string]string{}
	for _, m := range list {
		all[m.String()] = given
	}
	return all
}

func exports(list []Export) map[string]string {
	all := map[string]string{}
	for _, e := range list {
		text := string(e.Type) + " " + e.Subject
		if e.Private {
			text += ", private"
		}
		if e.Response != "" {
			text += ", response " + e.Response
		}
		if e.Description != "" {
			text += ", " + quoted(e.Description)
		}
		all[quoted(e.Name)] = text
	}
	return all
}

func imports(list []Import) map[string]string {
	all := map[string]string{}
	for _, i := range list {
		text := string(i.Type) + " " + i.Subject + " of " + i.Account
		if i.Local != "" {
			text += " as " + i.Local
		}
		if i.Share {
			text += ", shared"
		}
		all[quoted(i.Name)] = text
	}
	return all
}

// fields returns the limits that a patch gives, by the names that JSON has for them.
func (p *LimitsPatch) fields() map[string]string {
	all := map[string]string{}
	if p == nil {
		return all
	}
	v := reflect.ValueOf(*p)
	for i := range v.NumField() {
		name, _, _ := strings.Cut(v.Type().Field(i).Tag.Get("json"), ",")
		switch f := v.Field(i).Interface().(type) {
		case *int64:
			if f != nil {
				all[name] = fmt.Sprint(*f)
			}
		case *JetStream:
			if f != nil {
				all[name] = fmt.Sprintf("%+v", *f)
			}
		case map[string]JetStream:
			for tier, js := range f {
				all[name+" "+tier] = fmt.Sprintf("%+v", js)
			}
		}
	}
	return all
}
