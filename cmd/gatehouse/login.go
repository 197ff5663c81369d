package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/gatehouse-nats/gatehouse/api"
	"github.com/gatehouse-nats/gatehouse/internal/login"
	"github.com/gatehouse-nats/gatehouse/policy"
)

// whoamiTimeout bounds a call to the service over the network.
const whoamiTimeout = 15 * time.Second

// loginFlags say where and as which program somebody logs in.
type loginFlags struct {
	issuer   string
	clientID string
	scopes   []string
	port     int
	bindKey  bool
	admin    bool
	service  string // address of the service, which says what the configuration would
}

func (l *loginFlags) add(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVar(&l.issuer, "issuer", "", "issuer to log in to: its name in the configuration, or its URL (default: the only one that has a login)")
	f.StringVar(&l.clientID, "client-id", "", "public client to log in as (default: from the configuration)")
	f.StringSliceVar(&l.scopes, "scope", nil, "scopes to ask for (default: profile, email, groups, offline_access)")
	f.IntVar(&l.port, "port", 0, "port for the browser's return, for issuers that demand a fixed one")
}

// addBindKey is for the commands that log somebody in.
func (l *loginFlags) addBindKey(cmd *cobra.Command) {
	cmd.Flags().BoolVar(&l.bindKey, "bind-key", false, "bind the token to a key that stays on this machine (default: from the configuration)")
}

// loginClient returns the client of the issuer that the flags and the configuration name, or in its place the service
// that they name. Both may be missing: whoever logs in elsewhere gives the issuer and the client.
func (c *cli) loginClient(ctx context.Context, l loginFlags) (*login.Client, error) {
	if l.admin && l.bindKey {
		return nil, fmt.Errorf("%w: --bind-key does not go with --admin: a call cannot prove that it holds a key, and such a token gives no rights", errUsage)
	}
	conf := login.Config{Issuer: l.issuer, ClientID: l.clientID, Scopes: l.scopes, Port: l.port, BindKey: l.bindKey}
	if dir := c.getenv("GATEHOUSE_HOME"); dir != "" {
		conf.Dir = dir
	}
	if !strings.Contains(l.issuer, "://") || l.clientID == "" {
		known, err := c.knownIssuers(ctx, l.service)
		if err != nil {
			return nil, err
		}
		if err := known.choose(l, &conf); err != nil {
			return nil, err
		}
	}
	return login.New(conf)
}

func (c *cli) loginCommand() *cobra.Command {
	var l loginFlags
	var way loginWay
	var watch, account string
	var forget bool
	cmd := &cobra.Command{
		Use:   "login",
		Short: "Log in to the issuer with the browser and keep the token fresh",
		Long: `Logs in to the issuer with the browser (authorization code with PKCE) and keeps the login
in a file that only you can read; other commands renew it as needed. With --watch FILE it
stays and keeps a token file fresh, for the nats CLI and other programs.

Where the browser is on another machine, as in an SSH session, --device shows a code to
enter there instead (RFC 8628); the issuer must allow the client the device code grant. A
token that was obtained so carries no nonce and is therefore not bound to a key.

With --bind-key the token is bound to a key that is made for this login and stays on this
machine: a stolen token is of no use without it. --watch FILE writes the key to FILE.nk. Most
issuers leave the binding out when they renew a token; a login that has lost it is over, and
its token file is not replaced by one that anybody could use.

With --admin the token is one for administration: commands with --url use it, and it logs nobody in to
NATS. It comes from a client of its own, so that no program with a login of yours can administer.`,
		Example: `  gatehouse login                                # with the browser of this machine
  gatehouse login --device                       # with a code, in the browser of any device
  gatehouse login --device --watch token.jwt     # then keep the token in that file fresh
  gatehouse login --url https://gatehouse.example.com
  gatehouse login --admin                        # for gatehouse revoke --url … and the like
  gatehouse login --issuer https://login.example.com --client-id gatehouse-cli`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			client, err := c.loginClient(cmd.Context(), l)
			if err != nil {
				return err
			}
			if forget {
				return client.Logout(cmd.Context())
			}
			session, err := c.ensureLogin(cmd.Context(), client, watch == "", way)
			if err != nil {
				return err
			}
			if watch == "" {
				return c.printSession(session)
			}
			return c.watchToken(cmd.Context(), client, watch, account)
		},
	}
	l.add(cmd)
	l.addBindKey(cmd)
	way.add(cmd)
	f := cmd.Flags()
	f.BoolVar(&l.admin, "admin", false, "get a token for administration, which logs nobody in, as the client that login.admin_client_id names")
	f.StringVar(&l.service, "url", "", "address of the service, such as https://gatehouse.example.com, which names the issuers (default: the configuration)")
	f.StringVar(&watch, "watch", "", "stay, and keep the token in this file fresh")
	f.StringVar(&account, "account", "", "account to name in the watched file")
	f.BoolVar(&forget, "forget", false, "forget the login on this machine")
	return cmd
}

