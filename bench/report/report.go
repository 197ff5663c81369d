// Package report holds what the measuring programs tell each other: the result of a measurement, and
// the results of several services measured in turn.
package report

import (
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Result is what storm prints. Latencies are those of good logins, all tries of a client together.
type Result struct {
	Admitted         int            `json:"admitted"`
	Failed           int64          `json:"failed"`
	Lost             int64          `json:"lost"` // refused twice in a row
	Retries          int64          `json:"retries"`
	BadAdmitted      int64          `json:"bad_admitted"`
	BadRefused       int64          `json:"bad_refused"`
	Background       int64          `json:"background"` // logins of -background that were made
	Seconds          float64        `json:"seconds"`
	PerSecond        float64        `json:"per_second"`
	P50MS            float64        `json:"p50_ms"`
	P99MS            float64        `json:"p99_ms"`
	MaxMS            float64        `json:"max_ms"`
	QuietP50MS       float64        `json:"quiet_p50_ms"` // before the background began; 0 without one
	QuietP99MS       float64        `json:"quiet_p99_ms"`
	ServiceCPUMicros float64        `json:"service_cpu_us_each"`
	ServerCPUMicros  float64        `json:"server_cpu_us_each"`
	AllocationsEach  float64        `json:"allocations_each"` // of the service; 0 when it does not serve that metric
	ServicePeakRSS   string         `json:"service_peak_rss"`
	Good             int            `json:"good"`  // clients that should get in
	Curve            []float64      `json:"curve"` // of a burst: seconds until each further hundredth of the good ones was in
	Errors           map[string]int `json:"errors"`
}

// LastIn returns how many seconds it took until the last good client was in; when not all of them got
// in, how many the storm lasted.
func (r Result) LastIn() float64 {
	if r.Admitted < r.Good {
		return r.Seconds
	}
	return r.MaxMS / 1000
}

// PeakMB returns the peak memory in MB of 1024 kB, 0 when it is not known.
func (r Result) PeakMB() float64 {
	kb, err := strconv.ParseFloat(strings.TrimSuffix(r.ServicePeakRSS, " kB"), 64)
	if err != nil {
		return 0
	}
	return kb / 1024
}

// Curve returns the seconds until each hundredth of n clients was in, as far as they got in, from the
// sorted times of those who did.
func Curve(sorted []time.Duration, n int) []float64 {
	var curve []float64
	for k := 1; k <= 100; k++ {
		i := (k*n+99)/100 - 1
		if i < 0 || i >= len(sorted) {
			break
		}
		curve = append(curve, float64(sorted[i].Milliseconds())/1000)
	}
	return curve
}

// Quantile returns the p-quantile of sorted durations in milliseconds, -1 when there are none.
func Quantile(sorted []time.Duration, p float64) float64 {
	if len(sorted) == 0 {
		return -1
	}
	return float64(sorted[int(float64(len(sorted)-1)*p)].Microseconds()) / 1000
}

// Comparison is what compare measured.
type Comparison struct {
	Adapters []string            `json:"adapters"` // the first is the yardstick
	Results  map[string][]Result `json:"results"`  // by adapter, one a round
	Repeated []string            `json:"repeated"` // measurements that failed and were made once more, and why
}

// Read reads a comparison that compare wrote.
func Read(path string) (Comparison, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return Comparison{}, err
	}
	var c Comparison
	if err := json.Unmarshal(b, &c); err != nil {
		return Comparison{}, fmt.Errorf("%s: %w", path, err)
	}
	return c, nil
}

// Values returns one figure of each result.
func Values(results []Result, figure func(Result) float64) []float64 {
	all := make([]float64, len(results))
	for i, r := range results {
		all[i] = figure(r)
	}
	return all
}

// Median returns the middle value, the lower of two; 0 when there are none.
func Median(values []float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	if len(sorted) == 0 {
		return 0
	}
	return sorted[(len(sorted)-1)/2]
}
