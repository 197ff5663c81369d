// Package gatehouse connects programs to a NATS system whose logins are decided by
// Gatehouse. [Connect] takes a source of OIDC tokens and returns an ordinary *nats.Conn:
//
//	nc, err := gatehouse.Connect(ctx, "tls://nats.example.com", gatehouse.OAuth2(source))
//
// A login ends with its short-lived credential. The connection then logs in again by itself
// with a token that was asked for ahead of time, keeps trying while the service or the issuer is away, and spreads its
// attempts at random, so that thousands of clients do not come back at the same moment.
//
// A NATS server tells a client no more than that its login was refused. [WithWhoami] names
// the service's HTTP address, from which the reason is then fetched: see [RefusedError].
package gatehouse
