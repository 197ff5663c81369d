// Command storm measures an auth-callout service as a black box: logins per second,
// latency, CPU per admission and peak memory of the service process. It reads /proc, so it
// runs on Linux only.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/gatehouse-nats/gatehouse/bench/report"
	"github.com/gatehouse-nats/gatehouse/bench/rig"
)

var (
	natsServer = flag.String("nats-server", "", "nats-server binary (default: the one beside storm)")
	adapter    = flag.String("adapter", "", "executable started as: ADAPTER env.json; it must exec the service")
	n          = flag.Int("n", 3000, "connections")
	conc       = flag.Int("c", 32, "concurrent connecting clients")
	alg        = flag.String("alg", "ES256", "token algorithm")
	tokens     = flag.Int("tokens", 0, "distinct tokens (0: one per connection)")
	xkey       = flag.Bool("xkey", true, "encrypt callouts")
	burst      = flag.Int("burst", 0, "reconnect storm: this many clients at once, each retrying until in")
	timeout    = flag.Duration("timeout", 5*time.Second, "client connect timeout")
	retry      = flag.Duration("retry", 2*time.Second, "with -burst: wait between tries (nats.go's default)")
	client     = flag.String("client", bare, "with -burst: "+bare+", or "+library+": clients of Gatehouse's library that are all cut off at once")
	bad        = flag.Float64("bad", 0, "share of clients whose tokens are bad; they try once")
	badKind    = flag.String("bad-kind", badSignature, "what is bad about the tokens of -bad and -background: "+strings.Join(badKinds, ", "))
	seen       = flag.Bool("seen", false, "every token has logged in once before the measurement")
	pace       = flag.Float64("pace", 0, "this many logins a second, whether earlier ones have ended or not, instead of -c at a time")
	background = flag.Float64("background", 0, "with -pace: after -n logins in quiet, -n logins while this many bad ones a second come from another address")
	slow       = flag.Duration("slow-issuer", 0, "with -background: its logins hold tokens of a second issuer, which takes this long for an answer and has a new key each time")
	stay       = flag.Bool("stay", false, "with -burst: keep admitted clients connected until the end")
	keep       = flag.Bool("keep", false, "keep the work folder")
)

func main() {
	flag.Parse()
	if *adapter == "" {
		fmt.Fprintln(os.Stderr, "storm: -adapter is required")
		os.Exit(2)
	}
	if err := checkFlags(); err != nil {
		fmt.Fprintln(os.Stderr, "storm:", err)
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "storm:", err)
		os.Exit(1)
	}
}

// run sets the world up, starts the service in it, measures and prints the result.
func run(ctx context.Context) error {
	dir, err := os.MkdirTemp("", "storm")
	if err != nil {
		return err
	}
	if !*keep {
		defer os.RemoveAll(dir)
	}
	if *natsServer == "" {
		self, err := os.Executable()
		if err != nil {
			return err
		}
		*natsServer = filepath.Join(filepath.Dir(self), "nats-server")
	}
	w := rig.Start(dir, rig.Options{NatsServer: *natsServer, XKey: *xkey, SlowIssuer: *slow})
	defer w.Stop()

	log := filepath.Join(dir, "service.log")
	service, err := startService(filepath.Join(dir, "env.json"), log)
	if err != nil {
		return err
	}
	defer func() { _ = syscall.Kill(-service, syscall.SIGKILL) }()

	l := newLoad(w)
	if err := l.warmUp(ctx); err != nil {
		b, _ := os.ReadFile(log)
		return fmt.Errorf("%w\n%s", err, b)
	}
	type outcome struct {
		report.Result
		err error
	}
	done := make(chan outcome, 1)
	go func() {
		r, err := measure(l, service, w.ServerPID())
		done <- outcome{r, err}
	}()
	select {
	case <-ctx.Done():
		return errors.New("interrupted")
	case r := <-done:
		if r.err != nil {
			return r.err
		}
		b, err := json.MarshalIndent(r.Result, "", "  ")
		if err != nil {
			return err
		}
		fmt.Println(string(b))
		return nil
	}
}

// startService starts the adapter in a process group of its own and returns its pid.
func startService(env, log string) (int, error) {
	f, err := os.Create(log)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	cmd := exec.Command(*adapter, env)
	cmd.Stdout, cmd.Stderr = f, f
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		return 0, err
	}
	return cmd.Process.Pid, nil
}
