package setup_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/gatehouse-nats/gatehouse/internal/setup"
)

// TestConfigModeSetWorks runs what init writes for servers without operator, unedited: logins
// land in the application account, everybody else stays out, and the users of the files need
// no Gatehouse.
func TestConfigModeSetWorks(t *testing.T) {
	for _, c := range []struct {
		servers       int
		process, xkey bool
	}{
		{1, true, true}, {1, false, false}, {3, false, true},
	} {
		t.Run(fmt.Sprintf("servers=%d,process=%t,xkey=%t", c.servers, c.process, c.xkey), func(t *testing.T) {
			t.Parallel()
			set, dir := written(t, setup.Options{ConfigMode: true, Servers: c.servers, NoXKey: !c.xkey})
			start(t, set, dir, c.servers, c.process)
			checkFileUsers(t, set, c.servers)
			answerLogins(t, keysOf(set))
			nc := connect(t, set.ClientURL(), nats.Token("good"+strings.Repeat("x", 16<<10)))
			if got := accountOf(t, nc); got != "APP" {
				t.Errorf("user is in %s, want APP", got)
			}
			stranger, _ := setup.New(setup.Options{ConfigMode: true})
			for name, opts := range map[string][]nats.Option{
				"bad token":         {nats.Token("bad")},
				"no token":          {},
				"a key of somebody": {nkey(stranger.Users.EmergencySystem)},
			} {
				if nc, err := nats.Connect(set.ClientURL(), append(opts, nats.NoReconnect())...); !errors.Is(err, nats.ErrAuthorization) {
					nc.Close()
					t.Errorf("%s: got %v, want a refusal", name, err)
				}
			}
		})
	}
}

func checkFileUsers(t *testing.T, set *setup.Set, servers int) {
	t.Helper()
	nc := connect(t, set.ClientURL(), nkey(set.Users.EmergencyApp))
	if got := accountOf(t, nc); got != "APP" {
		t.Errorf("emergency user is in %s, want APP", got)
	}
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, func() error { // a new cluster elects its leaders first
		_, err := js.CreateStream(t.Context(), jetstream.StreamConfig{Name: "S", Subjects: []string{"app.s"}, Replicas: servers})
		return err
	})
	denied := make(chan error, 1)
	system := connect(t, set.ClientURL(), nkey(set.Users.System), nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) {
		select {
		case denied <- err:
		default:
		}
	}))
	if got := len(gather(t, system, "$SYS.REQ.SERVER.PING.STATSZ", nil, servers)); got != servers {
		t.Errorf("%d of %d servers answer Gatehouse", got, servers)
	}
	if err := system.Publish("$SYS.REQ.SERVER.PING.PROFILEZ", nil); err != nil {
		t.Fatal(err)
	}
	if err := <-denied; !errors.Is(err, nats.ErrPermissionViolation) {
		t.Errorf("what Gatehouse has no use for: %v, want a permissions violation", err)
	}
}

// TestConfigModeFiles shows what such a set-up consists of, and that nothing in it is of an operator.
func TestConfigModeFiles(t *testing.T) {
	t.Parallel()
	set, dir := written(t, setup.Options{ConfigMode: true, NoJetStream: true})
	for _, file := range []string{
		"gatehouse.yaml", "nats-server.conf", "keys/callout.nk", "keys/callout.xk", "keys/service.nk", "keys/system.nk",
		"offline/README.md", "offline/emergency-system.nk", "offline/emergency-app.nk",
	} {
		content, err := os.ReadFile(filepath.Join(dir, filepath.FromSlash(file)))
		if err != nil {
			t.Error(err)
		}
		if strings.Contains(string(content), "operator:") || strings.Contains(string(content), "sentinel:") {
			t.Errorf("%s is of a set-up with an operator:\n%s", file, content)
		}
	}
	for _, folder := range []string{"creds", "jwt", "jetstream"} {
		if _, err := os.Stat(filepath.Join(dir, folder)); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("folder %s: %v, want none", folder, err)
		}
	}
	if next := set.NextSteps(dir); !strings.Contains(next, "every client to the callout") || !strings.Contains(next, "auth_users") {
		t.Errorf("the next steps do not say who is affected:\n%s", next)
	}
}
