package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/gatehouse-nats/gatehouse/api"
	"github.com/gatehouse-nats/gatehouse/cmd/gatehouse/config"
	"github.com/gatehouse-nats/gatehouse/policy"
	"github.com/gatehouse-nats/gatehouse/policy/oidc"
	"github.com/gatehouse-nats/gatehouse/provision"
)

// maxInput bounds files of tokens and claims.
const maxInput = 1 << 20

// keyWait is how long explain waits for an issuer's keys.
const keyWait = 15 * time.Second

func (c *cli) explainCommand() *cobra.Command {
	var in explainInput
	cmd := &cobra.Command{
		Use:   "explain (--token-file F | --claims F --issuer NAME | --subject S)",
		Short: "Say what a token, claims or somebody would get, and why",
		Long: `Says which bindings apply to a token or to claims, and which account and permissions come
of that, by the configuration on this host and without a running service. Blocks, logouts,
accounts of sign-up and their members are in the store: --live asks the running service, which
knows them, instead.

--subject asks about somebody who is not there: it takes the claims of the last login that the
audit trail holds of that sub, or of whoever is known by that value of a display claim, and decides
on them now, blocks and logouts included, as for a client that connects from the same place.

The token comes from a file, from standard input (--token-file -), or from $GATEHOUSE_TOKEN.`,
		Example: `  gatehouse explain --token-file token.jwt
  gatehouse explain --claims alice.json --issuer corp --source 10.1.2.3
  gatehouse explain --subject alice@example.com`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			out, err := c.explain(cmd.Context(), in)
			if err != nil {
				return err
			}
			if err := c.printExplanation(out); err != nil {
				return err
			}
			if !out.Allowed && !administers(out.Administration) {
				return fmt.Errorf("%w: %s", errRefused, out.Reason)
			}
			return nil
		},
	}
	f := cmd.Flags()
	f.StringVar(&in.tokenFile, "token-file", "", "file with the token; - for standard input")
	f.StringVar(&in.claimsFile, "claims", "", "JSON file with claims, as of a token that is signed and in force; - for standard input")
	f.StringVar(&in.issuer, "issuer", "", "issuer of the claims or the subject, by name or URL (default: their iss, or any)")
	f.StringVar(&in.source, "source", "", "address that the client would connect from")
	f.StringVar(&in.connType, "connection-type", "", "standard, websocket, mqtt or leafnode (default standard)")
	f.StringVar(&in.account, "account", "", "account that the client would name")
	f.StringVar(&in.subject, "subject", "", "sub, or value of a display claim, of somebody who has logged in before")
	f.BoolVar(&in.live, "live", false, "ask the running service, blocks and logouts included")
	return cmd
}

// explainInput is what the flags of explain say.
type explainInput struct {
	tokenFile, claimsFile, subject, issuer, source, connType, account string
	live                                                              bool
}

func (c *cli) explain(ctx context.Context, in explainInput) (api.Explanation, error) {
	var none api.Explanation
	if in.claimsFile != "" && (in.tokenFile != "" || in.live || c.remote.url != "") {
		return none, fmt.Errorf("%w: --claims goes with neither --token-file nor --live, and --url asks a running service", errUsage)
	}
	if in.subject != "" {
		return c.explainSubject(ctx, in)
	}
	if c.remote.url != "" && in.tokenFile == "" {
		return none, fmt.Errorf("%w: --url needs --subject, or the token to explain by --token-file", errUsage)
	}
	if in.live || c.remote.url != "" {
		token, err := c.token(in.tokenFile)
		if err != nil {
			return none, err
		}
		return local[api.ExplainRequest, api.Explanation](ctx, c, api.OpExplain,
			api.ExplainRequest{Token: token, Account: in.account, Source: in.source, ConnectionType: in.connType}, nil)
	}
	conn, err := provision.Connection(in.source, in.connType, in.account)
	if err != nil {
		return none, err
	}
	cfg, err := c.load()
	if err != nil {
		return none, err
	}
	id, admin, err := c.explained(ctx, cfg, in)
	if err != nil {
		return none, err
	}
	if len(cfg.Plans()) > 0 {
		fmt.Fprintln(c.err, "note: by the configuration alone; --live knows the accounts of sign-up and their members too")
	}
	state := &policy.Snapshot{Rules: cfg.Rules()}
	if admin {
		return provision.ExplainAdmin(state, id, conn, time.Now()), nil
	}
	return provision.Explain(state, id, conn, time.Now()), nil
}

// explainSubject asks about somebody who is not there.
func (c *cli) explainSubject(ctx context.Context, in explainInput) (api.Explanation, error) {
	if in.claimsFile != "" || in.tokenFile != "" {
		return api.Explanation{}, fmt.Errorf("%w: --subject goes with neither --claims nor --token-file", errUsage)
	}
	req := api.ExplainRequest{Subject: in.subject, Issuer: in.issuer, Account: in.account, Source: in.source, ConnectionType: in.connType}
	return local(ctx, c, api.OpExplain, req,
		func(s *provision.Service) func(context.Context, provision.Caller, api.ExplainRequest) (api.Explanation, error) {
			return s.ExplainLive
		})
}

