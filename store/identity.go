package store

import "time"

// KnownIdentity is an identity that a verified token has spoken of.
type KnownIdentity struct {
	Issuer   string // exact iss
	Subject  string
	Name     string            // principal name
	Display  map[string]string // display claims of the last login that had any
	LastSeen time.Time         // to about an hour
}

// IdentityFilter chooses known identities; zero fields do not filter.
type IdentityFilter struct {
	Display string // value of any display claim, in upper or lower case
	Prefix  bool   // Display is the beginning of a value
	Issuer  string
	Subject string
	Name    string
	Limit   int
	Cursor  string
}

// ConnectionID names a client connection: cid is unique as long as the server runs, which has a new id
// after each start.
type ConnectionID struct {
	ServerID string
	CID      uint64
}
