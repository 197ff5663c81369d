package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/gatehouse-nats/gatehouse/account"
	"github.com/gatehouse-nats/gatehouse/api"
)

func (c *cli) graphCommand(f *accountFlags) *cobra.Command {
	format := "mermaid"
	cmd := &cobra.Command{
		Use:   "graph",
		Short: "Draw who imports what from whom",
		Long: `Draws which accounts import what from which others: of admins all, of everybody else the accounts
whose member they are. Arrows go as messages do, those of services as requests do; imports of
private exports are dotted.`,
		Example: `  gatehouse account graph > accounts.mmd
  gatehouse account graph --format dot | dot -Tsvg > accounts.svg`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if format != "mermaid" && format != "dot" && format != "json" {
				return fmt.Errorf("%w: --format %s is none: use mermaid, dot or json", errUsage, format)
			}
			out, err := onAccount[api.AccountGraph](cmd.Context(), c, f, api.OpAccountGraph, api.AccountGraphRequest{})
			if err != nil {
				return err
			}
			if c.json || format == "json" {
				return printJSON(c.out, out)
			}
			g := &account.Graph{}
			for _, n := range out.Accounts {
				g.Nodes = append(g.Nodes, account.GraphNode(n))
			}
			for _, l := range out.Links {
				g.Links = append(g.Links, account.GraphLink(l))
			}
			text := g.Mermaid()
			if format == "dot" {
				text = g.DOT()
			}
			_, err = fmt.Fprint(c.out, text)
			return err
		},
	}
	cmd.Flags().StringVar(&format, "format", format, "mermaid, dot or json")
	return cmd
}
