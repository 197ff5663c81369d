package provision_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
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

// One address cannot keep servers elsewhere from fetching: what it asks beyond its share waits until some of it is answered, or nobody
// waits for it any more.
func TestOneAddressKeepsNoServerOut(t *testing.T) {
	t.Parallel()
	const most, share = 200, 16
	b := newBed(t)
	entered, release := make(chan struct{}, most), make(chan struct{})
	b.Served = &provision.Served{Fetched: true, Claims: func(context.Context, string) (string, error) {
		entered <- struct{}{}
		<-release
		return "claims", nil
	}}
	h := b.Handler()
	from := func(ctx context.Context, address string) int {
		r := httptest.NewRequestWithContext(ctx, http.MethodGet, api.AccountsPath+accountIDs[0], nil)
		r.RemoteAddr = address
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		return w.Code
	}
	gone, leave := context.WithCancel(t.Context())
	var greedy, servers sync.WaitGroup
	for i := range most {
		greedy.Go(func() { from(gone, fmt.Sprintf("198.51.100.7:%d", i+1)) })
	}
	for range share {
		<-entered
	}
	for _, address := range []string{"203.0.113.1:1", "[2001:db8::1]:1", "127.0.0.1:1"} {
		servers.Go(func() {
			if got := from(t.Context(), address); got != http.StatusOK {
				t.Errorf("a server at %s is answered %d", address, got)
			}
		})
		<-entered
	}
	if n := len(entered); n > 0 {
		t.Errorf("%d more than its share are at work for one address", n)
	}
	leave()
	close(release)
	greedy.Wait()
	servers.Wait()
	// What was taken is free again.
	for i := range most {
		servers.Go(func() {
			if got := from(t.Context(), fmt.Sprintf("198.51.100.7:%d", i+1)); got != http.StatusOK {
				t.Errorf("answered %d", got)
			}
		})
		<-entered
	}
	servers.Wait()
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
