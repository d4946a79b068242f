package worker

import (
	"context"
	"errors"
	"math"
	"math/big"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/redis/go-redis/v9"

	"github.com/dfws/dfws/celeryproto"
	"github.com/dfws/dfws/celeryproto/canvas"
	"github.com/dfws/dfws/compat"
	"github.com/dfws/dfws/integration/celeryjudge"
	"github.com/dfws/dfws/integration/redistest"
)

// oddTexts are names, IDs, queues and texts that programs may get from somewhere.
var oddTexts = []string{
	"", " ", "a", "py.echo", "py.echo", "py.echo", "é", "😀", "\xff", "a\xffb", "\xed\xa0\x80", "\x00", "\n", "\x06\x16", "q\x06\x163", "__type__", "__value__",
	"null", "NaN", `"`, `\`, "{", "00000000-0000-4000-8000-000000000001", "\u2028", "\ufeff", strings.Repeat("x", 300), "1", "-1",
}

// producer makes calls of random kinds.
type producer struct {
	*rand.Rand
	client *Client
}

func pick[T any](p *producer, of ...T) T { return of[p.IntN(len(of))] }

// name is mostly a good one: else nothing would get as far as the queue.
func (p *producer) name() string {
	if p.IntN(4) > 0 {
		return "py.echo"
	}
	return pick(p, oddTexts...)
}

// value is anything, no deeper than depth but for what is meant to be too deep.
func (p *producer) value(depth int) any {
	if depth > 0 && p.IntN(3) == 0 {
		switch p.IntN(3) {
		case 0:
			list := []any{}
			for range p.IntN(4) {
				list = append(list, p.value(depth-1))
			}
			return list
		case 1:
			object := map[string]any{}
			for range p.IntN(4) {
				object[pick(p, oddTexts...)] = p.value(depth - 1)
			}
			return object
		default:
			return map[string]any{"__type__": pick(p, "money", "", "datetime", "uuid", "decimal", "bytes"), "__value__": p.value(depth - 1)}
		}
	}
	if p.IntN(5) > 0 { // with one that is refused the whole call is
		return pick[any](p, nil, true, 1, -1.5, math.NaN(), math.Inf(-1), "text", pick(p, oddTexts...), []byte("\xff"), time.Now(), uint64(math.MaxUint64),
			time.Time{}, celeryproto.Decimal("1.5"), uuid.UUID{}, celeryproto.Raw(`[NaN, "\ud800", {"a":1,"a":2}]`), nest(pick(p, 10, 396)), big.NewInt(1))
	}
	huge := new(big.Int).Exp(big.NewInt(10), big.NewInt(pick(p, int64(20), 4299, 4300, 5000)), nil)
	return pick[any](p,
		nil, true, 1, -1, int64(math.MinInt64), uint64(math.MaxUint64), 1.5, math.NaN(), math.Inf(1), math.Inf(-1), math.MaxFloat64, huge,
		pick(p, oddTexts...), pick(p, oddTexts...), pick(p, oddTexts...), []byte("\xff"), []byte("text"), []byte(nil),
		time.Time{}, time.Now(), time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC), time.Date(1, 1, 1, 0, 0, 0, 0, time.FixedZone("", 3600)), time.Hour,
		celeryproto.NaiveTime{}, celeryproto.Date{}, celeryproto.Decimal(pick(p, "1.5", "x", "")), uuid.UUID{},
		celeryproto.Raw(pick(p, "{", "1 2", "[NaN]", `{"a":1,"a":2}`, `{"__type__":"money","__value__":1}`, "\xff", "", `"\ud800"`, "[1,]", "'x'")),
		make(chan int), func() {}, cycle(), nest(pick(p, 100, 398, 399, 400, 401, 500, 600)), marshalPanics{}, (*nilError)(nil), (*Exception)(nil),
		struct {
			Type  string `json:"__type__"`
			Value any    `json:"__value__"`
		}{pick(p, oddTexts...), 1},
		complex(1, 2), [2]int{1, 2}, map[int]string{1: "a"}, map[float64]int{math.NaN(): 1},
	)
}

func (p *producer) values() []any {
	list := []any{}
	for range p.IntN(3) {
		list = append(list, p.value(3))
	}
	return list
}

func (p *producer) object() map[string]any {
	object := map[string]any{}
	for range p.IntN(3) {
		object[pick(p, oddTexts...)] = p.value(3)
	}
	return object
}

func (p *producer) duration() time.Duration {
	return pick(p, 0, 0, 0, -1, 1, time.Second, -time.Hour, 100*365*24*time.Hour, math.MaxInt64, math.MinInt64)
}

// message is a call for Client.Send.
func (p *producer) message() TaskMessage {
	m := TaskMessage{Name: p.name(), Args: p.values(), Queue: pick(p, "celery", "celery", "celery", "", pick(p, oddTexts...)), Priority: pick(p, 0, 0, 0, 3, 9, -1, 10, math.MaxInt)}
	if p.IntN(2) == 0 {
		m.Kwargs = pick(p, any(p.object()), p.value(2))
	}
	if p.IntN(4) == 0 {
		m.ID = pick(p, oddTexts...)
	}
	if p.IntN(4) == 0 {
		m.Headers = p.object()
		m.Headers[pick(p, "x", "id", "task", "eta", "retries", "timelimit", "lang", "group", "stamps", "argsrepr")] = p.value(2)
	}
	if p.IntN(4) == 0 {
		m.ETA = pick(p, time.Time{}, time.Now(), time.Unix(0, 0), time.Date(-5, 1, 1, 0, 0, 0, 0, time.UTC), time.Date(12000, 1, 1, 0, 0, 0, 0, time.UTC))
	}
	if p.IntN(4) == 0 {
		m.Countdown, m.Expires, m.TimeLimit, m.SoftTimeLimit = p.duration(), p.duration(), p.duration(), p.duration()
	}
	return m
}

// signature is a call for Client.Apply.
func (p *producer) signature(depth int) *canvas.Signature {
	if depth > 0 && p.IntN(2) == 0 {
		members := make([]*canvas.Signature, p.IntN(3))
		for i := range members {
			members[i] = p.signature(depth - 1)
		}
		switch p.IntN(3) {
		case 0:
			return canvas.Chain(members...)
		case 1:
			return canvas.Group(members...)
		default:
			return canvas.Chord(canvas.Group(members...), p.signature(depth-1))
		}
	}
	sig := canvas.New(p.name(), p.values()...).Set("queue", "celery")
	if p.IntN(2) == 0 {
		sig = sig.WithKwargs(pick(p, any(p.object()), p.value(1)))
	}
	for p.IntN(2) == 0 {
		sig = sig.Set(pick(p, "eta", "expires", "countdown", "priority", "task_id", "queue", "retries", "headers", "time_limit", "soft_time_limit",
			"shadow", "argsrepr", "reply_to", "correlation_id", "group_id", "group_index", "root_id", "parent_id", "serializer", "delivery_mode",
			"stamped_headers", "ignore_result", "replaced_task_nesting", "origin", "x", "routing_key", "exchange", "chord", "chain", "link"), p.value(1))
	}
	switch p.IntN(6) {
	case 0:
		sig = sig.Link(p.signature(0))
	case 1:
		sig = sig.LinkError(p.signature(0))
	case 2:
		sig = sig.Stamp(nil, p.IntN(2) == 0, p.object())
	}
	return sig
}

// call sends one thing, or is refused.
func (p *producer) call(ctx context.Context) error {
	switch p.IntN(4) {
	case 0:
		_, err := p.client.Apply(ctx, p.signature(2), p.values()...)
		return err
	case 1:
		return p.client.Trigger(ctx, Trigger{
			Signal: pick(p, oddTexts...), To: []Target{ToServer}, Opts: pick(p, any(p.object()), p.value(2)),
			Countdown: p.duration(), Expires: p.duration(), ETA: pick(p, time.Time{}, time.Now(), time.Date(12000, 1, 1, 0, 0, 0, 0, time.UTC)),
		})
	default:
		_, err := p.client.Send(ctx, p.message())
		return err
	}
}

// sent takes all messages out of all queues: by the queue's name.
func sent(t testing.TB, r *redis.Client) map[string][]string {
	t.Helper()
	all := map[string][]string{}
	for _, key := range r.Keys(t.Context(), "*").Val() {
		if r.Type(t.Context(), key).Val() == "list" {
			queue, _, _ := strings.Cut(key, "\x06\x16")
			all[queue] = append(all[queue], r.LRange(t.Context(), key, 0, -1).Val()...)
		}
	}
	must(t, r.FlushDB(t.Context()).Err())
	return all
}

// TestProducer calls everything that sends a task with everything that can be given to it. What it does not refuse with an error is a
// message that no Celery worker dies of or drops: by the rules of celeryjudge.Check, and for some of them by Celery's own code.
func TestProducer(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	settings := siteFor(t, server, nil)
	client, redis := clientFor(t, settings), server.Client(t)
	const calls, judged = 10_000, 600
	p := &producer{Rand: rand.New(rand.NewPCG(3, 4)), client: client}
	refused, messages := 0, 0
	var sample []string
	for i := range calls {
		if err := p.call(t.Context()); err != nil {
			if errors.Is(err, context.DeadlineExceeded) {
				t.Fatal(err)
			}
			refused++
		}
		for queue, elements := range sent(t, redis) {
			for _, element := range elements {
				messages++
				if err := celeryjudge.Check(queue, []byte(element)); err != nil {
					t.Errorf("call %d: %v in %q: %.2000q", i, err, queue, element)
				}
				if len(sample) < judged && queue == "celery" && p.IntN(4) == 0 {
					sample = append(sample, element)
				}
			}
		}
		if t.Failed() {
			return
		}
	}
	t.Logf("%d calls: %d refused, %d messages", calls, refused, messages)
	if refused < calls/10 || messages < calls/10 {
		t.Errorf("of %d calls %d were refused, there are %d messages: the test tests little", calls, refused, messages)
	}
	succeeded := 0
	for i, v := range celeryjudge.Judge(t, sample...) {
		if v.Fate != celeryjudge.Run {
			t.Errorf("Celery: %+v of %.2000q", v, sample[i])
		}
		if v.State == celeryproto.StatusSuccess {
			succeeded++
		}
	}
	if succeeded < judged/4 {
		t.Errorf("of %d tasks %d succeed in Celery", len(sample), succeeded)
	}
	survives(t, client, redis, settings, sample)
}

// survives lets a real worker of Celery take messages, and a task that it answers after them.
func survives(t *testing.T, client *Client, r *redis.Client, settings *compat.Settings, sample []string) {
	t.Helper()
	for _, element := range sample {
		must(t, r.LPush(t.Context(), "celery", element).Err())
	}
	last := mustSend(t, client, TaskMessage{Name: "py.add", Args: []any{1, 2}, Queue: "celery"})
	startPython(t, settings)
	ctx, cancel := context.WithTimeout(t.Context(), pythonTime)
	defer cancel()
	var sum int
	if err := last.Get(ctx, &sum); err != nil || sum != 3 {
		t.Errorf("the task after them: %d, %v", sum, err)
	}
	if n := r.LLen(t.Context(), "celery").Val(); n != 0 {
		t.Errorf("%d messages are left", n)
	}
}
