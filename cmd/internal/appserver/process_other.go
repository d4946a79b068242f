//go:build !linux

package appserver

import "syscall"

const supported = false

func ownGroup() *syscall.SysProcAttr { return nil }

func awaitExit(int) error { return ErrUnsupported }

func killGroup(int) error { return ErrUnsupported }

func groupMemory(int) (int64, error) { return 0, ErrUnsupported }
