package row

import "time"

var (
	earliest = time.Date(1, 1, 1, 0, 0, 0, 0, time.UTC)
	latest   = time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC)
)

// Time returns t as rows keep it: UTC, to the microsecond, within the years 1 to 9999, which
// both databases and JSON can hold. A token's exp may say anything.
func Time(t time.Time) time.Time {
	t = t.UTC()
	switch {
	case t.Before(earliest):
		return earliest
	case t.After(latest):
		return latest
	}
	return t.Truncate(time.Microsecond)
}
