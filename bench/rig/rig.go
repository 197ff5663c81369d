// Package rig sets up what an auth-callout service needs around it: an operator-mode
// nats-server as its own process, an OIDC issuer, and every key and credential, written
// to env.json so that any service can be started against the same world.
package rig

import (
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nkeys"
)

// Env is everything a service under test may need; adapters read it as env.json.
type Env struct {
	Dir             string `json:"dir"`
	NatsURL         string `json:"nats_url"`
	MonitorURL      string `json:"monitor_url"`
	Issuer          string `json:"issuer"`
	Audience        string `json:"audience"`
	OperatorJWT     string `json:"operator_jwt"`
	OperatorPub     string `json:"operator_pub"`
	OperatorSK      string `json:"operator_signing_seed"`
	SysAccount      string `json:"sys_account"`
	SysCreds        string `json:"sys_creds"`
	AuthAccount     string `json:"auth_account"`
	AuthAccountSeed string `json:"auth_account_seed"`
	AuthSKSeed      string `json:"auth_signing_seed"`
	ServiceCreds    string `json:"service_creds"`
	SentinelCreds   string `json:"sentinel_creds"`
	SentinelJWT     string `json:"sentinel_jwt"`
	XKeySeed        string `json:"xkey_seed"`
	AppAccount      string `json:"app_account"`
	AppAccountSeed  string `json:"app_account_seed"`
	AppSKSeed       string `json:"app_signing_seed"`
	PlainUserCreds  string `json:"plain_user_creds"`
	SlowIssuer      string `json:"slow_issuer"`    // empty without one
	MetricsListen   string `json:"metrics_listen"` // where a service may serve /metrics for Prometheus
}

// World is a running set-up: its description, the nats-server process and the issuers.
type World struct {
	Env
	cmd     *exec.Cmd
	issuer  *issuer
	foreign *issuer // nobody trusts it
	slow    *slowIssuer
}

