// Package spool keeps audit entries on the local disk from the moment they are made until the
// store has them, so that neither an outage of the store nor the end of this process loses any.
//
// An entry is a line of JSON, written to the newest of a row of files, the segments, with one
// write(2) before its login is answered. It survives whatever ends the process, kill -9
// included; a loss of power may take what was written since the segment was begun, at most a
// minute under load, unless the store has it already. Segments are read oldest first and removed
// once all of their entries are stored. An entry may be sent again after a crash: its id makes
// that harmless.
package spool

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/gatehouse-nats/gatehouse/store"
	"github.com/gatehouse-nats/gatehouse/store/internal/filelock"
)

// The conditions that callers tell apart.
var (
	// ErrFull says that the spool holds as much as it may: the store has taken nothing for long.
	ErrFull = errors.New("audit spool is full")
	// ErrEntry says that an entry cannot be kept: it has no id or kind, or is too long.
	ErrEntry = errors.New("audit entry cannot be kept")
)

const (
	// MinBytes is the least that a spool may be allowed to hold.
	MinBytes = 4 << 20
	// maxLine bounds an entry as JSON. A token has 16 KiB at most, and six bytes may stand for one.
	maxLine = 256 << 10

	mostSegment = 8 << 20
	segmentAge  = time.Minute
)

// Options say how a spool is kept.
type Options struct {
	// MaxBytes is the most that all segments hold together, at least [MinBytes].
	MaxBytes int64
	// Logger is told of outages of the store and of lines that cannot be read; nil is [slog.Default].
	Logger *slog.Logger
}

// Spool is a row of segments in a folder. Its methods are safe for concurrent use.
type Spool struct {
	dir    string
	max    int64
	rotate int64 // size at which a segment is followed by a new one
	logger *slog.Logger
	lock   *filelock.Lock

	reading  sync.Mutex    // held by whoever sends
	lines    *bufio.Reader // of the holder of reading
	more     chan struct{} // receives after an append
	full     chan struct{} // receives when a whole batch is pending
	done     chan struct{} // closed by Close
	syncing  sync.WaitGroup
	progress *os.File

	mu       sync.Mutex // guards what follows
	active   *os.File   // the last of segments
	torn     bool       // active ends in a part of a line
	last     uint64     // number of the newest segment there ever was
	begun    time.Time  // when active was
	segments []segment  // oldest first
	sent     int64      // how much of the oldest segment is stored
	bytes    int64      // of all segments
	fresh    []fresh    // some of what was appended, in order
	pending  Pending
	closed   bool
}

// segment is one file.
type segment struct {
	seq  uint64
	size int64
}

// Pending is what waits to be stored.
type Pending struct {
	Entries int
	Bytes   int64
	Oldest  time.Time // when the oldest entry was made, or one shortly before it; zero when none waits
	Corrupt int       // lines that could not be read, ever since the spool was opened
}

// Open opens the spool in the folder, which is made when it is not there (mode 0700). It
// returns [store.ErrInUse] when it is open already.
func Open(dir string, o Options) (*Spool, error) {
	if o.MaxBytes < MinBytes {
		return nil, fmt.Errorf("open the audit spool: it may hold %d bytes, at least %d are needed", o.MaxBytes, MinBytes)
	}
	s := &Spool{
		dir:    dir,
		max:    o.MaxBytes,
		rotate: min(o.MaxBytes/8, mostSegment),
		logger: o.Logger,
		more:   make(chan struct{}, 1),
		full:   make(chan struct{}, 1),
		done:   make(chan struct{}),
		lines:  bufio.NewReaderSize(nil, maxLine+1),
	}
	if s.logger == nil {
		s.logger = slog.Default()
	}
	if err := s.open(); err != nil {
		return nil, fmt.Errorf("open the audit spool %s: %w", dir, errors.Join(err, s.release()))
	}
	return s, nil
}

func (s *Spool) open() (err error) {
	if err := os.MkdirAll(s.dir, 0o700); err != nil {
		return err
	}
	if s.lock, err = filelock.Take(filepath.Join(s.dir, "lock")); err != nil {
		return err
	}
	if s.progress, err = os.OpenFile(filepath.Join(s.dir, "progress"), os.O_CREATE|os.O_RDWR, 0o600); err != nil {
		return err
	}
	if err := s.find(); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	// What a crash may have torn is never written on.
	return s.begin()
}

