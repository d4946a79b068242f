package main

import "syscall"

// ownGroup makes a process the leader of a group, whose processor time can be told.
func ownGroup() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }
