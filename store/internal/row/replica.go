package row

import (
	"time"

	"github.com/gatehouse-nats/gatehouse/store"
)

// ReplicaTargets returns where a row is scanned to: name, epoch, seq, time, and microseconds of
// max_staleness and age; at makes a target of a time.
func ReplicaTargets(r *store.Replica, at func(*time.Time) any) []any {
	return []any{
		(*Text)(&r.Name), (*Text)(&r.Applied.Epoch), &r.Applied.Seq, at(&r.At),
		(*span)(&r.MaxStaleness), (*span)(&r.Age),
	}
}

// span scans a count of microseconds; a clock that was set back makes no negative ones.
type span time.Duration

func (s *span) Scan(src any) error {
	n, ok := src.(int64)
	if !ok {
		return typeError("number", src)
	}
	*s = span(time.Duration(max(n, 0)) * time.Microsecond)
	return nil
}
