package natsfacts

import (
	"strings"
	"testing"

	"github.com/nats-io/nats.go"
)

// Fact: the whole CONNECT line, sentinel and token included, is bounded by
// max_control_line, 4096 bytes by default; beyond it the client is refused before any
// callout. init writes 65536, and Gatehouse accepts tokens up to 16 KiB.
func TestControlLineBoundsToken(t *testing.T) {
	t.Parallel()
	raised := newPrivate(t)
	raised.startServer(t, raised.config("raised", t.TempDir(), false)+"max_control_line: 65536\n")
	const refused = "nats: maximum control line exceeded"
	for _, tc := range []struct {
		name  string
		d     *deployment
		bytes int
		want  string // the error, empty for a login
	}{
		{"default, short", onOneServer(t), 3000, ""},
		{"default, long", onOneServer(t), 4096, refused},
		{"raised, 16 KiB", raised, 16 << 10, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			app := tc.d.newAccount(t, "APP")
			c := tc.d.newCallout(t)
			c.answerWith(c.admit(app))
			token := strings.Repeat("x", tc.bytes)
			_, err := c.dial(t, nats.Token(token))
			if tc.want != "" {
				if err == nil || err.Error() != tc.want {
					t.Errorf("connect error = %v, want %s", err, tc.want)
				}
				return
			}
			check(t, err)
			if got := c.seen()[0].ConnectOptions.Token; got != token {
				t.Errorf("service saw a token of %d bytes, want %d", len(got), tc.bytes)
			}
		})
	}
}

// Fact: headers, and all other CONNECT fields than these, do not reach the service. The
// account wish therefore travels in user or in the token envelope.
func TestConnectFieldsThatReachTheService(t *testing.T) {
	t.Parallel()
	d := onOneServer(t)
	app := d.newAccount(t, "APP")
	c := d.newCallout(t)
	c.answerWith(c.admit(app))
	c.login(t, nats.Name("probe"), nats.Token("token"))
	c.login(t, nats.UserInfo("account:APP", "password"))
	seen := c.seen()
	first, second := seen[0].ConnectOptions, seen[1].ConnectOptions
	if first.Name != "probe" || first.Token != "token" || first.JWT != c.sentinel || first.Lang != "go" {
		t.Errorf("token login arrived as %+v", first)
	}
	if second.Username != "account:APP" || second.Password != "password" {
		t.Errorf("user login arrived as %+v", second)
	}
}
