package worker

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"

	"github.com/dfws/dfws/celeryproto"
	"github.com/dfws/dfws/celeryproto/redisbroker"
)

// mailbox sends the messages of remote control (kombu 5.7, pidbox.py, Mailbox).
type mailbox struct {
	broker    controlBroker
	namespace string // setting control_exchange
	options   celeryproto.BusOptions
	clock     celeryproto.Clock // of the messages; that of events is another one, as in Celery
}

// controlBroker carries the messages: *redisbroker.Broker.
type controlBroker interface {
	Broadcast(ctx context.Context, m redisbroker.FanoutMessage) (subscribers int, err error)
	Reply(ctx context.Context, exchange, routingKey string, envelope []byte) (int, error)
}

// request is a command on its way to some or all workers.
type request struct {
	method      string
	arguments   celeryproto.Members
	destination []string
	pattern     string
	matcher     string
	timeout     time.Duration
	limit       int // replies to wait for; 0: as many as there are workers
}

// defaultControlTimeout is how long replies are waited for after the last one (celery 5.7, app/control.py).
const defaultControlTimeout = time.Second

func (m *mailbox) exchange() string { return celeryproto.ControlExchange(m.namespace) }

// cast sends a command without asking for replies.
func (m *mailbox) cast(ctx context.Context, r request) error {
	_, err := m.send(ctx, r, "", nil)
	return err
}

// send publishes a command and returns how many processes got it.
func (m *mailbox) send(ctx context.Context, r request, ticket string, to *celeryproto.ReplyAddress) (int, error) {
	message := celeryproto.ControlMessage{
		Method: r.method, Arguments: r.arguments, Destination: r.destination, Pattern: r.pattern, Matcher: r.matcher,
		Ticket: ticket, ReplyTo: to, Clock: m.clock.Forward(),
	}
	if r.timeout > 0 {
		message.Expires = celeryproto.UnixSeconds(time.Now().Add(r.timeout))
	}
	e, err := message.Envelope(m.exchange(), m.options)
	if err != nil {
		return 0, fmt.Errorf("worker: remote control %s: %w", r.method, err)
	}
	out, err := fanoutMessage(e)
	if err != nil {
		return 0, fmt.Errorf("worker: remote control %s: %w", r.method, err)
	}
	n, err := m.broker.Broadcast(ctx, out)
	if err != nil {
		return 0, fmt.Errorf("worker: remote control %s: %w", r.method, err)
	}
	return n, nil
}

// call sends a command and gives each reply to answered, in the order in which they come. It waits until all who got the message have
// replied, or nothing came for the timeout: some, such as a celery beat, never reply.
func (m *mailbox) call(
	ctx context.Context, replies *redisbroker.ReplyQueue, r request, answered func(node string, value celeryproto.Raw),
) error {
	if r.timeout <= 0 {
		r.timeout = defaultControlTimeout
	}
	ticket := uuid.NewString()
	pending, err := replies.Expect(ctx, ticket)
	if err != nil {
		return fmt.Errorf("worker: remote control %s: %w", r.method, err)
	}
	defer pending.Close()
	expected, err := m.send(ctx, r, ticket, &celeryproto.ReplyAddress{Exchange: replies.Exchange(), RoutingKey: replies.RoutingKey()})
	if err != nil {
		return err
	}
	switch {
	case r.limit > 0:
		expected = min(expected, r.limit)
	case len(r.destination) > 0:
		expected = min(expected, len(r.destination))
	}
	var faults []error
	for range expected {
		reply, err := m.next(ctx, pending, r.timeout)
		if errors.Is(err, errNoReply) {
			break
		}
		if err != nil {
			faults = append(faults, fmt.Errorf("worker: remote control %s: %w", r.method, err))
			if _, unreadable := errors.AsType[*celeryproto.DecodeError](err); unreadable {
				continue
			}
			break
		}
		for _, answer := range reply.Replies {
			answered(answer.Key, answer.Value)
		}
	}
	return errors.Join(faults...)
}

// errNoReply is the end of a timeout.
var errNoReply = errors.New("no reply")

func (m *mailbox) next(ctx context.Context, pending *redisbroker.Pending, timeout time.Duration) (*celeryproto.ControlReply, error) {
	waiting, cancel := context.WithTimeoutCause(ctx, timeout, errNoReply)
	defer cancel()
	e, err := pending.Next(waiting)
	if err != nil {
		return nil, err
	}
	reply, err := celeryproto.DecodeControlReply(e, celeryproto.Limits{})
	if err != nil {
		return nil, err
	}
	m.clock.Adjust(reply.Clock)
	return reply, nil
}

// reply answers a command. It goes to the exchange of all clients only: Celery answers to any, and the answer to a command that names
// one of tasks is a message that its workers drop; ours would let the queue expire, too.
func (m *mailbox) reply(ctx context.Context, to celeryproto.ReplyAddress, ticket, node string, value celeryproto.Raw) error {
	if own := celeryproto.ReplyExchange(m.namespace); to.Exchange != own {
		return fmt.Errorf("worker: reply to the exchange %s, which is not %s", printable(to.Exchange), own)
	}
	answer := celeryproto.NewControlReply(node, value)
	answer.Ticket, answer.Clock = ticket, m.clock.Forward()
	e, err := answer.Envelope(to, m.options)
	if err != nil {
		return err
	}
	raw, err := e.Append(nil)
	if err != nil {
		return err
	}
	_, err = m.broker.Reply(ctx, to.Exchange, to.RoutingKey, raw)
	return err
}

// revoke asks all workers not to run tasks.
func (m *mailbox) revoke(ctx context.Context, taskIDs []string) error {
	return m.cast(ctx, request{method: "revoke", arguments: revokeArguments(taskIDs, false, defaultSignal)})
}

// defaultSignal is what Celery's clients write when no OS signal is asked for (billiard, common.py, TERM_SIGNAME).
const defaultSignal = "SIGTERM"

// revokeArguments are those of the command revoke: one ID is a text.
func revokeArguments(taskIDs []string, terminate bool, signal string) celeryproto.Members {
	var o object
	if len(taskIDs) == 1 {
		o.text("task_id", taskIDs[0])
	} else {
		o.raw("task_id", rawTexts(taskIDs))
	}
	return o.raw("terminate", rawBool(terminate)).text("signal", signal).members
}
