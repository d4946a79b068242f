package dbtest

import "syscall"

// dieWithParent ends the server with the test process, however that ends (a timeout panics past every Cleanup).
func dieWithParent() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
}