// explained returns the identity that is asked about, and whether its token is for administration.
func (c *cli) explained(ctx context.Context, cfg *config.Config, in explainInput) (id *policy.Identity, admin bool, err error) {
	if in.claimsFile != "" {
		id, err = c.claimedIdentity(cfg, in)
		return id, false, err
	}
	token, err := c.token(in.tokenFile)
	if err != nil {
		return nil, false, err
	}
	return verify(ctx, cfg, token)
}

// verify turns a token, for logins or for administration, into an identity with the issuers' keys, fetched now.
func verify(ctx context.Context, cfg *config.Config, token string) (id *policy.Identity, admin bool, err error) {
	tokens, err := oidc.New(oidc.Config{Leeway: time.Duration(cfg.Leeway), MaxTokenSize: int(cfg.MaxTokenSize)}, cfg.TokenIssuers())
	if err != nil {
		return nil, false, err
	}
	ctx, cancel := context.WithTimeout(ctx, keyWait)
	defer cancel()
	ended := make(chan error, 1)
	running, stop := context.WithCancel(ctx)
	go func() { ended <- tokens.Run(running) }()
	id, r := tokens.VerifyWait(ctx, token)
	if r != nil && r.Reason == policy.AudienceRefused {
		if other, refused := tokens.VerifyAdmin(ctx, token); refused == nil {
			id, r, admin = other, nil, true
		}
	}
	stop()
	if err := <-ended; err != nil {
		return nil, false, err
	}
	if r == nil {
		return id, admin, nil
	}
	why := ""
	for _, s := range tokens.Status() {
		if r.Reason == policy.KeysUnavailable && s.LastError != "" {
			why += "\n" + s.Name + ": " + s.LastError
		}
	}
	return nil, false, fmt.Errorf("%w%s", refused(r), why)
}

// refused returns the error of a token that is refused before any binding is asked, with what to do.
func refused(r *policy.Refusal) error {
	remedy := ""
	if known, ok := api.Explain(string(r.Reason)); ok {
		remedy = "\n" + known.Meaning + " " + known.Remedy
	}
	return fmt.Errorf("%w: %w%s", errRefused, r, remedy)
}

// claimedIdentity takes claims as if a token with them had been verified: its signature and times count as
// good, and aud where it is left out.
func (c *cli) claimedIdentity(cfg *config.Config, in explainInput) (*policy.Identity, error) {
	data, err := c.read(in.claimsFile)
	if err != nil {
		return nil, err
	}
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.UseNumber()
	var claims map[string]any
	if err := dec.Decode(&claims); err != nil {
		return nil, fmt.Errorf("%s: not a JSON object of claims: %w", in.claimsFile, err)
	}
	want := in.issuer
	if want == "" {
		want, _ = claims["iss"].(string)
	}
	now := time.Now()
	for _, i := range cfg.Issuers {
		if i.Name != want && i.URL != want {
			continue
		}
		subject, _ := claims["sub"].(string)
		if subject == "" {
			return nil, fmt.Errorf("%s: the claims have no sub", in.claimsFile)
		}
		if aud, ok := claims["aud"]; ok {
			if r := oidc.CheckAudience(aud, i.Audiences); r != nil {
				return nil, refused(r)
			}
		}
		return &policy.Identity{
			Issuer: i.Name, IssuerURL: i.URL, Subject: subject, Claims: claims, IssuedAt: now, Expires: now.Add(24 * time.Hour),
		}, nil
	}
	if in.issuer == "" && want != "" {
		return nil, refused(policy.Refuse(policy.IssuerUnknown, "issuer %s is not configured", want))
	}
	return nil, fmt.Errorf("issuer %q is not configured: give --issuer with a name or URL from issuers", want)
}

// token returns the token from a file, standard input, or $GATEHOUSE_TOKEN.
func (c *cli) token(file string) (string, error) {
	if file == "" {
		if token := c.getenv("GATEHOUSE_TOKEN"); token != "" {
			return strings.TrimSpace(token), nil
		}
		return "", fmt.Errorf("%w: give the token by --token-file F, --token-file - (standard input), or $GATEHOUSE_TOKEN", errUsage)
	}
	data, err := c.read(file)
	if err != nil {
		return "", err
	}
	token := strings.TrimSpace(string(data))
	if token == "" {
		return "", fmt.Errorf("%s is empty: it should hold a token", file)
	}
	return token, nil
}

// read returns the contents of a file, or of standard input for "-", of at most maxInput bytes.
func (c *cli) read(file string) ([]byte, error) {
	from := c.in
	if file != "-" {
		f, err := os.Open(file)
		if err != nil {
			return nil, err
		}
		defer func() { _ = f.Close() }()
		from = f
	}
	data, err := io.ReadAll(io.LimitReader(from, maxInput+1))
	if err == nil && len(data) > maxInput {
		err = errors.New(file + " is over 1 MiB")
	}
	return data, err
}

