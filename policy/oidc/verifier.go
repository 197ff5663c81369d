package oidc

import (
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gatehouse-nats/gatehouse/policy"
)

// Config bounds what a [Verifier] accepts and does. A zero field means its default.
type Config struct {
	Leeway       time.Duration // difference accepted between an issuer's clock and ours; 10 s
	MaxTokenSize int           // longest token in bytes; 16 KiB

	RefreshInterval time.Duration // shortest time between two fetches of one issuer's keys; 10 s
	RefreshAfter    time.Duration // how old loaded keys get before they are fetched anew; 5 min
	FetchTimeout    time.Duration // of each of the two requests of a fetch; 10 s
	// MaxParked is how many logins may wait for one fetch; 256. Those beyond it are left
	// unanswered, since each holds on to its request for as long as it waits.
	MaxParked int

	Now     func() time.Time // time.Now
	Observe func(Fetch)      // told of every fetch; must not block
	Logger  *slog.Logger     // discards
}

// Fetch tells of one attempt to load an issuer's discovery document and JWKS.
type Fetch struct {
	Issuer string // its name
	Err    error  // nil when it succeeded
	Took   time.Duration
}

// Status tells how the keys of an issuer stand.
type Status struct {
	Name, URL   string
	Keys        int       // how many are loaded; while 0, logins of the issuer stay unanswered
	LastSuccess time.Time // when they were; zero when they never were
	LastError   string    // of the last fetch; empty when it succeeded
	NextRefresh time.Time // when the keys are fetched without being asked for; zero when they never are
}

