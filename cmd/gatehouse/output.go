package main

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"
	"unicode"
)

// printJSON writes one value on one line.
func printJSON(w io.Writer, v any) error {
	return json.NewEncoder(w).Encode(v)
}

// table writes rows in columns for people. What others chose is made safe to print.
type table struct {
	w *tabwriter.Writer
}

func newTable(w io.Writer, columns ...string) *table {
	t := &table{w: tabwriter.NewWriter(w, 0, 4, 2, ' ', 0)}
	t.row(columns...)
	return t
}

func (t *table) row(cells ...string) {
	for i, c := range cells {
		cells[i] = printable(c)
	}
	fmt.Fprintln(t.w, strings.TrimRight(strings.Join(cells, "\t"), "\t"))
}

func (t *table) flush() error { return t.w.Flush() }

// printable replaces what could move a terminal's cursor or hide text: a subject may hold
// anything.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) || unicode.Is(unicode.Cf, r) || r == unicode.ReplacementChar {
			return '�'
		}
		return r
	}, s)
}

// lineLength is how many characters a list of subjects may take in one line.
const lineLength = 120

// printList writes a list behind a label: in one line when it is short, else one element a line.
// Two blanks keep elements apart, since a queue subscription has one inside.
func printList(w io.Writer, label string, list []string) {
	between := "  "
	if len(strings.Join(list, between)) > lineLength {
		between = fmt.Sprintf("\n  %-10s ", "")
	}
	safe := make([]string, len(list))
	for i, s := range list {
		safe[i] = printable(s)
	}
	fmt.Fprintf(w, "  %-10s %s\n", label, strings.Join(safe, between))
}

// count says how many there are of what a noun names.
func count(n int, noun string) string {
	if n != 1 {
		noun += "s"
	}
	return fmt.Sprintf("%d %s", n, noun)
}

// when shows a time to people, with its zone since logs are in another; the zero time is a dash.
func when(t time.Time) string {
	if t.IsZero() {
		return "-"
	}
	return t.Local().Format("2006-01-02 15:04:05Z07:00")
}

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}
