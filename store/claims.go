package store

// AccountClaims are the claims of an account that Gatehouse changes.
type AccountClaims struct {
	Account string // its public key
	Base    string // JWT that others have signed, which owned fields are merged into
	Desired string // JWT that the servers are to have
	// Revision counts what was saved, from 1; 0 is of what was never saved.
	Revision int64
}
