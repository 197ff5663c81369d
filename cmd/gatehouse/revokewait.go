package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/gatehouse-nats/gatehouse/api"
	"github.com/gatehouse-nats/gatehouse/provision"
)

// errPartial marks what is done in part: the rest goes on by itself, or somebody has to look.
var errPartial = errors.New("not done yet")

func (c *cli) waitCommand() *cobra.Command {
	var timeout time.Duration
	cmd := &cobra.Command{
		Use:   "wait ID",
		Short: "Wait until it is proved that nothing is left of what a revocation ends",
		Args:  exactArgs(1, "the id of a revocation"),
		RunE: func(cmd *cobra.Command, args []string) error {
			progress, err := c.await(cmd.Context(), args[0], timeout)
			if err != nil {
				return err
			}
			return c.printProgress(args[0], progress, progress)
		},
	}
	cmd.Flags().DurationVar(&timeout, "timeout", time.Minute, "longest time to wait")
	return cmd
}

// proof is the answer to revoke with --wait, for programs.
type proof struct {
	api.RevokeResult
	api.Progress
}

// awaitRevocation waits for the end of a revocation and says how it came out.
func (c *cli) awaitRevocation(ctx context.Context, result api.RevokeResult, timeout time.Duration) error {
	if !c.json {
		if err := c.printRevocation(result); err != nil {
			return err
		}
	}
	progress, err := c.await(ctx, result.Revocation.ID, timeout)
	if err != nil {
		return err
	}
	return c.printProgress(result.Revocation.ID, progress, proof{result, progress})
}

// await asks for the progress of a revocation until it is done or time is up, and shows it on a terminal.
func (c *cli) await(ctx context.Context, id string, timeout time.Duration) (api.Progress, error) {
	end := time.Now().Add(timeout)
	show := terminal(c.err)
	var progress api.Progress
	for {
		req := api.RevocationProgressRequest{ID: id, Wait: int(min(max(time.Until(end), 0), time.Second).Seconds())}
		next, err := local(ctx, c, api.OpProgress, req,
			func(s *provision.Service) func(context.Context, provision.Caller, api.RevocationProgressRequest) (api.Progress, error) {
				return s.Progress
			})
		refused, ok := errors.AsType[*api.Error](err)
		switch again := ok && refused.Reason == api.ReasonUnavailable; {
		case err != nil && ctx.Err() != nil:
			return progress, fmt.Errorf("%w: nobody waits any more; it goes on by itself, gatehouse revoke wait %s waits for it", errPartial, id)
		case err != nil && !again:
			return progress, err
		case err == nil:
			progress = next
		}
		if show {
			fmt.Fprintf(c.err, "\r\x1b[K%s", summary(progress))
		}
		if progress.Done || ctx.Err() != nil || time.Now().After(end) {
			if show {
				fmt.Fprint(c.err, "\r\x1b[K")
			}
			return progress, nil
		}
	}
}

// summary says in one line how far a revocation is.
func summary(p api.Progress) string {
	return fmt.Sprintf("%d of %d replicas deny, %d of %d servers are clear, %s closed, %d left",
		p.Replicas, p.ReplicasKnown, p.ServersAnswered, p.ServersKnown, count(p.Closed, "connection"), p.Left)
}

// printProgress says how a revocation came out; it returns an error unless all of it is true.
func (c *cli) printProgress(id string, p api.Progress, forPrograms any) error {
	if c.json {
		if err := printJSON(c.out, forPrograms); err != nil {
			return err
		}
	} else if p.Done {
		fmt.Fprintf(c.out, "Done after %s: %s.\n", (time.Duration(p.TookMS) * time.Millisecond).Round(10*time.Millisecond), summary(p))
	}
	if p.Done {
		return nil
	}
	return fmt.Errorf("%w: %s; %s: it goes on by itself, gatehouse revoke wait %s waits for it", errPartial, summary(p), outstanding(p), id)
}

// outstanding names what a revocation waits for.
func outstanding(p api.Progress) string {
	var parts []string
	if p.ReplicasKnown == 0 {
		parts = append(parts, "no replica runs, start one with gatehouse serve")
	}
	if len(p.ReplicasMissing) > 0 {
		parts = append(parts, "not confirmed by "+strings.Join(p.ReplicasMissing, ", "))
	}
	if len(p.ServersMissing) > 0 {
		parts = append(parts, "no answer from "+strings.Join(p.ServersMissing, ", "))
	}
	if p.Claims != "" {
		parts = append(parts, "claims: "+p.Claims)
	}
	if len(parts) == 0 {
		return "the last look at the servers is due once no login from before can come through"
	}
	return printable(strings.Join(parts, "; "))
}
