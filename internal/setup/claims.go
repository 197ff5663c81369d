package setup

import (
	"github.com/nats-io/jwt/v2"

	"github.com/gatehouse-nats/gatehouse/api"
)

// newAccountClaims returns the claims that all accounts start from: no JetStream, no
// limits, one signing key, so that the identity key can stay offline.
func newAccountClaims(a accountKeys) *jwt.AccountClaims {
	claims := jwt.NewAccountClaims(a.identity.public)
	claims.Name = a.name
	claims.SigningKeys.Add(a.signing.public)
	return claims
}

// calloutClaims returns the claims of the callout account: its only real user is service,
// everyone else who connects to it is sent through Gatehouse and placed in one of allowed. A new set allows any, since
// accounts of sign-up are made later; it is Gatehouse then that places nobody in the system and the callout account.
// Connections stay unlimited, because nats-server counts every login in flight here. Its
// operations are offered to the lobby account alone, and events of accounts to whom [NewListener] lets have them (activation
// tokens are required).
func calloutClaims(a accountKeys, service, xkey string, allowed ...string) *jwt.AccountClaims {
	claims := newAccountClaims(a)
	claims.Description = "callout account of Gatehouse"
	claims.Authorization.AuthUsers.Add(service)
	claims.Authorization.AllowedAccounts.Add(allowed...)
	claims.Authorization.XKey = xkey
	claims.Exports.Add(&jwt.Export{Name: "gatehouse", Subject: operations, Type: jwt.Service, TokenReq: true})
	claims.Exports.Add(&jwt.Export{Name: "events", Subject: api.EventSubjects, Type: jwt.Stream, TokenReq: true})
	return claims
}

// operations are the subjects of sign-up and administration.
var operations = jwt.Subject(api.Subject(">"))

// lobbyActivation returns the claims of the token by which the callout account lets the
// lobby account, and no other, import its operations.
func lobbyActivation(callout, lobby accountKeys) *jwt.ActivationClaims {
	claims := jwt.NewActivationClaims(lobby.identity.public)
	claims.Name = "gatehouse"
	claims.ImportSubject = operations
	claims.ImportType = jwt.Service
	claims.IssuerAccount = callout.identity.public
	return claims
}

// lobbyClaims returns the claims of the account in which an identity without a grant may
// only ask for sign-up: no JetStream, no leaf nodes, and nothing at all for a user whose
// JWT does not say otherwise.
func lobbyClaims(a, callout accountKeys, activation string) *jwt.AccountClaims {
	claims := newAccountClaims(a)
	claims.Description = "lobby account of Gatehouse"
	claims.Limits.LeafNodeConn = 0
	claims.DefaultPermissions.Pub.Deny.Add(">")
	claims.DefaultPermissions.Sub.Deny.Add(">")
	claims.Imports.Add(&jwt.Import{
		Name: "gatehouse", Subject: operations, Type: jwt.Service,
		Account: callout.identity.public, Token: activation, Share: true,
	})
	return claims
}

// applicationClaims returns the claims of an application account, with JetStream without
// limits unless it is off altogether.
func applicationClaims(a accountKeys, jetStream bool) *jwt.AccountClaims {
	claims := newAccountClaims(a)
	if jetStream {
		claims.Limits.JetStreamLimits = jwt.JetStreamLimits{
			MemoryStorage: jwt.NoLimit, DiskStorage: jwt.NoLimit,
			Streams: jwt.NoLimit, Consumer: jwt.NoLimit, MaxAckPending: jwt.NoLimit,
			MemoryMaxStreamBytes: jwt.NoLimit, DiskMaxStreamBytes: jwt.NoLimit,
		}
	}
	return claims
}

// sentinel shapes the user whose only purpose is to be sent to the callout. It may do
// nothing, is a bearer token as default_sentinel demands, and never expires: the server
// would end callout users with it.
func sentinel(claims *jwt.UserClaims) {
	claims.BearerToken = true
	claims.Pub.Deny.Add(">")
	claims.Sub.Deny.Add(">")
}

// serviceUser shapes the user by which Gatehouse answers logins: the requests, what the
// micro framework needs, the server's report of failed logins, and the subjects by which
// replicas talk to each other and the lobby reaches the operations (answered at _R_).
func serviceUser(claims *jwt.UserClaims) {
	claims.Sub.Allow.Add("$SYS.REQ.USER.AUTH", "$SYS.ACCOUNT.CLIENT.AUTH.ERR", "$SRV.>", "gatehouse.>", "_INBOX.>")
	claims.Pub.Allow.Add("$SYS._INBOX.>", "$SRV.>", "gatehouse.>", "_INBOX.>", "_R_.>")
}

// systemUser shapes the user by which Gatehouse sees servers, accounts and connections,
// closes connections and keeps account claims.
func systemUser(claims *jwt.UserClaims) {
	watchingUser(claims)
	claims.Pub.Allow.Add(
		"$SYS.REQ.ACCOUNT.*.CLAIMS.LOOKUP", "$SYS.REQ.ACCOUNT.*.CLAIMS.UPDATE",
		"$SYS.REQ.CLAIMS.UPDATE", "$SYS.REQ.CLAIMS.DELETE", "$SYS.REQ.CLAIMS.LIST", "$SYS.REQ.CLAIMS.PACK",
	)
	claims.Sub.Allow.Add("$SYS.REQ.CLAIMS.PACK")
}

// watchingUser shapes a system user that keeps no account claims. Requests are listed one by
// one, because their neighbours stop servers and return memory dumps (PROFILEZ).
func watchingUser(claims *jwt.UserClaims) {
	claims.Pub.Allow.Add(
		"$SYS.REQ.SERVER.PING",
		"$SYS.REQ.SERVER.*.IDZ", "$SYS.REQ.SERVER.*.STATSZ", "$SYS.REQ.SERVER.*.CONNZ", "$SYS.REQ.SERVER.*.JSZ",
		"$SYS.REQ.SERVER.*.ACCOUNTZ", "$SYS.REQ.SERVER.*.VARZ", "$SYS.REQ.SERVER.*.KICK",
		"$SYS.REQ.ACCOUNT.*.INFO", "$SYS.REQ.ACCOUNT.*.CONNZ",
	)
	claims.Sub.Allow.Add("$SYS.SERVER.>", "$SYS.ACCOUNT.>", "_INBOX.>",
		// To see that somebody pushed or deleted claims.
		"$SYS.REQ.CLAIMS.UPDATE", "$SYS.REQ.ACCOUNT.*.CLAIMS.UPDATE", "$SYS.REQ.CLAIMS.DELETE")
}
