package main

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/gatehouse-nats/gatehouse/bench/report"
)

// A row is one invocation of compare and the figures that are drawn from it.
type row struct {
	name    string // for -rows
	what    string
	alone   bool     // Gatehouse is measured alone: the bar does not speak of plain
	once    bool     // plain is measured once, to show the difference
	storm   []string // what storm is told
	figures []func(*measured) line
	prove   bool // not measured by storm, but by TestProveFrozenReplica
}

var rows = []row{
	{name: "steady", what: "every token new, 32 at a time", storm: words("-n 3000"), figures: []func(*measured) line{
		ratio("CPU of the service per login", cpuEach, "%.0f µs", atMost, 0.5, 0.35),
		ratio("logins a second", perSecond, "%.0f", atLeast, 1.15, 1.25),
		stated("allocations of the service per login", allocations, "%.0f", "stated; budgets in scripts/allocations.txt"),
	}},
	{name: "seen", what: "tokens that were seen before", storm: words("-n 2000 -seen"), figures: []func(*measured) line{
		ratio("CPU of the service per login", cpuEach, "%.0f µs", atMost, 0.4, 0.25),
		stated("allocations of the service per login", allocations, "%.0f", "stated"),
	}},
	{name: "storm2000", what: "2,000 at once", storm: words("-burst 2000 -timeout 2s"), figures: []func(*measured) line{
		stormTime, stormRetries,
	}},
	{name: "storm4000", what: "4,000 at once, they stay", once: true, storm: words("-burst 4000 -timeout 2s -stay"), figures: []func(*measured) line{
		runByRun(60, 20, 1), peakMemory(96, 64),
	}},
	{name: "library", what: "4,000 clients of the library, cut off at once", alone: true, storm: words("-burst 4000 -client gatehouse"),
		figures: []func(*measured) line{runByRun(30, 10, 0)}},
	{name: "half", what: "2,000 at once, half with bad signatures", storm: words("-burst 2000 -bad 0.5 -timeout 2s"),
		figures: []func(*measured) line{halfBad}},
	{name: "signature", what: "bad tokens: signature", storm: words("-n 3000 -bad 1"), figures: []func(*measured) line{badToken}},
	{name: "expired", what: "bad tokens: expired", storm: words("-n 3000 -bad 1 -bad-kind expired"), figures: []func(*measured) line{badToken}},
	{name: "kid", what: "bad tokens: unknown kid", storm: words("-n 3000 -bad 1 -bad-kind kid -c 256 -timeout 500ms"), figures: []func(*measured) line{badToken}},
	{name: "flood", what: "500 bad logins a second from another source", alone: true, storm: words("-n 1000 -pace 100 -background 500"),
		figures: []func(*measured) line{besideBackground(3)}},
	{name: "slow", what: "another issuer answers after 5 s", alone: true, storm: words("-n 2000 -pace 100 -background 50 -slow-issuer 5s"),
		figures: []func(*measured) line{besideBackground(1.1)}},
	{name: "frozen", what: "one of two replicas frozen, 100 logins a second", prove: true},
}

func words(s string) []string { return strings.Fields(s) }

// arguments are what compare is told; quick makes the counts small.
func (r row) arguments(rounds int, quick bool) []string {
	args := []string{"-rounds", strconv.Itoa(rounds)}
	if r.alone {
		args = append(args, "-adapters", own)
	}
	if r.once {
		args = append(args, "-once")
	}
	storm := slices.Clone(r.storm)
	for i := range storm {
		if count, err := strconv.Atoi(storm[i]); quick && err == nil && (storm[i-1] == "-n" || storm[i-1] == "-burst") {
			storm[i] = strconv.Itoa(count / 10)
		}
	}
	return append(append(args, "--"), storm...)
}

// command is the row's command as somebody types it.
func (r row) command(rounds int) string {
	if r.prove {
		return strings.Join(proveCommand, " ")
	}
	return "bench/bin/compare " + strings.Join(r.arguments(rounds, false), " ")
}

