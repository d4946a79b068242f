package command

// refused are the options of `celery` and `celery worker` (celery 5.7, bin/celery.py, bin/worker.py) that a Go worker does not have, with
// what to do instead.
var refused = map[string]string{
	"-A":                       hintApp,
	"--app":                    hintApp,
	"-b":                       hintBroker,
	"--broker":                 hintBroker,
	"--result-backend":         hintBroker,
	"--loader":                 hintApp,
	"--config":                 hintBroker,
	"--workdir":                "start the program in that directory",
	"-C":                       "it never writes colors",
	"--no-color":               "it never writes colors",
	"-q":                       "use --loglevel",
	"--quiet":                  "use --loglevel",
	"-D":                       hintDaemon,
	"--detach":                 hintDaemon,
	"--uid":                    hintDaemon,
	"--gid":                    hintDaemon,
	"--umask":                  hintDaemon,
	"--executable":             hintDaemon,
	"-S":                       "it learns at its start from the other workers what is revoked",
	"--statedb":                "it learns at its start from the other workers what is revoked",
	"-P":                       hintPool,
	"--pool":                   hintPool,
	"--pool-start-method":      hintPool,
	"--max-tasks-per-child":    hintPool,
	"--max-memory-per-child":   hintPool,
	"--purge":                  "use `celery purge`",
	"--discard":                "use `celery purge`",
	"-I":                       "its tasks are compiled into the program",
	"--include":                "its tasks are compiled into the program",
	"-B":                       hintBeat,
	"--beat":                   hintBeat,
	"-s":                       hintBeat,
	"--schedule":               hintBeat,
	"--schedule-filename":      hintBeat,
	"--scheduler":              hintBeat,
	"--disable-prefetch":       "use --prefetch-multiplier 1",
	"--skip-checks":            "it has no checks of Django's",
	"--without-remote-control": "set worker_enable_remote_control = False in Celery's settings",
}

const (
	hintApp    = "the program is the app"
	hintBroker = "the broker and all else are in the file that `manage.py dfws settings --output FILE` writes (--settings)"
	hintDaemon = "let systemd or a container run it, with its user and its restarts"
	hintPool   = "its tasks run in goroutines of one process; -c says in how many"
	hintBeat   = "run `celery beat` beside it"
)
