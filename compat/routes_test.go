package compat

import (
	"encoding/json"
	"errors"
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/dfws/dfws/celeryproto"
)

// routesCase is one application with calls, and where Celery sends each.
type routesCase struct {
	Celery json.RawMessage `json:"celery"`
	Calls  []routesCall    `json:"calls"`
}

type routesCall struct {
	Task    string
	Options json.RawMessage
	Want    routesWant
}

type routesWant struct {
	Error        string          `json:"error"`
	Queue        []string        `json:"queue"`
	Exchange     string          `json:"exchange"`
	RoutingKey   string          `json:"routing_key"`
	DeliveryMode int             `json:"delivery_mode"`
	Options      json.RawMessage `json:"options"`
}

// UnmarshalJSON reads the triple [task, options, destination].
func (c *routesCall) UnmarshalJSON(b []byte) error {
	c.Want = routesWant{DeliveryMode: persistent}
	return json.Unmarshal(b, &[]any{&c.Task, &c.Options, &c.Want})
}

// checkRoutes compares Routes with Celery and returns how many calls were compared.
func checkRoutes(t *testing.T, cases []byte) (compared, refused int) {
	t.Helper()
	var all []routesCase
	if err := json.Unmarshal(cases, &all); err != nil {
		t.Fatal(err)
	}
	for i, c := range all {
		celery := DefaultCelery()
		if err := json.Unmarshal(c.Celery, &celery); err != nil {
			t.Fatalf("case %d: %v\n%s", i, err, c.Celery)
		}
		routes := NewRoutes(&celery)
		for _, call := range c.Calls {
			if checkRoute(t, routes, c.Celery, &call) {
				compared++
			} else {
				refused++
			}
		}
	}
	return compared, refused
}

// checkRoute compares one call; false when only Python can tell.
func checkRoute(t *testing.T, routes *Routes, settings json.RawMessage, call *routesCall) bool {
	t.Helper()
	options, err := celeryproto.Raw(call.Options).Object()
	if err != nil {
		t.Fatal(err)
	}
	d, err := routes.Route(call.Task, options)
	_, onlyPython := errors.AsType[*RouteError](err)
	if onlyPython && (!isASCII(call.Task) || strings.Contains(err.Error(), "regular expression")) {
		return false // what is documented: names beyond ASCII, and expressions that Go has not
	}
	if (err != nil) != (call.Want.Error != "") {
		t.Errorf("%s\n%q %s: %v, Celery: %+v", settings, call.Task, call.Options, err, call.Want)
		return true
	}
	if err != nil {
		if _, missing := errors.AsType[*QueueNotFoundError](err); missing != (call.Want.Error == "QueueNotFound" || call.Want.Error == "KeyError") {
			t.Errorf("%q %s: %v, Celery: %s", call.Task, call.Options, err, call.Want.Error)
		}
		return true
	}
	got := routesWant{Exchange: d.Exchange, RoutingKey: d.RoutingKey, DeliveryMode: d.DeliveryMode}
	if q := d.Queue; q != nil && call.Want.Queue != nil {
		got.Queue = []string{q.Name, q.Exchange.Name, q.Exchange.Type, q.RoutingKey}
	}
	if len(d.Options) > 0 {
		got.Options = d.Options.Append(nil)
	}
	if diff := cmp.Diff(call.Want, got, cmp.Transformer("JSON", decodeForTest)); diff != "" {
		t.Errorf("%s\n%q %s (-Celery +here):\n%s", settings, call.Task, call.Options, diff)
	}
	return true
}

// decodeForTest makes the order of keys irrelevant.
func decodeForTest(raw json.RawMessage) any {
	var value any
	if len(raw) > 0 && json.Unmarshal(raw, &value) != nil {
		return string(raw)
	}
	return value
}

func mustReadTestdata(tb testing.TB, name string) []byte {
	tb.Helper()
	b, err := os.ReadFile("testdata/" + name)
	if err != nil {
		tb.Fatal(err)
	}
	return b
}

// TestRoutes compares with what Celery was recorded to do.
func TestRoutes(t *testing.T) {
	t.Parallel()
	compared, refused := checkRoutes(t, mustReadTestdata(t, "routes.json"))
	if compared < 1650 || refused > 70 {
		t.Errorf("%d calls compared, %d left to Python", compared, refused)
	}
}

// TestRoutesAgainstCelery compares with the Celery that is installed: with the recorded rules, and with random ones.
func TestRoutesAgainstCelery(t *testing.T) {
	t.Parallel()
	if diff := cmp.Diff(string(mustReadTestdata(t, "routes.json")), string(mustCapture(t, "routes"))); diff != "" {
		t.Errorf("the recording is out of date (-recorded +now):\n%s", diff)
	}
	compared, refused := 0, 0
	for seed := range 4 {
		c, r := checkRoutes(t, mustCapture(t, "routes", strconv.Itoa(seed), "150"))
		compared, refused = compared+c, refused+r
	}
	if t.Logf("%d calls compared, %d left to Python", compared, refused); compared < 10*refused {
		t.Error("too much is left to Python")
	}
}