// Append keeps the entry; when it returns nil the entry outlives the process. It returns
// [ErrFull], [ErrEntry], [store.ErrClosed], or what the disk says. Bytes that are not UTF-8
// become U+FFFD, as JSON has it.
func (s *Spool) Append(e store.AuditEntry) error {
	enc := encoders.Get().(*encoder)
	defer encoders.Put(enc)
	line, plain, err := enc.encode(&e)
	if err != nil {
		return fmt.Errorf("audit spool: %w", err)
	}
	if err := s.write(line, plain, &e); err != nil {
		return fmt.Errorf("audit spool: %w", err)
	}
	signal(s.more)
	return nil
}

func (s *Spool) write(line []byte, plain bool, e *store.AuditEntry) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	last := &s.segments[len(s.segments)-1]
	switch {
	case s.closed:
		return store.ErrClosed
	case s.bytes+int64(len(line)) > s.max:
		return fmt.Errorf("%w: %d bytes wait for the store", ErrFull, s.pending.Bytes)
	case s.torn || last.size > 0 && (last.size >= s.rotate || time.Since(s.begun) >= segmentAge):
		if err := s.begin(); err != nil {
			return err
		}
		last = &s.segments[len(s.segments)-1]
	}
	if n, err := s.active.Write(line); err != nil {
		return errors.Join(err, s.untear(last, n))
	}
	if plain {
		s.keepFresh(e, last.seq, last.size, int64(len(line)))
	}
	last.size += int64(len(line))
	s.bytes += int64(len(line))
	if s.pending.Entries == 0 {
		s.pending.Oldest = e.At
	}
	s.pending.Entries++
	s.pending.Bytes += int64(len(line))
	if s.pending.Entries == maxBatch {
		signal(s.full)
	}
	return nil
}

// signal leaves a signal, unless one is there.
func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// untear takes back the n bytes of a line that were written before the disk failed, so that the
// next line does not continue it. Where that fails too, the next line begins a new segment.
func (s *Spool) untear(last *segment, n int) error {
	if n == 0 {
		return nil
	}
	err := s.active.Truncate(last.size)
	if err == nil {
		return nil
	}
	// What stays counts as a line that cannot be read.
	s.torn = true
	last.size += int64(n)
	s.bytes += int64(n)
	s.pending.Bytes += int64(n)
	s.pending.Entries++
	return err
}

// begin makes a new segment the active one; the caller holds mu.
func (s *Spool) begin() error {
	next := segment{seq: s.last + 1}
	f, err := os.OpenFile(s.name(next.seq), os.O_CREATE|os.O_EXCL|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	if old := s.active; old != nil {
		// Not while others wait to append.
		s.syncing.Go(func() {
			if err := errors.Join(old.Sync(), old.Close()); err != nil {
				s.logger.Error("a segment of the audit spool may not survive a loss of power", "error", err)
			}
		})
	}
	s.active, s.begun, s.torn, s.last = f, time.Now(), false, next.seq
	s.segments = append(s.segments, next)
	return nil
}

// Pending returns what waits to be stored.
func (s *Spool) Pending() Pending {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.pending
}

// Close writes all to the disk for good and ends [Spool.Ship], waiting for a batch that is on
// its way: end the context of Ship before. What is pending is sent by the next process that
// opens the spool.
func (s *Spool) Close() error {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return nil
	}
	s.closed = true
	close(s.done)
	s.mu.Unlock()
	s.reading.Lock()
	defer s.reading.Unlock()
	return s.release()
}

// release closes what was opened; the lock goes last.
func (s *Spool) release() error {
	s.syncing.Wait()
	var errs []error
	if s.active != nil {
		errs = append(errs, s.active.Sync())
	}
	for _, f := range []*os.File{s.active, s.progress} {
		if f != nil {
			errs = append(errs, f.Close())
		}
	}
	if s.lock != nil {
		errs = append(errs, s.lock.Close())
	}
	return errors.Join(errs...)
}

// decode is the inverse of encode: it takes only what a store will take.
func decode(line []byte) (e store.AuditEntry, err error) {
	if err := json.Unmarshal(line, &e); err != nil {
		return store.AuditEntry{}, err
	}
	return e, check(&e)
}

// check holds an entry to what the stores demand of it, so that no entry is ever refused there.
func check(e *store.AuditEntry) error {
	if len(e.ID) == 0 || len(e.ID) > 128 {
		return fmt.Errorf("%w: its id has %d bytes and may have 1 to 128", ErrEntry, len(e.ID))
	}
	for _, c := range []byte(e.ID) {
		if c <= ' ' || c > '~' || c == '\\' {
			return fmt.Errorf("%w: its id holds other than visible ASCII", ErrEntry)
		}
	}
	if e.Kind != store.LoginEntry && e.Kind != store.AdminEntry {
		return fmt.Errorf("%w: its kind is %q", ErrEntry, e.Kind)
	}
	return nil
}
