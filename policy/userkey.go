package policy

import (
	"crypto/ed25519"
	"encoding/base32"
	"encoding/binary"
)

const (
	userKeyPrefix = 20 << 3 // the letter U (nkeys, strkey.go)
	userKeyBytes  = 1 + ed25519.PublicKeySize + 2
	userKeyLength = 56 // in base32
)

// IsUserKey reports whether the text is exactly one NATS user public key (U…).
func IsUserKey(s string) bool {
	_, ok := decodeUserKey(s)
	return ok
}

// decodeUserKey returns the Ed25519 key of a NATS user public key (U…); false when the text is not
// exactly one: base32 of a prefix, the key, and a CRC-16 (nkeys, strkey.go).
func decodeUserKey(s string) (ed25519.PublicKey, bool) {
	if len(s) != userKeyLength || s[0] != 'U' {
		return nil, false
	}
	raw, err := base32.StdEncoding.DecodeString(s) // skips line breaks, so the length is looked at again
	if err != nil || len(raw) != userKeyBytes || raw[0] != userKeyPrefix {
		return nil, false
	}
	body := raw[:userKeyBytes-2]
	if crc16(body) != binary.LittleEndian.Uint16(raw[len(body):]) {
		return nil, false
	}
	return ed25519.PublicKey(body[1:]), true
}

// crc16 is the checksum of nkeys: CRC-16/XMODEM, polynomial 0x1021.
func crc16(data []byte) uint16 {
	var crc uint16
	for _, b := range data {
		crc ^= uint16(b) << 8
		for range 8 {
			if crc&0x8000 != 0 {
				crc = crc<<1 ^ 0x1021
			} else {
				crc <<= 1
			}
		}
	}
	return crc
}
