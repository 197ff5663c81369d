// Command compare runs storm against several services in turn, several times, and prints a
// Markdown table of medians with the ratio to the first service. Everything after the
// flags goes to storm:
//
//	bench/bin/compare -rounds 5 -- -burst 2000 -timeout 2s
package main

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

var (
	rounds   = flag.Int("rounds", 3, "how often each service is measured")
	adapters = flag.String("adapters", "plain.sh,adapter.sh", "adapters in the bench folder; the first is the yardstick")
)

// A column is one figure of storm's result.
type column struct{ title, field, format string }

var columns = []column{
	{"service CPU µs each", "service_cpu_us_each", "%.0f"},
	{"server CPU µs each", "server_cpu_us_each", "%.0f"},
	{"logins /s", "per_second", "%.0f"},
	{"p50 ms", "p50_ms", "%.1f"},
	{"p99 ms", "p99_ms", "%.1f"},
	{"admitted", "admitted", "%.0f"},
	{"lost", "lost", "%.0f"},
	{"retries", "retries", "%.0f"},
}

func main() {
	flag.Parse()
	if err := run(strings.Split(*adapters, ","), flag.Args()); err != nil {
		fmt.Fprintln(os.Stderr, "compare:", err)
		os.Exit(1)
	}
}

func run(adapters, stormArgs []string) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	bin := filepath.Dir(self)
	figures := map[string]map[string][]float64{}
	// In turn, so that whatever else the machine does falls on all of them alike.
	for round := range *rounds {
		for _, a := range adapters {
			fmt.Fprintf(os.Stderr, "round %d of %d: %s\n", round+1, *rounds, a)
			r, err := storm(filepath.Join(bin, "storm"), filepath.Join(filepath.Dir(bin), a), stormArgs)
			if err != nil {
				return fmt.Errorf("%s: %w", a, err)
			}
			if figures[a] == nil {
				figures[a] = map[string][]float64{}
			}
			for _, c := range columns {
				v, ok := r[c.field].(float64)
				if !ok {
					return fmt.Errorf("%s: storm reported no %s", a, c.field)
				}
				figures[a][c.field] = append(figures[a][c.field], v)
			}
		}
	}
	fmt.Print(table(adapters, figures))
	return nil
}

// storm runs one measurement and returns what it reported.
func storm(storm, adapter string, args []string) (map[string]any, error) {
	cmd := exec.Command(storm, append([]string{"-adapter", adapter}, args...)...)
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, err
	}
	var r map[string]any
	return r, json.NewDecoder(bytes.NewReader(out)).Decode(&r)
}

// table renders medians, with the ratio to the first adapter's where that is not zero.
func table(adapters []string, figures map[string]map[string][]float64) string {
	var b strings.Builder
	b.WriteString("| adapter |")
	for _, c := range columns {
		fmt.Fprintf(&b, " %s |", c.title)
	}
	b.WriteString("\n|" + strings.Repeat("---|", len(columns)+1) + "\n")
	for _, a := range adapters {
		fmt.Fprintf(&b, "| %s |", a)
		for _, c := range columns {
			own, base := median(figures[a][c.field]), median(figures[adapters[0]][c.field])
			fmt.Fprintf(&b, " "+c.format, own)
			if a != adapters[0] && base != 0 {
				fmt.Fprintf(&b, " (%.2f×)", own/base)
			}
			b.WriteString(" |")
		}
		b.WriteString("\n")
	}
	return b.String()
}

// median returns the middle value, the lower of two.
func median(values []float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	if len(sorted) == 0 {
		return 0
	}
	return sorted[(len(sorted)-1)/2]
}