// measured is what a row's figures are drawn from.
type measured struct {
	report.Comparison
	login float64 // µs of the service's CPU for a good login that is new; 0 when it was not measured
}

func (m *measured) plain() []report.Result { return m.Results[yardstick] }
func (m *measured) own() []report.Result   { return m.Results[own] }

// level is how a figure stands to its bar.
type level int

const (
	noBar level = iota
	missed
	reached
	aimed // the aim as well
)

// A line is one figure of a row, in words.
type line struct {
	what, plain, own, ratio, bar string
	level                        level
}

// met says in words how the figure stands to its bar.
func (l line) met() string {
	return map[level]string{noBar: "", missed: "**no**", reached: "yes", aimed: "yes, and the aim"}[l.level]
}

func judge(bar, aim bool) level {
	switch {
	case bar && aim:
		return aimed
	case bar:
		return reached
	default:
		return missed
	}
}

func cpuEach(r report.Result) float64     { return r.ServiceCPUMicros }
func perSecond(r report.Result) float64   { return r.PerSecond }
func retries(r report.Result) float64     { return float64(r.Retries) }
func allocations(r report.Result) float64 { return r.AllocationsEach }

type order string

const (
	atMost  order = "≤"
	atLeast order = "≥"
)

func (o order) holds(value, bar float64) bool {
	if o == atLeast {
		return value >= bar
	}
	return value <= bar
}

// ratio compares the medians of both services.
func ratio(what string, figure func(report.Result) float64, format string, o order, bar, aim float64) func(*measured) line {
	return func(m *measured) line {
		plain, own := report.Median(report.Values(m.plain(), figure)), report.Median(report.Values(m.own(), figure))
		r := over(own, plain)
		return line{
			what: what, plain: fmt.Sprintf(format, plain), own: fmt.Sprintf(format, own), ratio: fmt.Sprintf("%.2f", r),
			bar:   fmt.Sprintf("%s %v × plain (aim %v)", o, bar, aim),
			level: judge(plain > 0 && o.holds(r, bar), o.holds(r, aim)),
		}
	}
}

// over returns a/b, 0 when b is 0.
func over(a, b float64) float64 {
	if b == 0 {
		return 0
	}
	return a / b
}

// stated gives the median without a bar.
func stated(what string, figure func(report.Result) float64, format, bar string) func(*measured) line {
	return func(m *measured) line {
		return line{what: what, own: fmt.Sprintf(format, report.Median(report.Values(m.own(), figure))), bar: bar}
	}
}

func stormTime(m *measured) line {
	plain, own := report.Median(report.Values(m.plain(), report.Result.LastIn)), report.Median(report.Values(m.own(), report.Result.LastIn))
	return line{
		what: "time until the last is in", plain: fmt.Sprintf("%.2f s", plain), own: fmt.Sprintf("%.2f s", own), ratio: fmt.Sprintf("%.2f", over(own, plain)),
		bar: "≤ 0.9 × plain, all in (aim: all within 2.5 s)", level: judge(allIn(m.own()) && own <= 0.9*plain, own <= 2.5),
	}
}

func stormRetries(m *measured) line {
	plain, own := report.Median(report.Values(m.plain(), retries)), report.Median(report.Values(m.own(), retries))
	l := line{
		what: "retries", plain: fmt.Sprintf("%.0f", plain), own: fmt.Sprintf("%.0f", own),
		bar: "≤ max(0.3 × plain, 100)", level: judge(own <= max(0.3*plain, 100), false),
	}
	if plain > 0 {
		l.ratio = fmt.Sprintf("%.2f", own/plain)
	}
	return l
}

func allIn(results []report.Result) bool {
	return len(results) > 0 && !slices.ContainsFunc(results, func(r report.Result) bool { return r.Admitted < r.Good || r.Lost > 0 })
}

