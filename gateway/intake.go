package gateway

import (
	"errors"

	"github.com/dfws/dfws/celeryproto/redisbroker"
	"github.com/dfws/dfws/compat"
	"github.com/dfws/dfws/compat/dispatch"
)

// toServer is the only target that a browser may address.
var toServer = []dispatch.Target{dispatch.Server}

// intake handles one text frame of a browser that is no heartbeat: decode, plan, hand to the publisher. A broker that hangs
// holds up no window but those that already have Config.SignalsInFlight signals waiting for it, and for publishPatience those
// that send while the queue is full. Frames of one window are handled one after the other and keep their order.
// What is wrong with a frame never closes the socket, as with df_websockets.
func (g *Gateway) intake(w *window, data []byte) {
	frame, err := compat.DecodeClientFrame(data, g.frameLimits)
	if err != nil {
		outcome := string(compat.ReasonNotJSON)
		var bad *compat.FrameError
		if errors.As(err, &bad) {
			outcome = string(bad.Reason)
		}
		g.countFrame(outcome)
		g.logBadFrame(w, outcome, len(data), nil)
		return
	}
	if g.tooLate(frame) {
		g.countFrame(FrameDelay)
		g.logBadFrame(w, FrameDelay, len(data), nil)
		return
	}
	info, err := w.identity.windowInfo()
	if err != nil { // cannot happen: the gateway encoded it
		g.countFrame(FramePlanFailed)
		g.logBadFrame(w, FramePlanFailed, len(data), err)
		return
	}
	p, err := g.ports.planner.Plan(dispatch.Trigger{
		Window: info, Signal: frame.Signal, To: toServer, Opts: frame.Opts,
		Countdown: frame.Countdown, Expires: frame.Expires, FromClient: true,
	})
	switch {
	case err != nil:
		g.countFrame(FramePlanFailed)
		g.logBadFrame(w, FramePlanFailed, len(data), err)
	case len(p.Messages) == 0:
		g.countFrame(string(p.Outcome))
		g.log.Debug("signal goes nowhere", "outcome", string(p.Outcome), "signal", frame.Signal, "window", w.identity.window)
	default:
		w.waitForPlace()
		g.publish(w, p.Messages)
	}
}

// publish hands the tasks of one signal to the publisher.
func (g *Gateway) publish(w *window, messages []redisbroker.Message) {
	size := 0
	for i := range messages {
		size += len(messages[i].Envelope)
	}
	if !g.waitForRoom(size) {
		g.refuseSignal(w, redisbroker.ErrPublishQueueFull)
		return
	}
	err := g.ports.publisher.Enqueue(messages, func(err error) {
		g.queued.leave(size, g.cfg.PublishBytes)
		g.published(w, err)
	})
	if err != nil {
		g.queued.leave(size, g.cfg.PublishBytes)
		g.refuseSignal(w, err)
		return
	}
	g.countFrame(FrameSignal)
	g.stats.signals.Add(1)
}

// refuseSignal closes the window of a signal that the publisher did not take.
func (g *Gateway) refuseSignal(w *window, err error) {
	w.flow.leave(1, g.cfg.SignalsInFlight)
	g.countFrame(FrameRefused)
	g.samples.publisher.warn(g.log, "signal refused, window is closed", "window", w.identity.window, "err", err)
	w.close(CloseTryAgain)
}

// published is called when the tasks of a signal are in the broker, or will never be.
func (g *Gateway) published(w *window, err error) {
	w.flow.leave(1, g.cfg.SignalsInFlight)
	g.observer.published(err)
	if err == nil {
		return
	}
	g.stats.publishErrors.Add(1)
	g.samples.publisher.warn(g.log, "signal not published, window is closed", "window", w.identity.window, "err", err)
	w.close(CloseTryAgain)
}

func (g *Gateway) countFrame(outcome string) {
	g.stats.framesIn.Add(1)
	g.observer.frameReceived(outcome)
}

// logBadFrame logs a frame that is not handled: never its content, and not each one.
func (g *Gateway) logBadFrame(w *window, reason string, size int, err error) {
	args := []any{"reason", reason, "bytes", size, "window", w.identity.window}
	if err != nil {
		args = append(args, "err", err)
	}
	g.samples.frames.warn(g.log, "frame ignored", args...)
}
