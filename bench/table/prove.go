package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"regexp"
	"strconv"
)

// proveCommand measures a frozen replica; it runs in the root of the repository.
var proveCommand = words("GATEHOUSE_PROVE=1 scripts/with-postgres.sh go test ./cmd/gatehouse -run TestProveFrozenReplica -count=1 -v")

// frozen is what the test logs.
var frozen = regexp.MustCompile(`at most (\d+) logins failed \(([0-9.]+) s worth of its share\), the last of them began (\S+) after the freeze`)

// proveFrozen runs the test, a second time when it fails, and returns its figures.
func proveFrozen(ctx context.Context) ([]line, error) {
	out, err := prove(ctx)
	if err != nil && ctx.Err() == nil {
		fmt.Fprintf(os.Stderr, "   failed, and is repeated once: %v\n%s\n", err, told(out))
		out, err = prove(ctx)
	}
	l, parsed := parseFrozen(out)
	switch {
	case parsed != nil && err == nil:
		return nil, parsed
	case parsed != nil:
		return nil, fmt.Errorf("%w: %w\n%s", parsed, err, told(out))
	case err != nil && l.level != missed: // it failed for something else
		return nil, fmt.Errorf("%w\n%s", err, told(out))
	}
	return []line{l}, nil
}

func prove(ctx context.Context) ([]byte, error) {
	cmd := command(ctx, "env", proveCommand...)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	err := cmd.Run()
	return out.Bytes(), err
}

// said is a line of go test that tells what a test says, and not what its processes log.
var said = regexp.MustCompile(`^ +[a-z0-9_]+_test\.go:[0-9]+: |^ *--- |^(ok|FAIL|panic:)`)

// told returns those lines; all there are when there is none.
func told(out []byte) []byte {
	var lines []byte
	for l := range bytes.Lines(out) {
		if said.Match(l) {
			lines = append(lines, l...)
		}
	}
	if len(lines) == 0 {
		return out
	}
	return lines
}

// parseFrozen reads what the test logged.
func parseFrozen(out []byte) (line, error) {
	m := frozen.FindSubmatch(out)
	if m == nil {
		return line{}, fmt.Errorf("the test logged no figures")
	}
	worth, err := strconv.ParseFloat(string(m[2]), 64)
	if err != nil {
		return line{}, err
	}
	return line{
		what:  "failed logins, worst of 5 rounds; when the last of them began",
		own:   fmt.Sprintf("%s (%.2f s worth of its share); %s after the freeze", m[1], worth, m[3]),
		bar:   "≤ 1.5 s worth of its share",
		level: judge(worth <= 1.5, false),
	}, nil
}
