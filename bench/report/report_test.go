package report

import (
	"slices"
	"testing"
	"time"
)

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
		if got := Median(test.values); got != test.want {
			t.Errorf("%s: %v, want %v", name, got, test.want)
		}
	}
}

func TestCurveEndsWhereClientsAreMissing(t *testing.T) {
	t.Parallel()
	times := make([]time.Duration, 150)
	for i := range times {
		times[i] = time.Duration(i+1) * 10 * time.Millisecond
	}
	whole := Curve(times, 150)
	if len(whole) != 100 || whole[0] != 0.02 || whole[49] != 0.75 || whole[99] != 1.5 {
		t.Errorf("150 of 150: %d points, %v", len(whole), whole)
	}
	if half := Curve(times, 300); len(half) != 50 || half[49] != 1.5 {
		t.Errorf("150 of 300: %v, want 50 points up to 1.5", half)
	}
	if few := Curve(times[:2], 2); !slices.Equal(few[:50], slices.Repeat([]float64{0.01}, 50)) || few[99] != 0.02 {
		t.Errorf("2 of 2: %v", few)
	}
	if none := Curve(nil, 10); none != nil {
		t.Errorf("nobody in: %v", none)
	}
}

func TestLastInCountsThoseWhoAreMissing(t *testing.T) {
	t.Parallel()
	r := Result{Good: 10, Admitted: 10, MaxMS: 1500, Seconds: 3}
	if got := r.LastIn(); got != 1.5 {
		t.Errorf("all in: %v, want 1.5", got)
	}
	r.Admitted = 9
	if got := r.LastIn(); got != 3 {
		t.Errorf("one missing: %v, want the whole storm's 3", got)
	}
}

func TestPeakMemory(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]float64{"65536 kB": 64, "": 0, "unknown": 0} {
		if got := (Result{ServicePeakRSS: text}).PeakMB(); got != want {
			t.Errorf("%q: %v, want %v", text, got, want)
		}
	}
}
