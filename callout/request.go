package callout

import (
	"bytes"
	"crypto/ed25519"
	"encoding/base64"
	"encoding/json"
	"errors"
	"strings"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nkeys"
)

// request is the part of nats-server's authorization request that is read (jwt.AuthorizationRequestClaims).
// The library decodes the whole of it, twice, which costs a quarter of a login.
type request struct {
	Audience string `json:"aud"`
	Issuer   string `json:"iss"`
	Subject  string `json:"sub"`
	IssuedAt int64  `json:"iat"`
	Expires  int64  `json:"exp"`
	NATS     `json:"nats"`
}

// NATS is what is particular to authorization requests.
type NATS struct {
	Type    jwt.ClaimType `json:"type"`
	Version int           `json:"version"`
	Server  struct {
		ID   string `json:"id"`
		Name string `json:"name"`
		XKey string `json:"xkey"`
	} `json:"server_id"`
	UserNkey string `json:"user_nkey"`
	Client   struct {
		Host  string `json:"host"`
		ID    uint64 `json:"id"`
		Kind  string `json:"kind"`
		Type  string `json:"type"`
		Nonce string `json:"nonce"`
	} `json:"client_info"`
	Connect struct {
		Nkey        string `json:"nkey"`
		SignedNonce string `json:"sig"`
		Token       string `json:"auth_token"`
		Username    string `json:"user"`
		Password    string `json:"pass"`
		Lang        string `json:"lang"`
		Version     string `json:"version"`
	} `json:"connect_opts"`
}

var errRequest = errors.New("not an authorization request of a server")

// decodeRequest returns the request in a JWT that the server which it names as its issuer has signed.
// Only what nats-server writes is taken: version 2, signed with ed25519-nkey. The signature is not looked at
// when authentic says of the issuer that something else proves it. The data may be in b.jwt.
func (b *buffers) decodeRequest(data []byte, authentic func(issuer string) bool) (*request, error) {
	head, rest, ok := bytes.Cut(data, []byte{'.'})
	body, signature, okay := bytes.Cut(rest, []byte{'.'})
	if !ok || !okay || !isRequestHeader(head) {
		return nil, errRequest
	}
	plain, err := base64.RawURLEncoding.AppendDecode(b.other[:0], body)
	if err != nil {
		return nil, errRequest
	}
	b.other = plain
	r, ok := readRequest(string(plain))
	if !ok {
		r = new(request)
		if json.Unmarshal(plain, r) != nil {
			return nil, errRequest
		}
	}
	if r.Type != jwt.AuthorizationRequestClaim || r.Version != 2 {
		return nil, errRequest
	}
	if !authentic(r.Issuer) && !signedBy(r.Issuer, data[:len(head)+1+len(body)], signature) {
		return nil, errRequest
	}
	return r, nil
}

// usualHeader is the header as the library writes it.
var usualHeader = []byte(base64.RawURLEncoding.EncodeToString([]byte(`{"typ":"JWT","alg":"ed25519-nkey"}`)))

func isRequestHeader(encoded []byte) bool {
	if bytes.Equal(encoded, usualHeader) {
		return true
	}
	plain, err := decodePart(encoded)
	if err != nil {
		return false
	}
	var header jwt.Header
	return json.Unmarshal(plain, &header) == nil && header.Type == jwt.TokenTypeJwt && strings.EqualFold(header.Algorithm, jwt.AlgorithmNkey)
}

func decodePart(encoded []byte) ([]byte, error) {
	plain := make([]byte, base64.RawURLEncoding.DecodedLen(len(encoded)))
	n, err := base64.RawURLEncoding.Decode(plain, encoded)
	return plain[:n], err
}

// signedBy reports whether the server with that public key has signed the text.
func signedBy(server string, text, encoded []byte) bool {
	key, err := nkeys.Decode(nkeys.PrefixByteServer, []byte(server))
	if err != nil || len(key) != ed25519.PublicKeySize {
		return false
	}
	signature, err := decodePart(encoded)
	return err == nil && ed25519.Verify(key, text, signature)
}
