package account

import (
	"errors"
	"strings"
	"testing"
)

func TestCheckTexts(t *testing.T) {
	t.Parallel()
	many := make([]string, MaxTags+1)
	for i := range many {
		many[i] = "t" + strings.Repeat("x", i)
	}
	for name, c := range map[string]struct {
		description string
		tags        []string
		want        error
	}{
		"nothing": {}, "texts": {"all orders, für alle", []string{"eu", "team:blue", "a.b_c-d"}, nil},
		"too long": {strings.Repeat("x", MaxDescription+1), nil, ErrText}, "lines": {"a\nb", nil, ErrText}, "escapes": {"\x1b[2J", nil, ErrText},
		"turned around": {"a\u202eb", nil, ErrText}, "capitals": {"", []string{"EU"}, ErrText}, "blanks": {"", []string{"a b"}, ErrText}, "empty": {"", []string{""}, ErrText},
		"twice": {"", []string{"a", "a"}, ErrText}, "many": {"", many, ErrText},
	} {
		if err := CheckTexts(c.description, c.tags); !errors.Is(err, c.want) || (err == nil) != (c.want == nil) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestLimitsCheck(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		limits Limits
		want   error
	}{
		"nothing":            {Limits{}, nil},
		"no limits":          {Limits{Connections: NoLimit, LeafNodes: NoLimit, JetStream: &JetStream{Memory: NoLimit, Disk: NoLimit, Streams: NoLimit, Consumers: NoLimit}}, nil},
		"tiers":              {Limits{Tiers: map[string]JetStream{"R1": {Disk: 1, Streams: 1}}}, nil},
		"below":              {Limits{Payload: -2}, ErrLimits},
		"both":               {Limits{JetStream: &JetStream{}, Tiers: map[string]JetStream{}}, ErrLimits},
		"no such tier":       {Limits{Tiers: map[string]JetStream{"r1": {}}}, ErrLimits},
		"streams of nothing": {Limits{Tiers: map[string]JetStream{"R3": {Streams: 1}}}, ErrLimits},
		"leaf nodes":         {Limits{Connections: 1, LeafNodes: 2}, ErrLimits},
		"JetStream below":    {Limits{JetStream: &JetStream{Disk: -5}}, ErrLimits},
	} {
		if err := c.limits.Check(); !errors.Is(err, c.want) || (err == nil) != (c.want == nil) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
