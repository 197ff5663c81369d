package store

import (
	"sync"
	"time"
)

// SampleEvery is how often a [Sampler] keeps an entry of one reason while many come.
const SampleEvery = time.Second

// Sampler keeps one audit entry a second of each reason and counts the others into the next: for what
// anybody can cause at will. Whoever owns it calls Flush about as often, and once more in the end.
type Sampler struct {
	keep func(AuditEntry) error

	mu      sync.Mutex
	samples map[string]*sample
}

// sample is the state of one reason.
type sample struct {
	kept time.Time
	held AuditEntry // the newest that was not kept; its Count counts all since
}

// NewSampler returns one that hands what it keeps to keep.
func NewSampler(keep func(AuditEntry) error) *Sampler {
	return &Sampler{keep: keep, samples: map[string]*sample{}}
}

// Offer keeps the entry, or counts it into a later one.
func (s *Sampler) Offer(e AuditEntry, now time.Time) error {
	s.mu.Lock()
	p, ok := s.samples[e.Reason]
	if !ok {
		p = &sample{}
		s.samples[e.Reason] = p
	}
	e.Count = p.held.Count + 1
	if now.Sub(p.kept) < SampleEvery {
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
		p.held.Count += before.held.Count
	}
	return err
}

// Flush keeps what has been held for long enough. An entry that cannot be kept now is held on.
func (s *Sampler) Flush(now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, p := range s.samples {
		if p.held.Count == 0 || now.Sub(p.kept) < SampleEvery {
			continue
		}
		if s.keep(p.held) == nil {
			p.kept, p.held = now, AuditEntry{}
		}
	}
}
