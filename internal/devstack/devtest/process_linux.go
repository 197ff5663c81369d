package devtest

import "syscall"

// dieWithParent makes the kernel kill the process when the test dies, however it dies.
func dieWithParent() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
}
