package callout

import (
	"crypto/rand"
	"errors"
	"fmt"
	"sync"

	"github.com/nats-io/nkeys"
	"golang.org/x/crypto/nacl/box"
)

// The sealed format of nkeys (xkeys.go): a version, a nonce, and a NaCl box.
const (
	sealVersion = nkeys.XKeyVersionV1
	nonceSize   = 24
	keySize     = 32
)

var (
	errUnsealed = errors.New("request is not sealed")
	errSeal     = errors.New("request does not open with the configured xkey")
)

// maxShared bounds the remembered shared secrets; a cluster has fewer servers.
const maxShared = 1024

// Sealer opens requests and seals responses with the service's xkey. It computes the secret
// shared with a server once, which nkeys does for every message.
type Sealer struct {
	public  string
	private [keySize]byte

	mu     sync.RWMutex
	shared map[string]*[keySize]byte
}

// NewSealer returns the sealer of an xkey seed (SX…); an error holds nothing of the seed.
func NewSealer(seed []byte) (*Sealer, error) {
	prefix, raw, err := nkeys.DecodeSeed(seed)
	if err != nil || prefix != nkeys.PrefixByteCurve {
		return nil, errors.New("xkey: want a curve seed (SX…)")
	}
	kp, err := nkeys.FromCurveSeed(seed)
	if err != nil {
		return nil, errors.New("xkey: want a curve seed (SX…)")
	}
	public, err := kp.PublicKey()
	if err != nil {
		return nil, fmt.Errorf("xkey: derive the public key: %w", err)
	}
	s := &Sealer{public: public, shared: map[string]*[keySize]byte{}}
	copy(s.private[:], raw)
	return s, nil
}

// Public returns the public xkey (X…).
func (s *Sealer) Public() string { return s.public }

// open returns what peer sealed for this service.
func (s *Sealer) open(data []byte, peer string) ([]byte, error) {
	const head = len(sealVersion) + nonceSize
	if peer == "" || len(data) <= head || string(data[:len(sealVersion)]) != sealVersion {
		return nil, errUnsealed
	}
	secret, err := s.secret(peer)
	if err != nil {
		return nil, err
	}
	var nonce [nonceSize]byte
	copy(nonce[:], data[len(sealVersion):])
	plain, ok := box.OpenAfterPrecomputation(nil, data[head:], &nonce, secret)
	if !ok {
		return nil, errSeal
	}
	return plain, nil
}

// seal returns the data sealed for peer.
func (s *Sealer) seal(data []byte, peer string) ([]byte, error) {
	secret, err := s.secret(peer)
	if err != nil {
		return nil, err
	}
	var nonce [nonceSize]byte
	_, _ = rand.Read(nonce[:]) // never fails (crypto/rand since Go 1.24)
	out := make([]byte, 0, len(sealVersion)+nonceSize+len(data)+box.Overhead)
	out = append(out, sealVersion...)
	out = append(out, nonce[:]...)
	return box.SealAfterPrecomputation(out, data, &nonce, secret), nil
}

// remember keeps the secret shared with a peer that has proved to be a server.
func (s *Sealer) remember(peer string) {
	s.mu.RLock()
	_, ok := s.shared[peer]
	s.mu.RUnlock()
	if ok {
		return
	}
	secret, err := s.derive(peer)
	if err != nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.shared) >= maxShared {
		clear(s.shared)
	}
	s.shared[peer] = secret
}

func (s *Sealer) secret(peer string) (*[keySize]byte, error) {
	s.mu.RLock()
	secret, ok := s.shared[peer]
	s.mu.RUnlock()
	if ok {
		return secret, nil
	}
	return s.derive(peer)
}

func (s *Sealer) derive(peer string) (*[keySize]byte, error) {
	raw, err := nkeys.Decode(nkeys.PrefixByteCurve, []byte(peer))
	if err != nil || len(raw) != keySize {
		return nil, fmt.Errorf("%w: the sender's xkey is not one", errSeal)
	}
	var public, secret [keySize]byte
	copy(public[:], raw)
	box.Precompute(&secret, &public, &s.private)
	return &secret, nil
}
