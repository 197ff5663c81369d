// Account signs up for an account whose identity is a key of one's own, waits until every server has it, and logs in to it:
// go run ./examples/signup/account SERVICE SEED_FILE TOKEN_FILE NAME [PLAN]
// The seed (SA…) never leaves this machine. With PROOF_TIME set, to milliseconds since 1970, the program prints the request
// instead of sending it. docs/protocol.md says what the bytes mean.
package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"log"
	"net/http"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nkeys"

	"github.com/gatehouse-nats/gatehouse"
)

type request struct {
	Name  string `json:"name"`
	Plan  string `json:"plan"`
	Key   string `json:"key"`
	Proof proof  `json:"proof"`
}

type proof struct {
	Audience  string `json:"audience"`
	Time      int64  `json:"time"`
	Signature string `json:"signature"`
}

func accountRequest(service string, key nkeys.KeyPair, token, name, plan string, at int64) (request, error) {
	public, err := key.PublicKey()
	if err != nil {
		return request{}, err
	}
	hash := sha256.Sum256([]byte(token))
	statement := strings.Join([]string{
		"gatehouse account.signup v1", service, public, name, plan, hex.EncodeToString(hash[:]), strconv.FormatInt(at, 10),
	}, "\n")
	signature, err := key.Sign([]byte(statement))
	if err != nil {
		return request{}, err
	}
	return request{name, plan, public, proof{service, at, base64.RawURLEncoding.EncodeToString(signature)}}, nil
}

func main() {
	log.SetFlags(0)
	if len(os.Args) < 5 {
		log.Fatal("usage: account SERVICE SEED_FILE TOKEN_FILE NAME [PLAN]")
	}
	args := append(os.Args[1:], "")
	if err := run(args[0], args[1], args[2], args[3], args[4]); err != nil {
		log.Fatal(err)
	}
}

func run(service, seedFile, tokenFile, name, plan string) error {
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
	body, err := accountRequest(service, key, string(token), name, plan, at)
	if err != nil {
		return err
	}
	if given != "" {
		return json.NewEncoder(os.Stdout).Encode(body)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := signUp(ctx, service, string(token), body); err != nil {
		return err
	}
	return login(ctx, service, tokenFile, name)
}

// answer is what account.signup and account.get say of the account.
type answer struct {
	Account, State  string
	Reason, Message string
	RequestID       string `json:"request_id"`
}

// signUp returns once every server has the account, which an admin may have to approve first.
func signUp(ctx context.Context, service, token string, body request) error {
	account, err := call(ctx, service+"/v1/account.signup", token, body)
	for said := ""; err == nil && account.State != "active"; {
		if account.State != said {
			said = account.State
			fmt.Printf("account %s (%s) is %s\n", body.Name, account.Account, said)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(time.Second):
		}
		account, err = call(ctx, service+"/v1/account.get", token, map[string]string{"account": body.Name})
	}
	if err == nil {
		fmt.Printf("account %s (%s) is active\n", body.Name, account.Account)
	}
	return err
}

func call(ctx context.Context, address, token string, body any) (answer, error) {
	var out answer
	data, err := json.Marshal(body)
	if err != nil {
		return out, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, address, bytes.NewReader(data))
	if err != nil {
		return out, err
	}
	req.Header.Set("Authorization", "Bearer "+token)
	req.Header.Set("Content-Type", "application/json")
	client := http.Client{Timeout: 15 * time.Second, CheckRedirect: func(*http.Request, []*http.Request) error {
		return http.ErrUseLastResponse // the token is for this address alone
	}}
	resp, err := client.Do(req)
	if err != nil {
		return out, err
	}
	defer resp.Body.Close()
	if err := json.NewDecoder(resp.Body).Decode(&out); err != nil {
		return out, err
	}
	if resp.StatusCode != http.StatusOK {
		return out, fmt.Errorf("%s: %s [request %s]", out.Reason, out.Message, out.RequestID)
	}
	return out, nil
}

// login connects to the servers that the service names, as a member of the account.
func login(ctx context.Context, service, tokenFile, name string) error {
	nc, err := gatehouse.Connect(ctx, service, gatehouse.TokenFile(tokenFile), gatehouse.WithAccount(name))
	if err != nil {
		return err
	}
	defer nc.Close()
	_, err = fmt.Println("logged in to account", name)
	return err
}
