package account

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"unicode"
)

// Graph is who imports what from whom.
type Graph struct {
	Nodes []GraphNode // by name
	Links []GraphLink // in the order of the nodes that import
}

// GraphNode is an account.
type GraphNode struct {
	ID      string
	Name    string // its id where nothing else is known of it
	State   string // empty: it has no record
	Exports int
}

// GraphLink is an import.
type GraphLink struct {
	Importer string // id
	Exporter string // id
	Type     string // stream or service
	Subject  string // in the account that exports
	Local    string // in the one that imports; empty: the same
	Private  bool   // with an activation token
}

// GraphOf returns the graph of accounts; known gives those that others import from and that are not among them, if it can.
func GraphOf(accounts []*Account, known func(id string) (*Account, bool)) *Graph {
	g := &Graph{Nodes: []GraphNode{}, Links: []GraphLink{}}
	have := map[string]bool{}
	add := func(n GraphNode) {
		if !have[n.ID] {
			have[n.ID] = true
			g.Nodes = append(g.Nodes, n)
		}
	}
	for _, a := range accounts {
		add(GraphNode{ID: a.ID, Name: a.Name, State: string(a.State), Exports: len(a.Exports)})
	}
	for _, a := range accounts {
		for _, i := range a.Imports {
			g.Links = append(g.Links, GraphLink{Importer: a.ID, Exporter: i.Account, Type: string(i.Type), Subject: i.Subject, Local: i.Local, Private: i.Token != ""})
			if have[i.Account] {
				continue
			}
			other := GraphNode{ID: i.Account, Name: i.Account}
			if b, ok := known(i.Account); ok {
				other.Name, other.Exports = b.Name, len(b.Exports)
			}
			add(other)
		}
	}
	slices.SortFunc(g.Nodes, func(a, b GraphNode) int { return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.ID, b.ID)) })
	place := g.places()
	slices.SortStableFunc(g.Links, func(a, b GraphLink) int {
		return cmp.Or(cmp.Compare(place[a.Importer], place[b.Importer]), cmp.Compare(place[a.Exporter], place[b.Exporter]),
			cmp.Compare(a.Type, b.Type), cmp.Compare(a.Subject, b.Subject), cmp.Compare(a.Local, b.Local))
	})
	return g
}

func (g *Graph) places() map[string]int {
	place := make(map[string]int, len(g.Nodes))
	for i, n := range g.Nodes {
		place[n.ID] = i
	}
	return place
}

// ends returns where the arrow of a link begins and ends: as its messages go, or its requests.
func (l GraphLink) ends() (from, to string) {
	if l.Type == string(ServiceType) {
		return l.Importer, l.Exporter
	}
	return l.Exporter, l.Importer
}

func (l GraphLink) label() string {
	text := l.Type + " " + l.Subject
	if l.Local != "" && l.Local != l.Subject {
		text += " as " + l.Local
	}
	return text
}

func (n GraphNode) label() string {
	if n.State == "" || n.State == string(Active) {
		return n.Name
	}
	return n.Name + " (" + n.State + ")"
}

// Mermaid returns the graph as a Mermaid flowchart. Arrows go as messages do, requests with services; private ones are dotted.
func (g *Graph) Mermaid() string {
	var b strings.Builder
	b.WriteString("flowchart LR\n")
	for i, n := range g.Nodes {
		fmt.Fprintf(&b, "  a%d[%s]\n", i, mermaidText(n.label()))
	}
	place := g.places()
	for _, l := range g.Links {
		from, to := l.ends()
		arrow := "-->"
		if l.Private {
			arrow = "-.->"
		}
		fmt.Fprintf(&b, "  a%d %s|%s| a%d\n", place[from], arrow, mermaidText(l.label()), place[to])
	}
	return b.String()
}

// DOT returns the graph in the language of Graphviz, drawn as by [Graph.Mermaid].
func (g *Graph) DOT() string {
	var b strings.Builder
	b.WriteString("digraph accounts {\n  rankdir=LR;\n  node [shape=box];\n")
	for i, n := range g.Nodes {
		fmt.Fprintf(&b, "  a%d [label=%s];\n", i, dotText(n.label()))
	}
	place := g.places()
	for _, l := range g.Links {
		from, to := l.ends()
		style := ""
		if l.Private {
			style = ", style=dotted"
		}
		fmt.Fprintf(&b, "  a%d -> a%d [label=%s%s];\n", place[from], place[to], dotText(l.label()), style)
	}
	b.WriteString("}\n")
	return b.String()
}

// visible returns the text with marks in place of what would not be seen.
func visible(text string) string {
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return unicode.ReplacementChar
		}
		return r
	}, text)
}

// mermaidText quotes a text: what could end the quotes, or be taken for HTML or Markdown, becomes a number.
func mermaidText(text string) string {
	var b strings.Builder
	b.WriteByte('"')
	for _, r := range visible(text) {
		if unicode.IsLetter(r) || unicode.IsDigit(r) || strings.ContainsRune(" .-()$:", r) {
			b.WriteRune(r)
		} else {
			fmt.Fprintf(&b, "#%d;", r)
		}
	}
	b.WriteByte('"')
	return b.String()
}

// dotText quotes a text: in labels a backslash begins an escape, and & an entity.
func dotText(text string) string {
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`, "&", "&amp;").Replace(visible(text)) + `"`
}
