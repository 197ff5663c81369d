package expr

import (
	"iter"
	"maps"
	"math"
	"slices"

	"cel.dev/cel-go/common/operators"
	"cel.dev/cel-go/common/overloads"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
)

// pricing charges operations on claims for the size of what they work on. Claims have no type
// when an expression is compiled, and CEL then charges 1 however long a text or list is:
// joining long texts for each of 10,000 groups ran for two seconds.
type pricing struct{}

// CallCost returns what a call cost; nil leaves that to CEL.
func (pricing) CallCost(function, _ string, args []ref.Val, result ref.Val) *uint64 {
	var cost uint64 = 1
	switch function {
	case operators.Equals, operators.NotEquals,
		operators.Less, operators.LessEquals, operators.Greater, operators.GreaterEquals:
		cost += lighter(args[0], args[1]) // at the shorter one's end the answer is known
	case operators.In, operators.OldIn:
		if _, ok := args[1].(*object); !ok {
			cost += weight(args[1], math.MaxUint64)
		}
	case operators.Add:
		if s, ok := result.(types.String); ok {
			cost += uint64(len(s)) / textUnit
		}
	case overloads.Size, overloads.TypeConvertString, overloads.TypeConvertBytes, overloads.TypeConvertBool,
		overloads.TypeConvertInt, overloads.TypeConvertUint, overloads.TypeConvertDouble,
		overloads.TypeConvertDuration, overloads.TypeConvertTimestamp:
		if s, ok := args[0].(types.String); ok {
			cost += uint64(len(s)) / textUnit
		}
	default:
		return nil
	}
	return &cost
}

// textUnit is the bytes of text that cost 1.
const textUnit = 10

// lighter returns the weight of the lighter one of two values, and goes through little more of
// the other: comparing a list of 10,000 with an empty one costs nothing.
func lighter(a, b any) uint64 {
	for most := uint64(64); ; most *= 4 {
		if w := min(weight(a, most), weight(b, most)); w < most {
			return w
		}
	}
}

// weight returns how much there is to compare in a value; some number that is not below most once
// it is as heavy as that.
func weight(v any, most uint64) uint64 {
	switch v := v.(type) {
	case types.String:
		return uint64(len(v)) / textUnit
	case string:
		return 1 + uint64(len(v))/textUnit
	case []any:
		return sum(slices.Values(v), most)
	case []ref.Val:
		return sum(slices.Values(v), most)
	case []string:
		return sum(slices.Values(v), most)
	case map[string]any:
		return sum(maps.Values(v), most)
	case map[ref.Val]ref.Val:
		return sum(maps.Values(v), most)
	case ref.Val:
		if native := v.Value(); native != nil && native != v {
			return weight(native, most)
		}
	}
	return 1
}

func sum[T any](values iter.Seq[T], most uint64) uint64 {
	var n uint64
	for v := range values {
		if n += weight(v, most); n >= most {
			break
		}
	}
	return n
}
