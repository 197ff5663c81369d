package row

import (
	"encoding/base64"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/gatehouse-nats/gatehouse/store"
)

// Cursor is the place of a row in a list that goes newest first, by time and then id. Since
// it names a row and not a count, rows that are added meanwhile do not shift the next page.
type Cursor struct {
	At time.Time
	ID string
}

// String returns the cursor as callers carry it.
func (c Cursor) String() string {
	return base64.RawURLEncoding.EncodeToString([]byte(strconv.FormatInt(c.At.UnixMicro(), 10) + "." + c.ID))
}

// ParseCursor is the inverse of [Cursor.String]; its error wraps [store.ErrCursor].
func ParseCursor(s string) (Cursor, error) {
	raw, err := base64.RawURLEncoding.DecodeString(s)
	if err != nil {
		return Cursor{}, fmt.Errorf("%w: start again from the first page", store.ErrCursor)
	}
	at, id, ok := strings.Cut(string(raw), ".")
	micros, err := strconv.ParseInt(at, 10, 64)
	if !ok || err != nil || id == "" {
		return Cursor{}, fmt.Errorf("%w: start again from the first page", store.ErrCursor)
	}
	return Cursor{At: time.UnixMicro(micros).UTC(), ID: id}, nil
}

// Limit returns how many rows a page has, when limit was asked for.
func Limit(limit int) int {
	if limit <= 0 || limit > store.MaxPage {
		return store.MaxPage
	}
	return limit
}

// Page cuts rows, of which one more than limit were read when there are so many, to a page
// and returns the cursor of the next one, empty at the end.
func Page[T any](rows []T, limit int, place func(T) Cursor) (page []T, next string) {
	if len(rows) <= limit {
		return rows, ""
	}
	return rows[:limit], place(rows[limit-1]).String()
}
