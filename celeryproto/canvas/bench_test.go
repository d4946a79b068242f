package canvas_test

import (
	"testing"
	"time"

	"github.com/dfws/dfws/celeryproto/canvas"
)

func BenchmarkApply(b *testing.B) {
	for name, sig := range map[string]*canvas.Signature{
		"task":  canvas.New("t.a", 1, "two").Set("queue", "q"),
		"chain": canvas.Chain(canvas.New("t.a", 1), canvas.New("t.b", 2), canvas.New("t.c", 3)),
		"chord": canvas.Chord(canvas.Group(canvas.New("t.a", 1), canvas.New("t.b", 2)), canvas.New("t.c")),
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := sig.Apply(nil, canvas.Call{}); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkMessage(b *testing.B) {
	plan, err := canvas.New("t.a", 1, "two").Apply(nil, canvas.Call{})
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		task, err := plan.Steps[0].Send.Message(canvas.Defaults{Now: time.Unix(1e9, 0)})
		if err != nil {
			b.Fatal(err)
		}
		task.SetQueue("celery")
		if _, err := task.Append(nil); err != nil {
			b.Fatal(err)
		}
	}
}
