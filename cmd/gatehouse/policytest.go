package main

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/gatehouse-nats/gatehouse/api"
	"github.com/gatehouse-nats/gatehouse/cmd/gatehouse/config"
	"github.com/gatehouse-nats/gatehouse/policy"
	"github.com/gatehouse-nats/gatehouse/policy/cases"
	"github.com/gatehouse-nats/gatehouse/provision"
)

func (c *cli) policyCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "policy",
		Short: "Test a policy, and see what a change of it does",
		Args:  knownCommand,
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(c.policyTestCommand(), c.policyDiffCommand())
	return cmd
}

// inputError is an error in a file that was given to read: the call is wrong, and nothing was found out.
type inputError struct{ error }

func (inputError) Is(target error) bool { return target == errUsage }

func (e inputError) Unwrap() error { return e.error }

func (c *cli) policyTestCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "test FILE...",
		Short: "Decide on the cases in files, and compare with what they expect",
		Long: `Decides on the logins that the files describe and compares with what they expect. It needs
neither network nor keys: those that the configuration names are left unread, so that it runs
in a CI that must not hold them. Blocks and logouts are no part of it.

Exit codes: 0 all cases passed, 1 a case failed, 2 wrong usage, or a file that cannot be used.`,
		Example: `  gatehouse policy test -c gatehouse.yaml policy/cases.yaml`,
		Args:    someFiles,
		RunE: func(_ *cobra.Command, files []string) error {
			cfg, err := c.loadPolicy(c.configPath())
			if err != nil {
				return err
			}
			list, err := readCases(files, cfg)
			if err != nil {
				return err
			}
			return c.runCases(cfg.Rules(), list)
		},
	}
}

func someFiles(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return fmt.Errorf("%w: %s needs a file of cases; see %s --help", errUsage, cmd.CommandPath(), cmd.CommandPath())
	}
	return nil
}

// loadPolicy reads a configuration to decide by, without its secrets.
func (c *cli) loadPolicy(path string) (*config.Config, error) {
	cfg, err := config.LoadPolicy(path, c.env)
	if err != nil {
		return nil, inputError{err}
	}
	return cfg, nil
}

// readCases reads the files of cases; what is wrong with any is reported at once.
func readCases(files []string, configurations ...*config.Config) ([]cases.Case, error) {
	var all []cases.Case
	var problems config.Errors
	for _, file := range files {
		list, err := config.ReadCases(file, configurations...)
		if wrong, ok := errors.AsType[config.Errors](err); ok {
			problems = append(problems, wrong...)
		} else if err != nil {
			return nil, inputError{err}
		}
		all = append(all, list...)
	}
	if len(problems) > 0 {
		return nil, inputError{problems}
	}
	return all, nil
}

// tested is what gatehouse policy test prints for programs.
type tested struct {
	Passed      int          `json:"passed"`
	Failed      int          `json:"failed"`
	Cases       []testedCase `json:"cases"`
	Unexercised []string     `json:"unexercised"` // bindings that give something in no case
}

// testedCase is a case and what became of it.
type testedCase struct {
	Name     string        `json:"name"`
	At       string        `json:"at"`
	Passed   bool          `json:"passed"`
	Failures []string      `json:"failures,omitempty"`
	Decision api.Decision  `json:"decision"`
	Verdicts []api.Verdict `json:"verdicts"`
}

func (c *cli) runCases(rules *policy.Rules, list []cases.Case) error {
	var results []cases.Result
	out := tested{Cases: []testedCase{}}
	for _, one := range list {
		r := cases.Run(rules, one, time.Now())
		results = append(results, r)
		shown := testedCase{Name: one.Name, At: one.At, Passed: len(r.Failures) == 0, Failures: r.Failures, Decision: provision.Decision(r.Decision), Verdicts: []api.Verdict{}}
		for _, v := range r.Verdicts {
			shown.Verdicts = append(shown.Verdicts, api.Verdict(v))
		}
		out.Cases = append(out.Cases, shown)
		if shown.Passed {
			out.Passed++
		} else {
			out.Failed++
		}
	}
	out.Unexercised = append([]string{}, cases.Unexercised(rules, results)...)
	if err := c.printTested(out); err != nil {
		return err
	}
	if out.Failed > 0 {
		return fmt.Errorf("%d of %d cases failed", out.Failed, len(out.Cases))
	}
	return nil
}

func (c *cli) printTested(out tested) error {
	if c.json {
		return printJSON(c.out, out)
	}
	for _, one := range out.Cases {
		if one.Passed {
			continue
		}
		fmt.Fprintf(c.out, "%s: %s: %s\n", one.At, printable(one.Name), printable(strings.Join(one.Failures, "; ")))
		printVerdicts(c.out, one.Verdicts)
	}
	fmt.Fprintf(c.out, "%d passed, %d failed.\n", out.Passed, out.Failed)
	if len(out.Unexercised) > 0 {
		fmt.Fprintf(c.out, "No case gets anything by: %s\n", printable(strings.Join(out.Unexercised, ", ")))
	}
	return nil
}

// printVerdicts says what became of each binding, those that apply first.
func printVerdicts(w io.Writer, verdicts []api.Verdict) {
	const most = 20
	shown := 0
	for _, applies := range []bool{true, false} {
		for _, v := range verdicts {
			if v.Applies != applies {
				continue
			}
			if shown++; shown <= most {
				fmt.Fprintf(w, "    %s: %s\n", printable(v.Binding), printable(v.Why))
			}
		}
	}
	if shown > most {
		fmt.Fprintf(w, "    and %d more bindings\n", shown-most)
	}
}
