// Command table measures every row of the table of logins in docs/benchmarks.md, checks each against its
// bar, and writes the table, its plots and a table of growth. With -quick it measures each row once with small counts, writes
// nothing, and fails only for what is never a question of time: a bad token that is admitted, a client that
// is lost, and a client of a storm that never gets in.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/gatehouse-nats/gatehouse/bench/report"
)

var (
	rounds = flag.Int("rounds", 5, "how often each service is measured")
	quick  = flag.Bool("quick", false, "one round with small counts; writes nothing")
	only   = flag.String("rows", "", "measure only these rows, with commas between them, and print them")
	into   = flag.String("into", "docs/benchmarks.md", "the page that the table goes into, between its markers; the plots go beside it")
	commit = flag.String("commit", "unknown", "what is measured")
)

// yardstick and own are the adapters.
const (
	yardstick = "plain.sh"
	own       = "adapter.sh"
)

func main() {
	flag.Parse()
	if *quick {
		*rounds = 1
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "table:", err)
		os.Exit(1)
	}
}

// outcome is what came of a row.
type outcome struct {
	row
	measured
	lines []line
	err   error
}

func run(ctx context.Context) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	chosen, err := choose(*only)
	if err != nil {
		return err
	}
	began, load := time.Now(), loadAverage()
	var outcomes []outcome
	var login float64
	for i, r := range chosen {
		fmt.Fprintf(os.Stderr, "== %d of %d: %s (%s after the start)\n", i+1, len(chosen), r.what, time.Since(began).Round(time.Second))
		o := outcome{row: r}
		if r.prove {
			o.lines, o.err = proveFrozen(ctx)
		} else {
			o.Comparison, o.err = compare(ctx, filepath.Join(filepath.Dir(self), "compare"), r)
			o.login = login
		}
		if ctx.Err() != nil {
			return errors.New("interrupted")
		}
		if o.err == nil && !r.prove {
			for _, f := range r.figures {
				o.lines = append(o.lines, f(&o.measured))
			}
		}
		if r.name == "steady" && o.err == nil {
			login = report.Median(report.Values(o.own(), cpuEach))
		}
		for _, l := range o.lines {
			met := l.met()
			if *quick {
				met = "which says little with small counts"
			}
			fmt.Fprintf(os.Stderr, "   %s: plain %s, Gatehouse %s, %s\n", l.what, orNone(l.plain), l.own, met)
		}
		if o.err != nil {
			fmt.Fprintf(os.Stderr, "   could not be measured: %v\n", o.err)
		}
		outcomes = append(outcomes, o)
	}
	text := render(outcomes, machine(load, began))
	var failed error
	switch {
	case *quick:
	case *only != "":
		fmt.Print(text)
	default:
		fmt.Fprintf(os.Stderr, "== growth (%s after the start)\n", time.Since(began).Round(time.Second))
		var grown []series
		if grown, failed = measureGrowth(ctx); failed == nil {
			text += renderGrowth(grown)
		}
		if ctx.Err() != nil {
			return errors.New("interrupted")
		}
		if err := write(*into, text, outcomes); err != nil {
			return err
		}
		fmt.Fprintf(os.Stderr, "written to %s after %s\n", *into, time.Since(began).Round(time.Second))
	}
	return errors.Join(verdict(outcomes, *quick), failed)
}

func orNone(s string) string {
	if s == "" {
		return "not measured"
	}
	return s
}

// choose returns the rows with the given names, in their order; all but those that quick leaves out when
// there are none.
func choose(names string) ([]row, error) {
	var chosen []row
	wanted := strings.Split(names, ",")
	for _, r := range rows {
		if names == "" && !(*quick && r.prove) || slices.Contains(wanted, r.name) {
			chosen = append(chosen, r)
		}
	}
	if names != "" && len(chosen) != len(wanted) {
		all := make([]string, len(rows))
		for i, r := range rows {
			all[i] = r.name
		}
		return nil, fmt.Errorf("-rows %q: the rows are %s", names, strings.Join(all, ", "))
	}
	return chosen, nil
}

// compare runs compare for a row.
func compare(ctx context.Context, binary string, r row) (report.Comparison, error) {
	f, err := os.CreateTemp("", "compare*.json")
	if err != nil {
		return report.Comparison{}, err
	}
	f.Close()
	defer os.Remove(f.Name())
	cmd := command(ctx, binary, append([]string{"-json", f.Name()}, r.arguments(*rounds, *quick)...)...)
	cmd.Stdout, cmd.Stderr = os.Stderr, os.Stderr
	if err := cmd.Run(); err != nil {
		return report.Comparison{}, fmt.Errorf("compare: %w", err)
	}
	return report.Read(f.Name())
}

// command is a program that is asked to end when ctx does, so that it ends what it has started.
func command(ctx context.Context, name string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = 30 * time.Second
	return cmd
}

// verdict returns what is not as it must be; with quick, that is only what does not depend on time.
func verdict(outcomes []outcome, quick bool) error {
	var errs []error
	for _, o := range outcomes {
		if o.err != nil {
			errs = append(errs, fmt.Errorf("%s: could not be measured: %w", o.name, o.err))
		}
		for i, r := range o.own() {
			if err := unsafe(r); err != nil {
				errs = append(errs, fmt.Errorf("%s, round %d: %w", o.name, i+1, err))
			}
		}
		for _, l := range o.lines {
			if !quick && l.level == missed {
				errs = append(errs, fmt.Errorf("%s: %s is %s, and must be %s", o.name, l.what, l.own, l.bar))
			}
		}
	}
	return errors.Join(errs...)
}

// unsafe returns what must not be whatever the machine does, nil when nothing is.
func unsafe(r report.Result) error {
	switch {
	case r.BadAdmitted > 0:
		return fmt.Errorf("%d bad tokens were admitted", r.BadAdmitted)
	case r.Lost > 0:
		return fmt.Errorf("%d clients are lost: they were refused twice in a row, or closed for good", r.Lost)
	case r.Good > 0 && r.Admitted == 0:
		return fmt.Errorf("none of %d clients with good tokens got in", r.Good)
	case r.Curve != nil && r.Admitted < r.Good:
		return fmt.Errorf("%d of %d clients of the storm got in", r.Admitted, r.Good)
	}
	return nil
}
