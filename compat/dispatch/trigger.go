package dispatch

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/google/uuid"

	"github.com/dfws/dfws/celeryproto/redisbroker"
	"github.com/dfws/dfws/channelslayer"
	"github.com/dfws/dfws/compat"
)

// Trigger is one signal to send, as df_websockets.tasks.trigger_signal takes it.
type Trigger struct {
	// Window is who triggers; nil is a blank window info.
	Window *compat.WindowInfo
	// Signal is the signal's name.
	Signal string
	// To says who gets it; nil is User, an empty list nobody.
	To []Target
	// Opts are the signal's keyword arguments: a struct, a map, or a celeryproto.Raw that is relayed byte for byte; nil is {}.
	Opts any
	// Countdown delays the signal; 0 means none. It wins over ETA, as in Celery.
	Countdown time.Duration
	// ETA is when to run; the zero time means now.
	ETA time.Time
	// Expires drops the tasks of the signal when they were not run in that time from now; 0 means never.
	Expires time.Duration
	// FromClient is true for a call from a browser: permission rules apply. Opts then is what compat.DecodeClientFrame returned.
	FromClient bool
}

// Plan is what a trigger sends. It belongs to the caller.
type Plan struct {
	// Messages are the tasks, one per queue. With WEBSOCKET_WORKERS = "channels" an envelope is only the JSON list of the call's seven
	// arguments, for a LayerPublisher.
	Messages []redisbroker.Message
	// Groups are the groups of the topics, in the order of the targets; empty when the frames wait for their time in a task.
	Groups []string
	// Frame is the text for all windows of Groups.
	Frame []byte
	// SignalID is in Frame; browsers drop repeats by it.
	SignalID string
	// Outcome says what became of the target Server.
	Outcome Outcome
}

// Publisher puts tasks into queues; *redisbroker.Broker is one, a *LayerPublisher where the workers are Channels'.
type Publisher interface {
	Publish(ctx context.Context, msgs ...redisbroker.Message) error
}

// GroupSender sends to groups; a channelslayer.Layer is one.
type GroupSender interface {
	GroupSend(ctx context.Context, group string, m channelslayer.Message) error
}

// Config configures a Dispatcher.
type Config struct {
	// Settings of the site; required.
	Settings *compat.Settings
	// Registry of the handlers; required.
	Registry *Registry
	// Publisher and Layer send what Trigger has planned; Plan alone needs neither.
	Publisher Publisher
	Layer     GroupSender
	// FallbackQueues get a signal while the Python registry is not known; empty means the settings' default queue.
	FallbackQueues []string
	// Origin names this process in the tasks, as "gen<pid>@<host>"; empty means "dfws".
	Origin string
	// Now is the clock; nil means time.Now.
	Now func() time.Time
	// NewID makes UUIDs; nil means random ones.
	NewID func() string
	// Logger gets dropped signals at debug level; nil discards.
	Logger *slog.Logger
	// Observer gets the counts.
	Observer Observer
}

func (c Config) withDefaults() Config {
	if len(c.FallbackQueues) == 0 && c.Settings != nil {
		c.FallbackQueues = []string{c.Settings.WebSocket.DefaultQueue}
	}
	if c.Origin == "" {
		c.Origin = "dfws"
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.NewID == nil {
		c.NewID = uuid.NewString
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return c
}

func (c Config) validate() error {
	var faults []error
	if c.Settings == nil {
		faults = append(faults, errors.New("dispatch: config: settings: missing"))
	}
	if c.Registry == nil {
		faults = append(faults, errors.New("dispatch: config: registry: missing"))
	}
	return errors.Join(faults...)
}

// Dispatcher turns triggers into tasks and group messages. It is safe for concurrent use.
type Dispatcher struct {
	cfg       Config
	templates *templates
	replyTo   string
}

// NewDispatcher returns a dispatcher.
func NewDispatcher(cfg Config) (*Dispatcher, error) {
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	cfg = cfg.withDefaults()
	d := &Dispatcher{cfg: cfg, replyTo: cfg.NewID()}
	d.templates = newTemplates(d.renderTemplate)
	return d, nil
}

// Trigger plans and sends: first the tasks in one round trip, then the frame to one group after the other, as df_websockets does. When the tasks
// cannot be published, no frame is sent.
func (d *Dispatcher) Trigger(ctx context.Context, t Trigger) (*Plan, error) {
	plan, err := d.Plan(t)
	if err != nil {
		return nil, err
	}
	return plan, d.Send(ctx, plan)
}

// Send sends a plan.
func (d *Dispatcher) Send(ctx context.Context, p *Plan) error {
	if len(p.Messages) > 0 {
		if d.cfg.Publisher == nil {
			return errors.New("dispatch: no publisher")
		}
		if err := d.cfg.Publisher.Publish(ctx, p.Messages...); err != nil {
			return fmt.Errorf("dispatch: publish: %w", err)
		}
	}
	if len(p.Groups) == 0 {
		return nil
	}
	if d.cfg.Layer == nil {
		return errors.New("dispatch: no channel layer")
	}
	message := FrameMessage(p.Frame)
	for _, group := range p.Groups {
		if err := d.cfg.Layer.GroupSend(ctx, group, message); err != nil {
			return fmt.Errorf("dispatch: group send: %w", err)
		}
	}
	return nil
}

// Keys of a layer message and the type that carries a frame (tasks._call_ws_signal, DFConsumer.ws_message).
const (
	messageType  = "type"
	messageText  = "message"
	frameMessage = "ws_message"
)

// FrameMessage is the layer message that carries a frame to windows.
func FrameMessage(frame []byte) channelslayer.Message {
	return channelslayer.Message{messageType: frameMessage, messageText: string(frame)}
}

// FrameText returns the frame that a layer message carries; false when the message is of another type.
func FrameText(m channelslayer.Message) (string, bool) {
	if m[messageType] != frameMessage {
		return "", false
	}
	text, ok := m[messageText].(string)
	return text, ok
}
