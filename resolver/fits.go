package resolver

import (
	"errors"
	"fmt"
)

// mostClaims bounds an account JWT in bytes: the library reads no longer one (jwt/v2, decoder.go).
const mostClaims = 1 << 20

// ErrClaimsFull says that an account's claims have no room for what is asked.
var ErrClaimsFull = errors.New("the account's claims are full")

// fits returns [ErrClaimsFull] when servers do not take the JWT of the account, as it is asked of them through the connection at hand. A server
// closes a connection on which more is published than it takes, which nothing could be pushed through any more.
func (c *Claims) fits(d *document, account, token string) error {
	size, most := int64(len(token)), min(mostClaims, c.r.nc.MaxPayload())
	if size <= most {
		return nil
	}
	room := ""
	if most < mostClaims {
		room = fmt.Sprintf("raise max_payload of the servers, and the payload limit of the system account and of the user that Gatehouse has there, to at least %d bytes (%d at most)", size, mostClaims)
	}
	if n := d.revocations(); n > 0 {
		room = either(room, "log all users of the account out, which is one entry for all of them, or lift what is not needed any more")
	}
	if room == "" {
		room = "take exports, imports, tags or signing keys out of it"
	}
	return fmt.Errorf("%w: with %d entries of revocations the claims of account %s take %d bytes, and servers take %d, so that they keep those from before: %s",
		ErrClaimsFull, d.revocations(), account, size, most, room)
}

// either joins two ways out, the first of which may be none.
func either(one, other string) string {
	if one == "" {
		return other
	}
	return one + "; or " + other
}
