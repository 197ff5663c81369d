package main

import (
	"context"
	"encoding/base64"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/nats-io/nkeys"
	"github.com/spf13/cobra"

	"github.com/gatehouse-nats/gatehouse/api"
	"github.com/gatehouse-nats/gatehouse/cmd/gatehouse/config"
	"github.com/gatehouse-nats/gatehouse/provision"
)

// accountFlags say who calls, beside the flags of [remote].
type accountFlags struct {
	admin bool
}

func (c *cli) accountCommand() *cobra.Command {
	var f accountFlags
	cmd := &cobra.Command{
		Use:   "account",
		Short: "Sign up for accounts, and look after them and their members",
		Long: `Signs up for accounts, and looks after them and their members.

On the host of the service, without a token, you are an admin of all accounts. With a token
(--token-file, or $GATEHOUSE_TOKEN) you are who it speaks of: the owner of your accounts, or
an admin where the token is for administration and gives the right accounts. With --url and
neither, the token is that of gatehouse login, and with --admin that of gatehouse login --admin.`,
		Example: `  gatehouse account signup --name orders --url https://gatehouse.example.com
  gatehouse account invite orders --role app --url https://gatehouse.example.com
  gatehouse account list --state requested
  gatehouse account approve team-orders`,
		Args: knownCommand,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	p := cmd.PersistentFlags()
	p.StringVar(&c.remote.url, "url", "", "address of the service, such as https://gatehouse.example.com (default: the one on this host)")
	p.StringVar(&c.remote.tokenFile, "token-file", "", "file with your token; - for standard input (default: $GATEHOUSE_TOKEN)")
	p.BoolVar(&f.admin, "admin", false, "with --url: as an admin, by gatehouse login --admin")
	cmd.AddCommand(
		c.accountSignupCommand(&f), c.accountGetCommand(&f), c.accountListCommand(&f), c.accountUpdateCommand(&f), c.accountRenameCommand(&f),
		c.accountApproveCommand(&f), c.accountRejectCommand(&f), c.accountSuspendCommand(&f), c.accountResumeCommand(&f),
		c.accountDeleteCommand(&f), c.accountUndeleteCommand(&f),
		c.membersCommand(&f), c.memberAddCommand(&f), c.memberInviteCommand(&f), c.memberAcceptCommand(&f), c.memberRemoveCommand(&f),
		c.adoptCommand(), c.exportCommand(), c.preloadCommand(),
	)
	cmd.AddCommand(c.exchangeCommands(&f)...)
	return cmd
}

// bearerFor returns the token of the caller, "" for who is on the host and gives none. own says that there must be one.
func (c *cli) bearerFor(ctx context.Context, f *accountFlags, own bool) (string, error) {
	if c.remote.url == "" && !own && c.remote.tokenFile == "" && c.getenv("GATEHOUSE_TOKEN") == "" {
		return "", nil
	}
	token, err := c.bearer(ctx, c.remote.tokenFile, loginFlags{admin: f.admin, service: c.remote.url})
	if err != nil && c.remote.tokenFile == "" {
		return "", fmt.Errorf("%w\nGive a token by --token-file F, - for standard input, or $GATEHOUSE_TOKEN, or log in with gatehouse login", err)
	}
	return token, err
}

// accountCall carries out an operation of accounts with the token: at the service that --url names, else through the socket of the one
// on this host.
func accountCall[Resp any](ctx context.Context, c *cli, f *accountFlags, op, token string, req any) (Resp, error) {
	var none Resp
	if c.remote.url != "" {
		base, err := c.serviceURL(c.remote.url)
		if err != nil {
			return none, err
		}
		return post[Resp](ctx, &http.Client{Timeout: remoteTimeout}, base, op, token, req)
	}
	socket := config.Socket(c.configPath(), c.env)
	resp, err := post[Resp](ctx, provision.Client(socket), "http://local", op, token, req)
	if err == nil || !provision.NobodyServes(err) {
		return resp, err
	}
	if token != "" {
		return none, fmt.Errorf("nothing serves %s: name the service with --url", socket)
	}
	return none, fmt.Errorf("nothing serves %s: start the service with gatehouse serve, or name one elsewhere with --url", socket)
}

// onAccount carries out an operation of accounts.
func onAccount[Resp any](ctx context.Context, c *cli, f *accountFlags, op string, req any) (Resp, error) {
	token, err := c.bearerFor(ctx, f, false)
	if err != nil {
		var none Resp
		return none, err
	}
	return accountCall[Resp](ctx, c, f, op, token, req)
}

// accountSignup is what the flags of signup say.
type accountSignup struct {
	req             api.AccountSignupRequest
	issuer, subject string
	keyFile         string
}

func (c *cli) accountSignupCommand(f *accountFlags) *cobra.Command {
	var v accountSignup
	cmd := &cobra.Command{
		Use:   "signup --name NAME [--plan PLAN]",
		Short: "Sign up for an account, and become its owner",
		Long: `Signs up for an account under a plan. You become its owner, and a member who can log in. The
answer comes once every server has the account, or after a few seconds with the state creating;
the same command again says how it stands. A plan with approval gives an account that is requested.

With --key-file the account's identity is a key of your own: the file holds its seed (SA…), which
is used to prove that the key is yours and never leaves this machine. Without it the service makes
one, and throws its seed away.

On the host of the service an admin signs somebody else up, with --issuer and --subject.`,
		Example: `  gatehouse account signup --name orders --plan free --json
  gatehouse account signup --name orders --key-file orders.nk --url https://gatehouse.example.com
  gatehouse account signup --name orders --plan free --issuer corp --subject 7f3a`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return c.signUpAccount(cmd.Context(), f, v) },
	}
	fl := cmd.Flags()
	fl.StringVar(&v.req.Name, "name", "", "name of the account: 1 to 64 of A-Z a-z 0-9 . _ -")
	fl.StringVar(&v.req.Plan, "plan", "", "plan of the account; needed where you are offered several")
	fl.StringVar(&v.req.Description, "description", "", "what it is for")
	fl.StringSliceVar(&v.req.Tags, "tag", nil, "tag of the account; several with commas")
	fl.StringVar(&v.keyFile, "key-file", "", "file with the seed (SA…) of the account's identity key, which stays here")
	fl.StringVar(&v.issuer, "issuer", "", "issuer of who shall own it, by name or URL; for admins")
	fl.StringVar(&v.subject, "subject", "", "sub of who shall own it; for admins")
	return cmd
}