// Options say what a world is like.
type Options struct {
	NatsServer string        // the binary
	XKey       bool          // callouts are sealed
	SlowIssuer time.Duration // how long a second issuer takes to answer; 0 means that there is none
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// FreePort returns a TCP port of the loopback address that nothing listens on right now.
func FreePort() int {
	l := must(net.Listen("tcp", "127.0.0.1:0"))
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

func seedPub(kp nkeys.KeyPair) (string, string) {
	return string(must(kp.Seed())), must(kp.PublicKey())
}

func creds(dir, name, ujwt string, kp nkeys.KeyPair) string {
	b := must(jwt.FormatUserConfig(ujwt, must(kp.Seed())))
	p := filepath.Join(dir, name+".creds")
	if err := os.WriteFile(p, b, 0o600); err != nil {
		panic(err)
	}
	return p
}

// Start builds the world in dir. It panics when something is missing: without a world there is
// nothing to measure.
func Start(dir string, o Options) *World {
	w := &World{issuer: newIssuer("nats"), foreign: newIssuer("nats")}
	e := &w.Env
	e.Dir = dir
	e.Audience = "nats"
	e.Issuer = w.issuer.listen()
	if o.SlowIssuer > 0 {
		w.slow = newSlowIssuer("nats", o.SlowIssuer)
		e.SlowIssuer = w.slow.listen()
	}

	okp := must(nkeys.CreateOperator())
	oskp := must(nkeys.CreateOperator())
	_, e.OperatorPub = seedPub(okp)
	var oskPub string
	e.OperatorSK, oskPub = seedPub(oskp)

	sysKP := must(nkeys.CreateAccount())
	_, e.SysAccount = seedPub(sysKP)
	oc := jwt.NewOperatorClaims(e.OperatorPub)
	oc.Name = "bench"
	oc.SigningKeys.Add(oskPub)
	oc.SystemAccount = e.SysAccount
	e.OperatorJWT = must(oc.Encode(okp))

	user := func(acct nkeys.KeyPair, name string, mod func(*jwt.UserClaims)) (string, nkeys.KeyPair, string) {
		ukp := must(nkeys.CreateUser())
		_, up := seedPub(ukp)
		uc := jwt.NewUserClaims(up)
		uc.Name = name
		if mod != nil {
			mod(uc)
		}
		return must(uc.Encode(acct)), ukp, up
	}

	sysClaims := jwt.NewAccountClaims(e.SysAccount)
	sysClaims.Name = "SYS"
	sysJWT := must(sysClaims.Encode(oskp))
	sj, skp, _ := user(sysKP, "sys", nil)
	e.SysCreds = creds(dir, "sys", sj, skp)

	appKP := must(nkeys.CreateAccount())
	appSK := must(nkeys.CreateAccount())
	e.AppAccountSeed, e.AppAccount = seedPub(appKP)
	var appSKPub string
	e.AppSKSeed, appSKPub = seedPub(appSK)
	appClaims := jwt.NewAccountClaims(e.AppAccount)
	appClaims.Name = "APP"
	appClaims.SigningKeys.Add(appSKPub)
	appJWT := must(appClaims.Encode(oskp))
	pj, pk, _ := user(appKP, "plain", nil)
	e.PlainUserCreds = creds(dir, "plain", pj, pk)

	authKP := must(nkeys.CreateAccount())
	e.AuthAccountSeed, e.AuthAccount = seedPub(authKP)
	authSK := must(nkeys.CreateAccount())
	var authSKPub string
	e.AuthSKSeed, authSKPub = seedPub(authSK)
	svcJWT, svcKP, svcPub := user(authKP, "service", nil)
	e.ServiceCreds = creds(dir, "service", svcJWT, svcKP)
	senJWT, senKP, _ := user(authKP, "sentinel", func(u *jwt.UserClaims) {
		u.BearerToken = true
		u.Permissions.Pub.Deny.Add(">")
		u.Permissions.Sub.Deny.Add(">")
	})
	e.SentinelJWT = senJWT
	e.SentinelCreds = creds(dir, "sentinel", senJWT, senKP)
	ac := jwt.NewAccountClaims(e.AuthAccount)
	ac.Name = "AUTH"
	ac.SigningKeys.Add(authSKPub)
	ac.Authorization.AuthUsers.Add(svcPub)
	ac.Authorization.AllowedAccounts.Add("*")
	if o.XKey {
		xkp := must(nkeys.CreateCurveKeys())
		var xp string
		e.XKeySeed, xp = seedPub(xkp)
		ac.Authorization.XKey = xp
	}
	authJWT := must(ac.Encode(oskp))

	port, mon := FreePort(), FreePort()
	e.MetricsListen = fmt.Sprintf("127.0.0.1:%d", FreePort())
	e.NatsURL = fmt.Sprintf("nats://127.0.0.1:%d", port)
	e.MonitorURL = fmt.Sprintf("http://127.0.0.1:%d", mon)
	conf := fmt.Sprintf(`
host: 127.0.0.1
port: %d
http: 127.0.0.1:%d
max_control_line: 65536
operator: %s
system_account: %s
resolver: {type: full, dir: "%s/jwt", allow_delete: true, interval: "2m"}
resolver_preload: {
  %s: %s
  %s: %s
  %s: %s
}
`, port, mon, e.OperatorJWT, e.SysAccount, dir, e.SysAccount, sysJWT, e.AuthAccount, authJWT, e.AppAccount, appJWT)
	cf := filepath.Join(dir, "nats-server.conf")
	if err := os.WriteFile(cf, []byte(conf), 0o600); err != nil {
		panic(err)
	}
	b := must(json.MarshalIndent(e, "", "  "))
	if err := os.WriteFile(filepath.Join(dir, "env.json"), b, 0o600); err != nil {
		panic(err)
	}
	w.cmd = exec.Command(o.NatsServer, "-c", cf, "-l", filepath.Join(dir, "nats-server.log"))
	if err := w.cmd.Start(); err != nil {
		panic(err)
	}
	for i := 0; ; i++ {
		c, err := net.Dial("tcp", strings.TrimPrefix(e.NatsURL, "nats://"))
		if err == nil {
			c.Close()
			break
		}
		if i > 100 {
			panic("nats-server did not start: " + err.Error())
		}
		time.Sleep(50 * time.Millisecond)
	}
	return w
}

// ServerPID returns the process id of the nats-server.
func (w *World) ServerPID() int { return w.cmd.Process.Pid }

// Stop ends the nats-server; the issuers end with the process.
func (w *World) Stop() {
	if w.cmd != nil {
		_ = w.cmd.Process.Kill()
		_, _ = w.cmd.Process.Wait()
	}
}

// Token signs an ID token for sub; extra claims are added to it or replace its own, and a nil
// one takes a claim out.
func (w *World) Token(alg, sub string, ttl time.Duration, extra map[string]any) string {
	return w.issuer.token(alg, strings.ToLower(alg), sub, ttl, extra)
}

// ForeignToken signs an ID token for sub with the given key id and a key that the issuer does not publish.
func (w *World) ForeignToken(kid, sub string, ttl time.Duration) string {
	return w.foreign.token("ES256", kid, sub, ttl, map[string]any{"iss": w.Issuer})
}

// SlowToken signs an ID token of the slow issuer for sub with the key that it has not published yet.
func (w *World) SlowToken(sub string, ttl time.Duration) string {
	return w.slow.newest(sub, ttl)
}
