package api

import (
	"crypto/sha256"
	"encoding/hex"
	"strconv"
	"strings"
	"time"
)

// UserSignupRequest asks for a user JWT for a key of the caller's own. The token travels in the
// Authorization header, the seed of the key nowhere. The same call with the same key renews.
type UserSignupRequest struct {
	UserKey string      `json:"user_key"`          // public key (U…)
	Account string      `json:"account,omitempty"` // needed where the identity is granted several
	Program string      `json:"program,omitempty"` // names the program that the key is of: 1 to 32 of a-z, 0-9, _ and -
	Proof   SignupProof `json:"proof"`
}

// SignupProof shows that the caller holds the user key: its signature of [SignupStatement].
type SignupProof struct {
	Audience  string `json:"audience"`  // address of the service that it is for
	Time      int64  `json:"time"`      // when it was made, in milliseconds since 1970
	Signature string `json:"signature"` // Ed25519, in base64 for URLs without padding
}

// UserSignup is a direct user's credential.
type UserSignup struct {
	JWT       string    `json:"jwt"` // the user JWT
	UserKey   string    `json:"user_key"`
	Name      string    `json:"name"` // of the user JWT: a principal name, or a program's
	Account   string    `json:"account"`
	AccountID string    `json:"account_id"`
	Roles     []string  `json:"roles"`
	Bindings  []string  `json:"bindings"`
	Issued    time.Time `json:"issued"`
	Expires   time.Time `json:"expires"`
	// Keys is how many keys the identity may have in the account at a time.
	Keys      int    `json:"keys"`
	RequestID string `json:"request_id"`
}

// signupPurpose begins every statement, so that no signature for something else can stand for one.
const signupPurpose = "gatehouse user.signup v1"

// SignupStatement returns the bytes that the proof of a sign-up signs: seven lines, parted by single
// newlines and without one at the end: the purpose, the audience, the user key, the account and the program
// as in the request (both may be empty), the SHA-256 of the token in small hex digits, and the time in
// decimal digits. No field may hold a newline.
func SignupStatement(req UserSignupRequest, token string) []byte {
	sum := sha256.Sum256([]byte(token))
	return []byte(strings.Join([]string{
		signupPurpose, req.Proof.Audience, req.UserKey, req.Account, req.Program,
		hex.EncodeToString(sum[:]), strconv.FormatInt(req.Proof.Time, 10),
	}, "\n"))
}
