// Package canvas builds Celery's compositions of tasks (signatures, chains,
// groups, chords, maps, chunks), and says what has to be sent when one is applied
// and when one of its tasks has ended. It is pure: it sends nothing, and knows no
// time but what it is given.
//
// # From a composition to messages
//
//	New, Chain, Group, Chord, Then, Link, Stamp …      Decode
//	              │                                       │
//	              └──────────────▶ Signature ◀────────────┘
//	                                   │ Apply, or OnSuccess … for what follows a task
//	                                   ▼
//	           ┌ Plan ────────────────────────────────────────────┐
//	           │ Steps     Send   one call of apply_async ─────────┼─ Message ─▶ celeryproto.Task
//	           │           Chord  a header, for the result backend │
//	           │ Result    what can be waited for                  │
//	           │ Children  for the result of the task that applies │
//	           └──────────────────────────────────────────────────┘
//
// A client applies a signature and carries out the steps in their order. A worker
// does so with what a task applies while it runs (Call.Parent), and when it ends:
//
//	returned a value   OnSuccess, its steps; then the SUCCESS is stored, with
//	                   Plan.Children; then PartOf, the part of its chord
//	failed             the FAILURE is stored; PartOf; then OnFailure: the rest
//	                   of the chain fails, errbacks are called
//	a part was the     OnChordReady: the body; or, with a *ChordError,
//	last of a chord    OnChordFailed
//	asks to retry      Retry: the same message once more
//	replaces itself    Replace: a composition in its place
//	adds to its chord  AddToChord
//
// # What is the same as in Python
//
// Everything that is sent, byte for byte up to IDs, in the same order, with the
// same sizes of chords, for protocol 1 and 2. The functions are those of
// celery 5.7, canvas.py, one by one, on objects that are shared and changed as
// Python's are; the comments name them. That holds for its oddities too: partial
// arguments do not reach a group at the head of a chain, parent_id given to a
// chain is lost, nested groups repeat group_index, None leaks into the options of
// bodies. Tests compare with recordings, and with Celery itself on random
// compositions.
//
// The differences: Apply works on a copy, so a signature can be applied again and
// gets new IDs then. Where Celery fails by mistake this does not: stamps of a
// visitor that differ inside of a composition, set_immutable of a chord whose
// header is a group, a callback from the wire on a group. The order of
// stamped_headers is that of their coming. In kwargsrepr, arguments of a signature
// inside of a map are a list. Builders do not know the setting
// task_allow_error_cb_on_chord_header; LinkErrorHeader does what it changes.
// Eager mode, election and Celery's checks of a task's arguments are not here.
//
// # Limits
//
// Time and memory are linear in the composition and in what is written: a chain of
// ten thousand steps, a group of a million tasks. Signatures in one another are
// limited by Limits.MaxDepth, and, where they come from a message, by that of JSON;
// messages by Limits.MaxMessages and Limits.MaxBytes.
//
// # Sources
//
// celery 5.7.0: canvas.py, app/base.py (send_task), app/amqp.py (as_task_v1,
// as_task_v2, send_task_message), app/task.py (Context, retry, replace,
// add_to_chord), app/trace.py (_dispatch_callbacks_and_chain), backends/base.py
// (mark_as_failure, _fail_chain, _call_task_errbacks, chord_error_from_stack),
// backends/redis.py (on_chord_part_return), result.py. kombu 5.7.0: messaging.py
// (publish).
package canvas
