package resolver

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nats.go"
	"golang.org/x/sync/errgroup"

	"github.com/gatehouse-nats/gatehouse/policy"
)

// parallelReads bounds the read-backs under way at once on one server: an account that is
// slow to be found must not keep the others waiting.
const parallelReads = 16

// notLoaded is the problem of an account that the server may have and has not needed yet.
const notLoaded = "the server has not loaded it"

// AccountState is what one server has applied of one account's claims.
type AccountState struct {
	Applied bool               // false: the server does not have the account
	Claims  *jwt.AccountClaims // nil on servers without operator
	Problem string             // why it is not applied
	Token   string             // the JWT of Claims
}

// signingKey returns the scoped key when there is one, otherwise the first signing key of the
// account, if it is in the applied claims.
func (s AccountState) signingKey(account *policy.Account, scoped, server string, now time.Time) (string, *policy.Refusal) {
	if !s.Applied {
		return "", policy.Refuse(policy.AccountUnready, "account %s is not applied on server %s: %s", account.Name, server, s.Problem)
	}
	if account.ByName {
		return account.SigningKeys[0], nil
	}
	if s.expired(now) {
		return "", policy.Refuse(policy.AccountExpired, "the claims of account %s have expired on server %s", account.Name, server)
	}
	if scoped != "" {
		if err := s.lacksScope(scoped); err != nil {
			return "", policy.Refuse(policy.AccountUnready, "account %s on server %s: %v", account.Name, server, err)
		}
		return scoped, nil
	}
	for _, key := range account.SigningKeys {
		if s.signs(key) {
			return key, nil
		}
	}
	return "", policy.Refuse(policy.AccountUnready, "none of the configured signing keys is in the claims of account %s on server %s", account.Name, server)
}

// signs reports whether users signed with the key are of this account. A scoped signing key
// is not one that plain roles can be minted with.
func (s AccountState) signs(key string) bool {
	if key == s.Claims.Subject {
		return true
	}
	scope, ok := s.Claims.SigningKeys[key]
	return ok && scope == nil
}

// lacksScope says what keeps the key from being a scoped signing key of the account. Users of a
// scoped key carry no permissions: if the key had no template, they could do anything.
func (s AccountState) lacksScope(key string) error {
	scope, ok := s.Claims.SigningKeys[key]
	switch {
	case !ok:
		return fmt.Errorf("its claims do not list the scoped signing key %s: add it with its template and push, or take the role out", key)
	case scope == nil:
		return fmt.Errorf("its claims list the signing key %s without a template, by which its users could do anything: give it one and push", key)
	default:
		return nil
	}
}

func (s AccountState) expired(now time.Time) bool {
	return s.Claims.Expires != 0 && now.Unix() >= s.Claims.Expires
}

// lacks says what the applied claims lack of what is needed; nil when nothing.
func (s AccountState) lacks(need Requirement, now time.Time) error {
	if !s.Applied {
		return errors.New(s.Problem)
	}
	if need.ByName {
		return nil
	}
	if s.expired(now) {
		return errors.New("its claims have expired: push claims with a later end")
	}
	if len(need.SigningKeys) > 0 && !slices.ContainsFunc(need.SigningKeys, s.signs) {
		return fmt.Errorf("its claims list none of the configured signing keys (%s) without a scope: add one and push, or configure another",
			strings.Join(need.SigningKeys, ", "))
	}
	for _, key := range need.Scoped {
		if err := s.lacksScope(key); err != nil {
			return err
		}
	}
	if need.Callout == nil {
		return nil
	}
	auth := s.Claims.Authorization
	switch {
	case len(auth.AuthUsers) == 0:
		return errors.New("its claims have no auth_users, so that no login is sent to the callout")
	case auth.XKey != need.Callout.XKey && need.Callout.XKey == "":
		return errors.New("its claims have an xkey: configure nats.callout.xkey")
	case auth.XKey != need.Callout.XKey:
		return fmt.Errorf("its claims have not the configured xkey (%s)", need.Callout.XKey)
	}
	if auth.AllowedAccounts.Contains("*") {
		return nil
	}
	for _, id := range need.Callout.AllowedAccounts {
		if id == jwt.AnyAccount {
			return errors.New("its allowed_accounts are a list, so that servers reject logins into accounts of sign-up: replace the list by * (nsc edit authcallout --allowed-account '*') and push, or leave plans out")
		}
		if id != s.Claims.Subject && !auth.AllowedAccounts.Contains(id) {
			return fmt.Errorf("its allowed_accounts do not hold %s, so that servers reject logins into it", id)
		}
	}
	return nil
}

// readAll reads every needed account back from every known server.
func (r *Resolver) readAll(ctx context.Context) {
	var wg sync.WaitGroup
	for _, s := range r.Servers() {
		wg.Go(func() { r.readServer(ctx, s.ID) })
	}
	wg.Wait()
}

// readServer reads every needed account back from one server.
func (r *Resolver) readServer(ctx context.Context, server string) {
	r.mu.RLock()
	ids := make([]string, 0, len(r.accounts))
	for id := range r.accounts {
		ids = append(ids, id)
	}
	r.mu.RUnlock()
	var g errgroup.Group
	g.SetLimit(parallelReads)
	for _, id := range ids {
		g.Go(func() error {
			r.readAccount(ctx, server, id)
			return nil
		})
	}
	_ = g.Wait() // readAccount keeps what went wrong to itself
}

