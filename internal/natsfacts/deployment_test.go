package natsfacts

import (
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"
)

// deployment is an operator, its system account and the servers that trust it.
type deployment struct {
	signer      nkeys.KeyPair // the operator's signing key, which signs the claims of accounts
	operatorJWT string
	system      *account
	systemJWT   string
	servers     []*server.Server
	admin       *nats.Conn // a system account user on the first server
}

// newPrivate makes an operator for a test that starts servers of its own.
func newPrivate(t *testing.T) *deployment {
	t.Helper()
	d, err := newOperator()
	check(t, err)
	return d
}

// newDeployment makes an operator and starts n servers with full resolvers below folder.
func newDeployment(folder string, n int) (*deployment, error) {
	d, err := newOperator()
	if err != nil {
		return nil, err
	}
	for i := range n {
		s, err := runServer(d.config(fmt.Sprintf("s%d", i), filepath.Join(folder, fmt.Sprint(i)), n > 1))
		if err != nil {
			d.stop()
			return nil, err
		}
		d.servers = append(d.servers, s)
	}
	if d.admin, err = d.connectAdmin(); err != nil {
		d.stop()
		return nil, err
	}
	if err := d.awaitServers(); err != nil {
		d.stop()
		return nil, err
	}
	return d, nil
}

// newOperator makes a deployment without servers.
func newOperator() (*deployment, error) {
	identity, err := nkeys.CreateOperator()
	if err != nil {
		return nil, err
	}
	signer, err := nkeys.CreateOperator()
	if err != nil {
		return nil, err
	}
	system, err := makeAccount("SYS")
	if err != nil {
		return nil, err
	}
	claims := jwt.NewOperatorClaims(public(identity))
	claims.SystemAccount = system.id
	claims.SigningKeys.Add(public(signer))
	operatorJWT, err := claims.Encode(identity)
	if err != nil {
		return nil, err
	}
	systemJWT, err := system.claims.Encode(signer)
	if err != nil {
		return nil, err
	}
	return &deployment{signer: signer, operatorJWT: operatorJWT, system: system, systemJWT: systemJWT}, nil
}

// config is the configuration file of a server with a full resolver that is preloaded
// with the system account and the tokens.
func (d *deployment) config(name, folder string, clustered bool, preload ...string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "server_name: %q\n%s", name, d.trust(preload...))
	fmt.Fprintf(&b, "resolver { type: full, dir: %q, allow_delete: true, interval: \"10s\" }\n", folder)
	if !clustered {
		return b.String()
	}
	b.WriteString("cluster { name: facts, listen: \"127.0.0.1:-1\"")
	if len(d.servers) > 0 {
		fmt.Fprintf(&b, ", routes: [\"nats://%s\"]", d.servers[0].ClusterAddr())
	}
	b.WriteString(" }\n")
	return b.String()
}

// trust is the part of a configuration that names the operator and preloads the system
// account and the tokens.
func (d *deployment) trust(preload ...string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "operator: %s\nresolver_preload {\n", d.operatorJWT)
	for _, token := range append(preload, d.systemJWT) {
		claims, err := jwt.DecodeAccountClaims(token)
		if err != nil {
			panic(err)
		}
		fmt.Fprintf(&b, "  %s: %s\n", claims.Subject, token)
	}
	b.WriteString("}\n")
	return b.String()
}

// runServer runs a server with the configuration, on a random port of the loopback
// interface.
func runServer(config string) (*server.Server, error) {
	opts := &server.Options{}
	if err := opts.ProcessConfigString("listen: \"127.0.0.1:-1\"\n" + config); err != nil {
		return nil, err
	}
	opts.NoLog, opts.NoSigs = true, true
	s, err := server.NewServer(opts)
	if err != nil {
		return nil, err
	}
	s.Start()
	if !s.ReadyForConnections(patience) {
		s.Shutdown()
		return nil, errors.New("nats-server does not accept connections")
	}
	return s, nil
}

// startServer runs a server for one test and makes it the deployment's only one.
func (d *deployment) startServer(t *testing.T, config string) *server.Server {
	t.Helper()
	s, err := runServer(config)
	check(t, err)
	d.servers = []*server.Server{s}
	t.Cleanup(d.stop)
	d.admin, err = d.connectAdmin()
	check(t, err)
	return s
}

