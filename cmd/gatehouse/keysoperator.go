package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"strings"

	"github.com/spf13/cobra"

	"github.com/gatehouse-nats/gatehouse/api"
	"github.com/gatehouse-nats/gatehouse/provision"
)

func (c *cli) operatorKeyCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "operator",
		Short: "How the operator signing key stands: whom servers trust, and what is signed by which key",
		Long: `Says which operator signing key signs the claims of accounts, which servers trust it, and which
operator keys have signed what servers hold. While the key is being replaced it shows how far
that is: a key that has signed nothing any more can be taken out of the operator JWT, unless
accounts that Gatehouse does not know are signed by it. The exit code is 4 while a server does
not trust the key, or an account is signed by another.`,
		Example: "  gatehouse keys operator\n  gatehouse keys operator import operator-signing.nk",
		Args:    noArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return c.operatorKey(cmd.Context()) },
	}
	cmd.AddCommand(c.operatorImportCommand(), c.operatorRemoveCommand())
	return cmd
}

func (c *cli) operatorKey(ctx context.Context) error {
	out, err := local(ctx, c, api.OpOperatorKey, api.OperatorKeyRequest{}, func(s *provision.Service) func(context.Context, provision.Caller, api.OperatorKeyRequest) (api.OperatorKey, error) {
		return s.OperatorKey
	})
	if err != nil {
		return err
	}
	if c.json {
		if err := printJSON(c.out, out); err != nil {
			return err
		}
		return unsettled(out)
	}
	c.printOperatorKey(out)
	for _, by := range out.SignedBy {
		names := strings.Join(by.Some, ", ")
		if by.Accounts > len(by.Some) {
			names += ", …"
		}
		fmt.Fprintf(c.out, "signed by %s: %s (%s)\n", by.Key, count(by.Accounts, "account"), printable(names))
	}
	return unsettled(out)
}

func (c *cli) printOperatorKey(out api.OperatorKey) {
	fmt.Fprintf(c.out, "operator signing key %s", orDash(out.Key))
	if out.From != "" {
		fmt.Fprintf(c.out, ", from %s", out.From)
	}
	fmt.Fprintln(c.out)
	if out.Sealed != "" {
		fmt.Fprintf(c.out, "in the store         %s, sealed with %s\n", out.Sealed, orDash(out.SealedWith))
		if out.Sealed != out.Key {
			fmt.Fprintln(c.out, "                     It signs nothing while operator.signing_key is configured.")
		}
	}
	if out.Problem != "" {
		fmt.Fprintln(c.out, "problem:", printable(out.Problem))
	}
	for _, s := range out.Servers {
		strict := ""
		if s.Strict {
			strict = ", strict"
		}
		fmt.Fprintf(c.out, "server %s trusts it: %s%s\n", printable(s.Server), s.Trusts, strict)
	}
}

// unsettled returns an error while the key is not the only one that matters.
func unsettled(out api.OperatorKey) error {
	var open []string
	if out.Problem != "" && out.Key == out.Sealed {
		open = append(open, "the key cannot be used")
	}
	for _, s := range out.Servers {
		if s.Trusts == "no" {
			open = append(open, "server "+printable(s.Server)+" does not trust the key")
		}
	}
	for _, by := range out.SignedBy {
		if by.Key != out.Key {
			open = append(open, count(by.Accounts, "account")+" signed by "+by.Key)
		}
	}
	if out.Incomplete != "" {
		open = append(open, printable(out.Incomplete))
	}
	if len(open) == 0 {
		return nil
	}
	return fmt.Errorf("%w: %s", errPartial, strings.Join(open, "; "))
}

func (c *cli) operatorImportCommand() *cobra.Command {
	var req api.OperatorKeyImport
	cmd := &cobra.Command{
		Use:   "import FILE",
		Short: "Seal an operator signing key and keep it in the store, in place of the one there",
		Long: `Takes the seed of an operator signing key from a file, - for standard input, has the running
service seal it with seal.key, and keeps it in the store. All replicas sign with it within
seconds, unless operator.signing_key is configured, and sign anew what another key signed.

Servers must have the key in their operator JWT already; the service asks them. The operator's
identity key is never needed, and refused. Delete the file, or keep it offline, afterwards.`,
		Example: "  gatehouse keys operator import operator-signing.nk",
		Args:    exactArgs(1, "a file with the seed"),
		RunE: func(cmd *cobra.Command, args []string) error {
			seed, err := operatorSeed(args[0], c.in)
			if err != nil {
				return err
			}
			defer clear(seed)
			req.Seed = string(seed)
			out, err := local[api.OperatorKeyImport, api.OperatorKey](cmd.Context(), c, api.OpOperatorKeyImport, req, nil)
			return c.operatorChanged(out, err)
		},
	}
	cmd.Flags().StringVar(&req.Reason, "reason", "", "why, for the audit trail")
	return cmd
}

func (c *cli) operatorRemoveCommand() *cobra.Command {
	var req api.OperatorKeyRemove
	cmd := &cobra.Command{
		Use:   "remove",
		Short: "Delete the operator signing key that the store has",
		Long: `Deletes the operator signing key that the store has. What it has signed stays as it is; account
claims are left alone from then on, unless operator.signing_key is configured.`,
		Example: "  gatehouse keys operator remove --reason \"the key is in a file from now on\"",
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			out, err := local(cmd.Context(), c, api.OpOperatorKeyRemove, req, func(s *provision.Service) func(context.Context, provision.Caller, api.OperatorKeyRemove) (api.OperatorKey, error) {
				return s.OperatorKeyRemove
			})
			return c.operatorChanged(out, err)
		},
	}
	cmd.Flags().StringVar(&req.Reason, "reason", "", "why, for the audit trail")
	return cmd
}

func (c *cli) operatorChanged(out api.OperatorKey, err error) error {
	if err != nil {
		return err
	}
	if c.json {
		return printJSON(c.out, out)
	}
	c.printOperatorKey(out)
	return nil
}

// seedLine is the line of a key file that is the seed.
var seedLine = regexp.MustCompile(`(?m)^S[A-Z2-7]{57}\b`)

// maxKeyFile bounds a key file in bytes.
const maxKeyFile = 64 << 10

// operatorSeed reads the seed from a key file; - is standard input. No error holds anything of it.
func operatorSeed(path string, in io.Reader) ([]byte, error) {
	what := path
	if path == "-" {
		what = "standard input"
	} else {
		f, err := os.Open(path)
		if err != nil {
			return nil, err
		}
		defer func() { _ = f.Close() }()
		in = f
	}
	data, err := io.ReadAll(io.LimitReader(in, maxKeyFile))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", what, err)
	}
	defer clear(data)
	seed := seedLine.Find(data)
	if seed == nil {
		return nil, errors.New(what + " holds no nkey seed: write the seed (SO…) on a line of its own")
	}
	return append([]byte(nil), seed...), nil
}