// readAccount reads one account back from one server. A server that does not answer keeps
// the state that it showed before.
func (r *Resolver) readAccount(ctx context.Context, server, account string) {
	r.mu.RLock()
	read := r.read
	if r.accounts[account].ByName {
		read = r.defined
	}
	r.mu.RUnlock()
	state, err := read(ctx, server, account)
	if err != nil {
		r.log.Debug("an account could not be read back", "server_id", server, "account", account, "error", err)
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if s, ok := r.servers[server]; ok {
		if _, needed := r.accounts[account]; needed {
			s.accounts[account] = state
		}
	}
}

// read returns what the server has applied of the account. A server loads an account only
// when something needs it, so one that is stored and not loaded is loaded first.
func (r *Resolver) read(ctx context.Context, server, account string) (AccountState, error) {
	state, err := r.applied(ctx, server, account)
	if err != nil || state.Applied || state.Problem != notLoaded {
		return state, err
	}
	// Asking for the connections of an account that is stored nowhere would block the
	// server's system requests for 1.9 s: look it up first, which never blocks.
	stored, err := r.stored(ctx, account)
	if err != nil {
		return state, err
	}
	if !stored {
		state.Problem = "no server has its claims: push them"
		return state, nil
	}
	body, _ := json.Marshal(map[string]any{"acc": account, "limit": 1})
	if _, err := r.request(ctx, "$SYS.REQ.SERVER."+server+".CONNZ", body); err != nil {
		return state, err
	}
	return r.applied(ctx, server, account)
}

// accountz is a server's answer to ACCOUNTZ. Data is empty when the server does not have the account.
type accountz struct {
	Data struct {
		System string `json:"system_account"`
		Detail struct {
			Name    string `json:"account_name"`
			JWT     string `json:"jwt"`
			Expired bool   `json:"expired"`
		} `json:"account_detail"`
	} `json:"data"`
}

func (r *Resolver) accountz(ctx context.Context, server, account string) (accountz, error) {
	var answer accountz
	body, _ := json.Marshal(map[string]string{"account": account})
	data, err := r.request(ctx, "$SYS.REQ.SERVER."+server+".ACCOUNTZ", body)
	if err != nil {
		return answer, err
	}
	if err := json.Unmarshal(data, &answer); err != nil {
		return answer, fmt.Errorf("answer to ACCOUNTZ: %w", err)
	}
	return answer, nil
}

// defined asks one server without operator whether its file defines the account.
func (r *Resolver) defined(ctx context.Context, server, account string) (AccountState, error) {
	answer, err := r.accountz(ctx, server, account)
	switch {
	case err != nil:
		return AccountState{}, err
	case answer.Data.Detail.Name != account:
		return AccountState{Problem: "the server's file does not define it: add it to accounts there and reload"}, nil
	case answer.Data.System == account:
		return AccountState{Problem: "it is the system account of the server, where nobody is placed: take it out of the configuration"}, nil
	default:
		return AccountState{Applied: true}, nil
	}
}

// applied asks one server for the claims that it has applied (ACCOUNTZ).
func (r *Resolver) applied(ctx context.Context, server, account string) (AccountState, error) {
	answer, err := r.accountz(ctx, server, account)
	if err != nil {
		return AccountState{}, err
	}
	if answer.Data.Detail.JWT == "" {
		return AccountState{Problem: notLoaded}, nil
	}
	claims, err := r.decode(account, answer.Data.Detail.JWT)
	if err != nil {
		return AccountState{}, fmt.Errorf("claims of account %s: %w", account, err)
	}
	if claims.Subject != account {
		return AccountState{}, fmt.Errorf("asked for account %s, got the claims of %s", account, claims.Subject)
	}
	// A deleted account is shown with its last claims and as expired. A login into it would
	// stall every other one, so it counts as one that the server does not have.
	if answer.Data.Detail.Expired && claims.Expires == 0 {
		return AccountState{Problem: "it was deleted there, or disabled: push its claims again, or take it out of the configuration"}, nil
	}
	return AccountState{Applied: true, Claims: claims, Token: answer.Data.Detail.JWT}, nil
}

// decoded is an account JWT with what it says, which nobody changes.
type decoded struct {
	token  string
	claims *jwt.AccountClaims
}

// decode returns what an account JWT says. Servers mostly show the same one, and one that is full takes long.
func (r *Resolver) decode(account, token string) (*jwt.AccountClaims, error) {
	r.mu.RLock()
	known := r.decoded[account]
	r.mu.RUnlock()
	if known.token == token {
		return known.claims, nil
	}
	claims, err := jwt.DecodeAccountClaims(token)
	if err != nil {
		return nil, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if _, needed := r.accounts[account]; needed {
		r.decoded[account] = decoded{token, claims}
	}
	return claims, nil
}

// stored reports whether any server's resolver holds the account. Servers with a memory or
// URL resolver have nothing that answers; they load from where they are configured to.
func (r *Resolver) stored(ctx context.Context, account string) (bool, error) {
	v, err, _ := r.flight.Do("stored "+account, func() (any, error) {
		r.mu.RLock()
		servers := max(r.active, len(r.servers))
		r.mu.RUnlock()
		found, answered := false, 0
		err := r.gather(ctx, "$SYS.REQ.ACCOUNT."+account+".CLAIMS.LOOKUP", nil, func(data []byte) bool {
			answered++
			found = found || len(data) > 0
			return found || answered >= servers
		})
		if errors.Is(err, nats.ErrNoResponders) || err == nil && answered == 0 {
			return true, nil
		}
		return found, err
	})
	if err != nil {
		return false, err
	}
	return v.(bool), nil
}

func (r *Resolver) request(ctx context.Context, subject string, body []byte) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	msg, err := r.nc.RequestWithContext(ctx, subject, body)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", subject, err)
	}
	return msg.Data, nil
}
