package store

import "time"

// Heartbeat is what a replica says of itself while it proves that the store takes writes.
type Heartbeat struct {
	Replica string // its name, 1 to 128 bytes
	// Applied is up to where its decisions follow the feed; the zero value says nothing.
	Applied Position
	// MaxStaleness is for how long it decides on after the store has confirmed its state last.
	MaxStaleness time.Duration
}

// Replica is the last heartbeat of a replica as the store knows it.
type Replica struct {
	Name         string
	Applied      Position
	At           time.Time // of the heartbeat, by the database's clock
	MaxStaleness time.Duration
	Age          time.Duration // of the heartbeat, by the database's clock
}

// Stale reports whether the replica decides on nothing any more unless it has beaten since.
func (r Replica) Stale() bool { return r.Age > r.MaxStaleness }
