// Package natsfacts holds, as tests, the behaviour of nats-server and nats.go that
// Gatehouse relies on and that neither promises in its documentation.
//
// Each test states one fact and the part of Gatehouse that rests on it, and shows it
// against a nats-server in process. When an upgrade of nats-server, nats.go or jwt
// turns one of these tests red, the part it names has to be thought through again
// before the upgrade is taken. The package has no code of its own.
package natsfacts
