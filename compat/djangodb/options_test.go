package djangodb

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/dfws/dfws/compat"
)

func TestOptions(t *testing.T) {
	t.Parallel()
	o := ParseOptions(compat.SecretJSON(`{"timeout": 2.5, "init_command": "PRAGMA x", "none": null, "ssl": {"ca": "/ca", "odd": 1}, "isolation_level": 5,
		"a": "text", "b": true, "c": 10}`))
	if d := o.Seconds("timeout", time.Hour); d != 2500*time.Millisecond {
		t.Errorf("timeout %v", d)
	}
	if d := o.Seconds("timeout", time.Hour); d != time.Hour {
		t.Errorf("timeout taken twice: %v", d)
	}
	if text := o.Text("init_command"); text != "PRAGMA x" {
		t.Errorf("init_command %q", text)
	}
	ssl := o.Object("ssl")
	if ca := ssl.Text("ca"); ca != "/ca" {
		t.Errorf("ca %q", ca)
	}
	if err := ssl.Err(); err == nil || !strings.Contains(err.Error(), "not supported: odd") {
		t.Errorf("%v", err)
	}
	o.Ignore("isolation_level")
	if diff := cmp.Diff(map[string]string{"a": "text", "b": "1", "c": "10"}, o.Texts()); diff != "" {
		t.Error(diff)
	}
	if err := o.Err(); err != nil {
		t.Error(err)
	}
	if ParseOptions(nil).Object("ssl") != nil || ParseOptions(nil).Err() != nil {
		t.Error("no options")
	}
}

// Faults name the option and never its value.
func TestOptionFaults(t *testing.T) {
	t.Parallel()
	o := ParseOptions(compat.SecretJSON(`{"timeout": "secret", "init_command": 1, "ssl": "secret", "x": ["secret"], "y": "secret"}`))
	o.Seconds("timeout", 0)
	o.Text("init_command")
	o.Object("ssl")
	o.Refuse("z", "is refused")
	err := o.Err()
	for _, part := range []string{"options.timeout: not a number", "options.init_command: not a text", "options.ssl: not an object",
		"options.z: is refused", "not supported: x, y"} {
		if err == nil || !strings.Contains(err.Error(), part) || strings.Contains(err.Error(), "secret") {
			t.Errorf("%v lacks %q", err, part)
		}
	}
	o.Texts()
	if err := o.Err(); !strings.Contains(err.Error(), "options.x: is not supported") {
		t.Errorf("%v", err)
	}
	if err := ParseOptions(compat.SecretJSON(`["secret"]`)).Err(); err == nil || strings.Contains(err.Error(), "secret") {
		t.Errorf("%v", err)
	}
}
