package main

import "github.com/spf13/cobra"

func (c *cli) accountCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "account",
		Short: "Accounts of sign-up: take over, write out",
		Args:  noArgs,
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(c.adoptCommand(), c.exportCommand())
	return cmd
}
