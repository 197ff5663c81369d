package gatehouse_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"
	"golang.org/x/oauth2"
	"golang.org/x/oauth2/clientcredentials"

	"github.com/gatehouse-nats/gatehouse"
)

// A service authenticates with its own client secret and asks for replies where nobody else may listen.
func ExampleConnect() {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()

	client := clientcredentials.Config{
		ClientID:     "billing",
		ClientSecret: "…",
		TokenURL:     "https://login.example.com/oauth2/token",
		Scopes:       []string{"nats"},
	}
	token := gatehouse.TokenFunc(func(ctx context.Context) (string, error) { // called ahead of time, so it keeps nothing
		t, err := client.Token(ctx)
		if err != nil {
			return "", err
		}
		return t.AccessToken, nil
	})
	nc, err := gatehouse.Connect(ctx, "tls://nats.example.com", token,
		gatehouse.WithPrivateInbox(),
		gatehouse.WithWhoami("https://gatehouse.example.com"),
	)
	if err != nil {
		log.Fatal(err)
	}
	defer nc.Close()

	reply, err := nc.Request("orders.count", nil, time.Second)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(string(reply.Data))
}

// A pod uses the service account token that Kubernetes keeps fresh in a file.
func ExampleTokenFile() {
	nc, err := gatehouse.Connect(context.Background(), "tls://nats.example.com",
		gatehouse.TokenFile("/var/run/secrets/nats/token"),
		gatehouse.WithSentinelFile("/etc/nats/sentinel.creds"),
		gatehouse.WithAccount("APP"),
	)
	if err != nil {
		log.Fatal(err)
	}
	defer nc.Close()
}

// A program that logs its user in binds the ID token to a key of its own, so that a stolen token is of no use.
func ExampleWithKey() {
	key, err := nkeys.CreateUser()
	if err != nil {
		log.Fatal(err)
	}
	nonce, err := gatehouse.Nonce(key)
	if err != nil {
		log.Fatal(err)
	}
	client := oauth2.Config{
		ClientID: "app", RedirectURL: "http://127.0.0.1:8000/callback", Scopes: []string{"openid"},
		Endpoint: oauth2.Endpoint{AuthURL: "https://login.example.com/authorize", TokenURL: "https://login.example.com/token"},
	}
	state, verifier := oauth2.GenerateVerifier(), oauth2.GenerateVerifier()
	fmt.Println("Log in at", client.AuthCodeURL(state, oauth2.S256ChallengeOption(verifier), oauth2.SetAuthURLParam("nonce", nonce)))

	idToken := gatehouse.TokenFunc(func(ctx context.Context) (string, error) {
		return "eyJ…", nil // what the token endpoint gave for the code, once its nonce was compared
	})
	nc, err := gatehouse.Connect(context.Background(), "tls://nats.example.com", idToken, gatehouse.WithKey(key))
	if err != nil {
		log.Fatal(err)
	}
	defer nc.Close()
}

// Any function that gets a token will do.
func ExampleTokenFunc() {
	source := gatehouse.TokenFunc(func(ctx context.Context) (string, error) {
		return "the token of " + "alice", nil
	})
	token, err := source.Token(context.Background())
	fmt.Println(token, err)
	// Output: the token of alice <nil>
}

// The ID token of an oauth2 source is sent where there is one.
func ExampleOAuth2() {
	answer := (&oauth2.Token{AccessToken: "access"}).WithExtra(map[string]any{"id_token": "id"})
	source := gatehouse.OAuth2(oauth2.StaticTokenSource(answer))
	token, err := source.Token(context.Background())
	fmt.Println(token, err)
	// Output: id <nil>
}

// The reason of a refusal is fetched from the service.
func ExampleRefusedError() {
	_, err := gatehouse.Connect(context.Background(), "tls://nats.example.com",
		gatehouse.TokenFile("token"), gatehouse.WithWhoami("https://gatehouse.example.com"))
	if refusal, ok := errors.AsType[*gatehouse.RefusedError](err); ok {
		switch refusal.Reason {
		case "logged_out":
			log.Print("log in again, not before ", time.Now().Add(refusal.RetryAfter))
		default:
			log.Print(refusal.Message, ", for the admin: ", refusal.RequestID)
		}
	}
}

// Failed logins while the connection is being restored reach the error handler.
func ExampleWithNATSOptions() {
	nc, err := gatehouse.Connect(context.Background(), "tls://nats.example.com", gatehouse.TokenFile("token"),
		gatehouse.WithNATSOptions(
			nats.Name("billing"),
			nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) {
				if errors.Is(err, gatehouse.ErrNoToken) {
					log.Print("check the issuer: ", err)
				}
			}),
		))
	if err != nil {
		log.Fatal(err)
	}
	defer nc.Close()
}

// A program that logs in with creds of its own, as direct users do, comes back as politely as those with tokens.
func ExampleSpreadReconnects() {
	nc, err := nats.Connect("tls://nats.example.com",
		nats.UserCredentials("billing.creds"), nats.MaxReconnects(-1), gatehouse.SpreadReconnects())
	if err != nil {
		log.Fatal(err)
	}
	defer nc.Close()
}

// A connection that is restored goes on after refusals, since the next token may be admitted. The error handler decides
// which of them end it.
func ExampleRefusedError_whileReconnecting() {
	nc, err := gatehouse.Connect(context.Background(), "tls://nats.example.com", gatehouse.TokenFile("token"),
		gatehouse.WithWhoami("https://gatehouse.example.com"),
		gatehouse.WithNATSOptions(nats.ErrorHandler(func(nc *nats.Conn, _ *nats.Subscription, err error) {
			log.Print(err)
			if refusal, ok := errors.AsType[*gatehouse.RefusedError](err); ok && refusal.Reason == "blocked" {
				nc.Close()
			}
		})))
	if err != nil {
		log.Fatal(err)
	}
	defer nc.Close()
}

// The envelope serves clients in other languages too: send it as the auth token.
func ExampleEnvelope() {
	fmt.Println(gatehouse.Envelope("eyJ…", "APP"))
	// Output: {"token":"eyJ…","account":"APP"}
}
