package expr

import (
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
		cost += min(weight(args[0]), weight(args[1])) // at the shorter one's end the answer is known
	case operators.In, operators.OldIn:
		if _, ok := args[1].(*object); !ok {
			cost += weight(args[1])
		}
	case operators.Add:
		if s, ok := result.(types.String); ok {
			cost += uint64(len(s)) / textUnit
		}
	case overloads.Size, overloads.TypeConvertString, overloads.TypeConvertBytes:
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

// weight returns how much there is to compare in a value.
func weight(v any) uint64 {
	switch v := v.(type) {
	case types.String:
		return uint64(len(v)) / textUnit
	case string:
		return 1 + uint64(len(v))/textUnit
	case []any:
		return sum(v)
	case []ref.Val:
		return sum(v)
	case []string:
		return sum(v)
	case map[string]any:
		var n uint64
		for _, e := range v {
			n += weight(e)
		}
		return n
	case ref.Val:
		if native := v.Value(); native != nil && native != v {
			return weight(native)
		}
	}
	return 1
}

func sum[T any](list []T) uint64 {
	var n uint64
	for _, e := range list {
		n += weight(e)
	}
	return n
}
