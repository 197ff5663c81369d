package replica

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"

	"github.com/gatehouse-nats/gatehouse/policy"
	"github.com/gatehouse-nats/gatehouse/store"
)

// The subjects in the callout account, where nobody is but services and sentinels that may do nothing.
const (
	subjects      = "gatehouse.replica.v1."
	beatSubject   = subjects + "beat"
	changeSubject = subjects + "change"
)

const (
	// signatureHeader carries the signature of a message, in base64url.
	signatureHeader = "Gatehouse-Signature"
	// maxMessage bounds a message: a revocation names at most a match and a few texts.
	maxMessage = 32 << 10
	// maxAge bounds the age of a message by the servers' clocks.
	maxAge = time.Minute
)

var errMessage = errors.New("not a message of a replica of this service")

// Key signs what replicas tell each other. All replicas of a service have the same: the one that signs answers.
type Key interface {
	Sign(input []byte) ([]byte, error)
	Public() string
}

// beat is what a replica says of itself all the time.
type beat struct {
	From        string         `json:"from"`
	At          time.Time      `json:"at"` // by the servers' clocks
	Number      uint64         `json:"n"`
	Serving     bool           `json:"serving"`
	Leaving     bool           `json:"leaving,omitempty"`
	Decides     time.Duration  `json:"decides"` // for how long it decides on unless the store confirms its state
	Applied     store.Position `json:"applied"`
	Connections []Connection   `json:"connections"`
}

// Connection is a connection of a replica to the callout account, as servers name it.
type Connection struct {
	ServerID string `json:"server"`
	CID      uint64 `json:"cid"`
}

// change tells of a revocation that was stored, or lifted.
type change struct {
	From       string            `json:"from"`
	At         time.Time         `json:"at"`
	Revocation policy.Revocation `json:"revocation"`
	Lifted     bool              `json:"lifted,omitempty"`
	Position   store.Position    `json:"position"`
}

// ack answers a change: whether the replica's decisions follow it.
type ack struct {
	From    string    `json:"from"`
	At      time.Time `json:"at"`
	ID      string    `json:"id"` // of the revocation
	Lifted  bool      `json:"lifted,omitempty"`
	Follows bool      `json:"follows"`
}

// seal returns the message of a value, signed for the subject.
func seal(key Key, subject string, value any) (*nats.Msg, error) {
	data, err := json.Marshal(value)
	if err != nil {
		return nil, err
	}
	signature, err := key.Sign(signed(subject, data))
	if err != nil {
		return nil, err
	}
	msg := &nats.Msg{Subject: subject, Data: data, Header: nats.Header{}}
	msg.Header.Set(signatureHeader, base64.RawURLEncoding.EncodeToString(signature))
	return msg, nil
}

// open reads a message into the value, when the key has signed it for the subject on which it came.
func open(key Key, msg *nats.Msg, into any) error {
	if len(msg.Data) > maxMessage {
		return fmt.Errorf("%w: it has %d bytes", errMessage, len(msg.Data))
	}
	signature, err := base64.RawURLEncoding.DecodeString(msg.Header.Get(signatureHeader))
	if err != nil {
		return fmt.Errorf("%w: it is not signed", errMessage)
	}
	public, err := nkeys.FromPublicKey(key.Public())
	if err != nil {
		return err
	}
	if public.Verify(signed(msg.Subject, msg.Data), signature) != nil {
		return fmt.Errorf("%w: its signature is not of this service's nats.callout.signing_key", errMessage)
	}
	if err := json.Unmarshal(msg.Data, into); err != nil {
		return fmt.Errorf("%w: %w", errMessage, err)
	}
	return nil
}

// signed returns what is signed of a message. Nothing else that the key signs begins like this.
func signed(subject string, data []byte) []byte {
	return append([]byte("gatehouse replica\n"+subject+"\n"), data...)
}
