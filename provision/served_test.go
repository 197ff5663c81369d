package provision_test

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/gatehouse-nats/gatehouse/api"
	"github.com/gatehouse-nats/gatehouse/provision"
)

// fetch is what a server gets that fetches the path.
func fetch(h http.Handler, method, path string) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest(method, api.AccountsPath+path, nil))
	return w
}

// Servers fetch what they are to have of an account, and are told nothing else.
func TestServersFetchAccounts(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	if got := fetch(b.Handler(), http.MethodGet, ""); got.Code != http.StatusNotFound {
		t.Errorf("servers that store claims fetch some: %d", got.Code)
	}
	b.Served = &provision.Served{Fetched: true, Others: func() []string { return nil }, Claims: func(_ context.Context, account string) (string, error) {
		switch account {
		case accountIDs[0]:
			return "claims", nil
		case accountIDs[1]:
			return "", errors.New("the store is away")
		default:
			return "", nil
		}
	}}
	h := b.Handler()
	for path, want := range map[string]int{
		"": http.StatusOK, accountIDs[0]: http.StatusOK, accountIDs[1]: http.StatusServiceUnavailable, accountIDs[2]: http.StatusNotFound,
		accountIDs[0] + "/": http.StatusNotFound, "orders": http.StatusNotFound, accountIDs[0] + "%0D": http.StatusNotFound, strings.Repeat("A", 10000): http.StatusNotFound,
	} {
		got := fetch(h, http.MethodGet, path)
		if got.Code != want {
			t.Errorf("%.80q is answered %d, want %d: %s", path, got.Code, want, got.Body)
		}
		if strings.Contains(got.Body.String(), "away") {
			t.Errorf("%.80q is answered what the store said: %s", path, got.Body)
		}
	}
	if got := fetch(h, http.MethodGet, accountIDs[0]); got.Body.String() != "claims" || got.Header().Get("Content-Type") != "application/jwt" {
		t.Errorf("got %q of type %s", got.Body, got.Header().Get("Content-Type"))
	}
	if got := fetch(h, http.MethodPost, accountIDs[0]); got.Code == http.StatusOK {
		t.Error("a POST is answered")
	}
}

// What is preloaded is for servers with a memory resolver alone.
func TestAccountPreloadIsForMemory(t *testing.T) {
	t.Parallel()
	b := newAccountBed(t)
	b.saveFullAccounts(t)
	root := admin
	if _, err := b.AccountPreload(t.Context(), root, api.AccountPreloadRequest{}); reason(err) != api.ReasonWrongState || !strings.Contains(err.Error(), "account export") {
		t.Errorf("with a full resolver: %v", err)
	}
	b.Served = &provision.Served{Fetched: true}
	if _, err := b.AccountPreload(t.Context(), root, api.AccountPreloadRequest{}); reason(err) != api.ReasonWrongState || !strings.Contains(err.Error(), api.AccountsPath) {
		t.Errorf("with a URL resolver: %v", err)
	}
	b.Served = &provision.Served{Others: func() []string { return []string{"ASYS"} }, Claims: func(_ context.Context, account string) (string, error) { return "claims of " + account, nil }}
	got, err := b.AccountPreload(t.Context(), root, api.AccountPreloadRequest{})
	if err != nil || len(got.Accounts) < 2 || got.Accounts[0] != (api.PreloadedAccount{Account: "ASYS", JWT: "claims of ASYS"}) {
		t.Fatalf("got %+v: %v", got, err)
	}
	for _, a := range got.Accounts[1:] {
		if a.JWT != "claims of "+a.Account {
			t.Errorf("got %+v", a)
		}
	}
	b.Served.Claims = func(context.Context, string) (string, error) { return "", errors.New("the store is away") }
	if _, err := b.AccountPreload(t.Context(), root, api.AccountPreloadRequest{}); reason(err) != api.ReasonUnavailable {
		t.Errorf("without the store: %v", err)
	}
}