// loginWay is how somebody logs in.
type loginWay struct {
	device    bool
	noBrowser bool
}

func (w *loginWay) add(cmd *cobra.Command) {
	cmd.Flags().BoolVar(&w.device, "device", false, "log in with a code that you enter in a browser on any device")
	cmd.Flags().BoolVar(&w.noBrowser, "no-browser", false, "print the address only")
}

// ensureLogin returns the login that is kept, unless anew is set, or has somebody log in.
func (c *cli) ensureLogin(ctx context.Context, client *login.Client, anew bool, way loginWay) (login.Session, error) {
	if !anew {
		if _, err := client.Token(ctx); err == nil {
			return client.Session()
		}
	}
	if way.device {
		return client.LoginByDevice(ctx, c.showCode)
	}
	p := login.Prompt{
		Show: func(address string) { fmt.Fprintf(c.err, "Log in with your browser:\n\n  %s\n\n", address) },
		Device: func() {
			fmt.Fprint(c.err, "It must be a browser on this machine. With one elsewhere, stop this and add --device.\n\n")
		},
	}
	if !way.noBrowser {
		p.Browser = login.Browser()
	}
	return client.Login(ctx, p)
}

// showCode tells a person what to do on the other device.
func (c *cli) showCode(code login.DeviceCode) {
	fmt.Fprintf(c.err, "Open this in a browser, on any device:\n\n  %s\n\nand enter this code, by %s:\n\n  %s\n\n",
		code.Address, code.Expires.Local().Format(time.TimeOnly), code.UserCode)
	if code.Complete != "" {
		fmt.Fprintf(c.err, "Or open this, and compare the code:\n\n  %s\n\n", code.Complete)
	}
}

func (c *cli) printSession(s login.Session) error {
	if c.json {
		return printJSON(c.out, s)
	}
	renewed := "Log in again when it has ended: the issuer gave no refresh token."
	if s.Renewable {
		renewed = "It is renewed as needed."
	}
	if s.Key != "" {
		renewed += fmt.Sprintf("\nThe token is bound to key %s, which stays on this machine. Most issuers' renewed tokens\nare not bound any more: log in again then.", s.Key)
	}
	_, err := fmt.Fprintf(c.out, "Logged in as %s at %s until %s. %s\n", printable(s.Display), s.Issuer, when(s.Expires), renewed)
	return err
}

func (c *cli) watchToken(ctx context.Context, client *login.Client, file, account string) error {
	path, err := filepath.Abs(file)
	if err != nil {
		return err
	}
	fmt.Fprintf(c.err, "Keeping %s fresh; Ctrl-C ends it.\n", path)
	if session, err := client.Session(); err == nil && session.Key != "" {
		fmt.Fprintf(c.err, "The key that the token is bound to is in %s.\n", login.KeyFile(path))
	}
	return client.Watch(ctx, path, account, func(err error) {
		if err != nil {
			fmt.Fprintln(c.err, "gatehouse:", err)
		}
	})
}

// bearer returns the token of --token-file or $GATEHOUSE_TOKEN, else that of the login.
func (c *cli) bearer(ctx context.Context, file string, l loginFlags) (string, error) {
	if file != "" || c.getenv("GATEHOUSE_TOKEN") != "" {
		return c.token(file)
	}
	client, err := c.loginClient(ctx, l)
	if err != nil {
		return "", err
	}
	return client.Token(ctx)
}

