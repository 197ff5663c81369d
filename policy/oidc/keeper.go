package oidc

import (
	"cmp"
	"context"
	"errors"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/gatehouse-nats/gatehouse/policy"
)

// maxBackoff is the longest pause between two tries to reach an issuer that fails.
const maxBackoff = time.Minute

// keeper keeps the keys of the issuer at one URL. Its goroutine does all fetching; logins
// read what is there, and may ask for a fetch but never make one.
type keeper struct {
	cfg    *Config
	client *http.Client           // for an issuer that brings none
	issuer atomic.Pointer[Issuer] // its settings may change, its URL does not
	keys   atomic.Pointer[keySet] // never nil; empty until loaded; written under mu
	wake   chan struct{}          // tells the goroutine of a flight that was asked for

	mu        sync.Mutex
	flight    *flight   // the fetch under way or asked for; nil when there is none
	notBefore time.Time // when the next fetch may begin
	next      time.Time // when it begins unasked
	success   time.Time // of the last fetch that succeeded
	err       error     // of the last fetch; nil when it succeeded
	failures  int       // since then
	absent    idSet     // key ids that the last successful fetch was made for and did not bring
}

// idSet is a set of key ids, bounded by how many logins may wait for one fetch.
type idSet map[string]struct{}

// flight is one fetch that logins may wait for.
type flight struct {
	done   chan struct{} // closed when it has ended
	parked int           // how many logins were told to wait for it
	asked  idSet         // the key ids that they look for
}

func newFlight() *flight { return &flight{done: make(chan struct{}), asked: idSet{}} }

// newKeeper returns a keeper whose first fetch counts as asked for, so that logins which
// come before it has begun wait for it.
func newKeeper(cfg *Config, client *http.Client) *keeper {
	k := &keeper{cfg: cfg, client: client, wake: make(chan struct{}, 1), flight: newFlight()}
	k.keys.Store(new(keySet))
	return k
}

// configure sets or changes the issuer's settings; keys that were fetched stay.
func (k *keeper) configure(issuer *Issuer) {
	old := k.issuer.Swap(issuer)
	if issuer.Keys != nil {
		k.hold(issuer)
		return
	}
	if old == nil || old.Client == issuer.Client {
		return
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.takeOff(k.cfg.Now())
}

// hold takes over keys that are given. They are never fetched.
func (k *keeper) hold(issuer *Issuer) {
	k.mu.Lock()
	news := k.keys.Load().digest != issuer.Keys.set.digest
	if news {
		k.keys.Store(&issuer.Keys.set)
		k.success = k.cfg.Now()
	}
	k.land()
	k.mu.Unlock()
	if news {
		k.announce(issuer, &issuer.Keys.set, issuer.Keys.skipped)
	}
}

// key returns the key that a token's header points to. Without one it returns why the token
// is refused, or a channel that is closed when it is worth trying again.
func (k *keeper) key(id, algorithm string) (*jose.JSONWebKey, *policy.Refusal, <-chan struct{}) {
	set, issuer := k.keys.Load(), k.issuer.Load()
	pinned := issuer.Algorithms
	if len(pinned) == 0 {
		pinned = set.algorithms // none before the first load
	}
	key, known := set.find(id, algorithm)
	// What discovery names may change with the keys: an unknown key may be the first of another algorithm.
	final := known || id == "" || len(issuer.Algorithms) > 0 || issuer.Keys != nil || !isAsymmetric(algorithm)
	switch {
	case len(pinned) > 0 && !slices.Contains(pinned, algorithm) && final:
		return nil, policy.Refuse(policy.AlgorithmRefused, "the token is signed with %s, issuer %s is pinned to %s", algorithm, issuer.Name, quoted(pinned)), nil
	case key != nil:
		return key, nil, nil
	case known:
		return nil, policy.Refuse(policy.AlgorithmRefused, "the token is signed with %s, key %q of issuer %s is not for that", algorithm, clip(id), issuer.Name), nil
	}
	return k.ask(set, id, algorithm)
}

// ask has the keys fetched because set lacks one. Random key ids cost nothing: in the pause
// between fetches they are left unanswered. Only an id that the last fetch was made for is
// refused, because the pause may also meet a key that the issuer has just begun to use, and
// whoever floods random ids must not have those logins refused for good.
func (k *keeper) ask(set *keySet, id, algorithm string) (*jose.JSONWebKey, *policy.Refusal, <-chan struct{}) {
	k.mu.Lock()
	if k.keys.Load() != set {
		k.mu.Unlock()
		return k.key(id, algorithm) // a fetch has just ended
	}
	defer k.mu.Unlock()
	issuer := k.issuer.Load()
	name := issuer.Name
	if issuer.Keys == nil {
		k.takeOff(k.cfg.Now())
	}
	switch {
	case k.flight != nil && k.flight.parked < k.cfg.MaxParked:
		k.flight.parked++
		k.flight.asked[strings.Clone(id)] = struct{}{} // it shares its text with the token
		return nil, nil, k.flight.done
	case k.flight != nil:
		return nil, policy.Refuse(policy.KeysUnavailable, "%d logins already wait for the keys of issuer %s", k.flight.parked, name), nil
	case k.err != nil:
		return nil, policy.Refuse(policy.KeysUnavailable, "the keys of issuer %s could not be loaded: %v", name, k.err), nil
	case id == "":
		return nil, policy.Refuse(policy.KeyUnknown, "the token names no key and issuer %s has none, or several, for %s: have it put a kid into the header", name, algorithm), nil
	case issuer.Keys != nil:
		// The issuer may use a new key already that somebody has yet to add to the file.
		return nil, policy.Refuse(policy.KeysUnavailable, "the JWKS that is configured for issuer %s does not hold key %q: add the key to it", name, clip(id)), nil
	}
	if _, asked := k.absent[id]; asked {
		return nil, policy.Refuse(policy.KeyUnknown, "issuer %s does not publish key %q", name, clip(id)), nil
	}
	return nil, policy.Refuse(policy.KeysUnavailable, "key %q is not known and the keys of issuer %s were fetched a moment ago: they are asked for again soon", clip(id), name), nil
}

// takeOff asks the goroutine for a fetch, unless one is asked for or it is too early. The
// caller holds mu.
func (k *keeper) takeOff(now time.Time) {
	if k.flight != nil || now.Before(k.notBefore) {
		return
	}
	k.flight = newFlight()
	k.wake <- struct{}{} // has room: it is filled only here, and emptied before flight becomes nil
}

// land ends the flight, if there is one. The caller holds mu.
func (k *keeper) land() {
	if k.flight != nil {
		close(k.flight.done)
		k.flight = nil
	}
}

// run fetches the keys at once and then whenever it is time or somebody asks, until ctx ends.
// Keys that are given need nothing.
func (k *keeper) run(ctx context.Context) {
	defer k.stop()
	if k.issuer.Load().Keys != nil {
		<-ctx.Done()
		return
	}
	for ctx.Err() == nil {
		pause := k.refresh(ctx)
		select {
		case <-ctx.Done():
			return
		case <-k.wake:
		case <-time.After(pause):
		}
	}
}

// stop lets nobody wait for a fetch any more.
func (k *keeper) stop() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.notBefore = never
	k.err = cmp.Or(k.err, errStopped)
	k.land()
}

