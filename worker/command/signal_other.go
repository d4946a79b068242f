//go:build !unix

package command

import "syscall"

// sigDump is a signal that nobody sends here.
const sigDump = syscall.Signal(-1)
