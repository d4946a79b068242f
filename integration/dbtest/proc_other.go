//go:build !linux

package dbtest

import "syscall"

// dieWithParent has no counterpart outside Linux: only Cleanup ends the server there.
func dieWithParent() *syscall.SysProcAttr { return &syscall.SysProcAttr{} }
