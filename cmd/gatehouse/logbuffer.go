package main

import (
	"context"
	"io"
	"log/slog"
	"sync"
	"time"
)

const (
	logDelay  = 50 * time.Millisecond // for which a line may wait to be written with others
	logBuffer = 32 << 10              // bytes that wait at most
)

// logWriter gathers lines, since one write each for thousands of logins a second costs as much as a tenth of them.
// What a kill -9 takes with it is the last 50 ms of the log; the audit trail has its own spool.
type logWriter struct {
	to io.Writer

	mu     sync.Mutex
	lines  []byte
	timer  *time.Timer // runs while lines wait
	failed error       // of the last write
}

func newLogWriter(to io.Writer) *logWriter {
	w := &logWriter{to: to, lines: make([]byte, 0, logBuffer)}
	w.timer = time.AfterFunc(time.Hour, func() { _ = w.Flush() })
	w.timer.Stop()
	return w
}

// Write keeps whole lines; it returns the error of an earlier write.
func (w *logWriter) Write(line []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.lines)+len(line) > logBuffer {
		w.flush()
	}
	if len(w.lines) == 0 {
		w.timer.Reset(logDelay)
	}
	w.lines = append(w.lines, line...)
	return len(line), w.failed
}

// Flush writes what waits.
func (w *logWriter) Flush() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.flush()
	return w.failed
}

// flush is [logWriter.Flush]; the caller holds mu.
func (w *logWriter) flush() {
	w.timer.Stop()
	if len(w.lines) == 0 {
		return
	}
	_, w.failed = w.to.Write(w.lines)
	w.lines = w.lines[:0]
}

// urgent is a handler after which an error has been written. Warnings wait as well: a refused login is one.
type urgent struct {
	slog.Handler
	lines *logWriter
}

// Handle implements [slog.Handler].
func (u urgent) Handle(ctx context.Context, r slog.Record) error {
	err := u.Handler.Handle(ctx, r)
	if r.Level >= slog.LevelError {
		return u.lines.Flush()
	}
	return err
}

// WithAttrs implements [slog.Handler].
func (u urgent) WithAttrs(attrs []slog.Attr) slog.Handler {
	return urgent{u.Handler.WithAttrs(attrs), u.lines}
}

// WithGroup implements [slog.Handler].
func (u urgent) WithGroup(name string) slog.Handler {
	return urgent{u.Handler.WithGroup(name), u.lines}
}
