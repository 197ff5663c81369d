package gatehouse

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/oauth2"
)

// oauth2Tokens gives its tokens in turn, then an error.
type oauth2Tokens []*oauth2.Token

func (o *oauth2Tokens) Token() (*oauth2.Token, error) {
	if len(*o) == 0 {
		return nil, errors.New("no more")
	}
	t := (*o)[0]
	*o = (*o)[1:]
	return t, nil
}

func withID(id string) *oauth2.Token {
	return (&oauth2.Token{AccessToken: "access"}).WithExtra(map[string]any{"id_token": id})
}

func TestOAuth2(t *testing.T) {
	t.Parallel()
	access := &oauth2.Token{AccessToken: "access"}
	for name, tc := range map[string]struct {
		adapter func(oauth2.TokenSource) TokenSource
		tokens  oauth2Tokens
		want    []string // "" is an error
	}{
		"ID token":                       {OAuth2, oauth2Tokens{withID("id-1"), withID("id-2")}, []string{"id-1", "id-2", ""}},
		"access token where there is no": {OAuth2, oauth2Tokens{access, access}, []string{"access", "access"}},
		"ID token later":                 {OAuth2, oauth2Tokens{access, withID("id")}, []string{"access", "id"}},
		"ID token lost by a refresh":     {OAuth2, oauth2Tokens{withID("id"), access, withID("id")}, []string{"id", "", "id"}},
		"access token wanted":            {OAuth2AccessToken, oauth2Tokens{withID("id")}, []string{"access", ""}},
	} {
		t.Run(name, func(t *testing.T) {
			source := tc.adapter(&tc.tokens)
			for i, want := range tc.want {
				got, err := source.Token(t.Context())
				if got != want || (err != nil) != (want == "") {
					t.Errorf("token %d: %q, %v; want %q", i+1, got, err, want)
				}
			}
		})
	}
}

func TestTokenFileIsReadEachTime(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "token")
	source := TokenFile(path)
	if _, err := source.Token(t.Context()); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("got %v", err)
	}
	for content, want := range map[string]string{
		"first": "first", " second\r\n": "second", "\n": "",
		strings.Repeat("x", maxToken): strings.Repeat("x", maxToken),
	} {
		must(t, os.WriteFile(path, []byte(content), 0o600))
		got, err := source.Token(t.Context())
		if got != want || (err != nil) != (want == "") {
			t.Errorf("%.20q: got %.20q, %v", content, got, err)
		}
	}
	must(t, os.WriteFile(path, make([]byte, 1<<20), 0o600))
	if got, err := source.Token(t.Context()); len(got) > maxToken+1 || checkToken(got, err) == nil {
		t.Errorf("a file of 1 MiB gives %d bytes, %v", len(got), err)
	}
}

func TestSourcesDoNotPrintTheirToken(t *testing.T) {
	t.Parallel()
	if s := fmt.Sprintf("%v %+v %#v", StaticToken("secret"), StaticToken("secret"), StaticToken("secret")); strings.Contains(s, "secret") {
		t.Error(s)
	}
}

func FuzzOpenEnvelope(f *testing.F) {
	for _, s := range []string{"", "a.b.c", "{", "{}", `{"token":"t"}`, `{"token":"t","account":"A"}`, `{"token":1}`, `{"token":"t"} x`} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		e, err := openEnvelope(s)
		if err != nil {
			return
		}
		again, err := openEnvelope(e.encode())
		if err != nil && e.Account != "" {
			t.Fatalf("%q does not open once sealed again: %v", s, err)
		}
		if err == nil && e.Account != "" && again != e {
			t.Fatalf("%+v became %+v", e, again)
		}
	})
}

func FuzzInboxPrefix(f *testing.F) {
	f.Add("a.eyJpc3MiOiJpIiwic3ViIjoicyJ9.c")
	f.Add("..")
	f.Fuzz(func(t *testing.T, token string) {
		if prefix, err := inboxPrefix(token); err == nil && len(prefix) != len("_INBOX_")+26 {
			t.Fatalf("%q", prefix)
		}
	})
}
