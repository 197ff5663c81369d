// Package replica is what the replicas of a service tell each other over the callout account.
//
// They share nothing but the store and the servers, and can do without each other: the store alone makes
// each of them deny what is revoked. What they say makes it quick, and works for a while without the store:
// a revocation is broadcast as soon as it is stored, and each replica confirms once its decisions follow it.
// A broadcast can make a replica deny, never admit: that something was lifted is only a hint to look at the
// store.
//
// Heartbeats show who is there. A replica that falls silent while its connections stay swallows its share of
// the logins until the servers notice, minutes later, so the others have its connections closed; one whose
// own heartbeats come back late takes itself for the slow one, and closes nobody's.
package replica