func (c *cli) whoamiCommand() *cobra.Command {
	var l loginFlags
	var base, tokenFile string
	var req api.WhoamiRequest
	cmd := &cobra.Command{
		Use:   "whoami",
		Short: "Say what your token gets now, or why it was refused",
		Args:  noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			l.service = base
			base, err := c.serviceURL(base)
			if err != nil {
				return err
			}
			token, err := c.bearer(cmd.Context(), tokenFile, l)
			if err != nil {
				return err
			}
			client := &http.Client{Timeout: whoamiTimeout}
			out, err := post[api.Whoami](cmd.Context(), client, base, api.OpWhoami, token, req)
			if err != nil {
				return err
			}
			if err := c.printWhoami(out); err != nil {
				return err
			}
			if out.Reason == string(policy.NoBinding) && req.Account == "" && !c.json {
				c.printMemberships(cmd.Context(), client, base, token)
			}
			if !out.Allowed && !administers(out.Administration) {
				return fmt.Errorf("%w: %s", errRefused, out.Reason)
			}
			return nil
		},
	}
	l.add(cmd)
	cmd.Flags().BoolVar(&l.admin, "admin", false, "ask about the token of gatehouse login --admin")
	f := cmd.Flags()
	f.StringVar(&base, "url", "", "address of the service, such as https://gatehouse.example.com (default: http.listen of the configuration)")
	f.StringVar(&tokenFile, "token-file", "", "file with the token; - for standard input (default: $GATEHOUSE_TOKEN, then your login)")
	f.StringVar(&req.Account, "account", "", "account to ask for")
	return cmd
}

// serviceURL returns the service's address; a token must not cross a network in the clear.
func (c *cli) serviceURL(base string) (string, error) {
	if base != "" {
		if strings.HasPrefix(base, "http://") && !loopbackURL(base) {
			return "", fmt.Errorf("%w: %s would send the token in the clear: use https", errUsage, base)
		}
		return strings.TrimRight(base, "/"), nil
	}
	cfg, err := c.load()
	if err != nil {
		return "", fmt.Errorf("%w: give --url, or a configuration: %w", errUsage, err)
	}
	return cfg.HTTP.Near(), nil
}

func (c *cli) printWhoami(w api.Whoami) error {
	if c.json {
		return printJSON(c.out, w)
	}
	fmt.Fprintf(c.out, "%s (%s of %s), token until %s\n%s\n\n", w.Name, printable(w.Subject), w.IssuerURL, when(w.Identity.Expires), boundTo(w.Identity))
	if !administers(w.Administration) || w.Allowed {
		c.printDecision(w.Decision, w.Inbox)
	}
	c.printAdministration(w.Administration)
	if r := w.LastRefusal; r != nil {
		fmt.Fprintf(c.out, "\nLast refused %s: %s, request %s\n%s\n", when(r.At), r.Reason, r.RequestID, r.Message)
	}
	return nil
}

// printMemberships names the accounts of sign-up that the token lets into once one of them is named; where that cannot be
// asked it prints nothing.
func (c *cli) printMemberships(ctx context.Context, client *http.Client, base, token string) {
	page, err := post[api.AccountsPage](ctx, client, base, api.OpAccountList, token, api.AccountListRequest{})
	if err != nil || len(page.Accounts) == 0 {
		return
	}
	var names []string
	for _, a := range page.Accounts {
		names = append(names, a.Name)
	}
	fmt.Fprintf(c.out, "\nYou are a member of %s: log in as the user account:%s.\n", printable(strings.Join(names, ", ")), printable(names[0]))
}

