package account

import (
	"flag"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

var update = flag.Bool("update", false, "write the files in testdata anew")

func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s is\n%s\nwant\n%s", name, got, want)
	}
}

func TestGraph(t *testing.T) {
	t.Parallel()
	orders := &Account{ID: "A1", Name: "orders", State: Active, Exports: []Export{{}, {}}}
	shop := &Account{ID: "A2", Name: "shop", State: Creating, Imports: []Import{
		{Account: "A1", Subject: "orders.>", Local: "in.>", Type: StreamType},
		{Account: "A1", Subject: "ask", Type: ServiceType, Token: "x"},
		{Account: "A3", Subject: "prices.*", Type: StreamType}, {Account: "A4", Subject: "x", Type: ServiceType},
	}}
	odd := &Account{ID: "A5", Name: `adopted "x"]; click & <b>` + "\n`y` \\n #35; end", State: Active}
	configured := &Account{ID: "A3", Name: "prices", Exports: []Export{{}}}
	g := GraphOf([]*Account{shop, orders, odd}, among(configured))
	golden(t, "graph.mmd", g.Mermaid())
	golden(t, "graph.dot", g.DOT())
	if len(g.Nodes) != 5 || len(g.Links) != 4 {
		t.Errorf("got %+v", g)
	}
	empty := GraphOf(nil, among())
	if empty.Nodes == nil || empty.Links == nil {
		t.Error("a graph of nothing is null in JSON")
	}
}

// The grammars, as far as they are used: every line of output is one of these, whatever accounts are called.
var (
	mermaidLine = regexp.MustCompile(`^(flowchart LR|  a\d+\["[^"]*"\]|  a\d+ (?:-->|-\.->)\|"[^"]*"\| a\d+)$`)
	mermaidMark = regexp.MustCompile(`#(\d+);`)
	dotLine     = regexp.MustCompile(`^(digraph accounts \{|  rankdir=LR;|  node \[shape=box\];|  a\d+ \[label="(?:[^"\\]|\\.)*"\];|  a\d+ -> a\d+ \[label="(?:[^"\\]|\\.)*"(?:, style=dotted)?\];|\})$`)
)

func TestGraphQuotes(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		texts := rapid.OneOf(rapid.String(), rapid.StringMatching("[\"#;&<>`\\\\\\n\\]|a1 ]*"))
		name, subject := texts.Draw(t, "name"), texts.Draw(t, "subject")
		g := GraphOf([]*Account{{ID: "A1", Name: name, State: Active, Imports: []Import{{Account: "A2", Subject: subject, Type: StreamType, Token: "x"}}}}, among())
		for _, line := range strings.Split(strings.TrimSuffix(g.Mermaid(), "\n"), "\n") {
			if !mermaidLine.MatchString(line) {
				t.Fatalf("%q is no line of Mermaid", line)
			}
		}
		for _, line := range strings.Split(strings.TrimSuffix(g.DOT(), "\n"), "\n") {
			if !dotLine.MatchString(line) {
				t.Fatalf("%q is no line of DOT", line)
			}
		}
		quoted := mermaidText(name)
		read := mermaidMark.ReplaceAllStringFunc(quoted[1:len(quoted)-1], func(mark string) string {
			n, err := strconv.Atoi(mark[1 : len(mark)-1])
			if err != nil {
				t.Fatal(err)
			}
			return string(rune(n))
		})
		if read != visible(name) {
			t.Fatalf("Mermaid reads %q as %q", name, read)
		}
		quoted = dotText(name)
		if read := unquoteDOT(quoted[1 : len(quoted)-1]); read != visible(name) {
			t.Fatalf("Graphviz reads %q as %q", name, read)
		}
	})
}

// unquoteDOT reads what is between the quotes of a label.
func unquoteDOT(text string) string {
	var b strings.Builder
	for i := 0; i < len(text); i++ {
		if text[i] == '\\' {
			i++
		}
		b.WriteByte(text[i])
	}
	return strings.ReplaceAll(b.String(), "&amp;", "&")
}
