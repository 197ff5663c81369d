package mint

// Keyring holds the account signing keys by their public keys. It is immutable.
type Keyring struct {
	keys map[string]*Key
}

// NewKeyring returns a keyring of the keys.
func NewKeyring(keys ...*Key) *Keyring {
	r := &Keyring{keys: make(map[string]*Key, len(keys))}
	for _, k := range keys {
		r.keys[k.public] = k
	}
	return r
}

// Key returns the key with that public key, or nil.
func (r *Keyring) Key(public string) *Key { return r.keys[public] }