func (c Config) withDefaults() *Config {
	c.Leeway = cmp.Or(c.Leeway, 10*time.Second)
	c.MaxTokenSize = cmp.Or(c.MaxTokenSize, 16<<10)
	c.RefreshInterval = cmp.Or(c.RefreshInterval, 10*time.Second)
	c.RefreshAfter = cmp.Or(c.RefreshAfter, 5*time.Minute)
	c.FetchTimeout = cmp.Or(c.FetchTimeout, 10*time.Second)
	c.MaxParked = cmp.Or(c.MaxParked, 256)
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Observe == nil {
		c.Observe = func(Fetch) {}
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return &c
}

func (c *Config) validate() error {
	if min(c.Leeway, c.RefreshInterval, c.RefreshAfter, c.FetchTimeout) < 0 || min(c.MaxTokenSize, c.MaxParked) < 0 {
		return errors.New("oidc: a bound is negative: leave it out for its default")
	}
	return nil
}

// Verifier turns tokens into identities with the keys of its issuers. Its methods may be
// called at the same time.
type Verifier struct {
	cfg     *Config
	client  *http.Client                       // for issuers that bring none
	keepers atomic.Pointer[map[string]*keeper] // by URL; immutable
	setting sync.Mutex                         // held while keepers is replaced
	changed chan struct{}                      // tells Run that keepers was replaced
	seen    *seen
	started atomic.Bool
}

// New returns a verifier for tokens of the issuers. It does no I/O; until [Verifier.Run]
// has loaded an issuer's keys, its tokens are pending.
func New(cfg Config, issuers []Issuer) (*Verifier, error) {
	v := &Verifier{cfg: cfg.withDefaults(), client: newClient(), changed: make(chan struct{}, 1), seen: newSeen(seenTokens, seenBytes)}
	if err := v.cfg.validate(); err != nil {
		return nil, err
	}
	v.keepers.Store(&map[string]*keeper{})
	if err := v.SetIssuers(issuers); err != nil {
		return nil, err
	}
	return v, nil
}

// SetIssuers replaces the issuers. Those whose URL was there before keep the keys that were
// fetched, unless they are to come from elsewhere now: the place before may not be trusted. When an
// issuer is invalid nothing changes, and the error tells everything that is wrong; each part
// wraps [ErrIssuer].
func (v *Verifier) SetIssuers(issuers []Issuer) error {
	if err := validateAll(issuers); err != nil {
		return err
	}
	v.setting.Lock()
	defer v.setting.Unlock()
	before, after := *v.keepers.Load(), make(map[string]*keeper, len(issuers))
	for _, issuer := range issuers {
		issuer.Audiences, issuer.AdminAudiences = slices.Clone(issuer.Audiences), slices.Clone(issuer.AdminAudiences)
		issuer.Algorithms = slices.Clone(issuer.Algorithms)
		issuer.Logout.Audiences = slices.Clone(issuer.Logout.Audiences)
		k := before[issuer.URL]
		if k == nil || k.issuer.Load().source() != issuer.source() {
			k = newKeeper(v.cfg, v.client)
		}
		k.configure(&issuer)
		after[issuer.URL] = k
	}
	v.keepers.Store(&after)
	select {
	case v.changed <- struct{}{}:
	default:
	}
	return nil
}

func validateAll(issuers []Issuer) error {
	var errs []error
	names, urls := make(map[string]bool), make(map[string]bool)
	for _, i := range issuers {
		errs = append(errs, i.validate())
		if names[i.Name] {
			errs = append(errs, fmt.Errorf("%w %q: another one has the same name", ErrIssuer, i.Name))
		}
		if urls[i.URL] {
			errs = append(errs, fmt.Errorf("%w %q: another one has the same url", ErrIssuer, i.Name))
		}
		names[i.Name], urls[i.URL] = true, true
	}
	return errors.Join(errs...)
}

// Run loads the issuers' keys and keeps them current, each issuer by itself: a slow one does
// not hold up another. An issuer that is down is tried again with growing pauses of up to a
// minute. Run ends with ctx and returns nil then; it may be called once.
func (v *Verifier) Run(ctx context.Context) error {
	if v.started.Swap(true) {
		return errors.New("oidc: Run was called twice")
	}
	running := make(map[*keeper]context.CancelFunc)
	var wg sync.WaitGroup
	defer v.client.CloseIdleConnections()
	defer wg.Wait()
	for {
		keepers := *v.keepers.Load()
		for _, k := range keepers {
			if running[k] == nil {
				own, cancel := context.WithCancel(ctx)
				running[k] = cancel
				wg.Go(func() { k.run(own) })
			}
		}
		for k, cancel := range running {
			if keepers[k.issuer.Load().URL] != k {
				cancel()
				delete(running, k)
			}
		}
		select {
		case <-ctx.Done():
			for _, cancel := range running {
				cancel()
			}
			return nil
		case <-v.changed:
		}
	}
}

// Verify returns the identity that a token proves, or why the token is refused, or neither
// and a channel that is closed when it is worth trying again, because a key may be known
// then. It neither blocks nor does I/O. The refusal comes with the identity when the token is
// that identity's and yet not valid here or now.
//
// A key that is not known is asked of the issuer at most once per refresh interval. The token
// is refused with key_unknown when the last fetch was made for that key and did not bring it,
// otherwise, and where the keys are given, with keys_unavailable, which leaves a login unanswered so
// that it comes again. A signature that does not verify is never a reason to ask.
func (v *Verifier) Verify(raw string) (id *policy.Identity, refusal *policy.Refusal, pending <-chan struct{}) {
	return v.verify(raw, toLogIn)
}

func (v *Verifier) verify(raw string, use use) (id *policy.Identity, refusal *policy.Refusal, pending <-chan struct{}) {
	t, refusal, pending := v.authentic(raw)
	if t == nil {
		return nil, refusal, pending
	}
	id, refusal = judge(t.keeper.issuer.Load(), use, t.claims, v.cfg.Leeway, v.cfg.Now())
	return id, refusal, nil
}

// VerifyLogout is [Verifier.Verify] for a logout token (OpenID Connect Back-Channel Logout 1.0 section
// 2.4) of the issuer with that name. Whether it was used before is for the caller to find out.
func (v *Verifier) VerifyLogout(name, raw string) (l *policy.LogoutToken, refusal *policy.Refusal, pending <-chan struct{}) {
	t, refusal, pending := v.open(*v.keepers.Load(), []byte(raw), forLogout)
	if t == nil {
		return nil, refusal, pending
	}
	issuer := t.keeper.issuer.Load()
	if issuer.Name != name {
		return nil, policy.Refuse(policy.IssuerUnknown, "the logout token is of issuer %s, and was sent to where those of %q go", issuer.Name, clip(name)), nil
	}
	l, refusal = judgeLogout(issuer, t.claims, v.cfg.Leeway, v.cfg.Now())
	return l, refusal, nil
}

// authentic returns a login's token of which the signature verifies with a key that its issuer has now.
func (v *Verifier) authentic(raw string) (*verified, *policy.Refusal, <-chan struct{}) {
	keepers, data := *v.keepers.Load(), []byte(raw)
	hash := sha256.Sum256(data)
	if known := v.seen.find(hash, len(data)); known != nil && known.holds(keepers) {
		// The issuer may be pinned to other algorithms now.
		if key, refusal, pending := known.keeper.key(known.keyID, known.algorithm); key == nil {
			return nil, refusal, pending
		}
		return known, nil, nil
	}
	found, refusal, pending := v.open(keepers, data, forLogin)
	if found == nil {
		return nil, refusal, pending
	}
	if found.holds(keepers) { // otherwise the key may be one of either set
		v.seen.add(hash, len(data), found)
	}
	return found, nil, nil
}

// open parses a token made for the purpose and verifies its signature.
func (v *Verifier) open(keepers map[string]*keeper, raw []byte, made purpose) (*verified, *policy.Refusal, <-chan struct{}) {
	t, refusal := parse(raw, v.cfg.MaxTokenSize, made)
	if refusal != nil {
		return nil, refusal, nil
	}
	k := keepers[t.issuer]
	if k == nil {
		return nil, policy.Refuse(policy.IssuerUnknown, "no issuer is configured with url %q, the token's iss", clip(t.issuer)), nil
	}
	digest := k.keys.Load().digest
	key, refusal, pending := k.key(t.keyID, t.algorithm)
	if key == nil {
		return nil, refusal, pending
	}
	if !verifies(key, t.algorithm, t.input, t.signature) {
		return nil, policy.Refuse(policy.SignatureInvalid, "the signature does not verify with key %q of issuer %s", clip(key.KeyID), k.issuer.Load().Name), nil
	}
	t.input, t.signature = nil, nil // are not needed any more, and large
	return &verified{token: *t, keeper: k, digest: digest}, nil, nil
}

// VerifyWait is [Verifier.Verify] for callers that can wait for an issuer's keys, as long as
// ctx lasts.
func (v *Verifier) VerifyWait(ctx context.Context, raw string) (*policy.Identity, *policy.Refusal) {
	return v.wait(ctx, raw, toLogIn)
}

// VerifyAdmin is [Verifier.VerifyWait] for tokens that are for administration, see [Issuer]: one that
// could be used for logins is refused with login_token, one that is for neither with admin_audience_refused.
func (v *Verifier) VerifyAdmin(ctx context.Context, raw string) (*policy.Identity, *policy.Refusal) {
	return v.wait(ctx, raw, toAdminister)
}

func (v *Verifier) wait(ctx context.Context, raw string, use use) (*policy.Identity, *policy.Refusal) {
	for {
		id, refusal, pending := v.verify(raw, use)
		if pending == nil {
			return id, refusal
		}
		select {
		case <-pending:
		case <-ctx.Done():
			return nil, policy.Refuse(policy.KeysUnavailable, "the issuer's keys were not loaded in time: %v", context.Cause(ctx))
		}
	}
}

// Status tells how the keys of each issuer stand, sorted by name.
func (v *Verifier) Status() []Status {
	var all []Status
	for _, k := range *v.keepers.Load() {
		all = append(all, k.status())
	}
	slices.SortFunc(all, func(a, b Status) int { return cmp.Compare(a.Name, b.Name) })
	return all
}
