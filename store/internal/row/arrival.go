package row

import (
	"encoding/base64"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/gatehouse-nats/gatehouse/store"
)

const (
	// arrivalWindow is how many batches one page looks through: a filter that few entries pass must not make
	// it read all there are.
	arrivalWindow = 200
	// clockMargin is how far apart the clocks of replicas and of the database may be for the batches of
	// entries from some time on to be found.
	clockMargin = 10 * time.Minute
)

// Arrived is an audit entry with the place of its batch.
type Arrived struct {
	Seq, Batch int64
	Entry      store.AuditEntry
}

// Targets returns where a row of seq, [AuditColumns] and batch is scanned to; at makes a target of a time.
func (a *Arrived) Targets(at func(*time.Time) any) []any {
	return append(append([]any{&a.Seq}, AuditTargets(&a.Entry, at)...), &a.Batch)
}

// ArrivalReader reads entries that pass a filter, in the order of [Place].
type ArrivalReader interface {
	// Ends returns the newest place, and the newest of those before a time, which may be zero.
	Ends(since time.Time) (newest, before int64, err error)
	// Rest returns at most limit entries of a batch after one of its entries.
	Rest(after Place, limit int) ([]store.AuditEntry, error)
	// Between returns at most limit entries of the batches after one place up to another.
	Between(after, upTo int64, limit int) ([]Arrived, error)
}

// Place is where an entry is in the order of arrival: batches as they were stored, and in a batch by time
// and id. Without an id it is the end of a batch.
type Place struct {
	Seq, Batch int64
	At         time.Time
	ID         string
}

// firstID is less than every id; it stands for the begin of a batch.
const firstID = "\x01"

func (p Place) String() string {
	return base64.RawURLEncoding.EncodeToString(fmt.Appendf(nil, "a.%d.%d.%d.%s", p.Seq, p.Batch, p.At.UnixMicro(), p.ID))
}

// ParsePlace is the inverse of [Place.String]; its error wraps [store.ErrCursor].
func ParsePlace(s string) (Place, error) {
	raw, err := base64.RawURLEncoding.DecodeString(s)
	parts := strings.SplitN(string(raw), ".", 5)
	if err != nil || len(parts) != 5 || parts[0] != "a" {
		return Place{}, fmt.Errorf("%w: start again without one", store.ErrCursor)
	}
	var n [3]int64
	for i := range n {
		if n[i], err = strconv.ParseInt(parts[i+1], 10, 64); err != nil || i < 2 && n[i] < 0 {
			return Place{}, fmt.Errorf("%w: start again without one", store.ErrCursor)
		}
	}
	return Place{Seq: n[0], Batch: n[1], At: time.UnixMicro(n[2]).UTC(), ID: parts[4]}, nil
}

// Arrivals returns a page of the entries that pass the filter, the place after it, and whether there may be more now.
func Arrivals(f store.AuditFilter, r ArrivalReader) (page []store.AuditEntry, next string, more bool, err error) {
	since := f.Since
	if !since.IsZero() {
		since = since.Add(-clockMargin)
	}
	newest, before, err := r.Ends(since)
	if err != nil {
		return nil, "", false, err
	}
	at := Place{Seq: before, At: time.UnixMicro(0), ID: firstID} // of batch 0, what was there before batches
	switch {
	case f.Cursor != "":
		if at, err = ParsePlace(f.Cursor); err != nil {
			return nil, "", false, err
		}
	case f.Tail:
		at = Place{Seq: newest}
	}
	if at.Seq > newest {
		return nil, "", false, fmt.Errorf("%w: the store was set back to before it: start again without one, by time", store.ErrCursor)
	}
	limit := Limit(f.Limit)
	if at.ID != "" {
		if page, err = r.Rest(at, limit); err != nil {
			return nil, "", false, err
		}
		if len(page) == limit {
			last := page[limit-1]
			at.At, at.ID = last.At, last.ID
			return page, at.String(), true, nil
		}
	}
	upTo := min(newest, at.Seq+arrivalWindow)
	list, err := r.Between(at.Seq, upTo, limit-len(page))
	if err != nil {
		return nil, "", false, err
	}
	for _, a := range list {
		page = append(page, a.Entry)
	}
	at = Place{Seq: upTo}
	if len(page) == limit {
		last := list[len(list)-1]
		at = Place{Seq: last.Seq, Batch: last.Batch, At: last.Entry.At, ID: last.Entry.ID}
	}
	return page, at.String(), len(page) == limit || upTo < newest, nil
}
