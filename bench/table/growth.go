package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// growthCommand measures what a login costs when there is more of something; it runs in the root of the
// repository.
var growthCommand = words("go test -run ^$ -bench Growth -benchmem -benchtime 300ms ./policy ./policy/oidc ./callout")

// stages say what the benchmarks measure, by the end of their package and their name.
var stages = map[string]string{
	"policy BenchmarkGrowth":          "a decision",
	"oidc BenchmarkGrowth":            "verifying a token",
	"callout BenchmarkGrowthQueue":    "a login's way through the queue",
	"callout BenchmarkGrowthThrottle": "noting a refusal",
	"callout BenchmarkGrowthReplays":  "looking for a replay",
}

// A series is what one stage costs at several sizes of one thing.
type series struct {
	stage, what string
	sizes       []int
	nanos       []float64
	bytes       []int
	allocations []int
}

// measureGrowth runs the benchmarks.
func measureGrowth(ctx context.Context) ([]series, error) {
	cmd := command(ctx, growthCommand[0], growthCommand[1:]...)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, os.Stderr
	if err := cmd.Run(); err != nil {
		return nil, fmt.Errorf("%w\n%s", err, out.Bytes())
	}
	return parseGrowth(out.String())
}

var benchmark = regexp.MustCompile(`^(BenchmarkGrowth\w*)/(\S+?)=(\d+)(?:/(\S+?))?(?:-\d+)?\s+\d+\s+([0-9.]+) ns/op\s+(\d+) B/op\s+(\d+) allocs/op`)

// parseGrowth reads what go test prints.
func parseGrowth(out string) ([]series, error) {
	var all []series
	pkg := ""
	for l := range strings.Lines(out) {
		if p, ok := strings.CutPrefix(l, "pkg: "); ok {
			p = strings.TrimSpace(p)
			pkg = p[strings.LastIndex(p, "/")+1:]
		}
		m := benchmark.FindStringSubmatch(l)
		if m == nil {
			continue
		}
		stage, ok := stages[pkg+" "+m[1]]
		if !ok {
			return nil, fmt.Errorf("nothing says what %s of package %s measures: add it to stages", m[1], pkg)
		}
		if m[4] != "" {
			stage += ", " + strings.ReplaceAll(m[4], "_", " ")
		}
		all = addTo(all, stage, strings.ReplaceAll(m[2], "_", " "), m[3], m[5:])
	}
	if len(all) == 0 {
		return nil, fmt.Errorf("no benchmark ran:\n%s", out)
	}
	return all, nil
}

// addTo adds a size with its nanoseconds, bytes and allocations to its series.
func addTo(all []series, stage, what, size string, figures []string) []series {
	at := -1
	for i := range all {
		if all[i].stage == stage && all[i].what == what {
			at = i
		}
	}
	if at < 0 {
		all = append(all, series{stage: stage, what: what})
		at = len(all) - 1
	}
	s := &all[at]
	whole := func(text string) int { n, _ := strconv.Atoi(text); return n } // digits, as the pattern has it
	nanos, _ := strconv.ParseFloat(figures[0], 64)
	s.sizes, s.nanos = append(s.sizes, whole(size)), append(s.nanos, nanos)
	s.bytes, s.allocations = append(s.bytes, whole(figures[1])), append(s.allocations, whole(figures[2]))
	return all
}

// renderGrowth returns the table in Markdown.
func renderGrowth(all []series) string {
	var b strings.Builder
	fmt.Fprintf(&b, "\n### Growth\n\n`%s`\n", strings.Join(growthCommand, " "))
	b.WriteString("\n| what is done | what there is more of | how many | time each | bytes | allocations |\n|---|---|---|---|---|---|\n")
	for _, s := range all {
		fmt.Fprintf(&b, "| %s | %s | %s | %s | %s | %s |\n", s.stage, s.what, list(s.sizes, strconv.Itoa), list(s.nanos, short), list(s.bytes, strconv.Itoa), list(s.allocations, strconv.Itoa))
	}
	return b.String()
}

func list[T any](values []T, word func(T) string) string {
	words := make([]string, len(values))
	for i, v := range values {
		words[i] = word(v)
	}
	return strings.Join(words, ", ")
}

// short words nanoseconds with two or three digits.
func short(nanos float64) string {
	d := time.Duration(nanos)
	switch {
	case d < time.Microsecond:
		return fmt.Sprintf("%d ns", d)
	case d < 10*time.Microsecond:
		return fmt.Sprintf("%.1f µs", nanos/1e3)
	case d < time.Millisecond:
		return fmt.Sprintf("%.0f µs", nanos/1e3)
	default:
		return fmt.Sprintf("%.1f ms", nanos/1e6)
	}
}
