package store

import (
	"sync"
	"time"
)

// SampleEvery is how often refusals of one reason are kept while many come.
const SampleEvery = time.Second

// ByReason is the key of refusals that anybody can cause at will.
func ByReason(e AuditEntry) string { return e.Reason }

// Sampler keeps one audit entry of each key in a time and counts the others into the next. Whoever owns
// it calls Flush every second or so, and once more in the end. There must be few keys: none is forgotten.
type Sampler struct {
	every time.Duration
	key   func(AuditEntry) string
	keep  func(AuditEntry) error

	mu      sync.Mutex
	samples map[string]*sample
}

// sample is the state of one key.
type sample struct {
	kept time.Time
	held AuditEntry // the newest that was not kept; its Count counts all since
}

// NewSampler returns one that keeps an entry of each key so often, and hands it to keep.
func NewSampler(every time.Duration, key func(AuditEntry) string, keep func(AuditEntry) error) *Sampler {
	return &Sampler{every: every, key: key, keep: keep, samples: map[string]*sample{}}
}

// Offer keeps the entry, or counts it into a later one.
func (s *Sampler) Offer(e AuditEntry, now time.Time) error {
	s.mu.Lock()
	key := s.key(e)
	p, ok := s.samples[key]
	if !ok {
		p = &sample{}
		s.samples[key] = p
	}
	e.Count = p.held.Count + 1
	if now.Sub(p.kept) < s.every {
		p.held = e
		s.mu.Unlock()
		return nil
	}
	before := *p
	p.kept, p.held = now, AuditEntry{}
	s.mu.Unlock()
	err := s.keep(e)
	if err != nil {
		s.mu.Lock()
		defer s.mu.Unlock()
		p.kept = before.kept
		count := p.held.Count + before.held.Count
		if p.held.Count == 0 {
			p.held = before.held
		}
		p.held.Count = count
	}
	return err
}

// Flush keeps what has been held for long enough. An entry that cannot be kept now is held on.
func (s *Sampler) Flush(now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, p := range s.samples {
		if p.held.Count == 0 || now.Sub(p.kept) < s.every {
			continue
		}
		if s.keep(p.held) == nil {
			p.kept, p.held = now, AuditEntry{}
		}
	}
}
