package provision

import (
	"context"
	"net/http"
	"net/netip"
	"strings"
	"time"

	"github.com/nats-io/nkeys"

	"github.com/gatehouse-nats/gatehouse/api"
	"github.com/gatehouse-nats/gatehouse/store"
)

// Served is what servers that store no claims are given.
type Served struct {
	// Claims returns the claims that servers are to have of an account; "" when they are to have none.
	Claims func(ctx context.Context, account string) (token string, err error)
	// Others are the ids of the accounts that others made and that are given to servers too.
	Others func() []string
	// Fetched says that servers fetch accounts; otherwise their files preload them.
	Fetched bool
}

// fetchWait is for how long a fetch waits for its turn and its answer: servers wait for 1.9 s, and for one at a time of each client
// (nats-server server/const.go, DEFAULT_ACCOUNT_FETCH_TIMEOUT).
const fetchWait = 1800 * time.Millisecond

// serveAccounts has servers with a URL resolver fetch accounts. Claims are no secret: they are for whoever reaches the address.
func (s *Service) serveAccounts(mux *http.ServeMux) {
	if s.Served == nil || !s.Served.Fetched {
		return
	}
	free := newQueue()
	// A server wants an answer here before it starts.
	mux.HandleFunc("GET "+api.AccountsPath+"{$}", func(w http.ResponseWriter, _ *http.Request) {
		writeClaims(w, "")
	})
	mux.HandleFunc("GET "+api.AccountsPath+"{account}", func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithTimeout(r.Context(), fetchWait)
		defer cancel()
		token, err := s.served(ctx, r.PathValue("account"), free, source(r, s.web().Proxies))
		if err != nil {
			writeError(w, newID(), err)
			return
		}
		writeClaims(w, token)
	})
}

// served returns the claims that a server at the address which fetches the account is to have. Its turn is over before the answer is
// written, which may take long.
func (s *Service) served(ctx context.Context, account string, free *queue, from netip.Addr) (string, error) {
	none := refuse(http.StatusNotFound, api.ReasonNotFound, "there is no account %.80q for servers", account)
	if !nkeys.IsValidPublicAccountKey(account) || strings.ContainsAny(account, "\r\n") {
		return "", none
	}
	give, err := free.take(ctx, from)
	if err != nil {
		return "", err
	}
	defer give()
	token, err := s.Served.Claims(ctx, account)
	switch {
	case err != nil:
		return "", s.storeError("fetch an account", err)
	case token == "":
		return "", none
	default:
		return token, nil
	}
}

func writeClaims(w http.ResponseWriter, token string) {
	w.Header().Set("Content-Type", "application/jwt")
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	_, _ = w.Write([]byte(token)) // a server that is gone cannot be told
}

// AccountPreload lists the accounts that the files of servers with a memory resolver are to preload, a page at a time: those of
// others first.
func (s *Service) AccountPreload(ctx context.Context, c Caller, req api.AccountPreloadRequest) (api.AccountPreload, error) {
	return asParty(ctx, s, api.OpAccountPreload, c, req, s.preload)
}

func (s *Service) preload(ctx context.Context, _ party, req api.AccountPreloadRequest) (api.AccountPreload, error) {
	out := api.AccountPreload{Accounts: []api.PreloadedAccount{}}
	switch {
	case s.Served == nil:
		return out, refuse(http.StatusConflict, api.ReasonWrongState, "the servers have a full resolver, says nats.resolver.type, and keep what they are given: gatehouse account export writes their accounts")
	case s.Served.Fetched:
		return out, refuse(http.StatusConflict, api.ReasonWrongState, "the servers have a URL resolver, says nats.resolver.type: they take no preload, and fetch accounts from %s%s", s.Accounts.Audience, api.AccountsPath)
	}
	var ids []string
	if req.Cursor == "" {
		ids = s.Served.Others()
	}
	there := map[string]bool{}
	for _, id := range s.Served.Others() {
		there[id] = true
	}
	page, next, err := s.Store.Accounts(ctx, store.AccountFilter{Cursor: req.Cursor})
	if err != nil {
		return out, s.accountError(api.OpAccountPreload, err)
	}
	for i := range page {
		if page[i].Lives() && !there[page[i].ID] {
			ids = append(ids, page[i].ID)
		}
	}
	for _, id := range ids {
		token, err := s.Served.Claims(ctx, id)
		if err != nil {
			return out, s.storeError(api.OpAccountPreload, err)
		}
		if token != "" { // the writer of claims has not come to the others yet
			out.Accounts = append(out.Accounts, api.PreloadedAccount{Account: id, JWT: token})
		}
	}
	out.Cursor = next
	return out, nil
}
