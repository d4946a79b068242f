//go:build unix

package worker

import (
	"syscall"

	"github.com/dfws/dfws/celeryproto"
)

// rusage is what the process has used, by the names of Python's resource module (celery 5.7, worker/worker.py).
func rusage() celeryproto.Raw {
	var u syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &u) != nil {
		return rawText("N/A")
	}
	const micro = 1e6
	o := new(object)
	o.raw("utime", rawFloat(float64(u.Utime.Sec)+float64(u.Utime.Usec)/micro))
	o.raw("stime", rawFloat(float64(u.Stime.Sec)+float64(u.Stime.Usec)/micro))
	for _, n := range []struct {
		key   string
		value int64
	}{
		{"maxrss", int64(u.Maxrss)}, {"ixrss", int64(u.Ixrss)}, {"idrss", int64(u.Idrss)}, {"isrss", int64(u.Isrss)},
		{"minflt", int64(u.Minflt)}, {"majflt", int64(u.Majflt)}, {"nswap", int64(u.Nswap)},
		{"inblock", int64(u.Inblock)}, {"oublock", int64(u.Oublock)},
		{"msgsnd", int64(u.Msgsnd)}, {"msgrcv", int64(u.Msgrcv)}, {"nsignals", int64(u.Nsignals)},
		{"nvcsw", int64(u.Nvcsw)}, {"nivcsw", int64(u.Nivcsw)},
	} {
		o.int(n.key, n.value)
	}
	return o.json()
}
