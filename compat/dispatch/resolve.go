package dispatch

import (
	"fmt"

	"github.com/dfws/dfws/celeryproto"
	"github.com/dfws/dfws/celeryproto/redisbroker"
)

// ResolveTaskName is the task of the Django app dfws that computes the queues of a signal's dynamic handlers and sends the signal to them. It
// runs on the default queue of df_websockets.
const ResolveTaskName = "dfws.tasks.resolve_queues"

// addResolve adds the task that lets Python compute queues. Its keyword arguments are signal, window_info, opts, from_client and options, the
// latter with eta and expires in ISO 8601.
func (d *Dispatcher) addResolve(c *call) error {
	queue := d.cfg.Settings.WebSocket.DefaultQueue
	task := d.newTask(ResolveTaskName, queue, d.cfg.NewID(), d.cfg.NewID())
	opts := c.opts
	if len(opts) == 0 {
		opts = celeryproto.Raw("{}")
	}
	options := resolveOptions(c)
	task.Kwargs = celeryproto.Members{
		{Key: "signal", Value: celeryproto.AppendString(nil, c.Signal)},
		{Key: "window_info", Value: c.Window.AppendJSON(nil)},
		{Key: "opts", Value: opts},
		{Key: "from_client", Value: celeryproto.Raw(fmt.Sprint(c.FromClient))},
		{Key: "options", Value: options},
	}.Append(nil)
	task.KwargsRepr = "{'signal': " + pythonRepr(c.Signal) + ", 'window_info': " + hiddenRepr + ", 'opts': " + hiddenRepr +
		", 'from_client': " + pythonBool(c.FromClient) + ", 'options': " + celeryproto.Repr(options) + "}"
	envelope, err := task.Append(nil)
	if err != nil {
		return fmt.Errorf("dispatch: task: %w", err)
	}
	c.plan.Messages = append(c.plan.Messages, redisbroker.Message{Queue: queue, Envelope: envelope})
	return nil
}

// resolveOptions are the Celery options of the tasks that Python will send: points in time, so that the way through another queue adds nothing
// to a delay.
func resolveOptions(c *call) celeryproto.Raw {
	options := celeryproto.Members{}
	if !c.eta.IsZero() {
		options.Set("eta", celeryproto.AppendString(nil, celeryproto.FormatISOTime(c.eta)))
	}
	if !c.expires.IsZero() {
		options.Set("expires", celeryproto.AppendString(nil, celeryproto.FormatISOTime(c.expires)))
	}
	return options.Append(nil)
}
