// Package gateway is the websocket edge of a site that uses df_websockets. It takes the place of daphne in front of Django: the
// browsers' script, Django and the workers stay as they are. Everything that is no window of df_websockets is passed on to the
// application server.
//
//	          ┌──────────────────────────── gateway ───────────────────────────┐
//	browser ──┤ handshake ─ identity ─ groups ─ 101                            │
//	  │  ▲    │     reader ── decode ── plan ── publisher ─────────────────────┼──▶ queues of Celery (Redis)
//	  │  └────┤     outbox ◀── fan-out ◀── hub ◀── receiver ◀──────────────────┼─── groups of the channel layer (Redis)
//	  │       │        ▲── heartbeat, revocations ◀────────────────────────────┼─── tickets, revocations (Redis)
//	  └───────┤ other requests ── proxy ───────────────────────────────────────┼──▶ gunicorn, uvicorn, …
//	          └────────────────────────────────────────────────────────────────┘
//
// # Life of a connection
//
//  1. The request asks for a websocket at exactly WEBSOCKET_URL. Method, version, key and Origin are checked from the request alone.
//     Until the registry of signals was read once: 503.
//  2. The window waits for its turn when many come at once (Config.AdmitRate), is counted in (Config.MaxWindows) and identified by the
//     strategies of Config.Identify, one after the other until one decides; see below. Whoever had to be asked is away: 503.
//  3. The groups are joined, in the hub and, the first window of a group, in the channel layer. What arrives from now on waits in
//     the window's outbox, behind what an earlier socket of the page has missed (see "Windows that come back").
//  4. 101: a page that sees its socket open misses nothing from then on. No subprotocol, no compression.
//  5. The reader handles one frame after the other: heartbeats are echoed, signals become tasks in the publisher's queue. Bad frames
//     are counted and logged by reason, never answered, and never close the socket.
//  6. Either side closes, or the connection breaks. The reader parks the window: it stays in its groups for Config.ParkFor. When nobody
//     came back for it, or if nobody can, it leaves the hub. An empty group is left in the layer a second later.
//
// On a site whose WEBSOCKET_WORKERS is "channels" signals go to channels of the layer instead of the broker (layerQueue); a channel that is
// full closes the window with 1013.
//
// # Who sits behind a window
//
//	ticket     the cookie dfwskey names a ticket that Django wrote when it rendered the page. If the handshake shows the session that the
//	           ticket is bound to, the window has the ticket's user and all its groups. If not, nothing is decided.
//	callback   Django runs the site's middlewares and WINDOW_INFO_MIDDLEWARES on the handshake, as df_websockets' consumer does, and the
//	           window gets what they say. Question and answer are signed with a key that derives from SECRET_KEY. A bounded number
//	           is under way; a server that fails five times in a row is not asked for one to thirty seconds, and the log says why.
//	native     the topics are read from Django's cache, the session from its store and the user from its table, and the session is
//	           checked against the password: Config.Native, which package compat/djangonative implements. For sites that change no line of
//	           Python. The identities are checked again every Config.RecheckInterval.
//	anonymous  decides for each window that nobody is logged in; it has the topics of a visitor's page, and of a user's page the
//	           public ones.
//
// When nobody decides, the window is anonymous: with its own topic and broadcasts if it has a ticket, else without groups, as with
// daphne when the cache entry has expired. Topics that a page was bound to for one user are for that user alone, see topicRules.
//
// # Goroutines
//
//	goroutine             owner              how many                    stops when
//	reader                conns WaitGroup    one per window              the connection ends
//	waiting writer        conns WaitGroup    one per window whose        its outbox is empty, the socket fails, or takes
//	                                         socket is full (TLS: also   too little in Config.WriteTimeout
//	                                         while it has frames)
//	fan-out               deliver            GOMAXPROCS-1 per message    the message is in every outbox
//	                                         to more than 128 windows
//	receiver, memberships,errgroup of Run    one each                    the drain is over
//	heartbeat, revocations,
//	recheck, hand-over, notes
//	notes to all           errgroup of Run    one                         the drain begins
//	hand-over writer       handover           up to 8 at a time           the hand-over is in Redis, or taken from there
//	publisher, layerQueue errgroup of Run    one of them                 all windows are gone and its queue is flushed
//	pass-through watcher  passThrough        one per foreign websocket   that websocket ends, or the drain begins
//
// A window has one goroutine and no timer while it is silent: one ticker pings all, frames are written by whoever has them (without
// waiting: see outbox), buffers are pooled. An idle window costs about 11 KB of resident memory. Who wraps the connections of
// the http.Server should keep them syscall.Conn: others, and TLS, are written by goroutines.
//
// # Other requests
//
// They are streamed both ways: an answer may begin, and end, before the request does; nothing is buffered or stored. What an application
// server says to a web server in headers (X-Sendfile, X-Accel-Redirect) is passed on as data. A request goes out twice only if it found a
// kept connection dead, no byte of an answer came, and it was not written at all, or is idempotent and has no body. A connection is closed
// after a request whose end two servers could see in different places (see lastOfConnection). Bodies have no time limit.
//
// # Close codes
//
//	1000  answer to the browser's own close
//	1001  the gateway drains
//	1002  the browser broke RFC 6455
//	1007  a text frame is no UTF-8
//	1008  a frame of more than 4 KiB took longer than Config.FrameTimeout, or there were over 1,000 pings and pongs in a second
//	1009  a frame is larger than Config.MaxFrameBytes
//	1013  a signal could not be handed to the broker: queue full, or Config.PublishDeadline passed; or there was no room for a large frame
//	4403  the window's session was logged out, or its user changed
//	4408  the window reads too slowly: its outbox overflowed, or its socket took too little in Config.WriteTimeout (then without a frame)
//	4409  the window answered no ping
//
// The script connects again after three seconds whatever the code is. Counters also know 1006 (no close frame) and 4000 (any code of the
// browser's side above 1015).
//
// # Guarantees
//
// Browser to server: the signals of a window reach the queues in their order. A signal is accepted when it is in Redis; one that
// cannot be put there in time closes its window with 1013, and no other. What a window sent in the moment before its 1013 may be
// published or not.
//
// Server to browser: in the order of the layer for each window, and once in the page while it comes back in time; what is lost
// beyond that is counted by reason (Observer.FramesDropped) and logged with the hash of the window key. A window in several addressed
// groups gets the frame once per group with the same signal_id, as in Python, and its script drops the repeats. Nothing ever waits
// for a window: one that does not keep up is closed, and a page that comes back in time has missed nothing.
//
// A broker that hangs or is away holds up nobody: planning needs no Redis, the publisher has a goroutine, a bounded queue and a deadline of
// its own. A layer that is away delays new windows and messages, not open sockets.
//
// Revocations (logout, change of a user's password or flags) close the windows concerned within a second and are remembered for a minute
// against tickets that were read before. They travel by Redis' PUBLISH: what is published while the gateway has no connection to Redis is
// missed. That is logged; open windows then keep their identity until they reconnect, since a deleted ticket cannot be told from an
// expired or lost one.
//
// # Windows that come back
//
// df_websockets' script connects again three seconds after its socket is gone, and drops repeats by signal_id for the life of the page
// (js/df_websockets.min.js, 1.2.6). So a window whose socket is gone, in whatever way, is parked: it has no goroutine and no timer, stays in its
// groups and keeps its messages within Config.ParkFor, ParkFrames, ParkBytes, ParkTotalBytes and MaxParked. One that was revoked is
// not parked, and one that is revoked while it is parked is wiped.
//
// A message that TCP took is not delivered: a socket that broke without a sign swallows what it is given. Each ping carries the number of
// messages before it, so its answer proves that they have arrived; as does the answer to a close frame. What was written and is not
// proven is kept and sent again, also the frame that was cut in the middle. Windows that were sent something are pinged within a
// quarter of Config.PingInterval.
//
// The next socket of the page has the same window key and the same session, user and stamp (pageKey). A page that was loaded anew has
// another key and gets nothing, unless it sets no topics: then it has the key of the page before, as with df_websockets. The next socket
// joins its groups first and then takes over what was parked: those messages first, then its own, each once (merging). A socket that lives is
// not robbed. Whether an earlier one of the page lives is asked by a ping; until it has answered or is cut, after three seconds, the
// new one is held. Tabs that share the cookie and are cut together each get what all of them have missed.
//
// Another gateway: a parked window is announced in Redis. The gateway that the page comes back to asks there who has it, joins the
// groups, and sends the owner a note; the owner writes the messages to a list that expires, answers, and goes on collecting for a
// second what was under way to it alone. If the owner has ended, the list is what it wrote at its end; if it was killed, what it had parked
// is lost. Without Redis the window opens after Config.HandoverTimeout without those messages, which is counted; what the owner answers
// later still arrives. When an owner finds a socket dead so late that its page may be elsewhere already, it tells all gateways.
//
//	page         gateway A                     Redis                              gateway B
//	 │◀──── cut ────│ parks, collects             │                                   │
//	 │              │── announce page ───────────▶│ parked:PAGE = {A}                 │
//	 │── handshake ─┼─────────────────────────────┼──────────────────────────────────▶│ joins the groups
//	 │              │◀── claim ───────────────────┼──────────── who? A; claim ────────│
//	 │              │── messages; ready ─────────▶│ parked:PAGE:A ── take ───────────▶│ opens: messages, then its own
//	 │              │── a second later: more ────▶│ ────────────────────────────────▶ │ those that are new
//
// What a Python process sends while a single gateway is down reaches nobody: only with another gateway a restart loses nothing.
//
// # Stopping
//
// When Run's context ends: Ready says so → handshakes get 503 → windows are closed with 1001, spread over Config.DrainWindow, while
// messages still arrive, and so do signals that a browser sent before it saw the close → those that do not answer are cut → the
// publisher flushes → if there are other gateways, the parked windows go on collecting until they have come back there, for
// Config.DrainLinger at most; what is left is written to Redis → the receiver leaves all groups → Run returns. The caller shuts its http.Server down at the same time or after Run
// (hijacked windows do not hold it up), and then ends the Services, in this order: they must outlive Run.
//
// # Differences from daphne
//
//   - Pages of other origins are refused (Config.AllowedOrigins loosens it). daphne accepts all, "null" included.
//   - Handshakes at other paths go to the application server; daphne answers 500.
//   - Frames beyond 1 MiB close with 1009 and invalid UTF-8 with 1007; daphne drops the connection (1006).
//   - Objects with exactly the keys __type__ and __value__ are refused in options: Celery would make Python objects of them.
//   - Signals without a handler, and those that no handler lets a browser call, stop here.
//   - Windows are counted by user and by client address, topics by page, and a browser's countdown and expires are bounded ([Limits]).
//   - Slow readers are closed; daphne keeps everything in memory. Windows have no maximal age; daphne closes them after a day.
//   - A logout closes the windows of its session.
//   - The whole MIDDLEWARE chain does not run at connect, if there is a ticket: it ran when the page was rendered.
//   - Topics that a page was bound to for one user do not serve another one, nor a visitor (Config.TopicsOfOthers loosens it).
//   - A session whose hash was made with one of SECRET_KEY_FALLBACKS is accepted, as Django does; channels deletes it.
//   - A layer message of another type than ws_message is dropped; in Python it calls any method of that name.
//   - A hung broker does not stop the world.
package gateway
