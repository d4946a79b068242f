package main

import (
	"context"

	"github.com/dfws/dfws/celeryproto"
	"github.com/dfws/dfws/integration/sample"
	"github.com/dfws/dfws/worker"
)

// seenArgs are the arguments of matrix.go.
type seenArgs struct {
	To      []string `arg:"to"`
	Mark    string   `arg:"mark"`
	Payload any      `arg:"payload,omitempty"`
}

// rawArgs are those of matrix.go_raw, which passes the payload on as it came.
type rawArgs struct {
	To      []string        `arg:"to"`
	Mark    string          `arg:"mark"`
	Payload celeryproto.Raw `arg:"payload"`
}

// passArgs name any signal to trigger.
type passArgs struct {
	Signal    string         `arg:"signal"`
	To        []string       `arg:"to"`
	Arguments map[string]any `arg:"arguments"`
	Payload   string         `arg:"payload,omitempty"` // the name of a payload to add
}

func (p passArgs) opts() map[string]any {
	if p.Payload != "" {
		p.Arguments["payload"] = sample.ByName(p.Payload)
	}
	return p.Arguments
}

func registerSignals(w *worker.Worker, notes journal) {
	// Passes on what it got, decoded: the twin of project/demo/signals.py's matrix_python.
	worker.HandleSignal(w, worker.Signal[seenArgs]{Name: "matrix.go", Queue: queue, Allow: worker.Everyone,
		Run: func(ctx context.Context, call *worker.Call, args seenArgs) error {
			if err := notes.note(ctx, "matrix.go", call.Window, map[string]string{"mark": args.Mark}); err != nil {
				return err
			}
			opts := map[string]any{"by": "go", "mark": args.Mark, "payload": args.Payload}
			return call.Trigger(ctx, "matrix.seen", opts, sample.Targets(args.To)...)
		}})
	worker.HandleSignal(w, worker.Signal[rawArgs]{Name: "matrix.go_raw", Queue: queue, Allow: worker.Everyone,
		Run: func(ctx context.Context, call *worker.Call, args rawArgs) error {
			opts := map[string]any{"by": "go", "mark": args.Mark, "payload": args.Payload}
			return call.Trigger(ctx, "matrix.seen", opts, sample.Targets(args.To)...)
		}})
	// Triggers any signal: "triggered by a Go worker".
	worker.HandleSignal(w, worker.Signal[passArgs]{Name: "matrix.go_to", Queue: queue, Allow: worker.Everyone,
		Run: func(ctx context.Context, call *worker.Call, args passArgs) error {
			return call.Trigger(ctx, args.Signal, args.opts(), sample.Targets(args.To)...)
		}})
	// A signal that both languages handle.
	worker.HandleSignal(w, worker.Signal[map[string]any]{Name: "matrix.both", Queue: queue, Allow: worker.Everyone,
		Run: func(ctx context.Context, call *worker.Call, _ map[string]any) error {
			return notes.note(ctx, "matrix.both:go", call.Window, map[string]string{"opts": call.Opts.String()})
		}})
	// A handler that panics, beside one that does not.
	worker.HandleSignal(w, worker.Signal[struct{}]{Name: "matrix.panic", Queue: queue, Allow: worker.Everyone,
		Run: func(context.Context, *worker.Call, struct{}) error { panic("on purpose") }})
	worker.HandleSignal(w, worker.Signal[struct{}]{Name: "matrix.panic", Queue: queue, Allow: worker.Everyone,
		Run: func(ctx context.Context, call *worker.Call, _ struct{}) error {
			return notes.note(ctx, "matrix.panic:second", call.Window, nil)
		}})
}

// registerRules registers one handler per permission rule, the twins of project/demo/signals.py's RULES.
func registerRules(w *worker.Worker, notes journal) {
	for name, rule := range map[string]worker.Rule{
		"everyone": worker.Everyone, "is_authenticated": worker.Authenticated, "is_anonymous": worker.Anonymous, "is_staff": worker.Staff,
		"is_superuser": worker.Superuser, "has_perm": worker.HasPerm("auth.change_user"), "server_side": worker.ServerSide,
	} {
		signal := "rule.go." + name
		type markArgs struct {
			Mark string `arg:"mark,omitempty"`
		}
		worker.HandleSignal(w, worker.Signal[markArgs]{Name: signal, Queue: queue, Allow: rule,
			Run: func(ctx context.Context, call *worker.Call, args markArgs) error {
				return notes.note(ctx, signal, call.Window, map[string]string{"mark": args.Mark})
			}})
	}
}
