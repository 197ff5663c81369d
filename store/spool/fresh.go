package spool

import (
	"strings"

	"github.com/gatehouse-nats/gatehouse/store"
)

// mostFresh bounds the entries that are kept in memory: a batch. More wait when the store does not answer, and are read
// from the disk then.
const mostFresh = maxBatch

// fresh is an entry whose line need not be read and decoded again, and where that is.
type fresh struct {
	seq   uint64 // of the segment
	at    int64  // offset of the line
	size  int64
	entry store.AuditEntry
}

// keepFresh keeps an entry that was just appended as a plain line, if there is room; the caller holds mu.
func (s *Spool) keepFresh(e *store.AuditEntry, seq uint64, at, size int64) {
	if len(s.fresh) < mostFresh {
		asDecoded(e)
		own(e)
		s.fresh = append(s.fresh, fresh{seq, at, size, *e})
	}
}

// takeFresh returns what is in memory of the lines from there on, without a gap; of size 0 when it is nothing.
func (s *Spool) takeFresh(seq uint64, from int64) batch {
	s.mu.Lock()
	defer s.mu.Unlock()
	b := batch{seq: seq}
	n := 0
	for ; n < len(s.fresh); n++ {
		f := &s.fresh[n]
		if before := f.seq < seq || f.seq == seq && f.at < from; before {
			continue // read from the disk
		}
		if f.seq != seq || f.at != from+b.size || len(b.entries) == maxBatch || b.size >= maxBatchBytes {
			break
		}
		b.entries = append(b.entries, f.entry)
		b.size += f.size
	}
	if b.size > 0 || n == len(s.fresh) {
		left := copy(s.fresh, s.fresh[n:])
		clear(s.fresh[left:])
		s.fresh = s.fresh[:left]
	}
	return b
}

// own copies the texts of an entry, so that it holds nothing of what they were cut from: a request with certificate chains
// has 160 KB, and a token 16. The names of claims, roles and bindings are the configuration's, and the claims were made for the entry.
func own(e *store.AuditEntry) {
	texts := [...]*string{
		&e.ID, &e.Outcome, &e.Reason, &e.Detail, &e.Issuer, &e.Subject, &e.Name, &e.TokenID, &e.SessionID, &e.Account,
		&e.ServerID, &e.ServerName, &e.UserKey, &e.Source, &e.ConnType, &e.Client, &e.Asked,
		&e.Actor, &e.Op, &e.Target, &e.State, &e.Replica, &e.Rules,
	}
	size := 0
	for _, t := range texts {
		size += len(*t)
	}
	var b strings.Builder // one allocation for all
	b.Grow(size)
	for _, t := range texts {
		b.WriteString(*t)
	}
	all := b.String()
	for _, t := range texts {
		*t, all = all[:len(*t)], all[len(*t):]
	}
	if e.Display == nil {
		return
	}
	display := make(map[string]string, len(e.Display))
	for name, text := range e.Display {
		display[name] = strings.Clone(text)
	}
	e.Display = display
}

// asDecoded makes an entry whose line is plain what that line decodes to.
func asDecoded(e *store.AuditEntry) {
	if len(e.Display) == 0 {
		e.Display = nil
	}
	if len(e.Claims) == 0 {
		e.Claims = nil
	}
	if len(e.Roles) == 0 {
		e.Roles = nil
	}
	if len(e.Bindings) == 0 {
		e.Bindings = nil
	}
}
