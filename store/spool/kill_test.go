package spool

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
)

// appendForever is the child of TestKill: it says the id of each entry that was taken.
func appendForever(dir string) {
	s, err := Open(dir, Options{MaxBytes: 64 << 20, Logger: quiet})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	for {
		e := login("alice")
		if err := s.Append(e); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		fmt.Println(e.ID)
	}
}

// TestKill: what Append has taken is there after a kill -9.
func TestKill(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	taken := make(map[string]bool)
	for round := range 3 {
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), childDir+"="+dir)
		cmd.Stderr = os.Stderr
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewReader(out)
		for n := 0; ; n++ {
			line, err := lines.ReadString('\n')
			if err != nil {
				break // a line without its end was not said
			}
			taken[strings.TrimSpace(line)] = true
			if n == 1000*(round+1) {
				if err := cmd.Process.Kill(); err != nil {
					t.Fatal(err)
				}
			}
		}
		_ = cmd.Wait() // it was killed
	}
	if len(taken) < 6000 {
		t.Fatalf("only %d were taken", len(taken))
	}
	s := openSpool(t, dir)
	for _, e := range drain(t, s) {
		delete(taken, e.ID)
	}
	if len(taken) > 0 {
		t.Errorf("%d entries are lost", len(taken))
	}
}
