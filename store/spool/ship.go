package spool

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/gatehouse-nats/gatehouse/store"
)

const (
	// maxBatch bounds how long one transaction keeps others, of which a revocation may be one, from the store.
	maxBatch      = 1000
	maxBatchBytes = 4 << 20
	// linger is between the begins of batches, so that a few logins a second are not as many transactions;
	// after batches of at least busy entries it grows to mostLinger, since a large batch costs less an entry.
	linger     = 100 * time.Millisecond
	mostLinger = 500 * time.Millisecond
	busy       = 20

	firstBackoff = 100 * time.Millisecond
	mostBackoff  = 5 * time.Second
	suffix       = ".jsonl"
)

// Send stores a batch of entries, of which some may be stored already; [store.Store.Record] is one.
type Send func(ctx context.Context, entries []store.AuditEntry) error

// Ship sends entries as they come, oldest first, at most 1,000 at once, until ctx ends or the spool
// is closed, and then returns nil. What comes after a quiet moment is sent at once; while many come
// they gather for half a second at most. A batch that fails is sent again, after a pause that grows up
// to five seconds; those behind it wait.
func (s *Spool) Ship(ctx context.Context, send Send) error {
	backoff, gather := firstBackoff, linger
	for {
		began := time.Now()
		sent, err := s.drain(ctx, send, s.Pending().Entries)
		if ctx.Err() != nil || errors.Is(err, store.ErrClosed) {
			return nil
		}
		if err != nil {
			if backoff == firstBackoff {
				s.logger.Error("audit entries cannot be stored and wait in the spool", "error", err, "pending", s.Pending().Entries)
			}
			pause := backoff/2 + rand.N(backoff/2)
			backoff = min(2*backoff, mostBackoff)
			if !s.wait(ctx, time.After(pause), nil) {
				return nil
			}
			continue
		}
		if backoff != firstBackoff {
			s.logger.Info("audit entries are stored again")
			backoff = firstBackoff
		}
		if gather = min(2*gather, mostLinger); sent < busy {
			gather = linger
		}
		if !s.wait(ctx, nil, s.more) || !s.wait(ctx, time.After(time.Until(began.Add(gather))), s.full) {
			return nil
		}
	}
}

// wait returns true at the time or the signal, either of which may be nil, and false when ctx ends or the spool is closed.
func (s *Spool) wait(ctx context.Context, at <-chan time.Time, signal <-chan struct{}) bool {
	select {
	case <-ctx.Done():
		return false
	case <-s.done:
		return false
	case <-at:
	case <-signal:
	}
	return true
}

// Drain sends what is pending, and returns when nothing is or at the first error.
func (s *Spool) Drain(ctx context.Context, send Send) error {
	_, err := s.drain(ctx, send, math.MaxInt)
	return err
}

// drain is [Spool.Drain], but ends after so many lines: what comes meanwhile may gather. It returns how many it has sent.
func (s *Spool) drain(ctx context.Context, send Send, most int) (sent int, err error) {
	s.reading.Lock()
	defer s.reading.Unlock()
	for {
		if err := ctx.Err(); err != nil {
			return sent, context.Cause(ctx)
		}
		b, err := s.next()
		if err != nil || b.size == 0 {
			return sent, err
		}
		if b.corrupt > 0 {
			s.logger.Warn("lines of the audit spool cannot be read and are left out", "lines", b.corrupt, "segment", s.name(b.seq))
		}
		if len(b.entries) > 0 {
			if err := send(ctx, b.entries); err != nil {
				return sent, err
			}
		}
		if err := s.advance(b); err != nil {
			return sent, err
		}
		if sent += len(b.entries) + b.corrupt; sent >= most {
			_, _, err := s.skipSent()
			return sent, err
		}
	}
}

// batch is a run of lines of one segment.
type batch struct {
	seq     uint64
	entries []store.AuditEntry
	corrupt int
	size    int64
}

// next returns the first lines that are pending, of size 0 when none is.
func (s *Spool) next() (batch, error) {
	oldest, sent, err := s.skipSent()
	if err != nil || sent == oldest.size {
		return batch{}, err
	}
	if b := s.takeFresh(oldest.seq, sent); b.size > 0 {
		return b, nil
	}
	f, err := os.Open(s.name(oldest.seq))
	if err != nil {
		return batch{}, err
	}
	defer f.Close()
	b := batch{seq: oldest.seq}
	s.lines.Reset(io.NewSectionReader(f, sent, oldest.size-sent))
	if err := b.read(s.lines); err != nil {
		return batch{}, fmt.Errorf("read the audit spool: %w", err)
	}
	return b, nil
}

