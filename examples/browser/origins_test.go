package browser

import (
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// visited is what pages of a configured and of a foreign origin got, see origins.mjs.
type visited struct {
	Foreign, Portal map[string]string
	Account         struct{ Name, Account, State string }
	Origins         []string // whose pages answers were for, and whether with credentials
	Refused         []string // calls that reached the service, as the browser saw their answers
	Cookies         []string // that the browser has in the end, and that the service set
}

// TestOrigins: the page of a configured origin signs up for an account and sees it become active; a page of another one
// gets nothing and changes nothing, whichever way it calls.
func TestOrigins(t *testing.T) {
	t.Parallel()
	// The foreign page is of another site, and the portal's of that of the service, whose host has a cookie.
	portal := servePage(t)
	foreign := strings.Replace(servePage(t), "127.0.0.1", "localhost", 1)
	d := &dev{dir: t.TempDir()}
	d.start(t)
	yaml, err := os.ReadFile(d.Config)
	must(t, err)
	if strings.Count(string(yaml), "\nhttp:\n") != 1 {
		t.Fatalf("%s has no http block", d.Config)
	}
	must(t, os.WriteFile(d.Config, []byte(strings.Replace(string(yaml), "\nhttp:\n", "\nhttp:\n  origins: ["+portal+"]\n", 1)), 0o600))
	d.gatehouse(t, "", "reload")

	var got visited
	token := strings.TrimSpace(d.gatehouse(t, "", "dev", "token", "--dir", d.dir, "--user", "alice"))
	drive(t, &got, "origins.mjs", "SERVICE="+d.HTTPURL, "PORTAL="+portal, "FOREIGN="+foreign, "TOKEN="+token, "NAME=team-portal", "FOREIGN_NAME=team-foreign")
	if got.Account.Name != "team-portal" || got.Account.State != "active" {
		t.Errorf("the portal's page signed up for %+v", got.Account)
	}
	want := visited{
		Account: got.Account,
		// TypeError is all that a script is told, and of an opaque answer neither status nor text.
		Foreign: map[string]string{"preflight": "TypeError", "simple": "TypeError", "opaque": "opaque 0 ", "cookies": "TypeError", "read": "TypeError", "form": "403"},
		Portal:  map[string]string{"cookies": "TypeError", "read": "cors 200"},
		Refused: []string{"POST 403", "POST 403"}, // the opaque one, and that of the form
		Origins: []string{"", portal}, Cookies: []string{"page", "page"},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("pages get something else (-want +got):\n%s", diff)
	}
	if list := d.gatehouse(t, "", "account", "list"); !strings.Contains(list, "team-portal") || strings.Contains(list, "team-foreign") {
		t.Errorf("there are accounts\n%s", list)
	}
}

// servePage serves a page that has nothing but a cookie, and returns its origin.
func servePage(t *testing.T) string {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		http.SetCookie(w, &http.Cookie{Name: "page", Value: "of the host", Path: "/"})
		w.Header().Set("Content-Type", "text/html")
		_, _ = io.WriteString(w, "<!doctype html><title>page</title>")
	}))
	t.Cleanup(server.Close)
	return server.URL
}
