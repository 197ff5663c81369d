//go:build !linux

package devtest

import "syscall"

// dieWithParent is for Linux: elsewhere servers outlive a test that is killed.
func dieWithParent() *syscall.SysProcAttr { return nil }
