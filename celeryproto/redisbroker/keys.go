package redisbroker

import (
	"slices"
	"strconv"
)

// Names and defaults of kombu 5.7, transport/redis.py, class Channel. All but the prefixes of the binding sets can be
// changed by transport options.
const (
	defaultSep            = "\x06\x16"
	defaultUnackedKey     = "unacked"
	defaultUnackedIndex   = "unacked_index"
	defaultUnackedMutex   = "unacked_mutex"
	bindingKeyPrefix      = "_kombu.binding."           // Channel.keyprefix_queue
	permanentBindingsPref = "_kombu.binding_permanent." // Channel.keyprefix_binding_permanent
	bindingDeadlines      = "_kombu.binding_deadlines"  // Channel.keyprefix_binding_deadlines
	defaultFanoutPrefix   = "/" + dbPlaceholder + "."   // Channel.keyprefix_fanout
	dbPlaceholder         = "{db}"
)

// Keys of our own: OwnPrefix and one of these, behind the global key prefix. kombu and channels_redis touch none of them.
const (
	defaultOwnPrefix = "dfws:"
	ownDead          = "dead:"      // + queue: list of dead letters, newest first
	ownHeld          = "held"       // hash: as unacked, for elements that are no envelope
	ownHeldIndex     = "held_index" // sorted set: as unacked_index
	ownTake          = "take:"      // + consumer: the last batch taken, for a take whose reply was lost
	ownPublisher     = "publisher:" // + publisher: number of the last batch, so that a retry is not a duplicate
	unreadableQueue  = "unreadable" // dead letters whose queue is not known: dead:unreadable
)

// defaultPrioritySteps is kombu's PRIORITY_STEPS.
var defaultPrioritySteps = []int{0, 3, 6, 9}

// keyspace builds every key this package uses. Its zero value is unusable; Options.keys makes one.
type keyspace struct {
	prefix string // global_keyprefix
	own    string // global_keyprefix + own prefix
	sep    string
	steps  []int // ascending

	unacked, index, mutex string // with prefix
}

// step is the largest priority step that is not above priority, and the first one for a priority below all: kombu
// computes steps[bisect(steps, n) - 1] after clamping n to 0..9.
func (k *keyspace) step(priority int) int {
	priority = min(max(priority, 0), 9)
	i, found := slices.BinarySearch(k.steps, priority)
	switch {
	case found:
		return k.steps[i]
	case i == 0:
		return k.steps[len(k.steps)-1] // Python's index -1
	default:
		return k.steps[i-1]
	}
}

// queue is the list of the queue's messages of this priority (Channel._q_for_pri).
func (k *keyspace) queue(name string, priority int) string {
	return k.stepKey(name, k.step(priority))
}

func (k *keyspace) stepKey(name string, step int) string {
	if step == 0 {
		return k.prefix + name
	}
	return k.prefix + name + k.sep + strconv.Itoa(step)
}

// takeOrder lists the queues' keys in the order of kombu's BRPOP: for each step, each queue of the cycle.
func (k *keyspace) takeOrder(cycle []string) []string {
	keys := make([]string, 0, len(cycle)*len(k.steps))
	for _, step := range k.steps {
		for _, name := range cycle {
			keys = append(keys, k.stepKey(name, step))
		}
	}
	return keys
}

// bindings and permanentBindings are the sets of the queues bound to an exchange.
func (k *keyspace) bindings(exchange string) string { return k.prefix + bindingKeyPrefix + exchange }

func (k *keyspace) permanentBindings(exchange string) string {
	return k.prefix + permanentBindingsPref + exchange
}

// bindingMember is what kombu stores there (Channel._queue_bind); only a topic exchange has a pattern.
func (k *keyspace) bindingMember(routingKey, pattern, queue string) string {
	return routingKey + k.sep + pattern + k.sep + queue
}

// lists are all lists of a queue, in the order of their steps.
func (k *keyspace) lists(queue string) []string { return k.takeOrder([]string{queue}) }

func (k *keyspace) bindingDeadlines() string { return k.prefix + bindingDeadlines }

func (k *keyspace) dead(queue string) string     { return k.own + ownDead + queue }
func (k *keyspace) held() string                 { return k.own + ownHeld }
func (k *keyspace) heldIndex() string            { return k.own + ownHeldIndex }
func (k *keyspace) take(consumer string) string  { return k.own + ownTake + consumer }
func (k *keyspace) publisher(publ string) string { return k.own + ownPublisher + publ }
