// Package policy is Gatehouse's domain: who somebody is, what the rules and the
// stored state say about them, and what they get.
//
// It holds no I/O, no clock and no logger. [Decide] is a pure function of a
// [Snapshot], an [Identity], the facts of a [Connection] and the time; everything
// that is worth deciding about a login is decided there and nowhere else, because
// nats-server checks neither revocations nor source addresses nor account expiry
// when it admits a user through auth callout.
package policy
