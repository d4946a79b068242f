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
// As those of a Celery worker (celery 5.7, apps/worker.py):
//
//	SIGTERM, SIGHUP       warm: nothing more is taken, what runs may end, up to --stop-timeout; however often
//	SIGINT                warm
//	SIGQUIT, SIGINT again cold: what runs may end within worker_soft_shutdown_timeout, then its contexts end; what is not acked goes back
//	a second time         the contexts end now
//	a third time          hard: handlers are no longer waited for; what is not acked goes back
//	a fourth time         the process ends: what is not acked is restored after the visibility timeout
//	SIGUSR1               the stacks of all goroutines are written to the log
//
// With the environment variable REMAP_SIGTERM=SIGQUIT, SIGTERM is as SIGQUIT. Different from Celery: a warm stop has an end, unless
// --stop-timeout is -1; SIGHUP does not restart the program.
//
// # Exit status
//
// 0 after a warm stop, 1 after a cold one or when something failed, 2 when the command line, the environment or the settings are wrong.
// (Celery 5.7 ends with 1 after a warm stop by SIGINT, and with 0 after a cold one, for which its source has 1.)
//
// There are no metrics: a program that wants some sets Program.Config.Observer, and serves them as it likes.
package command