func (c *cli) signUpAccount(ctx context.Context, f *accountFlags, v accountSignup) error {
	switch {
	case v.req.Name == "":
		return fmt.Errorf("%w: give the account a --name", errUsage)
	case (v.issuer == "") != (v.subject == ""):
		return fmt.Errorf("%w: who shall own it is named by --issuer and --subject, both", errUsage)
	case v.issuer != "":
		v.req.Owner = &api.Owner{Issuer: v.issuer, Subject: v.subject}
	}
	token, err := c.bearerFor(ctx, f, v.req.Owner == nil)
	if err != nil {
		return err
	}
	if v.keyFile != "" {
		if err := c.proveAccountKey(&v.req, f, v.keyFile, token); err != nil {
			return err
		}
	}
	out, err := accountCall[api.AccountSignup](ctx, c, f, api.OpAccountSignup, token, v.req)
	if err != nil {
		return err
	}
	if c.json {
		return printJSON(c.out, out)
	}
	_, err = fmt.Fprintf(c.out, "Account %s (%s) is %s.\n%s\n", out.Name, out.Account, out.State, map[string]string{
		"requested": "An admin has to approve it.",
		"creating":  "Not every server has it yet: run the same command again to see how it stands.",
		"active":    "Log in as user account:" + out.Name + " with your token.",
		"published": "Log in as user account:" + out.Name + " with your token.",
	}[out.State])
	return err
}

