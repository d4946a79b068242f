package dispatch

import "github.com/dfws/dfws/compat"

// targetKind says how a Target becomes a topic.
type targetKind uint8

const (
	targetTopic targetKind = iota
	targetServer
	targetWindow
	targetUser
	targetBroadcast
	targetSync
	targetSession
)

// Target says who gets a signal. Targets are comparable. The zero value is the raw topic "".
type Target struct {
	kind  targetKind
	topic string
}

// The targets of df_websockets.tasks.
var (
	// Server addresses the handlers of the signal in workers of both languages.
	Server = Target{kind: targetServer}
	// Window addresses the window that the call came from.
	Window = Target{kind: targetWindow}
	// User addresses all windows of the window's user.
	User = Target{kind: targetUser}
	// Broadcast addresses all windows.
	Broadcast = Target{kind: targetBroadcast}
	// Sync is refused by name (ErrSyncUnsupported).
	Sync = Target{kind: targetSync}
	// Session is refused by name (ErrSessionUnsupported).
	Session = Target{kind: targetSession}
)

// StringTopic addresses the windows that Django bound to the Python text s.
func StringTopic(s string) Target { return Target{topic: compat.StringTopic(s)} }

// ModelTopic addresses the windows that Django bound to a model instance: ModelTopic("shop.Order", 12).
func ModelTopic(label string, pk any) Target { return Target{topic: compat.ModelTopic(label, pk)} }

// RawTopic addresses the windows of exactly this topic text.
func RawTopic(topic string) Target { return Target{topic: topic} }

// String names the target as Python does; topics by their text.
func (t Target) String() string {
	switch t.kind {
	case targetServer:
		return "SERVER"
	case targetWindow:
		return "WINDOW"
	case targetUser:
		return "USER"
	case targetBroadcast:
		return "BROADCAST"
	case targetSync:
		return "SYNC"
	case targetSession:
		return "SESSION"
	default:
		return t.topic
	}
}

// targets is a list of targets, sorted out.
type targets struct {
	server bool
	topics []string
}

// sortTargets makes topics of the targets, in their order. nil is the user, as in df_websockets.
func sortTargets(to []Target, w *compat.WindowInfo, authUserModel string) (targets, error) {
	if to == nil {
		to = []Target{User}
	}
	var out targets
	for _, t := range to {
		switch t.kind {
		case targetServer:
			out.server = true
		case targetSync:
			return targets{}, ErrSyncUnsupported
		case targetSession:
			return targets{}, ErrSessionUnsupported
		case targetWindow:
			out.topics = append(out.topics, w.WindowTopic())
		case targetUser:
			out.topics = append(out.topics, w.UserTopic(authUserModel))
		case targetBroadcast:
			out.topics = append(out.topics, compat.BroadcastTopic)
		default:
			out.topics = append(out.topics, t.topic)
		}
	}
	return out, nil
}
