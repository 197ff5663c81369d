package mint

import (
	"slices"
	"testing"

	"github.com/nats-io/jwt/v2"
)

func TestUnenforced(t *testing.T) {
	template := jwt.NewUserScope().Template
	if got := Unenforced(template); got != nil {
		t.Errorf("a template without limits: %q", got)
	}
	template.Subs, template.Payload, template.Data = 10, 0, 1<<30
	template.Src = jwt.CIDRList{"10.0.0.0/8", "192.0.2.1/32"}
	want := []string{
		"subs is 10: nats-server before 2.15.3 does not hold callout users to it; limit the account's subscriptions instead",
		"payload is 0: nats-server before 2.15.3 does not hold callout users to it; limit the account's payload instead",
		"data is 1073741824: nats-server never reads it; leave it out",
		"src is [10.0.0.0/8 192.0.2.1/32]: nats-server before 2.15.3 does not hold callout users to it; put the networks into the source of the bindings",
	}
	if got := Unenforced(template); !slices.Equal(got, want) {
		t.Errorf("got %q\nwant %q", got, want)
	}
}
