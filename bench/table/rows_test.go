package main

import (
	"encoding/xml"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/gatehouse-nats/gatehouse/bench/report"
)

// given is what was measured, as so many rounds of both services.
func given(plain, own report.Result) *measured {
	return &measured{login: 500, Comparison: report.Comparison{
		Adapters: []string{yardstick, "adapter.sh"},
		Results:  map[string][]report.Result{yardstick: {plain, plain, plain}, "adapter.sh": {own, own, own}},
	}}
}

func rowNamed(t *testing.T, name string) row {
	t.Helper()
	for _, r := range rows {
		if r.name == name {
			return r
		}
	}
	t.Fatalf("no row %q", name)
	return row{}
}

func TestFiguresMeetTheirBars(t *testing.T) {
	t.Parallel()
	in := report.Result{Good: 100, Admitted: 100}
	with := func(change func(*report.Result)) report.Result {
		r := in
		change(&r)
		return r
	}
	last := func(seconds float64) report.Result {
		return with(func(r *report.Result) { r.MaxMS, r.Seconds = seconds*1000, seconds })
	}
	for name, test := range map[string]struct {
		row        string
		figure     int
		plain, own report.Result
		want       level
	}{
		"CPU at the bar":              {"steady", 0, report.Result{ServiceCPUMicros: 800}, report.Result{ServiceCPUMicros: 400}, reached},
		"CPU over it":                 {"steady", 0, report.Result{ServiceCPUMicros: 800}, report.Result{ServiceCPUMicros: 401}, missed},
		"CPU at the aim":              {"steady", 0, report.Result{ServiceCPUMicros: 800}, report.Result{ServiceCPUMicros: 280}, aimed},
		"CPU of plain not measured":   {"steady", 0, report.Result{}, report.Result{ServiceCPUMicros: 280}, missed},
		"logins at the bar":           {"steady", 1, report.Result{PerSecond: 1000}, report.Result{PerSecond: 1150}, reached},
		"logins below it":             {"steady", 1, report.Result{PerSecond: 1000}, report.Result{PerSecond: 1149}, missed},
		"allocations":                 {"steady", 2, report.Result{}, report.Result{AllocationsEach: 600}, noBar},
		"storm faster than plain":     {"storm2000", 0, last(4), last(3.6), reached},
		"storm faster, one not in":    {"storm2000", 0, last(4), with(func(r *report.Result) { r.Admitted, r.Seconds = 99, 3 }), missed},
		"storm as slow as plain":      {"storm2000", 0, last(4), last(4), missed},
		"few retries":                 {"storm2000", 1, report.Result{}, report.Result{Retries: 100}, reached},
		"many retries":                {"storm2000", 1, report.Result{Retries: 300}, report.Result{Retries: 101}, missed},
		"all in early":                {"storm4000", 0, last(90), last(20), aimed},
		"all in":                      {"storm4000", 0, last(90), last(60), reached},
		"in late":                     {"storm4000", 0, last(90), last(61), missed},
		"in, but one lost":            {"storm4000", 0, last(90), with(func(r *report.Result) { r.MaxMS, r.Lost = 1000, 1 }), missed},
		"memory":                      {"storm4000", 1, report.Result{}, report.Result{ServicePeakRSS: "98304 kB"}, reached},
		"much memory":                 {"storm4000", 1, report.Result{}, report.Result{ServicePeakRSS: "98305 kB"}, missed},
		"memory unknown":              {"storm4000", 1, report.Result{}, report.Result{}, missed},
		"library":                     {"library", 0, report.Result{}, last(30), reached},
		"library, late":               {"library", 0, report.Result{}, last(31), missed},
		"half bad, as fast as plain":  {"half", 0, last(4), last(4), reached},
		"half bad, slower":            {"half", 0, last(4), last(4.1), missed},
		"half bad, a bad one is in":   {"half", 0, last(4), with(func(r *report.Result) { r.MaxMS, r.BadAdmitted = 1000, 1 }), missed},
		"a bad token as a good login": {"signature", 0, report.Result{}, report.Result{ServiceCPUMicros: 500}, reached},
		"a bad token over it":         {"kid", 0, report.Result{}, report.Result{ServiceCPUMicros: 501}, missed},
		"a bad token of half of it":   {"expired", 0, report.Result{}, report.Result{ServiceCPUMicros: 250}, aimed},
		"beside a flood":              {"flood", 0, report.Result{}, report.Result{P99MS: 30, QuietP99MS: 10}, reached},
		"delayed by a flood":          {"flood", 0, report.Result{}, report.Result{P99MS: 31, QuietP99MS: 10}, missed},
		"nobody in beside a flood":    {"flood", 0, report.Result{}, report.Result{P99MS: -1, QuietP99MS: 10}, missed},
		"delayed by another issuer":   {"slow", 0, report.Result{}, report.Result{P99MS: 12, QuietP99MS: 10}, missed},
	} {
		if l := rowNamed(t, test.row).figures[test.figure](given(test.plain, test.own)); l.level != test.want {
			t.Errorf("%s: level %d, want %d: %+v", name, l.level, test.want, l)
		}
	}
}

