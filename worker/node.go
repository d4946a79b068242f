package worker

import (
	"os"
	"runtime"
	"runtime/debug"
	"strings"
	"time"

	"github.com/dfws/dfws/celeryproto"
)

// Software is how this library names itself in the events of workers (sw_ident), where Celery has "py-celery".
const Software = "go-dfws"

// modulePath is where the build notes the version of this library.
const modulePath = "github.com/dfws/dfws"

// node is who a worker is among the nodes of its broker, for remote control and events.
type node struct {
	name  string
	pid   int
	began time.Time
	clock *celeryproto.Clock // Celery's app.clock: events carry it
}

func newNode(name string) *node {
	return &node{name: name, pid: os.Getpid(), began: time.Now(), clock: &celeryproto.Clock{}}
}

// hostName is this machine, as the node names of all workers on it have it.
func hostName() string {
	host, err := os.Hostname()
	if err != nil || host == "" {
		return "localhost"
	}
	return host
}

// softwareVersion is the version of this library in the running program: that of the module, or "devel" where it was built from a
// working copy.
func softwareVersion() string {
	const unknown = "devel"
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return unknown
	}
	modules := append([]*debug.Module{&info.Main}, info.Deps...)
	for _, m := range modules {
		if m.Path != modulePath {
			continue
		}
		if m.Replace != nil {
			m = m.Replace
		}
		if version := strings.Trim(m.Version, "()"); version != "" {
			return strings.TrimPrefix(version, "v")
		}
	}
	return unknown
}

// systemName is Python's platform.system().
func systemName() string {
	switch runtime.GOOS {
	case "linux":
		return "Linux"
	case "darwin":
		return "Darwin"
	case "windows":
		return "Windows"
	case "freebsd":
		return "FreeBSD"
	default:
		return runtime.GOOS
	}
}