func (c *cli) connectCommand() *cobra.Command {
	var l loginFlags
	var nc login.NATSContext
	var way loginWay
	var account string
	var replace bool
	cmd := &cobra.Command{
		Use:   "connect",
		Short: "Write a context for the nats CLI that logs in with your token",
		Long: `Writes a context for the stock nats CLI: servers, private inbox prefix, and a file with
your token, in an envelope when an account is named. The token in the file ends; run this
again, or keep the file fresh with gatehouse login --watch.`,
		Example: `  gatehouse connect --name corp --url https://gatehouse.example.com
  gatehouse connect --name corp --server tls://nats.example.com
  nats --context corp pub app.hello world`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			client, err := c.loginClient(cmd.Context(), l)
			if err != nil {
				return err
			}
			if _, err := c.ensureLogin(cmd.Context(), client, false, way); err != nil {
				return err
			}
			return c.connect(cmd.Context(), client, nc, l.service, account, replace)
		},
	}
	l.add(cmd)
	l.addBindKey(cmd)
	way.add(cmd)
	f := cmd.Flags()
	f.StringVar(&nc.Name, "name", "gatehouse", "name of the context")
	f.StringVar(&l.service, "url", "", "address of the service, such as https://gatehouse.example.com, which names issuers, servers and the sentinel (default: the configuration)")
	f.StringVar(&nc.URL, "server", "", "servers, separated by commas (default: those that --url names, or nats.url of the configuration)")
	f.StringVar(&nc.Sentinel, "sentinel", "", "creds file of the sentinel, where the servers have no default one")
	f.StringVar(&nc.CA, "tls-ca", "", "authority that the servers' certificates are verified with")
	f.StringVar(&account, "account", "", "account to name, for identities that are granted several")
	f.BoolVar(&replace, "replace", false, "replace a context of that name that something else wrote")
	return cmd
}

func (c *cli) connect(ctx context.Context, client *login.Client, nc login.NATSContext, service, account string, replace bool) error {
	dir, err := login.Dir()
	if err != nil {
		return err
	}
	base, err := c.servers(ctx, &nc, service, dir)
	if err != nil {
		return err
	}
	nc.TokenFile = filepath.Join(dir, "token-"+nc.Name)
	token, err := client.WriteToken(ctx, nc.TokenFile, account)
	if err != nil {
		return err
	}
	session, err := client.Session()
	if err != nil {
		return err
	}
	if session.Key != "" {
		nc.KeyFile = login.KeyFile(nc.TokenFile)
	}
	nc.InboxPrefix = session.InboxPrefix()
	nc.Description = fmt.Sprintf("%s at %s", session.Display, session.Issuer)
	for _, p := range []*string{&nc.Sentinel, &nc.CA} {
		if *p == "" {
			continue
		}
		if *p, err = filepath.Abs(*p); err != nil {
			return err
		}
	}
	path, err := nc.Write(replace)
	if errors.Is(err, login.ErrContextExists) {
		return fmt.Errorf("%w: --name another, or --replace", err)
	}
	if err != nil {
		return err
	}
	fmt.Fprintf(c.out, "Logged in as %s; gatehouse login --forget makes room for somebody else.\nWrote %s.\n", printable(session.Display), path)
	if base != "" {
		if err := c.foretell(ctx, base, token, account); err != nil {
			return err
		}
	}
	_, err = fmt.Fprintf(c.out, "Try:\n\n  nats --context %s pub app.hello world\n\nThe token ends %s. Keep it fresh with:\n\n  %s\n",
		nc.Name, when(session.Expires), c.watchLine(session, nc.TokenFile, account))
	return err
}

// foretell says so when the service would refuse the login now, which the nats CLI could not
// tell. A service that does not answer here foretells nothing.
func (c *cli) foretell(ctx context.Context, base, token, account string) error {
	out, err := post[api.Whoami](ctx, &http.Client{Timeout: whoamiTimeout}, base, api.OpWhoami, token, api.WhoamiRequest{Account: account})
	if err != nil || out.Allowed {
		return nil
	}
	hint := ""
	if out.Reason == string(policy.LoggedOut) {
		hint = "\nRun gatehouse login for a new token, then this again."
	}
	return fmt.Errorf("%w: the servers will not let this login in: %s\n%s%s", errRefused, out.Reason, out.Message, hint)
}

// watchLine is the command that keeps the token file fresh, whatever folder it is run in.
func (c *cli) watchLine(s login.Session, tokenFile, account string) string {
	line := fmt.Sprintf("gatehouse login --issuer %s --client-id %s --watch %s", s.Issuer, s.ClientID, tokenFile)
	if s.Key != "" {
		line += " --bind-key"
	}
	if account != "" {
		line += " --account " + account
	}
	return line
}
