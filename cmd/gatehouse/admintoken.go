package main

import (
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/gatehouse-nats/gatehouse/api"
	"github.com/gatehouse-nats/gatehouse/provision"
)

func (c *cli) adminTokenCommand() *cobra.Command {
	var req api.AdminTokenRequest
	cmd := &cobra.Command{
		Use:   "admin-token --rights R,… --reason WHY",
		Short: "Make a token to administer with while the provider is down",
		Long: `Makes a token for administration on this host, for when no issuer can make one: it is signed
with nats.callout.signing_key, and every replica with that key takes it. It is printed on standard
output and kept nowhere. That it was made is in the audit trail and the log, and so is each use.

The rights are revoke, sessions, accounts, audit and explain. Its life is 15 minutes unless --ttl says
otherwise, at most 1h. gatehouse revoke ends one before its time: the id that is printed is its token id.`,
		Example: `  umask 077
  gatehouse admin-token --rights revoke,sessions --reason "provider outage, INC-4711" > admin.jwt
  gatehouse revocations --url https://gatehouse.example.com --token-file admin.jwt`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			out, err := local(cmd.Context(), c, api.OpAdminToken, req,
				func(s *provision.Service) func(context.Context, provision.Caller, api.AdminTokenRequest) (api.AdminToken, error) {
					return s.MakeAdminToken
				})
			if err != nil {
				return err
			}
			if c.json {
				return printJSON(c.out, out)
			}
			fmt.Fprintf(c.err, "Admin token %s with the rights %s, until %s. Its making is recorded, and so is each use.\n", out.ID, strings.Join(out.Rights, ", "), when(out.Expires))
			_, err = fmt.Fprintln(c.out, out.Token)
			return err
		},
	}
	f := cmd.Flags()
	f.StringSliceVar(&req.Rights, "rights", nil, "what it is for: revoke, sessions, accounts, audit, explain")
	f.StringVar(&req.Reason, "reason", "", "why the issuer is gone around, for the audit trail")
	f.StringVar(&req.TTL, "ttl", "", "how long it is valid, at most 1h (default 15m)")
	f.StringVar(&req.IdempotencyKey, "idempotency-key", "", "makes one token when the same call is repeated, and shows it once; takes the store")
	return cmd
}
