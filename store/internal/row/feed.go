package row

import (
	"database/sql"
	"fmt"
	"time"

	"github.com/gatehouse-nats/gatehouse/policy"
	"github.com/gatehouse-nats/gatehouse/store"
)

// Found is a row of the queries that read the feed's counter and, beside it, what there is: one
// row without a revocation when there is nothing.
type Found struct {
	Server     time.Time // when the server that answered was started, where that is known
	position   store.Position
	revocation policy.Revocation
	pruned     int64
	seq        sql.NullInt64
	change     sql.NullString
	record     Record
}

// StateTargets returns where a row of a load is scanned to: epoch, seq and the columns of [Decided].
func (f *Found) StateTargets(at func(*time.Time) any) []any {
	return append([]any{&f.position.Epoch, &f.position.Seq}, decidedTargets(&f.revocation, at)...)
}

// ChangeTargets returns where a row of the feed is scanned to: those of [Found.StateTargets],
// pruned, the entry's seq and kind, and the record of an account.
func (f *Found) ChangeTargets(at func(*time.Time) any) []any {
	return append(f.StateTargets(at), &f.pruned, &f.seq, &f.change, &f.record)
}

// State returns what a load found.
func State(rows []Found) store.State {
	s := store.State{Revocations: make([]policy.Revocation, 0, len(rows))}
	for _, f := range rows {
		s.Position = f.position
		if f.revocation.ID != "" {
			s.Revocations = append(s.Revocations, f.revocation)
		}
	}
	return s
}

// Changes returns what the feed held after the position, or [store.ErrLost].
func Changes(rows []Found, after store.Position) ([]store.Change, store.Position, error) {
	if len(rows) == 0 {
		return nil, after, fmt.Errorf("%w: it has no counter", store.ErrLost)
	}
	switch now := rows[0]; {
	case now.position.Epoch != after.Epoch:
		return nil, after, fmt.Errorf("%w: the feed was made anew", store.ErrLost)
	case now.position.Seq < after.Seq:
		return nil, after, fmt.Errorf("%w: it is at %d and the feed at %d", store.ErrLost, after.Seq, now.position.Seq)
	case after.Seq < now.pruned:
		return nil, after, fmt.Errorf("%w: it is at %d and entries up to %d are gone", store.ErrLost, after.Seq, now.pruned)
	}
	var changes []store.Change
	for _, f := range rows {
		if !f.seq.Valid {
			continue
		}
		c := store.Change{Seq: f.seq.Int64, Account: f.record.Account}
		if c.Account == nil {
			c.Revocation = policy.RevocationChange{Revocation: f.revocation, Lifted: f.change.String == "lift"}
		}
		changes = append(changes, c)
		after.Seq = f.seq.Int64
	}
	return changes, after, nil
}
