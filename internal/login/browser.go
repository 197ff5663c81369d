package login

import (
	"fmt"
	"os"
	"os/exec"
	"runtime"
)

// Browser returns what opens an address in the person's browser; nil where there is none to be
// expected, as in an SSH session or a container.
func Browser() func(address string) error {
	command := browserCommand(runtime.GOOS, os.Getenv)
	if command == nil {
		return nil
	}
	return func(address string) error {
		if err := checkURL(address); err != nil { // also: no option of the command
			return err
		}
		cmd := exec.Command(command[0], append(command[1:], address)...)
		if err := cmd.Start(); err != nil {
			return fmt.Errorf("open the browser: %w", err)
		}
		go func() { _ = cmd.Wait() }() // it may stay as long as the browser does
		return nil
	}
}

// browserCommand returns the command that opens an address, without it.
func browserCommand(goos string, env func(string) string) []string {
	switch {
	case env("SSH_CONNECTION") != "":
		return nil // it would open on the other machine
	case goos == "darwin":
		return []string{"open"}
	case env("DISPLAY") != "" || env("WAYLAND_DISPLAY") != "":
		return []string{"xdg-open"}
	default:
		return nil
	}
}
