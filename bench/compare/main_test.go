package main

import (
	"strings"
	"testing"
)

func TestTableGivesMediansAndRatios(t *testing.T) {
	t.Parallel()
	figures := map[string]map[string][]float64{
		"plain.sh":   {"service_cpu_us_each": {900, 100, 500}, "retries": {0, 0, 0}, "p50_ms": {2.04, 2.04, 2.04}},
		"adapter.sh": {"service_cpu_us_each": {250, 10, 9000}, "retries": {7, 7, 7}, "p50_ms": {1.02, 1.02, 1.02}},
	}
	lines := strings.Split(table([]string{"plain.sh", "adapter.sh"}, figures), "\n")
	for i, want := range map[int][]string{
		2: {"| plain.sh | 500 |", "| 2.0 |"},
		3: {"| adapter.sh | 250 (0.50×) |", "| 1.0 (0.50×) |", "| 7 |"},
	} {
		for _, w := range want {
			if !strings.Contains(lines[i], w) {
				t.Errorf("line %d lacks %q: %s", i, w, lines[i])
			}
		}
	}
}

func TestMedian(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		values []float64
		want   float64
	}{
		"none": {nil, 0},
		"one":  {[]float64{3}, 3},
		"odd":  {[]float64{3, 1, 2}, 2},
		"even": {[]float64{4, 1, 3, 2}, 2},
	} {
		if got := median(test.values); got != test.want {
			t.Errorf("%s: %v, want %v", name, got, test.want)
		}
	}
}
