package main

import (
	"bytes"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// writes keeps each write.
type writes struct {
	mu   sync.Mutex
	list []string
	fail error
}

func (w *writes) Write(b []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.list = append(w.list, string(bytes.Clone(b)))
	return len(b), w.fail
}

func TestLogWriter(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		out := &writes{}
		lines := newLogWriter(out)
		log := slog.New(urgent{slog.NewTextHandler(lines, nil), lines}).With("replica", "r").WithGroup("g")
		log.Info("one")
		log.Info("two")
		if len(out.list) != 0 {
			t.Errorf("written at once: %q", out.list)
		}
		time.Sleep(logDelay)
		synctest.Wait()
		if len(out.list) != 1 || strings.Count(out.list[0], "\n") != 2 {
			t.Errorf("after a while: %q", out.list)
		}
		log.Info("three")
		log.Warn("four")
		if len(out.list) != 1 {
			t.Errorf("a warning is written at once: %q", out.list)
		}
		log.Error("five")
		if len(out.list) != 2 || !strings.Contains(out.list[1], "three") || !strings.HasSuffix(out.list[1], "msg=five replica=r\n") {
			t.Errorf("after an error: %q", out.list)
		}
		time.Sleep(time.Hour)
		synctest.Wait()
		if len(out.list) != 2 {
			t.Errorf("nothing to write: %q", out.list)
		}
		long := strings.Repeat("x", logBuffer/2)
		for range 5 {
			log.Info(long)
		}
		if len(out.list) != 6 {
			t.Errorf("%d writes, want 4 of what has no room", len(out.list)-2)
		}
		if err := lines.Flush(); err != nil || len(out.list) != 7 {
			t.Errorf("%d writes, %v", len(out.list), err)
		}
		out.fail = errors.New("the disk is full")
		if _, err := lines.Write([]byte("x\n")); err != nil {
			t.Error(err)
		}
		if err := lines.Flush(); !errors.Is(err, out.fail) {
			t.Errorf("got %v", err)
		}
	})
}
