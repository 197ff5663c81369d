package expr

import (
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
	"cel.dev/cel-go/common/types/traits"
)

// adapter shows decoded JSON to CEL, each value at the moment it is read: nothing is converted
// that no expression looks at.
type adapter struct{}

// NativeToValue returns the CEL value of one that JSON decoded to.
func (a adapter) NativeToValue(v any) ref.Val {
	switch v := v.(type) {
	case json.Number:
		return number(v)
	case []any:
		return types.NewDynamicList(a, v)
	case map[string]any:
		return &object{Mapper: types.NewStringInterfaceMap(a, v), claims: v}
	default:
		return types.DefaultTypeAdapter.NativeToValue(v)
	}
}

// object is a map whose keys are gone through in order: Go's order changes with every run.
type object struct {
	traits.Mapper
	claims map[string]any
}

func (o *object) Iterator() traits.Iterator {
	return types.NewStringList(adapter{}, slices.Sorted(maps.Keys(o.claims))).Iterator()
}

// number returns the value of a JSON number without rounding it: 1 and 1.0 are the integer 1, 0.1 is
// the double that is written so, and what is neither an integer of 64 bits nor the shortest
// writing of a double is an [exact] number.
func number(n json.Number) ref.Val {
	if i, err := strconv.ParseInt(string(n), 10, 64); err == nil {
		return types.Int(i)
	}
	d := parseDecimal(string(n))
	if i, err := strconv.ParseInt(d.integer(), 10, 64); err == nil {
		return types.Int(i)
	}
	if u, err := strconv.ParseUint(d.integer(), 10, 64); err == nil {
		return types.Uint(u)
	}
	// Integers beyond 64 bits stay exact: as doubles two of them could be one.
	if d.exponent < 0 {
		if f, err := strconv.ParseFloat(string(n), 64); err == nil && parseDecimal(strconv.FormatFloat(f, 'e', -1, 64)) == d {
			return types.Double(f)
		}
	}
	return &exact{d}
}

// decimal is a number written with digits and an exponent of ten: equal numbers are equal values.
type decimal struct {
	digits   string // with a sign when negative, neither beginning nor ending in 0; empty for zero
	exponent int64
}

// parseDecimal returns the value of a JSON number. One whose exponent has no 64 bits equals only
// its own writing.
func parseDecimal(s string) decimal {
	mantissa, power := s, int64(0)
	if i := strings.IndexAny(s, "eE"); i >= 0 {
		mantissa = s[:i]
		var err error
		if power, err = strconv.ParseInt(s[i+1:], 10, 62); err != nil {
			return decimal{digits: s}
		}
	}
	mantissa, negative := strings.CutPrefix(mantissa, "-")
	whole, fraction, _ := strings.Cut(mantissa, ".")
	digits := strings.TrimLeft(whole+fraction, "0")
	trimmed := strings.TrimRight(digits, "0")
	if trimmed == "" {
		return decimal{}
	}
	d := decimal{digits: trimmed, exponent: power - int64(len(fraction)) + int64(len(digits)-len(trimmed))}
	if negative {
		d.digits = "-" + d.digits
	}
	return d
}

// integer returns the digits of a whole number short enough to fit 64 bits, else an empty text.
func (d decimal) integer() string {
	const most = 20 // digits of 2^64
	switch {
	case d == decimal{}:
		return "0"
	case d.exponent < 0 || d.exponent > most || len(d.digits) > most:
		return ""
	}
	return d.digits + strings.Repeat("0", int(d.exponent))
}

// exact is a number that no CEL type holds: it can be compared for equality, nothing else.
type exact struct{ decimal }

var exactType = types.NewOpaqueType("exact_number")

func (e *exact) ConvertToNative(t reflect.Type) (any, error) {
	return nil, fmt.Errorf("a number of more than 64 bits has no %v", t)
}

func (e *exact) ConvertToType(t ref.Type) ref.Val {
	return types.NewErr("a number of more than 64 bits has no %s", t.TypeName())
}

func (e *exact) Equal(other ref.Val) ref.Val {
	o, ok := other.(*exact)
	return types.Bool(ok && *e == *o)
}

func (e *exact) Type() ref.Type { return exactType }

func (e *exact) Value() any { return e.digits + "e" + strconv.FormatInt(e.exponent, 10) }
