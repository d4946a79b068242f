//go:build !linux

package redistest

import "syscall"

// dieWithParent has no counterpart outside Linux: only Cleanup ends the server there.
func dieWithParent() *syscall.SysProcAttr { return nil }
