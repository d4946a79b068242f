package compat

import (
	"errors"
	"fmt"

	"github.com/dfws/dfws/celeryproto"
)

// TaskName is the Celery task that carries a signal (df_websockets/tasks.py).
const TaskName = "df_websockets.tasks._server_signal_call"

// signalArguments is the number of positional arguments of the task after self.
const signalArguments = 7

// emptyObject is {} on the wire.
const emptyObject = "{}"

// SignalCall is one call of a signal on one queue: the seven arguments of the task.
type SignalCall struct {
	// Signal is the name of the signal.
	Signal string
	// Window is the window info, an object; empty means the blank one.
	Window celeryproto.Raw
	// Opts are the signal's keyword arguments; empty means {}.
	Opts celeryproto.Raw
	// FromClient is true for a call from a browser: the handlers' permission rules apply.
	FromClient bool
	// Topics are the topics that the worker sends the signal to; empty unless the call was delayed.
	Topics []string
	// ToServer is false when only Topics are addressed.
	ToServer bool
	// Queue is the queue that the task was sent to; a worker runs only handlers of exactly this queue.
	Queue string
}

// AppendArgs appends the task's arguments as a JSON array, as json.dumps writes them. Window and Opts are relayed byte for byte.
func (c *SignalCall) AppendArgs(dst []byte) []byte {
	dst = append(dst, '[')
	dst = celeryproto.AppendString(dst, c.Signal)
	dst = append(dst, ", "...)
	if len(c.Window) == 0 {
		dst = append(dst, blankWindowInfo...)
	} else {
		dst = append(dst, c.Window...)
	}
	return c.appendRest(dst)
}

// AppendArgsFor is AppendArgs with the window info of w instead of Window.
func (c *SignalCall) AppendArgsFor(dst []byte, w *WindowInfo) []byte {
	dst = append(dst, '[')
	dst = celeryproto.AppendString(dst, c.Signal)
	dst = append(dst, ", "...)
	return c.appendRest(w.AppendJSON(dst))
}

// appendRest appends what follows the window info.
func (c *SignalCall) appendRest(dst []byte) []byte {
	dst = append(dst, ", "...)
	if len(c.Opts) == 0 {
		dst = append(dst, emptyObject...)
	} else {
		dst = append(dst, c.Opts...)
	}
	dst = appendBool(append(dst, ", "...), c.FromClient)
	dst = append(dst, ", ["...)
	for i, topic := range c.Topics {
		if i > 0 {
			dst = append(dst, ", "...)
		}
		dst = celeryproto.AppendString(dst, topic)
	}
	dst = appendBool(append(dst, "], "...), c.ToServer)
	dst = append(dst, ", "...)
	dst = celeryproto.AppendString(dst, c.Queue)
	return append(dst, ']')
}

// DecodeSignalArgs reads the positional arguments of a signal's task. Older versions sent fewer than seven: then nothing is called. null
// opts are {}, as in Python; a null window stays null (see DecodeWindowInfo). args must be checked JSON. The fields refer to args.
func DecodeSignalArgs(args celeryproto.Raw) (*SignalCall, error) {
	values, err := args.Array()
	if err != nil {
		return nil, fmt.Errorf("compat: signal arguments: %w", err)
	}
	if len(values) < 2 || len(values) > signalArguments {
		return nil, fmt.Errorf("compat: signal arguments: %d instead of 2 to %d", len(values), signalArguments)
	}
	c := &SignalCall{Window: values[1]}
	var faults []error
	fault := func(name string, err error) {
		if err != nil {
			faults = append(faults, fmt.Errorf("compat: signal arguments: %s: %w", name, err))
		}
	}
	c.Signal, err = values[0].Text()
	fault("signal_name", err)
	if len(values) > 2 && values[2].Kind() != celeryproto.KindNull {
		c.Opts = values[2]
	}
	if len(values) > 3 {
		c.FromClient = truth(values[3])
	}
	if len(values) > 4 {
		c.Topics, err = topicTexts(values[4])
		fault("serialized_client_topics", err)
	}
	if len(values) > 5 {
		c.ToServer = truth(values[5])
	}
	if len(values) > 6 && values[6].Kind() != celeryproto.KindNull {
		c.Queue, err = values[6].Text()
		fault("queue", err)
	}
	return c, errors.Join(faults...)
}

// topicTexts reads a list of topics; null is none.
func topicTexts(raw celeryproto.Raw) ([]string, error) {
	if raw.Kind() == celeryproto.KindNull {
		return nil, nil
	}
	elements, err := raw.Array()
	if err != nil {
		return nil, err
	}
	topics := make([]string, len(elements))
	for i, element := range elements {
		if topics[i], err = element.Text(); err != nil {
			return nil, fmt.Errorf("topic %d: %w", i, err)
		}
	}
	return topics, nil
}

func appendBool(dst []byte, b bool) []byte {
	if b {
		return append(dst, "true"...)
	}
	return append(dst, "false"...)
}
