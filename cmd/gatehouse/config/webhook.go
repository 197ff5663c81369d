package config

import (
	"errors"
	"fmt"
	"net/url"
	"strings"

	"github.com/gatehouse-nats/gatehouse/store/events"
)

// webhooks checks who is told of accounts.
func (r *report) webhooks(f *File) {
	seen := map[string]bool{}
	for i, w := range f.Events.Webhooks {
		if w == nil {
			continue
		}
		at := index("events.webhooks", i)
		r.check(join(at, "url"), w.URL, checkWebhookURL)
		switch {
		case seen[w.URL]:
			r.problem(join(at, "url"), "is there twice: one webhook is one address")
		case f.NATS.without():
			r.problem(at, "tells of accounts of sign-up, and those need an operator: leave it out")
		}
		seen[w.URL] = true
	}
}

// checkWebhookURL checks an address that events are posted to.
func checkWebhookURL(text string) error {
	u, err := url.Parse(text)
	switch {
	case err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http" || u.Fragment != "":
		return fmt.Errorf("not the address of a webhook: write one such as https://portal.example.com/gatehouse")
	case u.User != nil:
		return fmt.Errorf("holds credentials: requests are signed, leave them out")
	case u.Scheme == "http" && !loopback(u.Hostname()):
		return fmt.Errorf("would let anybody on the way read events: use https (http only on loopback)")
	}
	return nil
}

// WebhookSecret is what requests to a webhook are signed with, kept in a file. It prints as its file's path.
type WebhookSecret struct {
	path string
	key  events.Secret
}

func (s *WebhookSecret) parse(text string, f form) (err error) {
	if err = wantText(text, f); err != nil {
		return err
	}
	if strings.HasPrefix(text, "whsec_") {
		return errors.New("is the secret itself: write it into a file that the service alone can read, and name that")
	}
	s.path, err = fileName(text)
	return err
}

func (s *WebhookSecret) load(l *loader, _ string, _ tags) error {
	s.path = l.path(s.path)
	text, err := l.read(s.path, true)
	if err != nil {
		return err
	}
	if s.key, err = events.ParseSecret(string(text)); err != nil {
		return fmt.Errorf("%s %w", s.path, err)
	}
	return nil
}

// Secret returns the secret.
func (s WebhookSecret) Secret() events.Secret { return s.key }

// String returns the path.
func (s WebhookSecret) String() string { return s.path }

// GoString keeps the secret out of %#v.
func (s WebhookSecret) GoString() string { return s.path }

// MarshalText returns the path.
func (s WebhookSecret) MarshalText() ([]byte, error) { return []byte(s.path), nil }

var _ scalar = (*WebhookSecret)(nil)
