package spool

import (
	"bytes"
	"encoding/json"
	"reflect"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/gatehouse-nats/gatehouse/store"
	"github.com/gatehouse-nats/gatehouse/store/internal/row"
)

// TestPlainIsTheLibrarys fills every field of an entry, those that a later release adds among them, and compares the line
// with that of encoding/json.
func TestPlainIsTheLibrarys(t *testing.T) {
	t.Parallel()
	plain := 0
	rapid.Check(t, func(r *rapid.T) {
		text := rapid.OneOf(rapid.Just(""), rapid.StringMatching(`[ -~]{0,12}`), rapid.StringMatching(`[a-z]{1,12}`), rapid.String())
		at := rapid.Custom(func(r *rapid.T) time.Time {
			return row.Time(time.Unix(rapid.Int64Range(-1e10, 1e11).Draw(r, "s"), rapid.Int64Range(0, 999_999_999).Draw(r, "ns")))
		})
		var e store.AuditEntry
		v := reflect.ValueOf(&e).Elem()
		for i := range v.NumField() {
			f, name := v.Field(i), v.Type().Field(i).Name
			if rapid.Bool().Draw(r, "leave out "+name) {
				continue
			}
			switch to := f.Addr().Interface().(type) {
			case *string:
				*to = text.Draw(r, name)
			case *time.Time:
				*to = at.Draw(r, name)
			case *map[string]string:
				*to = rapid.MapOfN(text, text, 0, 3).Draw(r, name)
			case *[]string:
				*to = rapid.SliceOfN(text, 0, 3).Draw(r, name)
			case *json.RawMessage:
				*to = json.RawMessage(rapid.SampledFrom([]string{"", `{"a":"<&>"}`, `{ "a" : [1, 2] }`, "{\"a\":\"\u2028\"}", "{", "null"}).Draw(r, name))
			case *bool:
				*to = true
			case *uint64:
				*to = rapid.Uint64().Draw(r, name)
			case *int64:
				*to = rapid.Int64().Draw(r, name)
			case *int:
				*to = rapid.Int().Draw(r, name)
			default:
				r.Fatalf("no value for field %s of type %s", name, f.Type())
			}
		}
		var want bytes.Buffer
		library := json.NewEncoder(&want)
		library.SetEscapeHTML(false)
		err := library.Encode(&e)
		got, ok := (&encoder{}).plain(&e)
		if !ok {
			return
		}
		plain++
		if err != nil || !bytes.Equal(got, want.Bytes()) {
			r.Fatalf("got  %s\nwant %s, %v", got, want.Bytes(), err)
		}
	})
	if plain == 0 {
		t.Error("no entry was plain")
	}
}
