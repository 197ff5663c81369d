package config

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nkeys"
)

// testKey returns the key of that kind that belongs to a name, the same in every run.
func testKey(t testing.TB, prefix nkeys.PrefixByte, name string) (seed, public string) {
	t.Helper()
	raw := sha256.Sum256([]byte(name))
	encoded, err := nkeys.EncodeSeed(prefix, raw[:])
	if err != nil {
		t.Fatal(err)
	}
	kp, err := nkeys.FromSeed(encoded)
	if err != nil {
		t.Fatal(err)
	}
	if public, err = kp.PublicKey(); err != nil {
		t.Fatal(err)
	}
	return string(encoded), public
}

// testCreds returns the creds of a user of the account that belongs to a name, who may do everything.
func testCreds(t testing.TB, account string) string {
	t.Helper()
	return limitedCreds(t, account, jwt.Permissions{})
}

// limitedCreds is [testCreds] of a user with permissions.
func limitedCreds(t testing.TB, account string, p jwt.Permissions) string {
	t.Helper()
	accountSeed, _ := testKey(t, nkeys.PrefixByteAccount, account)
	userSeed, user := testKey(t, nkeys.PrefixByteUser, account+" user")
	signer, err := nkeys.FromSeed([]byte(accountSeed))
	if err != nil {
		t.Fatal(err)
	}
	claims := jwt.NewUserClaims(user)
	claims.Permissions = p
	token, err := claims.Encode(signer)
	if err != nil {
		t.Fatal(err)
	}
	creds, err := jwt.FormatUserConfig(token, []byte(userSeed))
	if err != nil {
		t.Fatal(err)
	}
	return string(creds)
}

func testCertificate(t testing.TB) string {
	t.Helper()
	certificate, _ := testPair(t)
	return certificate
}

// testPair returns a certificate and its private key.
func testPair(t testing.TB) (certificate, private string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})), string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8}))
}

// fixture is a folder with what configurations name.
type fixture struct {
	testing.TB
	dir   string
	names *strings.Replacer // of keys, such as $APP
}

func newFixture(t testing.TB) *fixture {
	t.Helper()
	f := &fixture{TB: t, dir: t.TempDir()}
	appSeed, app := testKey(t, nkeys.PrefixByteAccount, "app")
	_, other := testKey(t, nkeys.PrefixByteAccount, "other")
	calloutSeed, callout := testKey(t, nkeys.PrefixByteAccount, "callout")
	_, system := testKey(t, nkeys.PrefixByteAccount, "system")
	userSeed, user := testKey(t, nkeys.PrefixByteUser, "user")
	curveSeed, _ := testKey(t, nkeys.PrefixByteCurve, "curve")
	newSeed, _ := testKey(t, nkeys.PrefixByteAccount, "app new")
	operatorSeed, _ := testKey(t, nkeys.PrefixByteOperator, "operator")
	f.names = strings.NewReplacer("$APPSEED", appSeed, "$USERSEED", userSeed, "$APP", app, "$OTHER", other,
		"$CALLOUT", callout, "$SYSTEM", system, "$USER", user)
	f.write("keys/app.nk", appSeed+"\n")
	f.write("keys/app-new.nk", "-----BEGIN NATS ACCOUNT SEED-----\n"+newSeed+"\n------END NATS ACCOUNT SEED------\n")
	f.write("keys/callout.nk", calloutSeed)
	f.write("keys/callout.xk", curveSeed)
	f.write("keys/user.nk", userSeed)
	for _, role := range []string{"worker", "homeless", "lost", "tags"} {
		seed, _ := testKey(t, nkeys.PrefixByteAccount, "scoped "+role)
		f.write("keys/"+role+".nk", seed)
	}
	f.write("keys/operator.nk", operatorSeed)
	f.write("keys/damaged.nk", appSeed[:57]+"A")
	f.write("keys/empty.nk", "")
	f.write("keys/seal.key", "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=\n")
	f.write("keys/portal.secret", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\n")
	f.write("creds/callout.creds", testCreds(t, "callout"))
	f.write("creds/system.creds", testCreds(t, "system"))
	f.write("creds/torn.creds", testCreds(t, "system")[:300])
	f.write("creds/mixed.creds", mixedCreds(t))
	f.write("ca.pem", testCertificate(t))
	certificate, private := testPair(t)
	_, foreign := testPair(t)
	f.write("cert.pem", certificate)
	f.write("key.pem", private)
	f.write("other.pem", foreign)
	f.writeKeys()
	return f
}

// mixedCreds returns creds with the seed of somebody else.
func mixedCreds(t testing.TB) string {
	jwtPart, _, _ := strings.Cut(testCreds(t, "system"), "-----BEGIN USER")
	_, seedPart, _ := strings.Cut(testCreds(t, "callout"), "-----BEGIN USER")
	return jwtPart + "-----BEGIN USER" + seedPart
}

// write writes a file below the fixture's folder, with mode 0600, and returns its path.
func (f *fixture) write(name, content string) string {
	f.Helper()
	path := filepath.Join(f.dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		f.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		f.Fatal(err)
	}
	return path
}

// yaml writes gatehouse.yaml and returns its path.
func (f *fixture) yaml(content string) string {
	f.Helper()
	return f.write("gatehouse.yaml", f.names.Replace(content))
}

// load loads content as gatehouse.yaml.
func (f *fixture) load(content string, env ...string) (*Config, error) {
	f.Helper()
	for i := range env {
		env[i] = f.names.Replace(env[i])
	}
	return Load(f.yaml(content), env)
}

// mustLoad is load for what must be valid.
func (f *fixture) mustLoad(content string, env ...string) *Config {
	f.Helper()
	c, err := f.load(content, env...)
	if err != nil {
		f.Fatalf("load:\n%s", err)
	}
	return c
}

// relative returns a text with paths below the fixture's folder made relative.
func (f *fixture) relative(s string) string { return strings.ReplaceAll(s, f.dir+"/", "") }

// connected is the part of a configuration that every valid one needs.
const connected = `
nats:
  callout: { creds: creds/callout.creds, signing_key: keys/callout.nk }
  system: { creds: creds/system.creds }
`

// small is a complete configuration.
const small = connected + `
issuers:
  - { name: corp, url: "https://login.example.com", audiences: [nats] }
accounts:
  APP: { id: $APP, signing_key: keys/app.nk }
roles:
  app: { publish: { allow: ["app.>"] } }
bindings:
  - { name: developers, issuer: corp, match: { groups: dev }, grant: { account: APP, role: app } }
`
