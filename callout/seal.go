package callout

import (
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"strings"
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

	mu    sync.RWMutex
	peers map[string]peer // by public xkey
}

// peer is a server that has sealed an authentic request.
type peer struct {
	server string // its id, which has signed that the xkey is its own
	secret *[keySize]byte
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
	s := &Sealer{public: public, peers: map[string]peer{}}
	copy(s.private[:], raw)
	return s, nil
}

// Public returns the public xkey (X…).
func (s *Sealer) Public() string { return s.public }

// open appends what peer sealed for this service.
func (s *Sealer) open(to, data []byte, peer string) ([]byte, error) {
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
	plain, ok := box.OpenAfterPrecomputation(to, data[head:], &nonce, secret)
	if !ok {
		return nil, errSeal
	}
	return plain, nil
}

// seal appends the data sealed for peer; the two must not overlap.
func (s *Sealer) seal(to, data []byte, peer string) ([]byte, error) {
	secret, err := s.secret(peer)
	if err != nil {
		return nil, err
	}
	var nonce [nonceSize]byte
	_, _ = rand.Read(nonce[:]) // never fails (crypto/rand since Go 1.24)
	to = slices.Grow(to, len(sealVersion)+nonceSize+len(data)+box.Overhead)
	to = append(to, sealVersion...)
	to = append(to, nonce[:]...)
	return box.SealAfterPrecomputation(to, data, &nonce, secret), nil
}

// remember keeps the secret shared with the xkey of a server that has just signed a request, in which it
// names the xkey as its own, and sealed it with that xkey.
func (s *Sealer) remember(xkey, server string) {
	if s.proves(xkey, server) {
		return
	}
	secret, err := s.derive(xkey)
	if err != nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.peers) >= maxShared {
		clear(s.peers)
	}
	// The request that the id is a part of is not kept.
	s.peers[xkey] = peer{strings.Clone(server), secret}
}

// proves reports whether what opens with the xkey was made by the server: nobody else has the xkey's private
// half but for this service, and the server has signed once that it is its own. Its further requests need no
// signature, of which verifying takes longer than opening.
func (s *Sealer) proves(xkey, server string) bool {
	s.mu.RLock()
	defer s.mu.RUnlock()
	p, ok := s.peers[xkey]
	return ok && p.server == server
}

func (s *Sealer) secret(xkey string) (*[keySize]byte, error) {
	s.mu.RLock()
	p, ok := s.peers[xkey]
	s.mu.RUnlock()
	if ok {
		return p.secret, nil
	}
	return s.derive(xkey)
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
