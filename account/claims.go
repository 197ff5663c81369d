package account

import (
	"slices"

	"github.com/nats-io/jwt/v2"
)

// Claims returns what the record asks the servers to hold of the account, under the limits of its plan: all that
// Gatehouse owns of the claims of an account that it made. Of one that it adopted, this is merged into what others made.
func Claims(a *Account, plan Limits) *jwt.AccountClaims {
	c := jwt.NewAccountClaims(a.ID)
	c.Name, c.Description = a.Name, a.Description
	c.Tags = slices.Clone(a.Tags)
	limits := plan.With(a.Limits)
	// Servers take no claims that hold more than their own limits, and would go on with those before, whatever else has changed. So
	// what an account has from before a limit was lowered stays, and takes nothing new ([CheckExchange]).
	limits.Exports, limits.Imports = holding(limits.Exports, len(a.Exports)), holding(limits.Imports, len(a.Imports))
	limits.write(&c.Limits)
	for _, k := range a.Keys {
		c.SigningKeys.Add(k.Public)
	}
	for _, e := range a.Exports {
		c.Exports.Add(&jwt.Export{
			Name: e.Name, Subject: jwt.Subject(e.Subject), Type: e.Type.jwt(), TokenReq: e.Private,
			ResponseType: jwt.ResponseType(e.Response), Info: jwt.Info{Description: e.Description},
		})
	}
	for _, i := range a.Imports {
		c.Imports.Add(&jwt.Import{
			Name: i.Name, Account: i.Account, Subject: jwt.Subject(i.Subject), LocalSubject: jwt.RenamingSubject(i.Local),
			Type: i.Type.jwt(), Share: i.Share, Token: i.Token,
		})
	}
	return c
}

// holding returns the limit, raised to what there is.
func holding(limit int64, n int) int64 {
	if limit == NoLimit {
		return limit
	}
	return max(limit, int64(n))
}

func (t ExportType) jwt() jwt.ExportType {
	if t == ServiceType {
		return jwt.Service
	}
	return jwt.Stream
}

// write puts the limits into claims.
func (l Limits) write(to *jwt.OperatorLimits) {
	to.NatsLimits = jwt.NatsLimits{Subs: l.Subscriptions, Data: l.Data, Payload: l.Payload}
	to.AccountLimits = jwt.AccountLimits{
		Imports: l.Imports, Exports: l.Exports, WildcardExports: true, Conn: l.Connections, LeafNodeConn: l.LeafNodes,
		DisallowBearer: true, // whoever gets hold of a signing key must still prove a key at every login
	}
	to.JetStreamLimits = jwt.JetStreamLimits{}
	if l.JetStream != nil {
		to.JetStreamLimits = l.JetStream.jwt()
	}
	for tier, js := range l.Tiers {
		if to.JetStreamTieredLimits == nil {
			to.JetStreamTieredLimits = jwt.JetStreamTieredLimits{}
		}
		to.JetStreamTieredLimits[tier] = js.jwt()
	}
}

func (j JetStream) jwt() jwt.JetStreamLimits {
	return jwt.JetStreamLimits{MemoryStorage: j.Memory, DiskStorage: j.Disk, Streams: j.Streams, Consumer: j.Consumers}
}
