package mint

import (
	"fmt"

	"github.com/nats-io/jwt/v2"
)

// Unenforced returns what the template of a scoped signing key limits and nats-server does not hold
// callout users to, each as a sentence of what and what to do; none for a template without such
// limits. In nats-server before 2.15.3 the user's JWT is gone by the time that its limits would be read
// (server/client.go, registerWithAccount); data is never read.
func Unenforced(template jwt.UserPermissionLimits) []string {
	const older = "nats-server before 2.15.3 does not hold callout users to it"
	var all []string
	limit := func(name string, v int64, why, remedy string) {
		if v != jwt.NoLimit {
			all = append(all, fmt.Sprintf("%s is %d: %s; %s", name, v, why, remedy))
		}
	}
	limit("subs", template.Subs, older, "limit the account's subscriptions instead")
	limit("payload", template.Payload, older, "limit the account's payload instead")
	limit("data", template.Data, "nats-server never reads it", "leave it out")
	if len(template.Src) > 0 {
		all = append(all, fmt.Sprintf("src is %s: %s; put the networks into the source of the bindings", template.Src, older))
	}
	return all
}
