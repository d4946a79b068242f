// Package command is the main function of a worker program, with the options of `celery worker`:
//
//	func main() { command.Main("shop", register) }
//
//	func register(w *worker.Worker) {
//		worker.HandleTask(w, worker.Task[order, int]{Name: "shop.total", Run: total})
//	}
//
// It is to users' programs what cmd is to this project: the one place that reads flags, the environment and files, catches OS signals
// and exits. Package worker does none of that.
//
// # Options
//
// They are written as getopt_long takes them: -Q a,b  -Qa,b  --queues a,b  --queues=a,b  -Ec4. Each has an environment variable, DFWS_
// and its long name: DFWS_QUEUES, DFWS_WITHOUT_GOSSIP=1. A flag wins over the environment, that over Program.Config, that over the
// site's Celery settings, those over the default. A malformed value is an error wherever it stands. Options of `celery worker` that mean
// nothing here are refused by name, with what to do instead.
//
// # OS signals
//
//	SIGTERM, SIGINT, SIGHUP   warm: nothing more is taken, what runs may end, up to --stop-timeout
//	the same once more        cold: the contexts of what runs end (after worker_soft_shutdown_timeout), what is not acked goes back
//	a third time              the process ends at once: what is not acked is restored after the visibility timeout
//	SIGQUIT                   cold
//	SIGUSR1                   the stacks of all goroutines are written to the log
//
// # Exit status
//
// 0 after a warm stop, 1 after a cold one or when something failed, 2 when the command line, the environment or the settings are wrong.
//
// There are no metrics: a program that wants some sets Program.Config.Observer, and serves them as it likes.
package command
