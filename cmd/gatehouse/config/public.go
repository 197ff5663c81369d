package config

import (
	"encoding"
	"fmt"
	"net/url"
	"slices"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nkeys"
)

// public checks what everybody is told.
func (r *report) public(f *File) {
	for list, urls := range map[string][]string{"public.nats": f.Public.NATS, "public.websocket": f.Public.WebSocket} {
		schemes := []string{"nats", "tls"}
		if list == "public.websocket" {
			schemes = []string{"ws", "wss"}
		}
		for i, text := range urls {
			u, err := url.Parse(text)
			if err != nil || u.Hostname() == "" || !slices.Contains(schemes, u.Scheme) || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
				// What was written may hold a password.
				r.problem(index(list, i), "not the URL of one server that everybody may know: write one such as %s://nats.example.com, without credentials", schemes[1])
			}
		}
	}
	s := &f.Public.Sentinel
	switch {
	case s.claims == nil:
	case s.account != f.NATS.Callout.Creds.Account():
		r.problem("public.sentinel", "is of a user of account %s, which is not the callout account: everybody would get in there; give the sentinel's creds file", s.account)
	case !s.claims.BearerToken || !slices.Contains(s.claims.Pub.Deny, ">") || !slices.Contains(s.claims.Sub.Deny, ">"):
		r.problem("public.sentinel", "is of a user that may do something, or is no bearer, and everybody would get it: give the sentinel's creds file, as gatehouse init makes it")
	}
}

// Sentinel is a creds file that everybody may have.
type Sentinel struct {
	path    string
	creds   string
	account string
	claims  *jwt.UserClaims
}

func (s *Sentinel) parse(text string, f form) (err error) {
	if err = wantText(text, f); err == nil {
		s.path, err = fileName(text)
	}
	return err
}

func (s *Sentinel) load(l *loader, _ string, _ tags) error {
	s.path = l.path(s.path)
	content, err := l.read(s.path, false)
	if err != nil {
		return err
	}
	bad := fmt.Errorf("%s is not a creds file: give the sentinel's, as gatehouse init makes it", s.path)
	token, err := nkeys.ParseDecoratedJWT(content)
	if err != nil {
		return bad
	}
	claims, err := jwt.DecodeUserClaims(token)
	if err != nil {
		return bad
	}
	s.creds, s.claims, s.account = string(content), claims, claims.IssuerAccount
	if s.account == "" {
		s.account = claims.Issuer
	}
	return nil
}

// Content returns the creds; empty where none are given.
func (s Sentinel) Content() string { return s.creds }

// MarshalText returns the path.
func (s Sentinel) MarshalText() ([]byte, error) { return []byte(s.path), nil }

var (
	_ scalar                 = (*Sentinel)(nil)
	_ encoding.TextMarshaler = Sentinel{}
)
