package events

import (
	"bytes"
	"cmp"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
)

const (
	callTimeout = 15 * time.Second
	atOnce      = 8 // requests to a webhook, each of another account
	// maxAnswer is how much of an answer is read, so that its connection can be used again.
	maxAnswer = 4 << 10
)

// WebhookOptions configure a [Webhook].
type WebhookOptions struct {
	URL     string
	Secrets []Secret      // each signs
	Events  []string      // names; none: all
	Timeout time.Duration // of one request, its answer included; zero: 15 s
	Logger  *slog.Logger
	Now     func() time.Time
}

// Webhook sends events to a URL, as the Standard Webhooks specification says.
type Webhook struct {
	WebhookOptions
	client *http.Client
	lost   atomic.Int64

	mu   sync.Mutex
	done map[string]bool // of a batch that is not done, by id
}

// NewWebhook returns a webhook; it does no I/O.
func NewWebhook(o WebhookOptions) *Webhook {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.MaxResponseHeaderBytes, transport.MaxConnsPerHost = 64<<10, atOnce
	return &Webhook{WebhookOptions: o, done: map[string]bool{}, client: &http.Client{
		Timeout: cmp.Or(o.Timeout, callTimeout), Transport: transport,
		// Whoever answers at the URL must not choose where else this host calls.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
}

// Close lets go of idle connections.
func (w *Webhook) Close() { w.client.CloseIdleConnections() }

// Key implements [Receiver]; the URL may hold a secret.
func (w *Webhook) Key() string {
	sum := sha256.Sum256([]byte(w.URL))
	return "events/webhook-" + hex.EncodeToString(sum[:8])
}

// Lost returns how many events were given up.
func (w *Webhook) Lost() int { return int(w.lost.Load()) }

// Deliver implements [Receiver]. Accounts do not wait for each other within a batch.
func (w *Webhook) Deliver(ctx context.Context, list []Event) (int, error) {
	var order []string
	by := map[string][]*Event{}
	for i := range list {
		e := &list[i]
		if len(w.Events) > 0 && !slices.Contains(w.Events, e.Short()) {
			continue
		}
		if by[e.Account] == nil {
			order = append(order, e.Account)
		}
		by[e.Account] = append(by[e.Account], e)
	}
	var g errgroup.Group
	g.SetLimit(atOnce)
	var failed atomic.Bool
	var got atomic.Int64
	for _, id := range order {
		g.Go(func() error {
			for _, e := range by[id] {
				if failed.Load() {
					return nil // the next attempt is after a pause
				}
				sent, err := w.deliver(ctx, e)
				if err != nil {
					failed.Store(true)
					return err
				}
				if sent {
					got.Add(1)
				}
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return int(got.Load()), err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	clear(w.done)
	return int(got.Load()), nil
}

// deliver sends an event unless that is done, and gives it up when it is too old; sent says that the webhook took it.
func (w *Webhook) deliver(ctx context.Context, e *Event) (sent bool, err error) {
	w.mu.Lock()
	done := w.done[e.ID]
	w.mu.Unlock()
	if done {
		return false, nil
	}
	err = w.post(ctx, e)
	switch {
	case err != nil && ctx.Err() != nil:
		return false, err
	case err != nil && w.Now().Sub(e.Time) > giveUp:
		w.lost.Add(1)
		w.Logger.Error("an event was given up: the webhook did not take it", "to", w.Key(), "event", e.ID, "type", e.Type, "account_id", e.Account, "tried_for", giveUp, "error", err)
	case err != nil:
		return false, err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.done[e.ID] = true
	return err == nil, nil
}

// post sends an event once.
func (w *Webhook) post(ctx context.Context, e *Event) error {
	body, err := json.Marshal(e)
	if err != nil {
		return fmt.Errorf("event %s: %w", e.ID, err)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, w.URL, bytes.NewReader(body))
	if err != nil {
		return errors.New("the URL of a webhook is none")
	}
	at := w.Now()
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("User-Agent", "Gatehouse")
	req.Header.Set("webhook-id", e.ID)
	req.Header.Set("webhook-timestamp", strconv.FormatInt(at.Unix(), 10))
	req.Header.Set("webhook-signature", Sign(w.Secrets, e.ID, at, body))
	resp, err := w.client.Do(req)
	if err != nil {
		// The error of the library quotes the URL.
		if inner := errors.Unwrap(err); inner != nil {
			err = inner
		}
		return fmt.Errorf("the webhook at %s was not reached: %w", req.URL.Host, err)
	}
	defer func() { _ = resp.Body.Close() }()
	_, _ = io.CopyN(io.Discard, resp.Body, maxAnswer)
	if resp.StatusCode < 200 || resp.StatusCode > 299 {
		return fmt.Errorf("the webhook at %s answered %d to event %s: it is to answer 2xx once it has an event", req.URL.Host, resp.StatusCode, e.ID)
	}
	return nil
}

// secretPrefix begins the text of a secret.
const secretPrefix = "whsec_"

// Secret is what a webhook's requests are signed with.
type Secret []byte

// ParseSecret reads a secret as the specification writes it: whsec_ and 24 to 64 bytes in base64.
func ParseSecret(text string) (Secret, error) {
	encoded, ok := strings.CutPrefix(strings.TrimSpace(text), secretPrefix)
	key, err := base64.StdEncoding.DecodeString(encoded)
	if !ok || err != nil || len(key) < 24 || len(key) > 64 {
		return nil, errors.New("is no secret of a webhook: write whsec_ and 24 to 64 random bytes in base64, as echo whsec_$(openssl rand -base64 32) does")
	}
	return key, nil
}

// Sign returns the header webhook-signature: one for each secret, so that one can follow another.
func Sign(secrets []Secret, id string, at time.Time, body []byte) string {
	var list []string
	for _, s := range secrets {
		mac := hmac.New(sha256.New, s)
		fmt.Fprintf(mac, "%s.%d.%s", id, at.Unix(), body)
		list = append(list, "v1,"+base64.StdEncoding.EncodeToString(mac.Sum(nil)))
	}
	return strings.Join(list, " ")
}
