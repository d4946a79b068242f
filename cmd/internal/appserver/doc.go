// Package appserver runs the site's application server (gunicorn, uvicorn, daphne, …) as a child process of the gateway and replaces it
// without a gap: the new one is started on a socket of its own, gets the requests once it answers, and only then is the old one told to
// stop. A generation is one started process with its process group and its socket.
//
//	start ──► answers ──► serves ──► replaced: SIGTERM ─► ends by itself, or SIGKILL to its group after Config.StopTimeout
//	  │          ▲          │
//	  └─ ended ──┘          └─ ended: started again after a pause that grows with each failure in a row
//	     before it answered
//
// A generation is replaced on Reload (SIGHUP), when it is older than Config.MaxAge, and when its processes together hold more than
// Config.MaxMemory. A new one that does not answer, or answers with a server error, is stopped and the old one stays.
//
// An application server is ready when it answers a GET request with any status below 500, not when it accepts connections: gunicorn
// listens before its workers have imported the site.
//
// # Goroutines
//
//	goroutine        owner                 how many              stops when
//	supervisor       caller of Run         one                   Run's context ends, or the start is given up
//	process          generations WaitGroup one per generation,   the process has ended and its group is killed. It keeps its thread:
//	                                       locked to its thread  Linux' parent-death signal is about the thread that started the process
//	output           process               two per generation    the process has ended
//	stopper          generations WaitGroup one per replaced      its generation has ended
//	                                       generation
//	watcher          awaitReady            one                   the generation answers or has ended
package appserver
