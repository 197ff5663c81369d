// Command compare runs storm against several services in turn, several times, and prints a
// Markdown table of medians with the ratio to the first service. Everything after the
// flags goes to storm. A measurement that fails is repeated once:
//
//	bench/bin/compare -rounds 5 -- -burst 2000 -timeout 2s
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/gatehouse-nats/gatehouse/bench/report"
)

var (
	rounds   = flag.Int("rounds", 3, "how often each service is measured")
	adapters = flag.String("adapters", "plain.sh,adapter.sh", "adapters in the bench folder; the first is the yardstick")
	once     = flag.Bool("once", false, "measure the yardstick in the first round only: it is there to be seen, and no bar is a ratio to it")
	out      = flag.String("json", "", "also write every result into this file")
)

// A column is one figure of storm's result.
type column struct {
	title  string
	figure func(report.Result) float64
	format string
}

var columns = []column{
	{"service CPU µs each", func(r report.Result) float64 { return r.ServiceCPUMicros }, "%.0f"},
	{"server CPU µs each", func(r report.Result) float64 { return r.ServerCPUMicros }, "%.0f"},
	{"logins /s", func(r report.Result) float64 { return r.PerSecond }, "%.0f"},
	{"p50 ms", func(r report.Result) float64 { return r.P50MS }, "%.1f"},
	{"p99 ms", func(r report.Result) float64 { return r.P99MS }, "%.1f"},
	{"p99 ms in quiet", func(r report.Result) float64 { return r.QuietP99MS }, "%.1f"},
	{"last in after s", report.Result.LastIn, "%.2f"},
	{"admitted", func(r report.Result) float64 { return float64(r.Admitted) }, "%.0f"},
	{"lost", func(r report.Result) float64 { return float64(r.Lost) }, "%.0f"},
	{"retries", func(r report.Result) float64 { return float64(r.Retries) }, "%.0f"},
	{"bad admitted", func(r report.Result) float64 { return float64(r.BadAdmitted) }, "%.0f"},
	{"peak MB", report.Result.PeakMB, "%.0f"},
}

func main() {
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, strings.Split(*adapters, ","), flag.Args()); err != nil {
		fmt.Fprintln(os.Stderr, "compare:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, adapters, stormArgs []string) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	bin := filepath.Dir(self)
	c := report.Comparison{Adapters: adapters, Results: map[string][]report.Result{}}
	// In turn, so that whatever else the machine does falls on all of them alike.
	for round := range *rounds {
		for i, a := range adapters {
			if *once && i == 0 && round > 0 {
				continue
			}
			what := fmt.Sprintf("round %d of %d: %s", round+1, *rounds, a)
			fmt.Fprintln(os.Stderr, what)
			measure := func() (report.Result, error) {
				return storm(ctx, filepath.Join(bin, "storm"), filepath.Join(filepath.Dir(bin), a), stormArgs)
			}
			r, err := measure()
			if err != nil && ctx.Err() == nil {
				c.Repeated = append(c.Repeated, what+": "+err.Error())
				fmt.Fprintf(os.Stderr, "failed, and is repeated once: %v\n", err)
				r, err = measure()
			}
			if ctx.Err() != nil {
				return errors.New("interrupted")
			}
			if err != nil {
				return fmt.Errorf("%s, twice: %w", what, err)
			}
			c.Results[a] = append(c.Results[a], r)
		}
	}
	fmt.Print(table(c))
	if *out == "" {
		return nil
	}
	b, err := json.Marshal(c)
	if err != nil {
		return err
	}
	return os.WriteFile(*out, b, 0o644)
}

// limit is how long one measurement may take: more than the longest storm with all that comes before it.
const limit = 5 * time.Minute

// storm runs one measurement and returns what it reported. What it says on failure is part of the error.
func storm(ctx context.Context, storm, adapter string, args []string) (report.Result, error) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	cmd := exec.CommandContext(ctx, storm, append([]string{"-adapter", adapter}, args...)...)
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) } // so that it ends what it has started
	cmd.WaitDelay = 10 * time.Second
	var said bytes.Buffer
	cmd.Stderr = &said
	out, err := cmd.Output()
	if err != nil {
		return report.Result{}, fmt.Errorf("%w: %s", err, bytes.TrimSpace(said.Bytes()))
	}
	var r report.Result
	if err := json.Unmarshal(out, &r); err != nil {
		return report.Result{}, fmt.Errorf("storm's result: %w", err)
	}
	return r, nil
}

// table renders medians, with the ratio to the first adapter's where there is one: none was measured where a figure is below zero.
func table(c report.Comparison) string {
	var b strings.Builder
	b.WriteString("| adapter |")
	for _, col := range columns {
		fmt.Fprintf(&b, " %s |", col.title)
	}
	b.WriteString("\n|" + strings.Repeat("---|", len(columns)+1) + "\n")
	for _, a := range c.Adapters {
		fmt.Fprintf(&b, "| %s |", a)
		for _, col := range columns {
			median := func(adapter string) float64 { return report.Median(report.Values(c.Results[adapter], col.figure)) }
			own, base := median(a), median(c.Adapters[0])
			fmt.Fprintf(&b, " "+col.format, own)
			if a != c.Adapters[0] && base > 0 && own >= 0 {
				fmt.Fprintf(&b, " (%.2f×)", own/base)
			}
			b.WriteString(" |")
		}
		b.WriteString("\n")
	}
	return b.String()
}