func (c *cli) printExplanation(e api.Explanation) error {
	if c.json {
		return printJSON(c.out, e)
	}
	fmt.Fprintf(c.out, "%s (%s of %s)\n%s\n", e.Name, printable(e.Subject), e.IssuerURL, boundTo(e.Identity))
	if e.Recorded != nil {
		c.printRecorded(*e.Recorded)
	}
	fmt.Fprintln(c.out)
	if len(e.Verdicts) > 0 {
		t := newTable(c.out, "BINDING", "APPLIES", "WHY")
		for _, v := range e.Verdicts {
			applies := "no"
			if v.Applies {
				applies = "yes"
			}
			t.row(v.Binding, applies, v.Why)
		}
		if err := t.flush(); err != nil {
			return err
		}
		fmt.Fprintln(c.out)
	}
	if !administers(e.Administration) || e.Allowed {
		c.printDecision(e.Decision, e.Inbox)
	}
	c.printAdministration(e.Administration)
	return nil
}

// administers reports whether a token is one for administration that gives rights.
func administers(a *api.Administration) bool { return a != nil && a.Token && len(a.Rights) > 0 }

// printAdministration shows what an identity may do as an admin.
func (c *cli) printAdministration(a *api.Administration) {
	switch {
	case a == nil:
	case len(a.Rights) == 0:
		fmt.Fprintf(c.out, "NO RIGHTS of administration: %s\n%s\n", a.Reason, printable(a.Message))
	case a.Token:
		fmt.Fprintf(c.out, "MAY ADMINISTER: %s\n", strings.Join(a.Rights, ", "))
	default:
		fmt.Fprintf(c.out, "With a token for administration it may %s.\n", strings.Join(a.Rights, ", "))
	}
}

// printRecorded says which login the claims are of.
func (c *cli) printRecorded(r api.RecordedLogin) {
	fmt.Fprintf(c.out, "by the claims of the login %s at %s, %s ago, from %s by %s\n",
		r.RequestID, when(r.At), ago(time.Since(r.At)), orDash(printable(r.Source)), r.ConnectionType)
	if r.OtherRules {
		fmt.Fprintln(c.out, "The rules have changed since: a claim that only those of now read counts as missing.")
	}
}

// ago shows an age to people.
func ago(d time.Duration) string {
	switch {
	case d < time.Minute:
		return "under a minute"
	case d < 2*time.Hour:
		return fmt.Sprintf("%d minutes", int(d/time.Minute))
	case d < 48*time.Hour:
		return fmt.Sprintf("%d hours", int(d/time.Hour))
	default:
		return fmt.Sprintf("%d days", int(d/(24*time.Hour)))
	}
}

// boundTo says who can use the token.
func boundTo(id api.Identity) string {
	if id.BoundTo == "" {
		return "Not bound to a key: whoever has the token can use it."
	}
	return "Bound to " + id.BoundTo + ": only a client that signs with it gets what follows."
}

// explains reports whether a refusal says all there is to say by the bindings shown with it.
func explains(d api.Decision) bool { return d.Reason == string(policy.NoBinding) }

// printDecision shows what an identity gets to people.
func (c *cli) printDecision(d api.Decision, inbox string) {
	if d.Creates != nil && !d.Allowed {
		fmt.Fprintf(c.out, "NOT YET: %s\n", printable(d.Message))
		return
	}
	if !d.Allowed {
		fmt.Fprintf(c.out, "REFUSED: %s\n%s\n", d.Reason, printable(d.Message))
		if known, ok := api.Explain(d.Reason); ok && !explains(d) && !strings.Contains(d.Message, known.Remedy) {
			fmt.Fprintln(c.out, known.Remedy)
		}
		if d.RetryAfter > 0 {
			fmt.Fprintf(c.out, "A new token may be admitted in %d seconds.\n", d.RetryAfter)
		}
		return
	}
	fmt.Fprintf(c.out, "ALLOWED into account %s (%s) by %s, until %s\n", d.Account, d.AccountID, strings.Join(d.Bindings, ", "), when(d.Expires))
	if d.ScopedKey != "" {
		fmt.Fprintf(c.out, "  %-10s %s %s\n", "scoped key", d.ScopedKey, printable(strings.Join(d.Tags, "  ")))
	}
	c.printPermissions(d.Permissions)
	fmt.Fprintf(c.out, "  %-10s %s\n", "inbox", inbox)
}

// printPermissions shows permissions; nil means those of a template that only the servers know.
func (c *cli) printPermissions(p *api.Permissions) {
	if p == nil {
		fmt.Fprintln(c.out, "  its template in the account's claims has the permissions: explain --live shows them once the service has read it")
		return
	}
	for _, p := range []struct {
		what string
		set  api.SubjectSet
	}{{"publish", p.Publish}, {"subscribe", p.Subscribe}} {
		allowed := p.set.Allow
		if len(allowed) == 0 {
			allowed = []string{"nothing"}
		}
		printList(c.out, p.what, allowed)
		if len(p.set.Deny) > 0 {
			printList(c.out, "  but not", p.set.Deny)
		}
	}
	if r := p.Respond; r != nil {
		fmt.Fprintf(c.out, "  %-10s up to %d to each message, within %s\n", "replies", r.Max, r.TTL)
	}
}
