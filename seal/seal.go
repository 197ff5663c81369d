// Package seal encrypts secrets that are kept in the store, such as the seeds of signing keys. Whoever has
// the store alone, or a backup of it, learns nothing, and can put no box in another's place.
package seal

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"slices"
)

// KeySize is the length of a key in bytes: AES-256.
const KeySize = 32

const (
	version   = 1
	idSize    = 8
	nonceSize = 12
	overhead  = 1 + idSize + nonceSize
)

// The conditions that callers tell apart.
var (
	// ErrKey says that a text is no key.
	ErrKey = errors.New("not a sealing key: 32 bytes in base64, as gatehouse keys seal-key makes one")
	// ErrOtherKey says that a box was sealed with a key that is not at hand.
	ErrOtherKey = errors.New("sealed with another key")
	// ErrBox says that a box was damaged, or is another row's.
	ErrBox = errors.New("the box does not open: it was damaged, or belongs to another row")
)

// Key encrypts with AES-256-GCM under random nonces: at most 2^32 boxes for a key.
type Key struct {
	id   [idSize]byte
	aead cipher.AEAD
}

// NewKey returns a new random key as text.
func NewKey() string {
	raw := make([]byte, KeySize)
	_, _ = rand.Read(raw) // never fails
	return base64.StdEncoding.EncodeToString(raw)
}

// ParseKey returns the key in a text, blanks around it aside; [ErrKey] when there is none.
func ParseKey(text []byte) (*Key, error) {
	raw, err := base64.StdEncoding.DecodeString(string(bytes.TrimSpace(text)))
	if err != nil || len(raw) != KeySize {
		return nil, ErrKey
	}
	block, err := aes.NewCipher(raw)
	if err != nil {
		return nil, ErrKey
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		return nil, ErrKey
	}
	k := &Key{aead: aead}
	sum := sha256.Sum256(append([]byte("gatehouse seal key id\n"), raw...))
	copy(k.id[:], sum[:])
	return k, nil
}

// ID names the key without telling anything of it: 16 hexadecimal digits.
func (k *Key) ID() string { return hex.EncodeToString(k.id[:]) }

// LogValue keeps the key out of logs.
func (k *Key) LogValue() slog.Value { return slog.StringValue(k.ID()) }

// String keeps the key out of formatted text.
func (k *Key) String() string { return k.ID() }

// Ring seals with one key and opens what any of its keys has sealed.
type Ring struct {
	current *Key
	keys    map[[idSize]byte]*Key
}

// NewRing returns a ring that seals with current, and also opens what the others have sealed.
func NewRing(current *Key, others ...*Key) *Ring {
	r := &Ring{current: current, keys: map[[idSize]byte]*Key{current.id: current}}
	for _, k := range others {
		r.keys[k.id] = k
	}
	return r
}

// Current returns the id of the key that seals.
func (r *Ring) Current() string { return r.current.ID() }

// Keys returns the ids of the keys that open boxes, sorted; none when the ring is nil.
func (r *Ring) Keys() []string {
	if r == nil {
		return nil
	}
	ids := make([]string, 0, len(r.keys))
	for _, k := range r.keys {
		ids = append(ids, k.ID())
	}
	slices.Sort(ids)
	return ids
}

// Seal encrypts a secret for the row that it is kept in, such as "signing key A…": only there it opens.
func (r *Ring) Seal(secret []byte, row string) []byte {
	box := make([]byte, overhead, overhead+len(secret)+r.current.aead.Overhead())
	box[0] = version
	copy(box[1:], r.current.id[:])
	nonce := box[1+idSize : overhead]
	_, _ = rand.Read(nonce) // never fails
	return r.current.aead.Seal(box, nonce, secret, additional(box, row))
}

// Open decrypts what was sealed for the row. [ErrOtherKey] names the key that is needed.
func (r *Ring) Open(box []byte, row string) ([]byte, error) {
	if len(box) < overhead || box[0] != version {
		return nil, ErrBox
	}
	k := r.keys[[idSize]byte(box[1:1+idSize])]
	if k == nil {
		return nil, fmt.Errorf("%w: give the one with id %s", ErrOtherKey, KeyID(box))
	}
	secret, err := k.aead.Open(nil, box[1+idSize:overhead], box[overhead:], additional(box, row))
	if err != nil {
		return nil, ErrBox
	}
	return secret, nil
}

// KeyID returns the id of the key that sealed the box, "" when it is none.
func KeyID(box []byte) string {
	if len(box) < overhead || box[0] != version {
		return ""
	}
	return hex.EncodeToString(box[1 : 1+idSize])
}

// additional is what the box is bound to: its header and its row.
func additional(box []byte, row string) []byte {
	return append(bytes.Clone(box[:1+idSize]), row...)
}
