package main

import (
	"strings"
	"testing"

	"github.com/gatehouse-nats/gatehouse/bench/report"
)

func TestTableGivesMediansAndRatios(t *testing.T) {
	t.Parallel()
	c := report.Comparison{Adapters: []string{"plain.sh", "adapter.sh"}, Results: map[string][]report.Result{
		"plain.sh":   {{ServiceCPUMicros: 900, P50MS: 2.04}, {ServiceCPUMicros: 100, P50MS: 2.04}, {ServiceCPUMicros: 500, P50MS: 2.04}},
		"adapter.sh": {{ServiceCPUMicros: 250, P50MS: 1.02, Retries: 7}, {ServiceCPUMicros: 10, P50MS: 1.02, Retries: 7}, {ServiceCPUMicros: 9000, P50MS: 1.02, Retries: 7}},
	}}
	lines := strings.Split(table(c), "\n")
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