func TestOneOfFiveStormsMayBeLate(t *testing.T) {
	t.Parallel()
	fine := report.Result{Good: 1, Admitted: 1, MaxMS: 5000}
	late := report.Result{Good: 1, Seconds: 92}
	m := given(fine, fine)
	m.Results[own] = []report.Result{fine, late, fine, fine, fine}
	if l := runByRun(60, 20, 1)(m); l.level != reached || l.own != "5.0 s, 0 in 92 s, 5.0 s, 5.0 s, 5.0 s" {
		t.Errorf("one late: %+v", l)
	}
	m.Results[own][0] = late
	if l := runByRun(60, 20, 1)(m); l.level != missed {
		t.Errorf("two late: %+v", l)
	}
}

func TestQuickFailsOnlyForWhatIsNoQuestionOfTime(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		own  report.Result
		fine bool
	}{
		"slow":                     {report.Result{Good: 10, Admitted: 8, Failed: 2, MaxMS: 1e6}, true},
		"all tokens bad":           {report.Result{BadRefused: 10}, true},
		"a bad token admitted":     {report.Result{Good: 10, Admitted: 10, BadAdmitted: 1}, false},
		"a client lost":            {report.Result{Good: 10, Admitted: 9, Lost: 1}, false},
		"nobody in":                {report.Result{Good: 10}, false},
		"one of a storm never in":  {report.Result{Good: 10, Admitted: 9, Curve: []float64{1}}, false},
		"everybody of a storm, in": {report.Result{Good: 10, Admitted: 10, Curve: []float64{80}}, true},
	} {
		o := outcome{measured: *given(report.Result{}, test.own), lines: []line{{level: missed}}}
		if err := verdict([]outcome{o}, true); (err == nil) != test.fine {
			t.Errorf("%s: error %v, want one: %t", name, err, !test.fine)
		}
		if err := verdict([]outcome{o}, false); err == nil {
			t.Errorf("%s: a bar that is missed passes without -quick", name)
		}
	}
	if err := verdict([]outcome{{err: io.EOF}}, true); !errors.Is(err, io.EOF) {
		t.Errorf("a row that could not be measured: %v", err)
	}
}

func TestCommandsOfRows(t *testing.T) {
	t.Parallel()
	names := map[string]bool{}
	for _, r := range rows {
		if names[r.name] || r.prove != (len(r.figures) == 0) {
			t.Errorf("row %q is there twice or has nothing to tell", r.name)
		}
		names[r.name] = true
	}
	if got, want := rowNamed(t, "half").command(5), "bench/bin/compare -rounds 5 -- -burst 2000 -bad 0.5 -timeout 2s"; got != want {
		t.Errorf("command %q, want %q", got, want)
	}
	if got, want := strings.Join(rowNamed(t, "flood").arguments(1, true), " "), "-rounds 1 -adapters adapter.sh -- -n 100 -pace 100 -background 500"; got != want {
		t.Errorf("quick %q, want %q", got, want)
	}
	if _, err := choose("steady,unknown"); err == nil {
		t.Error("a row that is unknown is chosen")
	}
}

