//go:build unix

package command

import "syscall"

// sigDump makes the program write the stacks of all goroutines to the log.
const sigDump = syscall.SIGUSR1
