package oidc

// Remembered returns how many tokens are remembered.
func (v *Verifier) Remembered() int {
	v.seen.mu.Lock()
	defer v.seen.mu.Unlock()
	return len(v.seen.young) + len(v.seen.old)
}