func TestFrozenReplicaIsReadFromTheTest(t *testing.T) {
	t.Parallel()
	text := "    replica_test.go:429: one of 2 replicas frozen 5 times at 100 logins a second: at most 66 logins failed (1.32 s worth of its share), the last of them began 1.11s after the freeze; 9 logins in all; it was fenced 5 times, and fenced the other one 0 times\n"
	l, err := parseFrozen([]byte(text))
	if err != nil || l.level != reached || l.own != "66 (1.32 s worth of its share); 1.11s after the freeze" {
		t.Errorf("%+v, error %v", l, err)
	}
	if l, err := parseFrozen([]byte(strings.ReplaceAll(text, "1.32", "1.52"))); err != nil || l.level != missed {
		t.Errorf("over the bar: %+v, error %v", l, err)
	}
	if _, err := parseFrozen([]byte("ok")); err == nil {
		t.Error("no error for a test that logged nothing")
	}
	if got := string(told([]byte("    servers.go:81: log\n        [1] line\n" + text + "FAIL\n"))); got != text+"FAIL\n" {
		t.Errorf("what the test says: %q", got)
	}
	if got := string(told([]byte("no such file\n"))); got != "no such file\n" {
		t.Errorf("without a line of a test: %q", got)
	}
}

// outcomes are those of the rows that are drawn.
func outcomes() []outcome {
	list := []outcome{{row: row{name: "slow", what: "slow"}, err: errors.New("no server")}}
	for _, r := range rows {
		if !r.prove {
			o := outcome{row: r, measured: *given(report.Result{ServiceCPUMicros: 700, Good: 9, Admitted: 3, Seconds: 90, Curve: []float64{1, 2}}, report.Result{ServiceCPUMicros: 300, Curve: []float64{1, 2, 3}})}
			o.lines = []line{{what: "figure", own: "1", level: reached}}
			list = append(list, o)
		}
	}
	return list
}

func TestPlotsAreSVG(t *testing.T) {
	t.Parallel()
	for name, draw := range map[string]func([]outcome) ([]byte, error){"CPU": drawCPU, "storm": drawStorm} {
		svg, err := draw(outcomes())
		if err != nil {
			t.Fatal(err)
		}
		for d := xml.NewDecoder(strings.NewReader(string(svg))); ; {
			if _, err := d.Token(); err == io.EOF {
				break
			} else if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
		}
		if s := string(svg); !strings.Contains(s, "<svg") || !strings.Contains(s, "Gatehouse") {
			t.Errorf("%s: no SVG with a legend", name)
		}
		if _, err := draw(nil); !errors.Is(err, errNothing) {
			t.Errorf("%s of nothing: error %v", name, err)
		}
	}
}

func TestTableTakesItsPlaceInThePage(t *testing.T) {
	t.Parallel()
	text := render(outcomes(), "the machine")
	for _, want := range []string{"the machine\n", "| slow | could not be measured |", "| every token new, 32 at a time | figure | | 1 |", "`bench/bin/compare -rounds 5 -- -n 3000`"} {
		if !strings.Contains(strings.ReplaceAll(text, "|  |", "| |"), want) {
			t.Errorf("the table lacks %q:\n%s", want, text)
		}
	}
	page := "before\n" + begin + "\nold\n" + end + "\nafter\n"
	once, err := replace(page, "new")
	if err != nil {
		t.Fatal(err)
	}
	twice, err := replace(once, "new")
	if err != nil || once != twice || !strings.HasPrefix(once, "before\n") || !strings.HasSuffix(once, "\nafter\n") || strings.Contains(once, "old") {
		t.Errorf("once:\n%s\ntwice:\n%s\nerror %v", once, twice, err)
	}
	for _, broken := range []string{"", begin + "\n", end + "\n" + begin + "\n"} {
		if _, err := replace(broken, "new"); err == nil {
			t.Errorf("a page without markers passes: %q", broken)
		}
	}
}
