package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/gatehouse-nats/gatehouse/api"
)

// The exit codes of every command.
const (
	exitDone    = 0
	exitFailed  = 1
	exitUsage   = 2
	exitRefused = 3
	exitPartial = 4
)

// stdio is what a command reads and writes.
type stdio struct {
	in       io.Reader
	out, err io.Writer
	env      []string
}

// getenv returns a variable of the command's environment.
func (s stdio) getenv(name string) string {
	value := ""
	for _, e := range s.env {
		if v, ok := strings.CutPrefix(e, name+"="); ok {
			value = v
		}
	}
	return value
}

// terminal reports whether w is one.
func terminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// cli is what every command needs.
type cli struct {
	stdio
	configFile string // -c
	json       bool   // --json
	remote     remote // --url
}

// config returns the path of the configuration file: -c, $GATEHOUSE_CONFIG, ./gatehouse.yaml.
func (c *cli) configPath() string {
	if c.configFile != "" {
		return c.configFile
	}
	if path := c.getenv("GATEHOUSE_CONFIG"); path != "" {
		return path
	}
	return "gatehouse.yaml"
}

// errUsage marks errors of how a command was called.
var errUsage = errors.New("wrong usage")

// errRefused marks an answer that is a refusal rather than a failure.
var errRefused = errors.New("refused")

// run carries out one command line and returns the exit code.
func run(ctx context.Context, args []string, io stdio) int {
	c := &cli{stdio: io}
	root := c.root()
	root.SetArgs(args)
	root.SetIn(io.in)
	root.SetOut(io.out)
	root.SetErr(io.err)
	err := root.ExecuteContext(ctx)
	if err != nil {
		// The client library names itself in its errors as well.
		fmt.Fprintln(io.err, "gatehouse:", strings.TrimPrefix(strings.TrimSpace(err.Error()), "gatehouse: "))
	}
	return exitCode(err)
}

func exitCode(err error) int {
	var refused *api.Error
	errors.As(err, &refused)
	switch {
	case err == nil:
		return exitDone
	case errors.Is(err, errUsage):
		return exitUsage
	case errors.Is(err, errPartial):
		return exitPartial
	case errors.Is(err, errRefused):
		return exitRefused
	case refused != nil && refused.Reason == api.ReasonBadRequest:
		return exitUsage
	case refused != nil && refused.Code >= 400 && refused.Code < 500:
		return exitRefused
	default:
		return exitFailed
	}
}

func (c *cli) root() *cobra.Command {
	root := &cobra.Command{
		Use:           "gatehouse",
		Short:         "Log in to NATS with the OIDC tokens you already have",
		SilenceErrors: true,
		SilenceUsage:  true,
		Version:       version,
		Args:          knownCommand,
		RunE:          func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	root.CompletionOptions.HiddenDefaultCmd = false
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return fmt.Errorf("%w: %w", errUsage, err) })
	root.PersistentFlags().StringVarP(&c.configFile, "config", "c", "", "configuration file (default $GATEHOUSE_CONFIG, then ./gatehouse.yaml)")
	root.PersistentFlags().BoolVar(&c.json, "json", false, "print JSON for programs: one object, or one a line")

	const (
		start, service, policy, access, client = "start", "service", "policy", "access", "client"
	)
	root.AddGroup(
		&cobra.Group{ID: start, Title: "Start here:"},
		&cobra.Group{ID: service, Title: "The service:"},
		&cobra.Group{ID: policy, Title: "Policy:"},
		&cobra.Group{ID: access, Title: "Access:"},
		&cobra.Group{ID: client, Title: "As a user:"},
	)
	for group, commands := range map[string][]*cobra.Command{
		start:   {c.devCommand(), c.initCommand()},
		service: {c.serveCommand(), c.checkCommand(), c.statusCommand(), c.reloadCommand(), c.migrateCommand(), c.keysCommand()},
		policy:  append(c.reachable(c.explainCommand()), c.policyCommand()),
		access:  append(c.reachable(c.revokeCommand(), c.revocationsCommand(), c.sessionsCommand(), c.kickCommand(), c.auditCommand()), c.adminTokenCommand(), c.accountCommand(), c.applyCommand()),
		client:  {c.loginCommand(), c.whoamiCommand(), c.connectCommand(), c.credsCommand()},
	} {
		for _, cmd := range commands {
			cmd.GroupID = group
			root.AddCommand(cmd)
		}
	}
	root.AddCommand(c.versionCommand())
	return root
}

// knownCommand refuses what is no command of a group with the usage exit code.
func knownCommand(parent *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	parent.SuggestionsMinimumDistance = 2
	hint := "see " + parent.CommandPath() + " --help"
	if near := parent.SuggestionsFor(args[0]); len(near) > 0 {
		hint = "did you mean " + strings.Join(near, " or ") + "?"
	}
	return fmt.Errorf("%w: there is no command %q: %s", errUsage, args[0], hint)
}

// noArgs refuses arguments with the usage exit code.
func noArgs(cmd *cobra.Command, args []string) error {
	if len(args) > 0 {
		return fmt.Errorf("%w: %s takes no argument, got %q; see %s --help", errUsage, cmd.CommandPath(), args[0], cmd.CommandPath())
	}
	return nil
}

// exactArgs refuses another number of arguments with the usage exit code.
func exactArgs(n int, what string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) != n {
			return fmt.Errorf("%w: %s needs %s; see %s --help", errUsage, cmd.CommandPath(), what, cmd.CommandPath())
		}
		return nil
	}
}
