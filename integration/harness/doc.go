// Package harness runs the real programs that a site consists of: Redis, Django behind gunicorn or daphne, Celery workers,
// the gateway, Go workers and Chromium. Everything listens on free loopback ports, is ready when its function returns, logs
// to a file of its own and is gone after [Lab.Close], also when the harness itself is killed.
//
//	Lab                       the interpreter, built binaries, log files, all processes
//	└── Site                  one Redis and one Django database
//	    ├── Gunicorn, Daphne  Django over HTTP; daphne also as the websocket server to compare with
//	    ├── Celery            a Python worker
//	    ├── Gateway           dfws gateway in front of one of them
//	    ├── GoWorker          a Go worker
//	    ├── Client, Window    a plain HTTP and websocket client with cookies: exact frames
//	    └── Journal           what the Python handlers say they did
//	Browser                   Chromium through its remote debugging port
//
// Readiness is always a condition that is polled with a deadline (a page that answers, a line in a log, an entry in Redis).
//
// Goroutines: one per [Process] (waits for its end; owned by the Lab, stops with the process), one per [Window] (reads frames;
// stops with the connection).
package harness
