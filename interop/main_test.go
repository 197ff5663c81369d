package interop

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// programs is the folder of the gatehouse and dex binaries, see scripts/interop.sh.
var programs = os.Getenv("GATEHOUSE_TEST_INTEROP")

func TestMain(m *testing.M) {
	if programs == "" {
		fmt.Println("not run: make interop prepares and runs these tests")
		return
	}
	os.Exit(m.Run())
}

func program(name string) string { return filepath.Join(programs, name) }

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// limit bounds what a test waits for: Dex looks every 30 s whether a key is due.
const limit = 75 * time.Second

// eventually returns when check does not fail any more.
func eventually(t testing.TB, check func() error) {
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
		<-time.After(100 * time.Millisecond)
	}
}
