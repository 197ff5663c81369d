package mint

// Keyring holds the account signing keys by their public keys: a few that are ready, and the seeds of any number
// of others. It is immutable.
type Keyring struct {
	keys  map[string]*Key
	seeds *Seeds
}

// NewKeyring returns a keyring of the keys.
func NewKeyring(keys ...*Key) *Keyring {
	r := &Keyring{keys: make(map[string]*Key, len(keys))}
	for _, k := range keys {
		r.keys[k.public] = k
	}
	return r
}

// With returns a keyring of the same keys and those of the seeds, which may be nil.
func (r *Keyring) With(seeds *Seeds) *Keyring { return &Keyring{keys: r.keys, seeds: seeds} }

// Key returns the key with that public key, or nil.
func (r *Keyring) Key(public string) *Key {
	if k := r.keys[public]; k != nil {
		return k
	}
	return r.seeds.key(public)
}
