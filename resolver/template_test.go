package resolver

import (
	"strings"
	"testing"

	"github.com/nats-io/jwt/v2"
)

func TestIgnoredLimits(t *testing.T) {
	unlimited := jwt.NewUserScope().Template
	limited := unlimited
	limited.Subs, limited.Payload, limited.Data, limited.Src = 1, 0, 10, jwt.CIDRList{"10.0.0.0/8"}
	for _, c := range []struct {
		version  string
		template jwt.UserPermissionLimits
		want     string
	}{
		{"2.15.3", unlimited, ""},
		{"2.14.9", unlimited, ""},
		{"2.15.3", limited, "data"},
		{"2.16.0", limited, "data"},
		{"3.0.0", limited, "data"},
		{"2.15.4-RC.1", limited, "data"},
		{"2.14.10", limited, "data"},
		{"2.15.2", limited, "data src subs payload"},
		{"2.15.0-RC.1", limited, "data src subs payload"},
		{"2.14.9", limited, "data src subs payload"},
		{"2.9.30", limited, "data src subs payload"},
		{"devel", limited, "data src subs payload"},
		{"", limited, "data src subs payload"},
	} {
		if got := strings.Join(ignoredLimits(c.template, c.version), " "); got != c.want {
			t.Errorf("%q ignores %q, want %q", c.version, got, c.want)
		}
	}
}