// proveAccountKey puts the public key of the file's seed into the request, and the proof that the caller holds it.
func (c *cli) proveAccountKey(req *api.AccountSignupRequest, f *accountFlags, file, token string) error {
	data, err := readPrivate(file)
	defer clear(data)
	if err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	pair, err := nkeys.FromSeed([]byte(strings.TrimSpace(string(data))))
	if err != nil {
		return fmt.Errorf("%s holds no seed of an account key (SA…)", file)
	}
	defer pair.Wipe()
	if req.Key, err = pair.PublicKey(); err != nil || !nkeys.IsValidPublicAccountKey(req.Key) {
		return fmt.Errorf("%s holds a seed of another kind: give one of an account key (SA…)", file)
	}
	audience, err := c.signupURL(c.remote.url)
	if err != nil {
		return err
	}
	req.Proof = &api.SignupProof{Audience: audience, Time: time.Now().UnixMilli()}
	signature, err := pair.Sign(api.AccountStatement(*req, token))
	if err != nil {
		return err
	}
	req.Proof.Signature = base64.RawURLEncoding.EncodeToString(signature)
	return nil
}

func (c *cli) accountGetCommand(f *accountFlags) *cobra.Command {
	var manifest bool
	cmd := &cobra.Command{
		Use:   "get NAME",
		Short: "Show an account",
		Args:  exactArgs(1, "the name or the public key of an account"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if manifest {
				return c.printManifest(cmd.Context(), f, args[0])
			}
			a, err := onAccount[api.Account](cmd.Context(), c, f, api.OpAccountGet, api.AccountRequest{Account: args[0]})
			if err != nil {
				return err
			}
			return c.printAccount(a)
		},
	}
	cmd.Flags().BoolVar(&manifest, "manifest", false, "as a file for gatehouse apply")
	return cmd
}

// printAccount shows an account whole.
func (c *cli) printAccount(a api.Account) error {
	if c.json {
		return printJSON(c.out, a)
	}
	state := a.State
	switch {
	case a.State == "deleting" && !a.DeleteAt.IsZero():
		state += ", gone " + when(a.DeleteAt)
	case a.Suspended:
		state += ", suspended"
	}
	line := func(label, text string) { fmt.Fprintf(c.out, "  %-13s %s\n", label, printable(text)) }
	fmt.Fprintf(c.out, "account %s\n", printable(a.Name))
	line("id", a.Account)
	line("state", state)
	plan := a.Plan
	if a.PlanGone {
		plan += ", which is not in the configuration: nobody gets in as a member until it is back or the account has another"
	}
	line("plan", plan)
	line("revision", fmt.Sprintf("%d, on every server %d", a.Revision, a.Applied))
	if a.Problem != "" {
		line("problem", a.Problem)
	}
	line("owner", personText(a.Owner))
	line("description", orDash(a.Description))
	line("tags", orDash(strings.Join(a.Tags, " ")))
	line("roles", orDash(strings.Join(a.Roles, " ")))
	line("members", fmt.Sprint(a.Members))
	for _, k := range a.SigningKeys {
		line("signing key", k.Key+", "+k.Stage+" since "+when(k.Since))
	}
	for _, l := range limitLines(a.Limits) {
		line(l.name, l.value)
	}
	line("created", when(a.Created))
	line("changed", when(a.Updated))
	return nil
}

func personText(p api.Person) string {
	if p.Name != "" {
		return p.Name + " (" + p.Subject + " of " + p.Issuer + ")"
	}
	return p.Subject + " of " + p.Issuer
}