// read takes lines until the batch is full. What cannot be read as an entry is counted, a
// line that a crash has torn among them.
func (b *batch) read(lines *bufio.Reader) error {
	for len(b.entries) < maxBatch && b.size < maxBatchBytes {
		line, err := lines.ReadSlice('\n')
		b.size += int64(len(line))
		switch {
		case errors.Is(err, bufio.ErrBufferFull):
			if err := b.skipLine(lines); err != nil {
				return err
			}
			b.corrupt++
			continue
		case err == io.EOF && len(line) == 0:
			return nil
		case err != nil && err != io.EOF:
			return err
		}
		e, err := decode(line)
		if err != nil {
			b.corrupt++
			continue
		}
		b.entries = append(b.entries, e)
	}
	return nil
}

// skipLine leaves out the rest of a line that is too long.
func (b *batch) skipLine(lines *bufio.Reader) error {
	for {
		rest, err := lines.ReadSlice('\n')
		b.size += int64(len(rest))
		if err == nil || err == io.EOF {
			return nil
		}
		if !errors.Is(err, bufio.ErrBufferFull) {
			return err
		}
	}
}

// skipSent returns the oldest segment and how much of it is stored, after removing those
// that are stored whole.
func (s *Spool) skipSent() (segment, int64, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return segment{}, 0, store.ErrClosed
	}
	for len(s.segments) > 1 && s.sent == s.segments[0].size {
		if err := os.Remove(s.name(s.segments[0].seq)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return segment{}, 0, err
		}
		s.bytes -= s.segments[0].size
		s.segments = slices.Delete(s.segments, 0, 1)
		s.sent = 0
	}
	return s.segments[0], s.sent, nil
}

// advance notes that the batch is stored.
func (s *Spool) advance(b batch) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sent += b.size
	s.pending.Bytes -= b.size
	s.pending.Entries -= len(b.entries) + b.corrupt
	s.pending.Corrupt += b.corrupt
	switch {
	case s.pending.Entries == 0:
		s.pending.Oldest = time.Time{}
	case len(b.entries) > 0:
		s.pending.Oldest = b.entries[len(b.entries)-1].At
	}
	_, err := fmt.Fprintf(io.NewOffsetWriter(s.progress, 0), "%020d %020d\n", b.seq, s.sent)
	return err
}

// find reads what an earlier process has left.
func (s *Spool) find() error {
	names, err := filepath.Glob(filepath.Join(s.dir, "*"+suffix))
	if err != nil {
		return err
	}
	slices.Sort(names) // numbers of one width
	for _, name := range names {
		seq, err := strconv.ParseUint(strings.TrimSuffix(filepath.Base(name), suffix), 10, 64)
		if err != nil || s.name(seq) != name {
			return fmt.Errorf("%s is not a segment: move it away", name)
		}
		info, err := os.Stat(name)
		if err != nil {
			return err
		}
		s.segments = append(s.segments, segment{seq: seq, size: info.Size()})
		s.bytes += info.Size()
	}
	if len(s.segments) > 0 {
		s.last = s.segments[len(s.segments)-1].seq
	}
	s.resume()
	return s.countPending()
}

// resume goes on where an earlier process was. When that cannot be read, some entries are sent again.
func (s *Spool) resume() {
	var seq uint64
	var sent int64
	if _, err := fmt.Fscanf(s.progress, "%d %d\n", &seq, &sent); err != nil {
		return
	}
	s.last = max(s.last, seq) // no segment may get the number that the note speaks of
	if len(s.segments) > 0 && s.segments[0].seq == seq && sent > 0 && sent <= s.segments[0].size {
		s.sent = sent
	}
}

// countPending counts the lines that an earlier process has left.
func (s *Spool) countPending() error {
	from := s.sent
	for _, seg := range s.segments {
		if err := s.countLines(seg, from); err != nil {
			return err
		}
		from = 0
	}
	return nil
}

// countLines counts as [batch.read] will: the torn end of a line is one.
func (s *Spool) countLines(seg segment, from int64) error {
	f, err := os.Open(s.name(seg.seq))
	if err != nil {
		return err
	}
	defer f.Close()
	s.lines.Reset(io.NewSectionReader(f, from, seg.size-from))
	for part := false; ; {
		line, err := s.lines.ReadSlice('\n')
		s.pending.Bytes += int64(len(line))
		switch {
		case err == nil:
			s.pending.Entries++
			if s.pending.Oldest.IsZero() {
				if e, err := decode(line); err == nil {
					s.pending.Oldest = e.At
				}
			}
			part = false
		case errors.Is(err, bufio.ErrBufferFull):
			part = true
		case err == io.EOF:
			if part || len(line) > 0 {
				s.pending.Entries++
			}
			return nil
		default:
			return err
		}
	}
}

func (s *Spool) name(seq uint64) string {
	return filepath.Join(s.dir, fmt.Sprintf("%020d%s", seq, suffix))
}
