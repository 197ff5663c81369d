package config

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode"
)

// ErrInvalid says that a configuration was refused; [Errors] holds the reasons.
var ErrInvalid = errors.New("configuration is not valid")

// Problem is one thing that is wrong with a configuration, or worth a second look.
type Problem struct {
	File    string // as it was named, or $VARIABLE
	Line    int    // from 1; 0 when it is of a variable or the file as a whole
	Column  int    // in characters, from 1; 0 like Line
	Path    string // such as bindings[0].grant.role; empty for the file as a whole
	Message string // what, and what to do
}

// String returns the problem as `file:line:col path: message`.
func (p Problem) String() string {
	var b strings.Builder
	b.WriteString(p.File)
	if p.Line > 0 {
		fmt.Fprintf(&b, ":%d:%d", p.Line, p.Column)
	}
	if p.Path != "" {
		b.WriteString(" " + p.Path)
	}
	return b.String() + ": " + p.Message
}

// Errors are all problems of a refused configuration, sorted by place. It is an
// [ErrInvalid] and never empty.
type Errors []Problem

// maxShown bounds the lines of an error's text.
const maxShown = 100

// Error returns a line for each problem, at most 100.
func (e Errors) Error() string {
	lines := make([]string, 0, min(len(e), maxShown)+1)
	for _, p := range e[:min(len(e), maxShown)] {
		lines = append(lines, p.String())
	}
	if more := len(e) - maxShown; more > 0 {
		lines = append(lines, fmt.Sprintf("and %d more", more))
	}
	return strings.Join(lines, "\n")
}

// Is reports whether target is [ErrInvalid].
func (e Errors) Is(target error) bool { return target == ErrInvalid }

// place is where a value was written.
type place struct {
	source       string
	line, column int
	text         int // column of the first character of a text that stands there as it is, on one line; else 0
}

// report collects problems and remembers where each path was written.
type report struct {
	file     string
	such     string // keys that it should hold, for people
	where    map[string]place
	wrong    map[string]bool // paths with problems
	problems Errors
	warnings []Problem
}

func newReport(file string) *report {
	return &report{file: file, such: "nats: and issuers:", where: map[string]place{"": {source: file, line: 1, column: 1}}, wrong: map[string]bool{}}
}

// given reports whether the path was written anywhere, be it with a wrong value.
func (r *report) given(path string) bool {
	_, ok := r.where[path]
	return ok
}

func (r *report) problem(path, format string, args ...any) {
	r.wrong[path] = true
	r.problems = append(r.problems, r.at(path, format, args))
}

func (r *report) warn(path, format string, args ...any) {
	r.warnings = append(r.warnings, r.at(path, format, args))
}

// at places a message where the path, or the closest one around it, was written.
func (r *report) at(path, format string, args []any) Problem {
	around := path
	for !r.given(around) {
		around = around[:max(0, strings.LastIndexAny(around, ".["))]
	}
	p := r.where[around]
	return Problem{File: p.source, Line: p.line, Column: p.column, Path: path, Message: fmt.Sprintf(format, args...)}
}

// err returns the problems, sorted, or nil.
func (r *report) err() error {
	sortProblems(r.warnings)
	if len(r.problems) == 0 {
		return nil
	}
	sortProblems(r.problems)
	return r.problems
}

func sortProblems(p []Problem) {
	slices.SortStableFunc(p, func(a, b Problem) int {
		return cmp.Or(cmp.Compare(a.File, b.File), cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column),
			cmp.Compare(a.Path, b.Path), cmp.Compare(a.Message, b.Message))
	})
}

// join returns the path of a key below path.
func join(path, key string) string {
	if !plainKey(key) {
		return fmt.Sprintf("%s[%q]", path, clip(key))
	}
	if path == "" {
		return key
	}
	return path + "." + key
}

func index(path string, i int) string { return fmt.Sprintf("%s[%d]", path, i) }

func plainKey(key string) bool {
	return key != "" && len(key) <= maxClip && !strings.ContainsFunc(key, func(r rune) bool {
		return r != '_' && r != '-' && (r > unicode.MaxASCII || !unicode.IsLetter(r) && !unicode.IsDigit(r))
	})
}

const maxClip = 80

// clip bounds a text of the file that is shown.
func clip(s string) string {
	if len(s) > maxClip {
		return strings.ToValidUTF8(s[:maxClip], "") + "…"
	}
	return s
}

// didYouMean returns a suggestion of the candidate closest to s, or of all of them when there
// are few; empty when there is nothing to suggest.
func didYouMean(s string, candidates []string) string {
	best, distance := "", 3
	for _, c := range candidates {
		if d := editDistance(strings.ToLower(s), strings.ToLower(c)); d < distance && d < max(len(c), 2) {
			best, distance = c, d
		}
	}
	switch {
	case best != "":
		return "did you mean " + best + "?"
	case len(candidates) == 0:
		return ""
	case len(candidates) <= 20:
		return "use " + orList(candidates)
	default:
		return "there are " + fmt.Sprint(len(candidates)) + " others"
	}
}

// orList returns the words sorted, as "a, b or c".
func orList(words []string) string {
	words = slices.Sorted(slices.Values(words))
	if len(words) == 1 {
		return words[0]
	}
	return strings.Join(words[:len(words)-1], ", ") + " or " + words[len(words)-1]
}

// editDistance returns the Levenshtein distance of two texts in bytes; texts of over 40
// bytes are as far apart as can be.
func editDistance(a, b string) int {
	const most = 40
	if len(a) > most || len(b) > most {
		return most
	}
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost = 1 + min(diagonal, row[j], row[j+1])
			}
			diagonal, row[j+1] = row[j+1], cost
		}
	}
	return row[len(b)]
}
