// Package compat holds the conventions of df_websockets and Django that a Go process must share with a Python one: names of topics and
// groups, the window info, the arguments of the signal task, the frames of the browser, cookies, and the settings that the Django
// app dfws exports. It is pure: bytes in, values out; no network, no clock, no goroutine.
//
//	browser ──frame──▶ DecodeClientFrame ──▶ SignalCall.AppendArgs ──▶ task ──▶ Python or Go worker
//	browser ◀─frame─── AppendServerFrame ◀── EncodeOpts ◀── trigger(…, to=[topics]) ── GroupName(topic)
//
// What only passes through (options of a signal, unknown keys of a window info) stays celeryproto.Raw and is never decoded and
// encoded again: big integers, NaN, lone surrogates and the order of keys arrive as they were sent.
//
// | df_websockets 1.2 | here | on the wire |
// | --- | --- | --- |
// | topics.serialize_topic | [WindowTopic], [UserTopic], [ModelTopic], [StringTopic], … | text such as "-window.<key>" |
// | utils.valid_topic_name | [GroupName] | lower-case hex SHA-256 of the topic |
// | window_info.WindowInfo.to_dict / from_dict | [WindowInfo] | second argument of the task |
// | tasks._server_signal_call | [TaskName], [SignalCall] | seven positional arguments |
// | consumers.DFConsumer.receive | [DecodeClientFrame] | {"signal": …, "opts": …} |
// | tasks._call_ws_signal | [AppendServerFrame], [EncodeOpts] | {"signal": …, "opts": …, "signal_id": …} |
// | django.http.cookie.parse_cookie | [ParseCookies] | header Cookie |
// | manage.py dfws settings | [ParseSettings] | JSON, schema 1 |
//
// Beside df_websockets' own, there is what decides where a task of Celery 5.7 goes:
//
// | Celery | here | on the wire |
// | --- | --- | --- |
// | app.defaults.NAMESPACES | [Celery], [DefaultCelery] | section "celery" of the settings |
// | app.routes.Router.route, app.amqp.AMQP.send_task_message | [NewRoutes], [Routes.Route] | exchange and routing key of the message |
// | app.amqp.Queues | [Routes.Queue], [Routes.Declared] | the queues of a worker |
// | app.annotations.resolve_all | [Celery.Annotation] | — |
package compat