// never is later than any time that is compared with it.
var never = time.Unix(maxDate, 0)

var errStopped = errors.New("they are not loaded any more: the issuer was removed, or the service is ending")

// refresh fetches the keys and returns how long they are good for.
func (k *keeper) refresh(ctx context.Context) (pause time.Duration) {
	k.begin()
	start := k.cfg.Now()
	issuer := k.issuer.Load()
	client := issuer.Client
	if client == nil {
		client = k.client
	}
	set, skipped, err := newFetcher(issuer, client, k.cfg.FetchTimeout).keys(ctx)
	if ctx.Err() != nil {
		return 0 // stopped: nothing was learnt
	}
	news, pause := k.end(set, err)
	k.report(issuer, set, skipped, err, news, pause)
	k.cfg.Observe(Fetch{Issuer: issuer.Name, Err: err, Took: k.cfg.Now().Sub(start)})
	return pause
}

// begin makes sure that logins find a flight to wait for.
func (k *keeper) begin() {
	k.mu.Lock()
	defer k.mu.Unlock()
	select {
	case <-k.wake:
	default:
	}
	if k.flight == nil {
		k.flight = newFlight()
	}
}

// end takes over what a fetch has brought, before it lets the waiting logins go on. A nil
// set leaves the keys as they are: they outlive an outage of their issuer. There are news
// when the keys are not as before, or could not be fetched before.
func (k *keeper) end(set *keySet, err error) (news bool, pause time.Duration) {
	k.mu.Lock()
	defer k.mu.Unlock()
	now := k.cfg.Now()
	// Counted from the end, and jittered upwards only: never two fetches within an interval.
	wait := k.cfg.RefreshInterval + rand.N(k.cfg.RefreshInterval/4+1)
	k.notBefore = now.Add(wait)
	k.err = err
	news = k.failures > 0
	if set != nil {
		news = news || k.keys.Load().digest != set.digest
		k.keys.Store(set)
	}
	if err == nil {
		k.success, k.failures = now, 0
		k.absent = k.flight.asked
		pause = k.cfg.RefreshAfter
	} else {
		pause = min(k.cfg.RefreshInterval<<min(k.failures, 16), maxBackoff)
		k.failures++
	}
	pause = max(pause-rand.N(pause/5+1), wait)
	k.next = now.Add(pause)
	k.land()
	return news, pause
}

// report logs what is worth knowing of a fetch: failures and news.
func (k *keeper) report(issuer *Issuer, set *keySet, skipped []error, err error, news bool, pause time.Duration) {
	log := k.cfg.Logger.With("issuer", issuer.Name)
	if err != nil {
		log.Warn("cannot load the issuer's keys: logins with keys that are not known yet stay unanswered", "error", err, "retry_in", pause)
		return
	}
	if news {
		k.announce(issuer, set, skipped)
	}
}

// announce logs keys that are new.
func (k *keeper) announce(issuer *Issuer, set *keySet, skipped []error) {
	log := k.cfg.Logger.With("issuer", issuer.Name)
	ids := make([]string, len(set.keys))
	for i := range set.keys {
		ids[i] = clip(set.keys[i].KeyID)
	}
	log.Info("loaded the issuer's keys", "keys", ids)
	for _, s := range skipped {
		log.Warn("left out a key of the issuer", "error", s)
	}
}

// status reports how the keys stand.
func (k *keeper) status() Status {
	k.mu.Lock()
	defer k.mu.Unlock()
	issuer := k.issuer.Load()
	s := Status{Name: issuer.Name, URL: issuer.URL, Keys: len(k.keys.Load().keys), LastSuccess: k.success, NextRefresh: k.next}
	if k.err != nil {
		s.LastError = k.err.Error()
	}
	return s
}
