// Signup signs up as a direct user: go run ./examples/signup SERVICE SEED_FILE TOKEN_FILE [ACCOUNT [PROGRAM]]
// With PROOF_TIME set, to milliseconds since 1970, it prints the request instead of sending it. It spells out
// what gatehouse.SignUp does, which is what a program in Go uses; docs/protocol.md says what the bytes mean.
package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"log"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nkeys"
)

type request struct {
	UserKey string `json:"user_key"`
	Account string `json:"account"`
	Program string `json:"program"`
	Proof   proof  `json:"proof"`
}

type proof struct {
	Audience  string `json:"audience"`
	Time      int64  `json:"time"`
	Signature string `json:"signature"`
}

func signupRequest(service string, key nkeys.KeyPair, token, account, program string, at int64) (request, error) {
	userKey, err := key.PublicKey()
	if err != nil {
		return request{}, err
	}
	hash := sha256.Sum256([]byte(token))
	statement := strings.Join([]string{
		"gatehouse user.signup v1", service, userKey, account, program, hex.EncodeToString(hash[:]), strconv.FormatInt(at, 10),
	}, "\n")
	signature, err := key.Sign([]byte(statement))
	if err != nil {
		return request{}, err
	}
	return request{userKey, account, program, proof{service, at, base64.RawURLEncoding.EncodeToString(signature)}}, nil
}

func main() {
	log.SetFlags(0)
	if len(os.Args) < 4 {
		log.Fatal("usage: signup SERVICE SEED_FILE TOKEN_FILE [ACCOUNT [PROGRAM]]")
	}
	args := append(os.Args[1:], "", "")
	if err := run(args[0], args[1], args[2], args[3], args[4]); err != nil {
		log.Fatal(err)
	}
}

func run(service, seedFile, tokenFile, account, program string) error {
	seed, err := os.ReadFile(seedFile)
	if err != nil {
		return err
	}
	key, err := nkeys.FromSeed(bytes.TrimSpace(seed))
	if err != nil {
		return err
	}
	token, err := os.ReadFile(tokenFile)
	if err != nil {
		return err
	}
	token = bytes.TrimSpace(token)
	at, given := time.Now().UnixMilli(), os.Getenv("PROOF_TIME")
	if given != "" {
		if at, err = strconv.ParseInt(given, 10, 64); err != nil {
			return err
		}
	}
	body, err := signupRequest(service, key, string(token), account, program, at)
	if err != nil {
		return err
	}
	if given != "" {
		return json.NewEncoder(os.Stdout).Encode(body)
	}
	return send(service, string(token), body)
}

func send(service, token string, body request) error {
	data, err := json.Marshal(body)
	if err != nil {
		return err
	}
	req, err := http.NewRequest(http.MethodPost, service+"/v1/user.signup", bytes.NewReader(data))
	if err != nil {
		return err
	}
	req.Header.Set("Authorization", "Bearer "+token)
	req.Header.Set("Content-Type", "application/json")
	client := http.Client{Timeout: 15 * time.Second, CheckRedirect: func(*http.Request, []*http.Request) error {
		return http.ErrUseLastResponse // the token is for this address alone
	}}
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	var answer struct {
		JWT, Reason, Message string
		RequestID            string `json:"request_id"`
	}
	if err := json.NewDecoder(resp.Body).Decode(&answer); err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s [request %s]", answer.Reason, answer.Message, answer.RequestID)
	}
	_, err = fmt.Println(answer.JWT)
	return err
}
