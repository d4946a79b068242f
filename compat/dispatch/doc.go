// Package dispatch turns one trigger of a signal into Celery tasks and group messages, with the registry of signals that Python and Go share.
//
//	         handlers of Python (the Django app dfws)   handlers of Go workers
//	                      │ HSET + PUBLISH                    │
//	                      ▼                                   ▼
//	         Redis hash <prefix>registry  ──change channel──▶ Registry (snapshot in memory)
//	                                                              │
//	Trigger{Signal, To, Opts, …} ─▶ Dispatcher.Plan ─▶ one task per queue ──▶ broker
//	                                            └────▶ one frame, one group message per topic ──▶ channel layer
//
// A task's seventh argument is the exact queue that it goes to, and its window info is never null: Python workers ignore anything else.
// Queues that only Python can compute are resolved by a task that Python runs (ResolveTaskName). Delayed messages to browsers travel as a
// task on the queue of Go workers, because Python never sends them.
//
// On a site whose WEBSOCKET_WORKERS is "channels" the calls go to channels of the layer instead of the broker, by a LayerPublisher; a call goes to all
// queues that a dynamic one may be, and delays are refused (ErrNeedsCelery).
//
// The Store also reads the tickets that Django writes for the gateway, and hears of revocations.
//
// Goroutines: Services.Run starts one for the registry, through an errgroup that it waits for; Registry.Run and Store.WatchRevocations
// start none of their own (go-redis runs one or two per subscription and ends them when it is closed).
package dispatch
