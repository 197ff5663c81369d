package policy

import (
	"crypto/ed25519"
	"encoding/base64"
	"strings"
)

// Proof is what a client sent to prove that it holds a key: its signature of the nonce that the
// server made for this one connection. The server checks none of it when the sentinel is a bearer one.
type Proof struct {
	Nonce     string // as the server sent it; empty when it sent none
	Signature string // sig of the CONNECT, in base64; empty when the client signed nothing
	Key       string // nkey of the CONNECT: the client's word, never enough by itself
}

// proven returns nil when the client has proved on this connection that it holds the key.
func (k *BoundKey) proven(conn Connection) *Refusal {
	switch {
	case k.Uncheckable:
		return Refuse(KeyUncheckable, "the token is bound to %s", k)
	case conn.Type == MQTT:
		return Refuse(KeyProofMissing, "the token is bound to %s, and MQTT clients cannot sign", k)
	case conn.ProofGiven:
		return nil
	case conn.Proof.Signature == "":
		return Refuse(KeyProofMissing, "the token is bound to %s, and the client signed nothing", k)
	case conn.Proof.Nonce == "":
		return Refuse(KeyProofInvalid, "the server gave the client no nonce to sign")
	}
	public, ok := k.public(conn.Proof.Key)
	if !ok {
		return Refuse(KeyProofInvalid, "the token is bound to %s, which is not the key that the client names", k)
	}
	signature, ok := decodeSignature(conn.Proof.Signature)
	if !ok || !ed25519.Verify(public, []byte(conn.Proof.Nonce), signature) {
		return Refuse(KeyProofInvalid, "the token is bound to %s, which did not make the client's signature of this connection's nonce", k)
	}
	return nil
}

// alphabets turns standard base64 into that for URLs: clients differ in what they send.
var alphabets = strings.NewReplacer("+", "-", "/", "_")

// decodeSignature returns an Ed25519 signature from base64 in either alphabet, padded or not.
func decodeSignature(s string) ([]byte, bool) {
	const length = (ed25519.SignatureSize*8 + 5) / 6
	s = strings.TrimSuffix(s, "==")
	if len(s) != length {
		return nil, false
	}
	signature, err := base64.RawURLEncoding.DecodeString(alphabets.Replace(s))
	return signature, err == nil && len(signature) == ed25519.SignatureSize
}
