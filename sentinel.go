package gatehouse

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/nats-io/nkeys"
)

// sentinel is the user JWT that sends a login through Gatehouse, with the seed of its key if
// there is one. The zero value stands for the servers' default sentinel.
type sentinel struct {
	read func() ([]byte, error) // the creds or the JWT; nil for the default sentinel
}

func sentinelFile(path string) sentinel {
	return sentinel{func() ([]byte, error) { return os.ReadFile(path) }}
}

func sentinelBytes(data []byte) sentinel {
	data = bytes.Clone(data)
	return sentinel{func() ([]byte, error) { return bytes.Clone(data), nil }}
}

// jwt returns the user JWT; empty for the default sentinel.
func (s sentinel) jwt() (string, error) {
	if s.read == nil {
		return "", nil
	}
	data, err := s.read()
	if err != nil {
		return "", fmt.Errorf("gatehouse: sentinel: %w", err)
	}
	defer clear(data)
	token, err := nkeys.ParseDecoratedJWT(data)
	token = strings.TrimSpace(token)
	if err != nil || strings.Count(token, ".") != 2 || strings.ContainsAny(token, " \r\n") {
		return "", errors.New("gatehouse: the sentinel is neither a creds file nor a user JWT")
	}
	return token, nil
}

// leavesSigning returns an error unless the sentinel is a bearer one, with which the server asks for no signature
// of the sentinel's own, so that another key can sign.
func (s sentinel) leavesSigning() error {
	token, err := s.jwt()
	if err != nil {
		return nil // the option that gave it has reported that
	}
	var claims struct {
		NATS struct {
			Bearer bool `json:"bearer_token"`
		} `json:"nats"`
	}
	if payload(token, &claims) != nil || !claims.NATS.Bearer {
		return errors.New("gatehouse: the sentinel is not a bearer one, so the connection signs with the sentinel's key and cannot sign with the token's: use a bearer sentinel")
	}
	return nil
}

// sign signs a server's nonce with the sentinel's seed. Without a seed it returns nothing,
// which is right for a bearer sentinel: the server asks for no signature then.
func (s sentinel) sign(nonce []byte) ([]byte, error) {
	if s.read == nil {
		return nil, nil
	}
	data, err := s.read()
	if err != nil {
		return nil, fmt.Errorf("gatehouse: sentinel: %w", err)
	}
	defer clear(data)
	if !bytes.Contains(data, []byte("NKEY SEED-----")) {
		return nil, nil
	}
	key, err := nkeys.ParseDecoratedUserNKey(data)
	if err != nil {
		return nil, fmt.Errorf("gatehouse: the sentinel's seed: %w", err)
	}
	defer key.Wipe()
	return key.Sign(nonce)
}
