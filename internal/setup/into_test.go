package setup_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"

	"github.com/gatehouse-nats/gatehouse/internal/setup"
)

// operator is an operator set-up as nsc and nats auth leave it on disk: SYS, SHOP with a
// signing key, and PLAIN with an identity key only.
type operator struct {
	store         string // folder
	operatorKey   string // seed of the operator's signing key
	identityFile  string // of the operator
	url           string
	conf          string // of a running server
	server        *os.Process
	shop, plain   *jwt.AccountClaims
	shopKey       string // seed of the signing key
	plainKey      string // seed of the identity
	systemCreds   []byte
	employeeCreds []byte // a user of SHOP
}

type pair struct {
	nkeys.KeyPair
	public, seed string
}

func newPair(t *testing.T, prefix nkeys.PrefixByte) pair {
	t.Helper()
	kp, err := nkeys.CreatePair(prefix)
	if err != nil {
		t.Fatal(err)
	}
	public, _ := kp.PublicKey()
	seed, _ := kp.Seed()
	return pair{kp, public, string(seed)}
}

func (o *operator) put(t *testing.T, path, content string) string {
	t.Helper()
	path = filepath.Join(o.store, path)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func (o *operator) putKey(t *testing.T, k pair) string {
	t.Helper()
	return o.put(t, fmt.Sprintf("keys/keys/%s/%s/%s.nk", k.public[:1], k.public[1:3], k.public), k.seed)
}

func encode(t *testing.T, claims jwt.Claims, by pair) string {
	t.Helper()
	token, err := claims.Encode(by)
	if err != nil {
		t.Fatal(err)
	}
	return token
}

func userCreds(t *testing.T, account string, signer pair) []byte {
	t.Helper()
	u := newPair(t, nkeys.PrefixByteUser)
	claims := jwt.NewUserClaims(u.public)
	claims.Name, claims.IssuerAccount = "employee", account
	file, err := jwt.FormatUserConfig(encode(t, claims, signer), []byte(u.seed))
	if err != nil {
		t.Fatal(err)
	}
	return file
}

// newOperator writes an operator's store and starts a server for it.
func newOperator(t *testing.T, strict bool) *operator {
	t.Helper()
	o := &operator{store: t.TempDir()}
	identity, signing := newPair(t, nkeys.PrefixByteOperator), newPair(t, nkeys.PrefixByteOperator)
	account := func(name string, withKey bool) (*jwt.AccountClaims, pair, pair) {
		id, key := newPair(t, nkeys.PrefixByteAccount), newPair(t, nkeys.PrefixByteAccount)
		claims := jwt.NewAccountClaims(id.public)
		claims.Name = name
		if withKey {
			claims.SigningKeys.Add(key.public)
			o.putKey(t, key)
		}
		o.putKey(t, id)
		o.put(t, "stores/OP/accounts/"+name+"/"+name+".jwt", encode(t, claims, signing))
		return claims, id, key
	}
	system, _, systemKey := account("SYS", true)
	shop, _, shopKey := account("SHOP", true)
	plain, plainID, _ := account("PLAIN", false)
	o.shop, o.shopKey, o.plain, o.plainKey = shop, shopKey.seed, plain, plainID.seed

	claims := jwt.NewOperatorClaims(identity.public)
	claims.Name, claims.SystemAccount, claims.StrictSigningKeyUsage = "OP", system.Subject, strict
	claims.SigningKeys.Add(signing.public)
	token := encode(t, claims, identity)
	o.put(t, "stores/OP/OP.jwt", token)
	o.identityFile, o.operatorKey = o.putKey(t, identity), signing.seed
	o.putKey(t, signing)
	o.systemCreds, o.employeeCreds = userCreds(t, system.Subject, systemKey), userCreds(t, shop.Subject, shopKey)
	o.put(t, "keys/creds/OP/SYS/admin.creds", string(o.systemCreds))

	port := freePorts(t, 1)[0].Client
	conf := fmt.Sprintf("listen: 127.0.0.1:%d\noperator: %s\nresolver { type: full, dir: %q }\nresolver_preload {\n", port, token, t.TempDir())
	for name, c := range map[string]*jwt.AccountClaims{"SYS": system, "SHOP": shop, "PLAIN": plain} {
		conf += c.Subject + ": " + o.read(t, "stores/OP/accounts/"+name+"/"+name+".jwt") + "\n"
	}
	o.conf = o.put(t, "nats-server.conf", conf+"}\n")
	o.url = fmt.Sprintf("nats://127.0.0.1:%d", port)
	o.start(t)
	return o
}

func (o *operator) start(t *testing.T) {
	t.Helper()
	o.server = startProcess(t, o.conf)
	eventually(t, func() error {
		nc, err := nats.Connect(o.url, nats.UserCredentialBytes(o.systemCreds))
		if err == nil {
			nc.Close()
		}
		return err
	})
}

func (o *operator) read(t *testing.T, path string) string {
	t.Helper()
	content, err := os.ReadFile(filepath.Join(o.store, path))
	if err != nil {
		t.Fatal(err)
	}
	return string(content)
}

// install does what the instructions say: push the accounts, include the lines, reload.
func (o *operator) install(t *testing.T, dir string, a *setup.Addition) {
	t.Helper()
	system := connect(t, o.url, nats.UserCredentialBytes(o.systemCreds))
	for _, account := range []setup.Account{a.Callout, a.Lobby} {
		token, err := os.ReadFile(filepath.Join(dir, "accounts", account.Name+".jwt"))
		if err != nil {
			t.Fatal(err)
		}
		if got := answer(t, system, "$SYS.REQ.CLAIMS.UPDATE", strings.TrimSpace(string(token))); !strings.Contains(got, `"code":200`) {
			t.Fatalf("push of %s: %s", account.Name, got)
		}
	}
	o.put(t, "nats-server-additions.conf", a.ServerLines())
	o.put(t, "nats-server.conf", o.read(t, "nats-server.conf")+"include \"./nats-server-additions.conf\"\n")
	o.reload(t)
}

// reload makes the server read its configuration again, and returns when it has done so:
// a connection made meanwhile may be authenticated against half of each.
func (o *operator) reload(t *testing.T) {
	t.Helper()
	system := connect(t, o.url, nats.UserCredentialBytes(o.systemCreds))
	loaded := func() (at time.Time) {
		var varz struct {
			Data struct {
				ConfigLoadTime time.Time `json:"config_load_time"`
			}
		}
		if err := json.Unmarshal([]byte(answer(t, system, "$SYS.REQ.SERVER.PING.VARZ", "")), &varz); err != nil {
			t.Fatal(err)
		}
		return varz.Data.ConfigLoadTime
	}
	before := loaded()
	if err := o.server.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	eventually(t, func() error {
		if !loaded().After(before) {
			return errors.New("the server has not read its configuration again")
		}
		return nil
	})
}

// TestInto enters an operator set-up from its store alone, and goes back.
func TestInto(t *testing.T) {
	t.Parallel()
	for _, strict := range []bool{false, true} {
		t.Run(fmt.Sprintf("strict=%t", strict), func(t *testing.T) {
			t.Parallel()
			o := newOperator(t, strict)
			employee := connect(t, o.url, nats.UserCredentialBytes(o.employeeCreds))
			if nc, err := nats.Connect(o.url, nats.Token("good"), nats.NoReconnect()); err == nil {
				nc.Close()
				t.Fatal("a token was accepted before")
			}
			before := snapshot(t, o.store)
			a, err := setup.Into(setup.IntoOptions{Store: o.store, URL: o.url, NoXKey: strict})
			if err != nil {
				t.Fatal(err)
			}
			dir := filepath.Join(t.TempDir(), "gatehouse")
			if err := a.Write(dir); err != nil {
				t.Fatal(err)
			}
			if !equal(before, snapshot(t, o.store)) {
				t.Error("the store has changed")
			}
			o.install(t, dir, a)

			shop := keys{o.url, creds(a.CalloutCreds), a.Callout.SigningKey, a.XKey, o.shop.Subject, o.shopKey, false}
			answerLogins(t, shop)
			if got := accountOf(t, connect(t, o.url, nats.Token("good"))); got != o.shop.Subject {
				t.Errorf("user is in %s, want SHOP %s", got, o.shop.Subject)
			}
			if got := accountOf(t, employee); got != o.shop.Subject {
				t.Errorf("the connection from before is in %s", got)
			}
			connect(t, o.url, nats.UserCredentialBytes(o.employeeCreds))

			doc, _ := keysOfYAML(t, a.ServiceConfig())
			accounts := doc["accounts"].(map[string]any)
			offered := accounts["SHOP"].(map[string]any)
			if content, err := os.ReadFile(strings.TrimPrefix(offered["signing_key"].(string), "file:")); err != nil || string(content) != o.shopKey {
				t.Errorf("signing key of SHOP: %v, %v", offered, err)
			}
			if creds := doc["nats"].(map[string]any)["system"].(map[string]any)["creds"]; creds != filepath.Join(o.store, "keys/creds/OP/SYS/admin.creds") {
				t.Errorf("system creds %v", creds)
			}
			operator, _ := doc["operator"].(map[string]any)
			named, _ := operator["signing_key"].(string)
			if content, err := os.ReadFile(strings.TrimPrefix(named, "file:")); err != nil || string(content) != o.operatorKey {
				t.Errorf("signing key of the operator: %v, %v", operator, err)
			}
			_, has := accounts["PLAIN"]
			if has == strict || (len(a.LeftOut) == 1) != strict || accounts["SYS"] != nil {
				t.Errorf("accounts %v, left out %v", accounts, a.LeftOut)
			}

			// And back.
			o.put(t, "nats-server-additions.conf", "")
			o.reload(t)
			if nc, err := nats.Connect(o.url, nats.Token("good"), nats.NoReconnect()); !errors.Is(err, nats.ErrAuthorization) {
				nc.Close()
				t.Errorf("token after going back: got %v, want a refusal", err)
			}
			if employee.Status() != nats.CONNECTED {
				t.Errorf("the connection from before is %s", employee.Status())
			}
			connect(t, o.url, nats.UserCredentialBytes(o.employeeCreds))
			if err := a.Write(dir); !errors.Is(err, setup.ErrExists) {
				t.Errorf("second write: got %v", err)
			}
		})
	}
}

// The identity of an operator signs what init makes, and is not named to the service: it belongs offline.
func TestIntoNamesNoOperatorIdentity(t *testing.T) {
	t.Parallel()
	o := newOperator(t, false)
	a, err := setup.Into(setup.IntoOptions{Store: o.store, OperatorKey: o.identityFile})
	if err != nil {
		t.Fatal(err)
	}
	text := a.ServiceConfig()
	if doc, _ := keysOfYAML(t, text); doc["operator"] != nil || strings.Contains(text, o.identityFile) {
		t.Errorf("operator %v", doc["operator"])
	}
	if full, _ := keysOfYAML(t, example.ReplaceAllString(text, "$1$2")); full["operator"].(map[string]any)["signing_key"] == nil {
		t.Error("what to add later is not shown")
	}
}

// TestIntoWithIdentityKey shows that an account without a signing key, such as nats auth
// makes, takes users all the same.
func TestIntoWithIdentityKey(t *testing.T) {
	t.Parallel()
	o := newOperator(t, false)
	a, err := setup.Into(setup.IntoOptions{Store: o.store, URL: o.url})
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(t.TempDir(), "gatehouse")
	if err := a.Write(dir); err != nil {
		t.Fatal(err)
	}
	o.install(t, dir, a)
	answerLogins(t, keys{o.url, creds(a.CalloutCreds), a.Callout.SigningKey, a.XKey, o.plain.Subject, o.plainKey, false})
	if got := accountOf(t, connect(t, o.url, nats.Token("good"))); got != o.plain.Subject {
		t.Errorf("user is in %s, want PLAIN %s", got, o.plain.Subject)
	}
}

// TestIntoMemoryResolver follows the instructions for servers that keep accounts in memory.
func TestIntoMemoryResolver(t *testing.T) {
	t.Parallel()
	o := newOperator(t, true)
	a, err := setup.Into(setup.IntoOptions{Store: o.store})
	if err != nil {
		t.Fatal(err)
	}
	if err := o.server.Kill(); err != nil {
		t.Fatal(err)
	}
	if _, err := o.server.Wait(); err != nil {
		t.Fatal(err)
	}
	conf := regexp.MustCompile(`resolver \{ type: full.*`).ReplaceAllString(o.read(t, "nats-server.conf"), "resolver: MEMORY")
	conf = strings.Replace(conf, "resolver_preload {\n", "resolver_preload {\n"+a.PreloadLines(), 1)
	o.put(t, "nats-server.conf", conf+a.ServerLines())
	o.start(t)
	answerLogins(t, keys{o.url, creds(a.CalloutCreds), a.Callout.SigningKey, a.XKey, o.shop.Subject, o.shopKey, false})
	if got := accountOf(t, connect(t, o.url, nats.Token("good"))); got != o.shop.Subject {
		t.Errorf("user is in %s, want SHOP %s", got, o.shop.Subject)
	}
}

// TestIntoByFiles names each file and uses no store.
func TestIntoByFiles(t *testing.T) {
	t.Parallel()
	o := newOperator(t, true)
	token := o.read(t, "stores/OP/OP.jwt")
	claims, err := jwt.DecodeOperatorClaims(token)
	if err != nil {
		t.Fatal(err)
	}
	keyFile := func(public string) string {
		return filepath.Join(o.store, "keys/keys", public[:1], public[1:3], public+".nk")
	}
	other, stranger := newPair(t, nkeys.PrefixByteAccount), newPair(t, nkeys.PrefixByteOperator)
	foreign := jwt.NewAccountClaims(other.public)
	foreign.Name = "FOREIGN"
	scoped := newPair(t, nkeys.PrefixByteAccount)
	shopJWT := filepath.Join(o.store, "stores/OP/accounts/SHOP/SHOP.jwt")
	shopKey := o.put(t, "shop.nk", o.shopKey)
	good := func() setup.IntoOptions {
		return setup.IntoOptions{
			OperatorJWT: filepath.Join(o.store, "stores/OP/OP.jwt"),
			OperatorKey: keyFile(claims.SigningKeys[0]),
			SystemCreds: filepath.Join(o.store, "keys/creds/OP/SYS/admin.creds"),
			Accounts:    []setup.ExistingAccount{{JWT: shopJWT, SigningKey: shopKey}},
		}
	}
	a, err := setup.Into(good())
	if err != nil {
		t.Fatal(err)
	}
	callout, err := jwt.DecodeAccountClaims(a.Callout.JWT)
	if err != nil {
		t.Fatal(err)
	}
	if callout.Issuer != claims.SigningKeys[0] || !callout.Authorization.AllowedAccounts.Contains(o.shop.Subject) || len(callout.Authorization.AllowedAccounts) != 2 {
		t.Errorf("callout account: issuer %s, allowed %v", callout.Issuer, callout.Authorization.AllowedAccounts)
	}
	self := good()
	self.SelfService = true
	if a, err = setup.Into(self); err != nil {
		t.Fatal(err)
	}
	if callout, err = jwt.DecodeAccountClaims(a.Callout.JWT); err != nil || len(callout.Authorization.AllowedAccounts) != 1 || !callout.Authorization.AllowedAccounts.Contains(jwt.AnyAccount) {
		t.Errorf("for accounts of sign-up: allowed %v, %v", callout.Authorization.AllowedAccounts, err)
	}
	if text := a.Instructions("/srv"); !strings.Contains(text, "Accounts of sign-up need `plans`") || !strings.Contains(a.ServiceConfig(), "seal: { key: file:keys/seal.key }") {
		t.Errorf("for accounts of sign-up: %s\n%s", text, a.ServiceConfig())
	}

	for name, c := range map[string]struct {
		change func(*setup.IntoOptions)
		says   string
	}{
		"nothing named":        {func(i *setup.IntoOptions) { i.OperatorJWT = "" }, "name the operator's JWT"},
		"no operator JWT":      {func(i *setup.IntoOptions) { i.OperatorJWT = shopJWT }, "not the JWT of an operator"},
		"missing file":         {func(i *setup.IntoOptions) { i.OperatorJWT += "x" }, "no such file"},
		"no key":               {func(i *setup.IntoOptions) { i.OperatorKey = "" }, "name the file of a key"},
		"stranger's key":       {func(i *setup.IntoOptions) { i.OperatorKey = o.put(t, "s.nk", stranger.seed) }, "neither the identity nor a signing key"},
		"identity of strict":   {func(i *setup.IntoOptions) { i.OperatorKey = keyFile(claims.Subject) }, "accepts signing keys only"},
		"account key":          {func(i *setup.IntoOptions) { i.OperatorKey = shopKey }, "another kind"},
		"no seed":              {func(i *setup.IntoOptions) { i.OperatorKey = shopJWT }, "no nkeys seed"},
		"no system creds":      {func(i *setup.IntoOptions) { i.SystemCreds = "" }, "system account"},
		"creds of SHOP":        {func(i *setup.IntoOptions) { i.SystemCreds = o.put(t, "e.creds", string(o.employeeCreds)) }, "belongs to account"},
		"the system account":   {func(i *setup.IntoOptions) { i.Accounts[0].JWT = strings.ReplaceAll(shopJWT, "SHOP", "SYS") }, "nobody is placed"},
		"another operator's":   {func(i *setup.IntoOptions) { i.Accounts[0].JWT = o.put(t, "f.jwt", encode(t, foreign, stranger)) }, "no key of operator"},
		"no signing key":       {func(i *setup.IntoOptions) { i.Accounts[0].SigningKey = "" }, "add a signing key"},
		"another account's":    {func(i *setup.IntoOptions) { i.Accounts[0].SigningKey = o.put(t, "o.nk", scoped.seed) }, "may not sign"},
		"no store":             {func(i *setup.IntoOptions) { i.Store = t.TempDir() }, "no folder stores"},
		"no such operator":     {func(i *setup.IntoOptions) { i.Store, i.Operator = o.store, "X" }, "no operator"},
		"bad listen addresses": {func(i *setup.IntoOptions) { i.HTTP = "x" }, "listen address"},
	} {
		options := good()
		c.change(&options)
		_, err := setup.Into(options)
		if err == nil || !strings.Contains(err.Error(), c.says) || (!errors.Is(err, setup.ErrExisting) && !errors.Is(err, setup.ErrOptions)) {
			t.Errorf("%s: got %v, want an error that says %q", name, err, c.says)
		}
		for _, secret := range []string{o.shopKey, stranger.seed, scoped.seed} {
			if err != nil && strings.Contains(err.Error(), secret) {
				t.Errorf("%s: the error holds a seed", name)
			}
		}
	}
}

// TestIntoTakenNames shows that an account named like one of ours is no obstacle.
func TestIntoTakenNames(t *testing.T) {
	t.Parallel()
	o := newOperator(t, true)
	mine := strings.ReplaceAll("stores/OP/accounts/AUTH/AUTH.jwt", "/", string(filepath.Separator))
	o.put(t, mine, o.read(t, "stores/OP/accounts/SHOP/SHOP.jwt"))
	a, err := setup.Into(setup.IntoOptions{Store: o.store})
	if err != nil {
		t.Fatal(err)
	}
	if a.Callout.Name != "AUTH" { // the name in the claims counts, not the file's
		t.Errorf("callout account is named %s", a.Callout.Name)
	}
	claims := jwt.NewAccountClaims(newPair(t, nkeys.PrefixByteAccount).public)
	claims.Name = "AUTH"
	o.put(t, mine, encode(t, claims, newPair(t, nkeys.PrefixByteOperator)))
	if a, err = setup.Into(setup.IntoOptions{Store: o.store}); err != nil || a.Callout.Name != "GATEHOUSE_AUTH" {
		t.Errorf("callout account is named %s, %v", a.Callout.Name, err)
	}
	if text := a.Instructions("/srv/gate house"); !strings.Contains(text, "cd '/srv/gate house'") || !strings.Contains(text, "- AUTH: it is signed by") {
		t.Errorf("instructions:\n%s", text)
	}
}