func (c *cli) accountListCommand(f *accountFlags) *cobra.Command {
	var req api.AccountListRequest
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List your accounts; for admins, all",
		Args:  noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			token, err := c.bearerFor(cmd.Context(), f, false)
			if err != nil {
				return err
			}
			page, err := accountCall[api.AccountsPage](cmd.Context(), c, f, api.OpAccountList, token, req)
			if err != nil {
				return err
			}
			return c.printAccounts(page)
		},
	}
	fl := cmd.Flags()
	fl.StringVar(&req.Plan, "plan", "", "only of this plan")
	fl.StringVar(&req.State, "state", "", "only requested, creating, active, published, deleting or deleted ones")
	fl.StringVar(&req.Issuer, "issuer", "", "only of this issuer's --subject; for admins")
	fl.StringVar(&req.Subject, "subject", "", "only of this owner; for admins")
	fl.BoolVar(&req.Deleted, "deleted", false, "deleted ones too; for admins")
	fl.IntVar(&req.Limit, "limit", 0, "most to list, up to 1000")
	fl.StringVar(&req.Cursor, "cursor", "", "go on where a list before has ended")
	return cmd
}

func (c *cli) printAccounts(page api.AccountsPage) error {
	if c.json {
		for _, a := range page.Accounts {
			if err := printJSON(c.out, a); err != nil {
				return err
			}
		}
	} else {
		t := newTable(c.out, "NAME", "STATE", "PLAN", "OWNER", "MEMBERS", "CREATED", "ID")
		for _, a := range page.Accounts {
			state := a.State
			if a.Suspended {
				state += ", suspended"
			}
			owner := a.Owner.Name
			if owner == "" {
				owner = a.Owner.Subject
			}
			t.row(a.Name, state, a.Plan, owner, fmt.Sprint(a.Members), when(a.Created), a.Account)
		}
		if err := t.flush(); err != nil {
			return err
		}
		c.noneOf(len(page.Accounts), "account")
	}
	if page.Cursor != "" {
		fmt.Fprintf(c.err, "There are more: go on with --cursor %s\n", page.Cursor)
	}
	return nil
}

// limitLine is one limit, for people.
type limitLine struct{ name, value string }

// limitLines returns the limits for people.
func limitLines(l api.AccountLimits) []limitLine {
	var lines []limitLine
	whole := true
	for _, f := range []struct {
		name  string
		value *int64
	}{
		{"connections", l.Connections}, {"leaf nodes", l.LeafNodes}, {"subscriptions", l.Subscriptions}, {"payload", l.Payload}, {"data", l.Data},
		{"imports", l.Imports}, {"exports", l.Exports},
	} {
		if whole = whole && f.value != nil; f.value != nil {
			lines = append(lines, limitLine{f.name, limitText(*f.value)})
		}
	}
	js := func(name string, j api.JetStreamLimits) {
		lines = append(lines, limitLine{name, fmt.Sprintf("memory %s, disk %s, streams %s, consumers %s", limitText(j.Memory), limitText(j.Disk), limitText(j.Streams), limitText(j.Consumers))})
	}
	if l.JetStream != nil {
		js("jetstream", *l.JetStream)
	}
	for _, tier := range []string{"R1", "R2", "R3", "R4", "R5"} {
		if j, ok := l.Tiers[tier]; ok {
			js("tier "+tier, j)
		}
	}
	switch {
	case !whole: // of an account that was taken over only what was set here is known
		lines = append(lines, limitLine{"limits", "otherwise those of its claims, which nsc or nats auth made"})
	case l.JetStream == nil && len(l.Tiers) == 0:
		lines = append(lines, limitLine{"jetstream", "none"})
	}
	return lines
}

func limitText(n int64) string {
	if n < 0 {
		return "unlimited"
	}
	return fmt.Sprint(n)
}

// revisionOf returns the account as it is, whose revision a change names.
func revisionOf(ctx context.Context, c *cli, f *accountFlags, token, name string) (api.Account, error) {
	return accountCall[api.Account](ctx, c, f, api.OpAccountGet, token, api.AccountRequest{Account: name})
}
