package worker

import (
	"context"
	"fmt"

	"github.com/dfws/dfws/celeryproto"
	"github.com/dfws/dfws/celeryproto/canvas"
	"github.com/dfws/dfws/compat/dispatch"
)

// Target says who gets a signal: handlers on servers, or browser windows.
type Target = dispatch.Target

// Trigger is one signal to send, with everything that can be said about it. Window nil is the calling handler's window;
// To nil is ToUser, as in df_websockets.
type Trigger = dispatch.Trigger

// The targets of df_websockets.
var (
	// ToServer runs the signal's handlers, in Python and Go.
	ToServer = dispatch.Server
	// ToWindow reaches the window that the call came from.
	ToWindow = dispatch.Window
	// ToUser reaches all windows of the call's user.
	ToUser = dispatch.User
	// ToBroadcast reaches every window.
	ToBroadcast = dispatch.Broadcast
)

// ToTopic reaches the windows whose topics hold the Python text s.
func ToTopic(s string) Target { return dispatch.StringTopic(s) }

// ToModel reaches the windows whose topics hold a model instance, such as ToModel("shop.Order", 12).
func ToModel(label string, pk any) Target { return dispatch.ModelTopic(label, pk) }

// ToRaw reaches the windows with exactly this topic text, for sites with a WEBSOCKET_TOPIC_SERIALIZER of their own.
func ToRaw(topic string) Target { return dispatch.RawTopic(topic) }

// Sender carries away what handlers send: a running worker's goes to Redis, that of workertest records.
type Sender interface {
	// Trigger sends a signal.
	Trigger(ctx context.Context, t Trigger) error
	// Frame gives the frame of a delayed signal to the windows of each topic. opts are as in the signal's task.
	Frame(ctx context.Context, signal string, opts celeryproto.Raw, topics []string) error
	// Apply sends what applying a signature has to send.
	Apply(ctx context.Context, plan *canvas.Plan) error
	// AddToChord makes the header of a chord one part larger.
	AddToChord(ctx context.Context, groupID string, r *celeryproto.ResultTree) error
	// StoreState stores a state of a running task.
	StoreState(ctx context.Context, m *celeryproto.ResultMeta) error
}

// Trigger sends a signal with the call's window info: opts is a struct, a map or a celeryproto.Raw object; no target
// means ToUser. It returns once Redis has it. What it triggers counts as called from a server: permission rules are not
// asked again.
func (c *Call) Trigger(ctx context.Context, signal string, opts any, to ...Target) error {
	return c.TriggerWith(ctx, Trigger{Signal: signal, Opts: opts, To: to})
}

// TriggerWith sends a signal with a delay, an expiry or another window.
func (c *Call) TriggerWith(ctx context.Context, t Trigger) error {
	if t.Window == nil {
		t.Window = c.Window
	}
	return send(ctx, c.sender, t)
}

func send(ctx context.Context, via Sender, t Trigger) error {
	if via == nil {
		return fmt.Errorf("trigger %q: %w", t.Signal, ErrNoBroker)
	}
	t.FromClient = false
	return via.Trigger(ctx, t)
}
