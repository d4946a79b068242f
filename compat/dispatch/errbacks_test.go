package dispatch

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const goldenErrbacks = `"default_queue": "celery", "errbacks": {"task": "dfws.errback", "queue": "python", "old_style": ["shop.b", "shop.a"], "later": 1}`

func TestErrbacks(t *testing.T) {
	t.Parallel()
	e, err := DecodeEntry("python", []byte(strings.Replace(goldenEntry, `"default_queue": "celery"`, goldenErrbacks, 1)))
	if err != nil {
		t.Fatal(err)
	}
	want := &Errbacks{Task: "dfws.errback", Queue: "python", OldStyle: []string{"shop.a", "shop.b"}}
	if diff := cmp.Diff(want, e.Errbacks); diff != "" {
		t.Error(diff)
	}
	r := NewRegistry(RegistryConfig{})
	if got := r.Errbacks(); got != nil || !got.Direct("shop.new_style") {
		t.Errorf("without Python: %+v", got)
	}
	r.Set(golang("demo", nil), e)
	got := r.Errbacks()
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	for task, direct := range map[string]bool{"shop.a": true, "shop.b": true, "shop.new_style": false, "elsewhere.unknown": false, "": false} {
		if got.Direct(task) != direct {
			t.Errorf("%q: direct is not %v", task, direct)
		}
	}
}

func TestErrbacksThatPythonHasNotPublished(t *testing.T) {
	t.Parallel()
	e, err := DecodeEntry("python", []byte(strings.Replace(goldenEntry, `"default_queue"`, `"errbacks": null, "default_queue"`, 1)))
	if err != nil || e.Errbacks != nil {
		t.Errorf("%+v, %v", e.Errbacks, err)
	}
	for _, malformed := range []string{`{}`, `{"task": "dfws.errback"}`, `5`} {
		if _, err := DecodeEntry("python", []byte(strings.Replace(goldenEntry, `"default_queue"`, `"errbacks": `+malformed+`, "default_queue"`, 1))); err == nil {
			t.Errorf("%s is accepted", malformed)
		}
	}
}
