package sqlite

import (
	"database/sql/driver"
	"fmt"
	"time"

	"github.com/gatehouse-nats/gatehouse/store/internal/row"
)

// micros is a time as microseconds since 1970; the zero time is NULL.
type micros time.Time

func (m micros) Value() (driver.Value, error) {
	if time.Time(m).IsZero() {
		return nil, nil
	}
	return row.Time(time.Time(m)).UnixMicro(), nil
}

func (m *micros) Scan(src any) error {
	switch n := src.(type) {
	case nil:
		*m = micros{}
	case int64:
		*m = micros(time.UnixMicro(n).UTC())
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
	return row.Time(t).UnixMicro()
}

func target(t *time.Time) any { return (*micros)(t) }
