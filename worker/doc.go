// Package worker runs df_websockets signals and plain Celery tasks in Go, beside Python workers on the same Redis.
//
//	settings, err := worker.LoadSettings("dfws.json") // from manage.py dfws settings --output dfws.json
//	w, err := worker.New(worker.Config{Settings: settings, App: "shop"})
//	worker.HandleSignal(w, worker.Signal[Hello]{Name: "shop.hello", Allow: worker.Everyone, Run: hello})
//	worker.HandleTask(w, worker.Task[Order, int]{Name: "shop.total", Run: total})
//	err = w.Run(ctx)
//
// Package worker/command has all of that, and the options of `celery worker`, in one call for a program's main function.
//
//	queue ──take──▶ unacked ──▶ open ──┬──▶ slot: rules, arguments, handlers ──▶ what follows it ──▶ result and ack
//	  ▲                                ├──▶ ETA not reached: schedule ──▶ slot
//	  │                                ├──▶ faster than its rate: limiter ──▶ slot
//	  │                                ├──▶ revoked, or its time over: REVOKED, ack
//	  └── hop + 1, after a wait ◀──────┼──── no handler here
//	                                   └──▶ no handler within MaxHops, undecodable: dead letters
//
// # Guarantees
//
// At least once: a task is acked in the step that stores its result. Where the process dies before that, the task is run again, here
// or in Python, once the broker's visibility timeout is over; Call.Redelivered and TaskCall.Redelivered then are true. Handlers that
// must not be repeated check it, or set TaskOptions.AcksLate to No (Config.AckEarly for all), which is Celery's default: acked first,
// lost in a crash. Messages go from queue to unacked in one step and have no moment in which they are nowhere. What the worker holds
// is refreshed while it runs or waits, so that nothing runs twice because it takes long.
//
// What a handler triggers or sends is in Redis when the call returns: tasks at least once, frames to browsers at most once.
//
// A task without handler goes back to the end of its queue with the header dfws_hops, after 100 ms at first and twice as long each
// time, for a worker that has one; or at once to Config.UnknownQueue. From its second return on the worker then leaves that queue
// alone, for 250 ms and twice as long each time up to 2 s, so that the others are not forestalled: its own tasks there are late by
// that much, other queues go on, and it has the queue at least half of the time. After Config.MaxHops it goes to the dead letters, and
// whoever waits for its result gets NotRegistered. So does a message that cannot be decoded, at once (DecodeError), and one of this
// worker's own tasks in a serializer or compression that accept_content or Go does not have (ContentDisallowed; other tasks in one go
// back to their queue).
//
// While Redis is away nothing is dropped: taking, results and acks go on when it is back.
//
// # Tasks
//
// HandleTask registers a function whose arguments are a struct, HandleFunc any function of typed positional arguments or raw ones.
// TaskOptions are a Celery task's attributes; task_annotations of the site win over them. A handler steers what becomes of its task by
// the error it returns: Retry, Reject, Requeue, Replace, ErrIgnore. Through its *TaskCall it sends tasks and compositions (Apply), grows
// the chord it is in (AddToChord) and tells of its progress (UpdateState).
//
// What follows a task is sent as Celery does it: callbacks and the rest of its chain before its result is stored, then its part in a
// chord, whose last part sends the body; errbacks after a failure. Package canvas builds compositions. An errback that is a Python
// function of (request, exc, traceback) is called by a Python worker that has the Django app dfws; without one it is sent as a task
// that gets the ID. The tasks that every Celery app has, celery.map, starmap, chunks, group, chain, chord, chord_unlock, accumulate and
// backend_cleanup, are there as well.
//
// # Signals
//
// A signal's handlers on the queue of the task run in the order of their registration. Unlike in df_websockets each is
// for itself: one that fails does not keep the next from running, and none sees what another made of the arguments. A
// handler whose rule says no, or whose arguments do not fit, is skipped with a warning and counted. The signal's task has
// failed when one of its handlers failed; the others' effects stay. A delayed signal to browsers (argument 4 of the task,
// which Python workers never deliver) is sent by the Go worker that takes it.
//
// On a site whose WEBSOCKET_WORKERS is "channels" the calls of signals come over the channel layer, on channels named like the queues, as
// Channels' runworker receives them; plain tasks come from the broker all the same. Such calls are at most once: there is nothing to be
// acked, and no dead letters, but what was not begun when the worker stops, and what it has no handler for, is sent again. On a pub/sub layer
// every worker of a queue runs each call.
//
// # Arguments
//
// Each exported field of the struct is an argument: its name is that of the tag, `arg:"user_id"`, else the field's in
// snake case (UserID: user_id). It is required unless it is a pointer or the tag says `,omitempty`. Unknown arguments are
// refused, unless a map[string]any field tagged `arg:",remain"` takes them. `arg:"-"` is no argument; a struct field with
// `arg:",squash"`, or an embedded one, lends its own. A map[string]any instead of a struct takes everything. Nested
// structs follow the same rules. Positional arguments of tasks fill the fields in their order. Errors name the argument
// and the rule, never the value.
//
// Conversions are strict; none of Python's annotations int("5"), int(5.7) or bool("false") happens here:
//
//	bool             true, false
//	int…, uint…      integers in range; numbers without fraction (Python writes 5.0 where JavaScript writes 5)
//	float…           numbers and integers, NaN and infinities
//	*big.Int         integers of any size
//	string           texts
//	time.Time        datetimes with offset; RFC 3339 texts, which is what browsers have
//	NaiveTime, Date, TimeOfDay   Python's datetime without offset, date and time (package celeryproto)
//	Decimal          Decimals, integers, decimal texts; not numbers, which are inexact
//	uuid.UUID        UUIDs and their texts
//	[]byte           bytes
//	T with UnmarshalText   texts
//	slices, arrays, maps with text keys, structs   lists and objects; arrays of exactly their length
//	any              what celeryproto.DecodeValue returns
//	celeryproto.Raw  the JSON text as it came
//
// null is taken by pointers, interfaces, slices and maps only. The option `arg:"n,text"` on a number also takes a text
// with a number in it, as forms send it.
//
// # Failures
//
// AsyncResult.get() in Python raises what an *Exception names, for other errors and panics RuntimeError, for arguments
// that do not fit TypeError, for a handler that returned an error after its time TimeLimitExceeded (hard limit or
// timeout) or SoftTimeLimitExceeded. The traceback is the Go stack of a panic, or the chain of wrapped errors. Go cannot
// kill a goroutine: a hard limit or a terminate command ends the handler's context and, shortly afterwards, the task; a handler that
// goes on is left to itself, and its slot is free.
//
// # Remote control and events
//
// A running worker is a node among Celery's: `celery status`, `celery inspect`, `celery control`, `celery events` and Flower see it, by
// Config.NodeName, and it obeys every command of Celery 5.7 with the same answers. HandleControl adds commands of the program's own.
//
//	         celery.pidbox (fan-out)                    celeryev (fan-out)
//	clients ─────────────────────────▶ remote ──▶ engine ──▶ outbox ─────▶ monitors
//	   ▲                                 │                      ▲              workers' gossip
//	   └────── reply.celery.pidbox ◀─────┘    heartbeat, gossip ┘
//
// Commands run one after the other, those of the program beside them. Answers tell of jobs without holding them up: a snapshot of the
// table of jobs. A command that is no message of Celery's is counted and logged, one that panics is answered with an error. What a
// command may make the worker remember, hold or start is bounded. Differences from a Python worker:
//
//   - terminate ends the context of the task's handler; a handler that ignores it is left to itself after a quarter of a second, and its
//     slot is free. No OS signal is sent; the event tells which one Celery would have.
//   - disable_events also works on a worker that has published task events from its start.
//   - reserved lists tasks that the rate limit holds back; Celery shows them nowhere.
//   - pool_shrink leaves at least one slot; pool_restart and objgraph are refused.
//   - a worker that stops warmly goes on answering until its last task has ended. Celery's does not.
//
// At its start the worker asks the others what is revoked (mingle). It waits for as many answers as there are workers, so that it loses
// no time where it is alone. It then listens to their heartbeats (gossip), since it takes part in elections.
//
// Worker events (online, a heartbeat every two seconds, offline) are always published, those of tasks when Config.TaskEvents, the
// setting worker_send_task_events or enable_events asks for them; each costs one atomic load while nobody does. Task events travel in
// batches, task.multi. While Redis is away up to 10,000 events wait, more are dropped and counted (Observer.EventsDropped); heartbeats
// are not kept. Events have no utcoffset: Celery's receivers shift a timestamp by it although that is absolute, and show a wrong time
// wherever their time zone is another.
//
// # Client
//
// A Client sends tasks and compositions (Apply), waits for them by the names of Celery's AsyncResult and GroupResult, controls and
// inspects workers of both languages (Control, Inspect), and receives events (Events; package celeryproto/monitor makes workers and tasks
// of them). Tasks go where task_queues and task_routes say.
//
// # Goroutines
//
//	goroutine            owner        how many                 stops when
//	slot                 Worker.Run   Config.Concurrency, up to AutoscaleMax   its job is done after ctx has ended; a stuck handler's is left behind
//	settling jobs        Worker.Run   as many as are written at once   the slots are done and Redis has it all, or the stop timeouts are over
//	schedule             Worker.Run   1                        ctx has ended
//	consumer             Worker.Run   1 and those of redisbroker   everything unacked was given back
//	registry             Worker.Run   2                        consuming has ended
//	waiting for a stop   Worker.Run   1, during the stop       slots are done; left behind with stuck handlers (ErrStuck)
//	remote control       Worker.Run   1 and those of redisbroker.Subscriber   the slots are done
//	commands             Worker.Run   up to 16, of HandleControl   they return
//	events               Worker.Run   2 per outbox             the last event is published, or two seconds are over
//	heartbeat, bindings  Worker.Run   2                        the slots are done
//	replies              Client       1 and those of redisbroker.ReplyQueue, from the first question on   Close
//
// # Stopping
//
// When ctx ends, or Stop(Warm) is called: not ready; no more is taken; running handlers get SoftStopTimeout; their contexts end; they
// get HardStopTimeout; what is unacked, tasks waiting for their ETA included, goes back to the head of its queue; Redis is closed.
// Stop(Cold), also during a warm stop, ends the contexts after SoftShutdownTimeout; a task that was acked early and is cut off has RETRY
// as its state, as in Celery. Stop(Hard) waits for no handler: what is unacked goes back, and Run returns ErrStuck. A still harder stop is
// the process's end: unacked tasks are then restored after the visibility timeout.
package worker
