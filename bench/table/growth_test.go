package main

import (
	"strings"
	"testing"
)

func TestGrowthIsReadFromBenchmarks(t *testing.T) {
	t.Parallel()
	all, err := parseGrowth(`goos: linux
pkg: github.com/gatehouse-nats/gatehouse/policy
BenchmarkGrowth/blocks_of_others=10-2         	  122598	      1762 ns/op	     136 B/op	       6 allocs/op
BenchmarkGrowth/blocks_of_others=100000-2     	  122598	      2425011.5 ns/op	     137 B/op	       7 allocs/op
pkg: github.com/gatehouse-nats/gatehouse/policy/oidc
BenchmarkGrowth/issuers=1/seen_before         	  262345	      218.0 ns/op	     480 B/op	       2 allocs/op
`)
	if err != nil {
		t.Fatal(err)
	}
	text := renderGrowth(all)
	for _, want := range []string{
		"| a decision | blocks of others | 10, 100000 | 1.8 µs, 2.4 ms | 136, 137 | 6, 7 |\n",
		"| verifying a token, seen before | issuers | 1 | 218 ns | 480 | 2 |\n",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("lacks %q:\n%s", want, text)
		}
	}
	for name, out := range map[string]string{
		"none":            "ok\n",
		"one of no stage": "pkg: example.com/other\nBenchmarkGrowth/a=1-2 1 1 ns/op 1 B/op 1 allocs/op\n",
	} {
		if _, err := parseGrowth(out); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}
