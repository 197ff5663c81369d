// Command gatehouse lets people and programs log in to NATS with OIDC tokens: the service
// and its command line in one binary.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"
)

// version is the release, set by the linker.
var version = "0.0.0-dev"

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	os.Exit(run(ctx, os.Args[1:], stdio{in: os.Stdin, out: os.Stdout, err: os.Stderr, env: os.Environ()}))
}
