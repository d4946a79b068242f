package appserver

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"
)

const supported = true

// ownGroup makes a child the leader of a process group, and lets it end when the thread that started it ends: with us, whatever kills us.
func ownGroup() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM}
}

// awaitExit waits until a child has ended and leaves it to be reaped: until then nobody else gets its number, and its group can be killed.
func awaitExit(pid int) error {
	for {
		err := unix.Waitid(unix.P_PID, pid, nil, unix.WEXITED|unix.WNOWAIT, nil)
		if !errors.Is(err, syscall.EINTR) {
			return os.NewSyscallError("waitid", err)
		}
	}
}

// killGroup kills what is left of a group.
func killGroup(pid int) error {
	if err := syscall.Kill(-pid, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
		return os.NewSyscallError("kill", err)
	}
	return nil
}

// groupMemory returns how many bytes the processes of a group hold: their proportional set size (proc(5), smaps_rollup), or the resident
// set size of those whose account we may not read.
func groupMemory(group int) (int64, error) {
	stats, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		return 0, err
	}
	var sum int64
	for _, stat := range stats {
		content, err := os.ReadFile(stat)
		if err != nil {
			continue // it has ended
		}
		// pid (comm) state ppid pgrp …: comm may hold anything, so count from the last parenthesis.
		fields := bytes.Fields(content[bytes.LastIndexByte(content, ')')+1:])
		if len(fields) < 22 || string(fields[2]) != strconv.Itoa(group) {
			continue
		}
		if pss, ok := readPSS(filepath.Join(filepath.Dir(stat), "smaps_rollup")); ok {
			sum += pss
		} else if pages, err := strconv.ParseInt(string(fields[21]), 10, 64); err == nil {
			sum += pages * int64(os.Getpagesize())
		}
	}
	return sum, nil
}

func readPSS(path string) (int64, bool) {
	content, err := os.ReadFile(path)
	if err != nil {
		return 0, false
	}
	for line := range bytes.Lines(content) {
		if value, found := bytes.CutPrefix(line, []byte("Pss:")); found {
			kilobytes, err := strconv.ParseInt(string(bytes.TrimSpace(bytes.TrimSuffix(bytes.TrimSpace(value), []byte("kB")))), 10, 64)
			return kilobytes << 10, err == nil
		}
	}
	return 0, false
}
