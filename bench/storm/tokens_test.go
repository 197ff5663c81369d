package main

import (
	"testing"
	"time"
)

// set gives a flag a value for the length of a test; tests that use it are not parallel.
func set[T any](t *testing.T, flag *T, value T) {
	before := *flag
	*flag = value
	t.Cleanup(func() { *flag = before })
}

func TestBadTokensAreSpreadAndCounted(t *testing.T) {
	set(t, n, 100)
	for share, want := range map[float64]int{0: 0, 0.25: 25, 0.5: 50, 1: 100} {
		set(t, bad, share)
		got, run := 0, 0
		for i := range *n {
			if isBad(i) {
				got++
				run = 0
			} else if run++; share > 0 && float64(run) > 1/share {
				t.Errorf("share %v: none of %d before the client %d is bad", share, run, i)
			}
		}
		if got != want || badCount() != want {
			t.Errorf("share %v: %d bad tokens, counted %d, want %d", share, got, badCount(), want)
		}
	}
	set(t, burst, 9)
	set(t, bad, 0.5)
	if badCount() != 5 || (&load{}).good() != 4 {
		t.Errorf("half of a burst of 9: %d bad and %d good, want 5 and 4", badCount(), (&load{}).good())
	}
}

func TestFlagsThatDoNotGoTogether(t *testing.T) {
	for name, test := range map[string]struct {
		set  func()
		fine bool
	}{
		"steady":                   {func() {}, true},
		"bad, steady":              {func() { set(t, bad, 1.0) }, true},
		"an unknown kind":          {func() { set(t, badKind, "odd") }, false},
		"more bad ones than all":   {func() { set(t, bad, 1.5) }, false},
		"a background, paced":      {func() { set(t, background, 1.0); set(t, pace, 1.0) }, true},
		"a background, not paced":  {func() { set(t, background, 1.0) }, false},
		"a slow issuer alone":      {func() { set(t, slow, time.Second) }, false},
		"a paced burst":            {func() { set(t, pace, 1.0); set(t, burst, 1) }, false},
		"library, a burst":         {func() { set(t, client, library); set(t, burst, 1) }, true},
		"library, steady":          {func() { set(t, client, library) }, false},
		"a client that is unknown": {func() { set(t, client, "odd") }, false},
	} {
		t.Run(name, func(t *testing.T) {
			set(t, bad, 0.0)
			set(t, badKind, badSignature)
			set(t, background, 0.0)
			set(t, pace, 0.0)
			set(t, slow, 0)
			set(t, burst, 0)
			set(t, client, bare)
			test.set()
			if err := checkFlags(); (err == nil) != test.fine {
				t.Errorf("error %v, want one: %t", err, !test.fine)
			}
		})
	}
}
