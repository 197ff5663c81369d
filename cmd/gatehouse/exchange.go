package main

import (
	"fmt"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/gatehouse-nats/gatehouse/api"
)

// exchangeCommands are those of exports, imports and the graph.
func (c *cli) exchangeCommands(f *accountFlags) []*cobra.Command {
	exports := &cobra.Command{
		Use:   "exports",
		Short: "What an account offers to others",
		Long: `Shows, adds and removes what an account offers to others. Owners do so in their accounts, admins in all.
Everything is checked against the other accounts before it is stored: a server takes an import that
nothing can come of without a word.`,
		Args: knownCommand,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	exports.AddCommand(c.exchangeListCommand(f, "exports"), c.exportAddCommand(f), c.exchangeRemoveCommand(f, "export", api.OpAccountExportRemove), c.activateCommand(f))
	imports := &cobra.Command{
		Use:   "imports",
		Short: "What an account uses of others",
		Long:  "Shows, adds and removes what an account uses of others. Owners do so in their accounts, admins in all.",
		Args:  knownCommand,
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	imports.AddCommand(c.exchangeListCommand(f, "imports"), c.importAddCommand(f), c.exchangeRemoveCommand(f, "import", api.OpAccountImportRemove))
	return []*cobra.Command{exports, imports, c.graphCommand(f)}
}

func (c *cli) exchangeListCommand(f *accountFlags, what string) *cobra.Command {
	return &cobra.Command{
		Use:   "list ACCOUNT",
		Short: "Show the " + what + " of an account",
		Args:  exactArgs(1, "the name or the public key of an account"),
		RunE: func(cmd *cobra.Command, args []string) error {
			out, err := onAccount[api.AccountExchange](cmd.Context(), c, f, api.OpAccountExchange, api.AccountRequest{Account: args[0]})
			if err != nil {
				return err
			}
			switch {
			case c.json:
				return printJSON(c.out, out)
			case what == "exports":
				return c.printExports(out)
			default:
				return c.printImports(out)
			}
		},
	}
}

func (c *cli) printExports(x api.AccountExchange) error {
	t := newTable(c.out, "NAME", "TYPE", "SUBJECT", "PRIVATE", "GIVEN TO")
	for _, e := range x.Exports {
		private, to := "-", "-"
		if e.Private {
			private = "yes"
		}
		for _, a := range x.Activations {
			if a.Export == e.Name {
				to = a.Account
				if !a.Until.IsZero() {
					to += " until " + when(a.Until)
				}
				t.row(e.Name, e.Type, e.Subject, private, to)
			}
		}
		if to == "-" {
			t.row(e.Name, e.Type, e.Subject, private, to)
		}
	}
	return t.flush()
}

func (c *cli) printImports(x api.AccountExchange) error {
	t := newTable(c.out, "NAME", "TYPE", "FROM", "SUBJECT", "LOCAL", "TOKEN")
	for _, i := range x.Imports {
		token := "-"
		if i.Private {
			token = "for good"
		}
		if !i.Until.IsZero() {
			token = "until " + when(i.Until)
		}
		t.row(i.Name, i.Type, i.Account, i.Subject, orDash(i.Local), token)
	}
	return t.flush()
}

// printTrade tells what a change has led to, or would.
func (c *cli) printTrade(x api.AccountExchange, dryRun bool, err error) error {
	if err != nil {
		return err
	}
	if c.json {
		return printJSON(c.out, x)
	}
	did := "is"
	if dryRun {
		did = "would be"
	}
	fmt.Fprintf(c.out, "Account %s %s at revision %d: %s, %s.\n", printable(x.Name), did, x.Revision, count(len(x.Exports), "export"), count(len(x.Imports), "import"))
	for _, w := range x.Warnings {
		fmt.Fprintf(c.err, "Warning: %s\n", printable(w))
	}
	for _, cut := range x.Cut {
		fmt.Fprintf(c.err, "Cut: import %q of account %s: %s\n", cut.Import, printable(cut.Account), printable(cut.Why))
	}
	return nil
}

func (c *cli) exportAddCommand(f *accountFlags) *cobra.Command {
	var req api.ExportAddRequest
	cmd := &cobra.Command{
		Use:   "add ACCOUNT NAME --subject S",
		Short: "Offer something to others, or change what is offered by that name",
		Example: `  gatehouse account exports add orders feed --type stream --subject "orders.*.>"
  gatehouse account exports add orders ask --type service --subject orders.ask --private`,
		Args: exactArgs(2, "the account and a name for the export"),
		RunE: func(cmd *cobra.Command, args []string) error {
			req.Account, req.Export.Name = args[0], args[1]
			out, err := onAccount[api.AccountExchange](cmd.Context(), c, f, api.OpAccountExportAdd, req)
			return c.printTrade(out, req.DryRun, err)
		},
	}
	fl := cmd.Flags()
	fl.StringVar(&req.Export.Subject, "subject", "", "subject, with wildcards; it begins with a name")
	fl.StringVar(&req.Export.Type, "type", "stream", "stream or service")
	fl.BoolVar(&req.Export.Private, "private", false, "importers need an activation token")
	fl.StringVar(&req.Export.Response, "response", "", "of a service: Singleton (the default), Stream or Chunked")
	fl.StringVar(&req.Export.Description, "description", "", "what it is")
	fl.BoolVar(&req.Cut, "cut", false, "imports of other accounts may end by it")
	fl.BoolVar(&req.DryRun, "dry-run", false, "only check")
	return cmd
}

func (c *cli) importAddCommand(f *accountFlags) *cobra.Command {
	var req api.ImportAddRequest
	var tokenFile string
	cmd := &cobra.Command{
		Use:   "add ACCOUNT NAME --from ACCOUNT --subject S",
		Short: "Use something of another account, or change what is used by that name",
		Long: `Uses an export of another account. A private one needs an activation token, which an owner of that
account makes with gatehouse account exports activate. Whoever could make it themselves, as the
owner of both accounts or as an admin, leaves it out.`,
		Example: `  gatehouse account imports add shop orders --from orders --type stream --subject "orders.*.>" --local "in.$1.>"
  gatehouse account imports add shop ask --from orders --type service --subject orders.ask --activation ask.jwt`,
		Args: exactArgs(2, "the account and a name for the import"),
		RunE: func(cmd *cobra.Command, args []string) (err error) {
			req.Account, req.Import.Name = args[0], args[1]
			if tokenFile != "" {
				if req.Import.Token, err = c.token(tokenFile); err != nil {
					return err
				}
			}
			out, err := onAccount[api.AccountExchange](cmd.Context(), c, f, api.OpAccountImportAdd, req)
			return c.printTrade(out, req.DryRun, err)
		},
	}
	fl := cmd.Flags()
	fl.StringVar(&req.Import.Account, "from", "", "name or public key of the account that exports")
	fl.StringVar(&req.Import.Subject, "subject", "", "subject in that account")
	fl.StringVar(&req.Import.Local, "local", "", "subject in this account, with $1 for what the first * stands for (default: the same)")
	fl.StringVar(&req.Import.Type, "type", "stream", "stream or service")
	fl.BoolVar(&req.Import.Share, "share", false, "of a service: the exporter may learn who asks")
	fl.StringVar(&tokenFile, "activation", "", "file with the activation token of a private export; - for standard input")
	fl.BoolVar(&req.DryRun, "dry-run", false, "only check")
	return cmd
}

func (c *cli) exchangeRemoveCommand(f *accountFlags, what, op string) *cobra.Command {
	var req api.ExchangeRemoveRequest
	cmd := &cobra.Command{
		Use:   "remove ACCOUNT NAME",
		Short: "Remove an " + what,
		Args:  exactArgs(2, "the account and the name of the "+what),
		RunE: func(cmd *cobra.Command, args []string) error {
			req.Account, req.Name = args[0], args[1]
			out, err := onAccount[api.AccountExchange](cmd.Context(), c, f, op, req)
			return c.printTrade(out, req.DryRun, err)
		},
	}
	if what == "export" {
		cmd.Flags().BoolVar(&req.Cut, "cut", false, "imports of other accounts may end by it")
	}
	cmd.Flags().BoolVar(&req.DryRun, "dry-run", false, "only check, and show what would be cut")
	return cmd
}

func (c *cli) activateCommand(f *accountFlags) *cobra.Command {
	var req api.ActivateRequest
	var life, file string
	cmd := &cobra.Command{
		Use:   "activate ACCOUNT EXPORT --importer ACCOUNT",
		Short: "Make the token by which another account may import a private export",
		Long: `Makes an activation token and prints it, or writes it to a file with --out. It is of use in the one account that it is for. It ends when
--ttl says, or with gatehouse revoke --account ACCOUNT --export SUBJECT --importer KEY.`,
		Example: `  gatehouse account exports activate orders ask --importer shop --ttl 2160h --out ask.jwt`,
		Args:    exactArgs(2, "the account and the name of its export"),
		RunE: func(cmd *cobra.Command, args []string) error {
			req.Account, req.Export = args[0], args[1]
			if life != "" {
				d, err := time.ParseDuration(life)
				if err != nil || d <= 0 {
					return fmt.Errorf("%w: --ttl %s is no time: use one such as 2160h", errUsage, life)
				}
				req.Until = time.Now().Add(d).UTC().Truncate(time.Second)
			}
			out, err := onAccount[api.Activation](cmd.Context(), c, f, api.OpAccountActivate, req)
			if err != nil {
				return err
			}
			if c.json {
				return printJSON(c.out, out)
			}
			fmt.Fprintf(c.err, "Activation token for account %s: %s %s, end %s.\n", out.Importer, out.Type, printable(out.Subject), when(out.Until))
			if file != "" {
				return os.WriteFile(file, []byte(out.Token+"\n"), 0o600)
			}
			_, err = fmt.Fprintln(c.out, out.Token)
			return err
		},
	}
	fl := cmd.Flags()
	fl.StringVar(&req.Importer, "importer", "", "name or public key of the account that may import")
	fl.StringVar(&file, "out", "", "file to write the token to, with mode 0600")
	fl.StringVar(&life, "ttl", "", "how long the token is valid (default: for good)")
	return cmd
}
