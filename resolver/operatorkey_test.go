package resolver

import (
	"encoding/json"
	"fmt"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"

	"github.com/gatehouse-nats/gatehouse/internal/devstack/devtest"
	"github.com/gatehouse-nats/gatehouse/internal/setup"
	"github.com/gatehouse-nats/gatehouse/policy"
)

func keyOf(t *testing.T, seed setup.Secret) nkeys.KeyPair {
	t.Helper()
	key, err := nkeys.FromSeed([]byte(seed.Reveal()))
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// operators gives every server an operator JWT with these signing keys, as whoever holds the identity key does, and starts them
// again one by one. With loose the identity signs account claims too.
func (s *system) operators(t *testing.T, loose bool, signing ...string) {
	t.Helper()
	s.writeOperators(t, loose, signing...)
	for _, server := range s.servers {
		server.Restart()
		devtest.AwaitReady(t, s.servers...)
	}
}

func (s *system) writeOperators(t *testing.T, loose bool, signing ...string) {
	t.Helper()
	claims, err := jwt.DecodeOperatorClaims(s.OperatorJWT)
	if err != nil {
		t.Fatal(err)
	}
	claims.SigningKeys, claims.StrictSigningKeyUsage = signing, !loose
	token, err := claims.Encode(keyOf(t, s.OperatorIdentity))
	if err != nil {
		t.Fatal(err)
	}
	for _, conf := range s.confs {
		rewrite(t, conf, func(text string) string {
			return regexp.MustCompile(`(?m)^(operator: *)\S+$`).ReplaceAllString(text, `${1}"`+token+`"`)
		})
	}
}

// pushSigned gives every server the account's claims signed by the key, as whoever keeps the account does.
func (s *system) pushSigned(t *testing.T, a setup.Account, key nkeys.KeyPair) {
	t.Helper()
	claims, err := jwt.DecodeAccountClaims(a.JWT)
	if err != nil {
		t.Fatal(err)
	}
	token, err := claims.Encode(key)
	if err != nil {
		t.Fatal(err)
	}
	for _, conf := range s.confs {
		rewrite(t, conf, func(text string) string { return strings.ReplaceAll(text, a.JWT, token) })
	}
	for _, answer := range s.ask(t, "$SYS.REQ.CLAIMS.UPDATE", token) {
		if !strings.Contains(string(answer), `"code":200`) {
			t.Fatalf("push of %s: %s", a.Name, answer)
		}
	}
}

// silence takes from Gatehouse's system user that servers say whom they trust, as set-ups from before have it.
func (s *system) silence(t *testing.T) {
	t.Helper()
	token, err := nkeys.ParseDecoratedJWT([]byte(s.SystemCreds.Reveal()))
	if err != nil {
		t.Fatal(err)
	}
	key, err := nkeys.ParseDecoratedUserNKey([]byte(s.SystemCreds.Reveal()))
	if err != nil {
		t.Fatal(err)
	}
	seed, err := key.Seed()
	if err != nil {
		t.Fatal(err)
	}
	claims, err := jwt.DecodeUserClaims(token)
	if err != nil {
		t.Fatal(err)
	}
	const subject = "$SYS.REQ.SERVER.*.VARZ"
	if !claims.Pub.Allow.Contains(subject) {
		t.Fatalf("the system user may publish to %v", claims.Pub.Allow)
	}
	claims.Pub.Allow.Remove(subject)
	if token, err = claims.Encode(keyOf(t, s.System.SigningKey)); err != nil {
		t.Fatal(err)
	}
	creds, err := jwt.FormatUserConfig(token, seed)
	if err != nil {
		t.Fatal(err)
	}
	s.SystemCreds = creds
}

// signing returns the accounts that each key has signed.
func (k *keeper) signing(t *testing.T) (map[string][]string, error) {
	t.Helper()
	list, err := k.c.Signing(t.Context())
	by := map[string][]string{}
	for _, s := range list {
		by[s.Key] = s.Some
		if len(s.Some) != s.Accounts {
			t.Errorf("%d accounts, named are %v", s.Accounts, s.Some)
		}
	}
	return by, err
}

// An operator signing key is replaced: the new one comes into the operator JWT, Gatehouse signs all that is its own anew and
// tells what is not, and the old one goes. Nobody is cut, and what the old key signed is rejected from then on.
func TestOperatorKeyIsReplaced(t *testing.T) {
	t.Parallel()
	for _, loose := range []bool{false, true} {
		t.Run(fmt.Sprintf("strict=%t", !loose), func(t *testing.T) {
			t.Parallel()
			replaceOperatorKey(t, loose)
		})
	}
}

func replaceOperatorKey(t *testing.T, loose bool) {
	s := startSystem(t, 3)
	old, oldKey := keyOf(t, s.OperatorSigningKey), public(t, s.OperatorSigningKey)
	next, nextKey := newKey(t, nkeys.PrefixByteOperator)
	if loose {
		s.operators(t, true, oldKey)
	}
	l, records := newLedger(), newRecords()
	k := keep(t, s, l, records, nil)
	k.t = t
	ready(t, k.r)
	accounts := signUp(t, records, 6)
	k.active(t, accounts...)
	r := k.revoke(policy.UserKey, policy.Target{Account: s.App.ID, Key: "U"})
	shop := newAccount(t, "shop") // taken over from others
	s.push(t, shop, nil)
	token, err := k.r.Newest(t.Context(), shop.ID)
	if err != nil {
		t.Fatal(err)
	}
	if err := k.c.Keep(t.Context(), token, nil); err != nil {
		t.Fatal(err)
	}
	mine := newSigned(t, "shop")
	mine.ID, mine.Adopted = shop.ID, true
	mine.Account = records.save(mine.Account)
	k.active(t, mine)

	// Before the servers know the new key nothing is pushed with it, and the old one goes on.
	pushes := k.counted(t)
	k.key.Store(&next)
	k.c.Wake()
	k.c.roster.stir()
	eventually(t, func() error {
		problems := strings.Join(k.c.Status().Problems, "; ")
		return check(strings.Contains(problems, ErrUntrusted.Error()) && strings.Contains(problems, nextKey), "problems: %s", problems)
	})
	if n := pushes.Load(); n != 0 {
		t.Errorf("%d pushes of a key that servers do not trust", n)
	}
	k.key.Store(&old)
	k.lift(r)
	k.everywhere("lifted by the old key", func(c *jwt.AccountClaims) bool { return len(c.Revocations) == 0 && c.Issuer == oldKey })
	r = k.revoke(policy.UserKey, policy.Target{Account: s.App.ID, Key: "U"})
	eventually(t, func() error {
		return check(len(k.c.Status().Problems) == 0, "problems: %v", k.c.Status().Problems)
	})

	s.operators(t, loose, oldKey, nextKey)
	trust := func(key string) error {
		list, err := k.r.Trust(t.Context())
		if err != nil || len(list) != 3 {
			return fmt.Errorf("trust of %d servers: %w", len(list), err)
		}
		for _, by := range list {
			if trusts, known := by.Trusts(key); !trusts || !known || by.Strict == loose {
				return fmt.Errorf("%+v", by)
			}
		}
		return nil
	}
	eventually(t, func() error { return trust(nextKey) })
	k.key.Store(&next)
	k.c.Wake()
	k.c.roster.stir()
	left := []string{"the callout account", s.Lobby.ID, s.System.ID} // others keep these
	within(t, time.Minute, func() error {
		by, err := k.signing(t)
		if err != nil {
			return err
		}
		return check(len(by[nextKey]) == len(accounts)+2 && len(by[oldKey]) == 2+len(left)-2, "signed: %v; %v", by, k.c.Status().Problems)
	})
	for _, a := range accounts {
		if is := records.get(a.ID); is.Revision != 1 || is.Signer != nextKey {
			t.Errorf("record %+v", is)
		}
	}
	k.converged(r)

	// Whoever keeps the others signs them anew; one is forgotten.
	s.pushSigned(t, s.System, next)
	s.pushSigned(t, s.Callout, next)
	s.operators(t, loose, nextKey)
	k.lift(r)
	k.everywhere("lifted by the new key", func(c *jwt.AccountClaims) bool { return len(c.Revocations) == 0 && c.Issuer == nextKey })
	for _, a := range accounts {
		for _, server := range s.servers {
			eventually(t, func() error { return a.dial(t, server.ClientURL()) })
		}
	}
	user := newDirect(t, s.Lobby, s.Lobby.SigningKey.Reveal(), nil)
	for _, server := range s.servers {
		if err := user.dial(server.ClientURL()); err == nil {
			t.Error("a server lets a user into an account whose claims a key signed that it does not trust")
		}
	}
	added := newSigned(t, "later")
	added.Account = records.save(added.Account)
	k.active(t, added)
}

// Servers may have applied what a push gave them after it was given up: who signed it is noted all the same, or the old key would
// seem to be needed for good.
func TestSignerIsNotedLate(t *testing.T) {
	t.Parallel()
	s := startSystem(t, 1)
	records := newRecords()
	k := keep(t, s, newLedger(), records, nil)
	accounts := signUp(t, records, 1)
	k.active(t, accounts...)
	own := public(t, s.OperatorSigningKey)
	eventually(t, func() error {
		k.c.roster.mu.Lock()
		defer k.c.roster.mu.Unlock()
		return check(k.c.roster.anew.done, "the key is being looked at")
	})
	pushes := k.counted(t)
	is := records.get(accounts[0].ID)
	late := is
	late.Issued--
	_, late.Signer = newKey(t, nkeys.PrefixByteOperator)
	records.mu.Lock()
	records.accounts[late.ID] = late
	records.mu.Unlock()
	k.c.roster.mu.Lock()
	k.c.roster.accounts[late.ID].signer = late.Signer
	k.c.roster.anew = anew{}
	k.c.roster.mu.Unlock()
	k.c.roster.stir()
	eventually(t, func() error {
		now := records.get(late.ID)
		return check(now.Signer == own && now.Issued == is.Issued, "record %+v", now)
	})
	if n := pushes.Load(); n > 1 {
		t.Errorf("%d pushes of what the server has", n)
	}
}

// counted counts the pushes from now on.
func (k *keeper) counted(t *testing.T) *atomic.Int64 {
	t.Helper()
	n := new(atomic.Int64)
	if _, err := k.admin.Subscribe("$SYS.REQ.CLAIMS.UPDATE", func(*nats.Msg) { n.Add(1) }); err != nil {
		t.Fatal(err)
	}
	if err := k.admin.Flush(); err != nil {
		t.Fatal(err)
	}
	return n
}

// A replica that starts with another key than the one before it signs all accounts anew, a few at a time, while what is new does
// not wait for them; and accounts are left as they are where that was seen to.
func TestKeyChangesWhileNobodyRuns(t *testing.T) {
	t.Parallel()
	s := startSystem(t, 3)
	next, nextKey := newKey(t, nkeys.PrefixByteOperator)
	s.operators(t, false, public(t, s.OperatorSigningKey), nextKey)
	l, records := newLedger(), newRecords()
	first := keep(t, s, l, records, nil)
	accounts := signUp(t, records, anewAtOnce+20)
	first.active(t, accounts...)
	first.stop()
	second := keep(t, s, l, records, next)
	second.t = t
	anew := func() (n int) {
		for _, a := range accounts {
			if records.get(a.ID).Signer == nextKey {
				n++
			}
		}
		return n
	}
	eventually(t, func() error { return check(anew() > 0, "none is signed anew: %v", second.c.Status().Problems) })
	late := newSigned(t, "late")
	late.Account = records.save(late.Account)
	second.active(t, late)
	within(t, time.Minute, func() error {
		return check(anew() == len(accounts), "%d of %d are signed anew: %v", anew(), len(accounts), second.c.Status().Problems)
	})
	second.storedAs(t, accounts...)
	if n := second.drifted("foreign") + second.drifted("absent") + second.drifted("older"); n != 0 {
		t.Errorf("%d drifts", n)
	}
	pushes := second.counted(t)
	second.stop()
	third := keep(t, s, l, records, next)
	eventually(t, func() error {
		third.c.roster.mu.Lock()
		defer third.c.roster.mu.Unlock()
		return check(third.c.roster.loaded && third.c.roster.anew.done, "it has not looked yet")
	})
	if n := pushes.Load(); n != 0 {
		t.Errorf("%d pushes of what is signed already", n)
	}
}

// What a crash left between keeping claims that were signed anew and pushing them is made good.
func TestSignedByAnother(t *testing.T) {
	t.Parallel()
	w := newClaimsWorld(t)
	own, _ := newKey(t, nkeys.PrefixByteOperator)
	other, _ := newKey(t, nkeys.PrefixByteOperator)
	c := &Claims{ClaimsOptions: ClaimsOptions{Signer: func() nkeys.KeyPair { return own }}}
	base := w.document(t, jwt.NewAccountClaims(w.account))
	signed := func(key nkeys.KeyPair, issued int64) *document {
		token, err := base.sign(key, issued, 1)
		if err != nil {
			t.Fatal(err)
		}
		return parsed(t, token)
	}
	held := func(list ...*document) (all []serverClaims) {
		for _, d := range list {
			all = append(all, serverClaims{found: d})
		}
		return all
	}
	theirs := *signed(other, 5) // as others sign it
	theirs.claims = map[string]json.RawMessage{"iss": encoded("OTHER"), "iat": encoded(5)}
	for name, test := range map[string]struct {
		h    history
		held []serverClaims
		want bool
	}{
		"nothing is kept":         {history{}, held(signed(other, 5)), false},
		"as it is to be":          {history{base: signed(own, 5), desired: signed(own, 6)}, held(signed(own, 6)), false},
		"kept of another key":     {history{base: signed(other, 5), desired: signed(other, 6)}, held(signed(other, 6)), true},
		"not pushed":              {history{base: signed(own, 5), desired: signed(own, 7)}, held(signed(own, 7), signed(other, 6)), true},
		"not pushed over others'": {history{base: signed(own, 5), desired: signed(own, 7)}, held(&theirs), true},
		"others' in the same way": {history{base: signed(own, 5), desired: &theirs}, held(&theirs), false},
		"others' signed it later": {history{base: signed(own, 3), desired: signed(own, 4)}, held(&theirs), false},
		"a server that has none":  {history{base: signed(own, 5), desired: signed(own, 6)}, held(nil), false},
	} {
		if got := c.signedByAnother(test.h, test.held); got != test.want {
			t.Errorf("%s: %t", name, got)
		}
	}
}
