package postgres

import (
	"database/sql/driver"
	"fmt"
	"time"

	"github.com/gatehouse-nats/gatehouse/store/internal/row"
)

// timestamp is a time in a timestamptz column; the zero time is NULL.
type timestamp time.Time

func (t timestamp) Value() (driver.Value, error) {
	if time.Time(t).IsZero() {
		return nil, nil
	}
	return row.Time(time.Time(t)), nil
}

func (t *timestamp) Scan(src any) error {
	switch v := src.(type) {
	case nil:
		*t = timestamp{}
	case time.Time:
		*t = timestamp(v.UTC())
	default:
		return fmt.Errorf("a column that should hold a time holds %T", src)
	}
	return nil
}

// value returns what a column holds of a time.
func value(t time.Time) any {
	if t.IsZero() {
		return nil
	}
	return row.Time(t)
}

func target(t *time.Time) any { return (*timestamp)(t) }
