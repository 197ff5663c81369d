package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"time"
)

// What make benchmarks writes is between these lines of the page.
const (
	begin = "<!-- written by make benchmarks: from here -->"
	end   = "<!-- written by make benchmarks: to here -->"
)

// Names of the plots, beside the page.
const (
	cpuPlot   = "benchmarks-cpu.svg"
	stormPlot = "benchmarks-storm.svg"
)

// render returns the table in Markdown.
func render(outcomes []outcome, machine string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s\n", machine)
	b.WriteString("\n| what | | `plain` | Gatehouse | ratio | bar | met |\n|---|---|---|---|---|---|---|\n")
	for _, o := range outcomes {
		if o.err != nil {
			fmt.Fprintf(&b, "| %s | could not be measured | | | | | **no** |\n", o.what)
		}
		for i, l := range o.lines {
			what := ""
			if i == 0 {
				what = o.what
			}
			fmt.Fprintf(&b, "| %s | %s | %s | %s | %s | %s | %s |\n", what, l.what, l.plain, l.own, l.ratio, l.bar, l.met())
		}
	}
	bad, lost, all := 0, 0, 0
	for _, o := range outcomes {
		for _, r := range o.own() {
			bad, lost, all = bad+int(r.BadAdmitted), lost+int(r.Lost), all+1
		}
	}
	fmt.Fprintf(&b, "\nIn all %d runs of Gatehouse %d bad tokens were admitted and %d clients lost.\n", all, bad, lost)
	b.WriteString("\n| what | command, after `make bench` has built everything |\n|---|---|\n")
	for _, o := range outcomes {
		fmt.Fprintf(&b, "| %s | `%s` |\n", o.what, o.command(*rounds))
	}
	var repeated []string
	for _, o := range outcomes {
		for _, r := range o.Repeated {
			repeated = append(repeated, fmt.Sprintf("- %s, %s", o.what, firstLine(r)))
		}
	}
	if len(repeated) > 0 {
		fmt.Fprintf(&b, "\nMeasurements that failed and were made once more:\n\n%s\n", strings.Join(repeated, "\n"))
	}
	return b.String()
}

func firstLine(s string) string {
	first, _, _ := strings.Cut(s, "\n")
	return first
}

// machine says what was measured when and on what.
func machine(load string, at time.Time) string {
	return fmt.Sprintf("Commit %s, %s; %s, %d processors (%s), load %s before it began; %d rounds, medians where nothing else is said.",
		*commit, at.UTC().Format("2006-01-02 15:04 MST"), runtime.Version(), runtime.NumCPU(), processor(), load, *rounds)
}

func processor() string {
	b, _ := os.ReadFile("/proc/cpuinfo")
	for l := range strings.Lines(string(b)) {
		if name, ok := strings.CutPrefix(l, "model name"); ok {
			return strings.TrimSpace(strings.TrimLeft(name, "\t :"))
		}
	}
	return runtime.GOARCH
}

// loadAverage is that of the last minute.
func loadAverage() string {
	b, _ := os.ReadFile("/proc/loadavg")
	load, _, _ := strings.Cut(string(b), " ")
	return load
}

// write puts the table into the page and the plots beside it.
func write(page, text string, outcomes []outcome) error {
	b, err := os.ReadFile(page)
	if err != nil {
		return err
	}
	folder := filepath.Dir(page)
	for _, p := range []struct {
		draw      func([]outcome) ([]byte, error)
		name, alt string
	}{
		{drawCPU, cpuPlot, "CPU of the service per login, by service"},
		{drawStorm, stormPlot, "clients admitted over time, 4,000 at once"},
	} {
		svg, err := p.draw(outcomes)
		if errors.Is(err, errNothing) {
			continue
		}
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(folder, p.name), svg, 0o644); err != nil {
			return err
		}
		text += fmt.Sprintf("\n![%s](%s)\n", p.alt, p.name)
	}
	s, err := replace(string(b), text)
	if err != nil {
		return fmt.Errorf("%s: %w", page, err)
	}
	return os.WriteFile(page, []byte(s), 0o644)
}

// replace returns the page with text between the markers.
func replace(page, text string) (string, error) {
	before, rest, ok := strings.Cut(page, begin+"\n")
	_, after, closed := strings.Cut(rest, end+"\n")
	if !ok || !closed {
		return "", fmt.Errorf("it lacks the line %q or, after it, %q", begin, end)
	}
	return before + begin + "\n\n" + text + "\n" + end + "\n" + after, nil
}