// runByRun gives when the last was in for each run: within bar seconds in all but so many of them, within
// aim seconds in all.
func runByRun(bar, aim float64, spare int) func(*measured) line {
	return func(m *measured) line {
		within := func(limit float64) int {
			n := 0
			for _, r := range m.own() {
				if r.Admitted == r.Good && r.Lost == 0 && r.LastIn() <= limit {
					n++
				}
			}
			return n
		}
		lost := slices.ContainsFunc(m.own(), func(r report.Result) bool { return r.Lost > 0 })
		runs := len(m.own())
		what := fmt.Sprintf("all within %v s", bar)
		if spare > 0 {
			what += fmt.Sprintf(" in all but %d of %d runs", spare, runs)
		}
		return line{
			what: "time until the last is in, run by run", plain: times(m.plain()), own: times(m.own()),
			bar:   fmt.Sprintf("%s, none lost (aim: %v s in each)", what, aim),
			level: judge(!lost && runs > 0 && within(bar) >= max(1, runs-spare), within(aim) == runs),
		}
	}
}

// times words when the last client of each run was in, or how many were in at the end.
func times(results []report.Result) string {
	var list []string
	for _, r := range results {
		if r.Admitted < r.Good {
			list = append(list, fmt.Sprintf("%d in %.0f s", r.Admitted, r.Seconds))
		} else {
			list = append(list, fmt.Sprintf("%.1f s", r.LastIn()))
		}
	}
	return strings.Join(list, ", ")
}

// peakMemory gives the largest of all runs.
func peakMemory(bar, aim float64) func(*measured) line {
	return func(m *measured) line {
		largest := func(results []report.Result) float64 {
			return slices.Max(append(report.Values(results, report.Result.PeakMB), 0))
		}
		plain, own := largest(m.plain()), largest(m.own())
		return line{
			what: "peak memory, the largest of all runs", plain: fmt.Sprintf("%.0f MB", plain), own: fmt.Sprintf("%.0f MB", own),
			ratio: fmt.Sprintf("%.2f", over(own, plain)), bar: fmt.Sprintf("≤ %v MB (aim %v)", bar, aim),
			level: judge(own > 0 && own <= bar, own <= aim),
		}
	}
}

func halfBad(m *measured) line {
	plain, own := report.Median(report.Values(m.plain(), report.Result.LastIn)), report.Median(report.Values(m.own(), report.Result.LastIn))
	wrong := slices.ContainsFunc(m.own(), func(r report.Result) bool { return r.BadAdmitted > 0 })
	return line{
		what: "time until the last good one is in", plain: fmt.Sprintf("%.2f s", plain), own: fmt.Sprintf("%.2f s", own), ratio: fmt.Sprintf("%.2f", over(own, plain)),
		bar: "≤ plain; every good one in, none lost, none wrong", level: judge(allIn(m.own()) && !wrong && own <= plain, false),
	}
}

// badToken compares a bad token with a good login of Gatehouse.
func badToken(m *measured) line {
	plain, own := report.Median(report.Values(m.plain(), cpuEach)), report.Median(report.Values(m.own(), cpuEach))
	l := line{
		what: "CPU of the service per bad token", plain: fmt.Sprintf("%.0f µs", plain), own: fmt.Sprintf("%.0f µs", own),
		bar: "≤ a good login (aim 0.5 ×)",
	}
	if m.login > 0 {
		l.ratio = fmt.Sprintf("%.2f of a good login", own/m.login)
		l.level = judge(own <= m.login, own <= 0.5*m.login)
	}
	return l
}

// besideBackground compares good logins with the same in quiet, run by run.
func besideBackground(bar float64) func(*measured) line {
	return func(m *measured) line {
		p99 := report.Median(report.Values(m.own(), func(r report.Result) float64 { return r.P99MS }))
		quiet := report.Median(report.Values(m.own(), func(r report.Result) float64 { return r.QuietP99MS }))
		r := report.Median(report.Values(m.own(), func(r report.Result) float64 { return over(r.P99MS, r.QuietP99MS) }))
		return line{
			what: "p99 of good logins, 100 a second", own: fmt.Sprintf("%.1f ms, in quiet %.1f ms", p99, quiet), ratio: fmt.Sprintf("%.2f of quiet", r),
			bar: fmt.Sprintf("≤ %v × quiet", bar), level: judge(p99 > 0 && r <= bar, false),
		}
	}
}
