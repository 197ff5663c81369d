package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"testing"
	"time"

	"go.uber.org/goleak"
)

// asGatehouse makes the test binary be gatehouse, so that the service can be killed, stopped
// and sent signals like the real one.
const asGatehouse = "TEST_AS_GATEHOUSE"

func TestMain(m *testing.M) {
	if os.Getenv(asGatehouse) != "" {
		go endWithTest()
		main()
	}
	flag.Parse()
	if parallel := flag.Lookup("test.parallel"); parallel.Value.String() == parallel.DefValue {
		// These tests wait for other processes more than they compute.
		if err := parallel.Value.Set("6"); err != nil {
			panic(err)
		}
	}
	code := m.Run()
	if code == 0 {
		if err := errors.Join(evidence.check(), goleak.Find()); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
	}
	os.Exit(code)
}

// endWithTest ends a service whose test is gone: the other end of the pipe that it was given
// as its fourth file closes, however the test ended.
func endWithTest() {
	_, _ = io.Copy(io.Discard, os.NewFile(3, "the test"))
	os.Exit(1)
}

// eventually returns once check does without an error, and fails the test when that takes
// longer than any honest machine needs.
func eventually(t testing.TB, check func() error) {
	t.Helper()
	eventuallyWithin(t, 90*time.Second, check)
}

func eventuallyWithin(t testing.TB, limit time.Duration, check func() error) {
	t.Helper()
	deadline := time.Now().Add(limit)
	for {
		err := check()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("not after %s: %v", limit, err)
		}
		<-time.After(20 * time.Millisecond)
	}
}
