package main

import (
	"bytes"
	"errors"
	"log/slog"
	"slices"
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

func (w *writes) all() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.list)
}

func TestLogWriter(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		out := &writes{}
		lines := newLogWriter(out)
		log := slog.New(urgent{slog.NewTextHandler(lines, nil), lines}).With("replica", "r").WithGroup("g")
		log.Info("one")
		log.Info("two")
		if len(out.all()) != 0 {
			t.Errorf("written at once: %q", out.all())
		}
		time.Sleep(logDelay)
		synctest.Wait()
		if len(out.all()) != 1 || strings.Count(out.all()[0], "\n") != 2 {
			t.Errorf("after a while: %q", out.all())
		}
		log.Info("three")
		log.Warn("four")
		if len(out.all()) != 1 {
			t.Errorf("a warning is written at once: %q", out.all())
		}
		log.Error("five")
		if len(out.all()) != 2 || !strings.Contains(out.all()[1], "three") || !strings.HasSuffix(out.all()[1], "msg=five replica=r\n") {
			t.Errorf("after an error: %q", out.all())
		}
		time.Sleep(time.Hour)
		synctest.Wait()
		if len(out.all()) != 2 {
			t.Errorf("nothing to write: %q", out.all())
		}
		long := strings.Repeat("x", logBuffer/2)
		for range 5 {
			log.Info(long)
		}
		if len(out.all()) != 6 {
			t.Errorf("%d writes, want 4 of what has no room", len(out.all())-2)
		}
		if err := lines.Flush(); err != nil || len(out.all()) != 7 {
			t.Errorf("%d writes, %v", len(out.all()), err)
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