func (d *deployment) connectAdmin() (*nats.Conn, error) {
	option, err := d.system.direct(d.system.user("admin"))
	if err != nil {
		return nil, err
	}
	return nats.Connect(d.servers[0].ClientURL(), option, nats.Timeout(patience))
}

// awaitServers waits until each server counts all servers of the deployment as active.
func (d *deployment) awaitServers() error {
	return poll(func() error {
		for _, s := range d.servers {
			msg, err := d.admin.Request(fmt.Sprintf("$SYS.REQ.SERVER.%s.STATSZ", s.ID()), nil, patience)
			if err != nil {
				return err
			}
			var reply server.ServerStatsMsg
			if err := json.Unmarshal(msg.Data, &reply); err != nil {
				return err
			}
			if got := reply.Stats.ActiveServers; got != len(d.servers) {
				return fmt.Errorf("server %s counts %d active servers, want %d", s.Name(), got, len(d.servers))
			}
		}
		return nil
	})
}

// stop stops the servers and waits for their end; it may be called again.
func (d *deployment) stop() {
	if d.admin != nil {
		d.admin.Close()
	}
	for _, s := range d.servers {
		s.Shutdown()
		s.WaitForShutdown()
	}
}

// ask sends a request to the system account and returns the replies of n servers.
func (d *deployment) ask(t *testing.T, subject string, body any, n int) []*nats.Msg {
	t.Helper()
	inbox := d.admin.NewInbox()
	sub, err := d.admin.SubscribeSync(inbox)
	check(t, err)
	defer sub.Unsubscribe()
	check(t, d.admin.PublishRequest(subject, inbox, encode(t, body)))
	replies := make([]*nats.Msg, 0, n)
	for range n {
		msg, err := sub.NextMsg(patience)
		if err != nil {
			t.Fatalf("%s: %d of %d replies: %v", subject, len(replies), n, err)
		}
		replies = append(replies, msg)
	}
	return replies
}

// askOne sends a request to the system account and decodes the one reply into v.
func (d *deployment) askOne(t *testing.T, subject string, body, v any) {
	t.Helper()
	decode(t, d.ask(t, subject, body, 1)[0].Data, v)
}

// foreignServer is the id of a server that does not exist.
var foreignServer = func() string {
	key, err := nkeys.CreateServer()
	if err != nil {
		panic(err)
	}
	return public(key)
}()

// ids are the ids of the servers.
func (d *deployment) ids() []string {
	ids := make([]string, len(d.servers))
	for i, s := range d.servers {
		ids[i] = s.ID()
	}
	return ids
}

// push has every server store the account's claims.
func (d *deployment) push(t *testing.T, a *account) {
	t.Helper()
	if _, refusals := d.update(t, d.signed(t, a)); refusals != nil {
		t.Fatalf("push of %s: %q", a.claims.Name, refusals)
	}
}

// signed is the account's claims as a JWT by the operator's signing key.
func (d *deployment) signed(t *testing.T, a *account) string {
	t.Helper()
	token, err := a.claims.Encode(d.signer)
	check(t, err)
	return token
}

// update pushes a JWT and returns the messages of the servers that stored it, and the
// errors of those that did not.
func (d *deployment) update(t *testing.T, token string) (messages, refusals []string) {
	t.Helper()
	for _, msg := range d.ask(t, "$SYS.REQ.CLAIMS.UPDATE", token, len(d.servers)) {
		var reply server.ServerAPIClaimUpdateResponse
		decode(t, msg.Data, &reply)
		if reply.Error != nil {
			refusals = append(refusals, reply.Error.Description)
			continue
		}
		messages = append(messages, fmt.Sprintf("%d %s", reply.Data.Code, reply.Data.Message))
	}
	return messages, refusals
}

// subscribe listens to a subject of the system account on the first server.
func (d *deployment) subscribe(t *testing.T, subject string) *nats.Subscription {
	t.Helper()
	return subscribe(t, d.admin, subject)
}
