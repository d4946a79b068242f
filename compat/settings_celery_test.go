package compat

import (
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/dfws/dfws/celeryproto"
)

// recordedCelery returns the section "celery" of an application without settings, and of one that changed everything.
func recordedCelery(tb testing.TB) (byDefault, changed json.RawMessage) {
	tb.Helper()
	var recorded struct {
		Default json.RawMessage `json:"default"`
		Changed json.RawMessage `json:"changed"`
	}
	mustGolden(tb, "celery_settings.json", &recorded)
	return recorded.Default, recorded.Changed
}

// withCelery makes a settings file with this section.
func withCelery(section string) []byte {
	return []byte(`{"schema": 1, "channel_layer": {"hosts": [{"url": "redis://h/1"}]}, "celery": ` + section + `}`)
}

func mustParseCelery(tb testing.TB, section string) *Celery {
	tb.Helper()
	s, err := ParseSettings(withCelery(section))
	if err != nil {
		tb.Fatal(err)
	}
	return &s.Celery
}

// TestDefaultCelery: what Go takes for a setting that a file leaves out is what Celery has.
func TestDefaultCelery(t *testing.T) {
	t.Parallel()
	byDefault, _ := recordedCelery(t)
	want := DefaultCelery()
	want.BrokerURL = "redis://h/0"
	want.TaskDefaultExchange, want.TaskDefaultRoutingKey = "celery", "celery" // Celery answers with the queue's name
	got := mustParseCelery(t, string(byDefault))
	// Celery's defaults of the options are {}, here nothing.
	for _, options := range []SecretJSON{got.BrokerTransportOptions, got.ResultBackendTransportOptions} {
		if string(options) != "{}" {
			t.Errorf("%s", []byte(options))
		}
	}
	got.BrokerTransportOptions, got.ResultBackendTransportOptions = nil, nil
	if diff := cmp.Diff(&want, got, cmpopts.EquateEmpty()); diff != "" {
		t.Errorf("(-default +Celery):\n%s", diff)
	}
}

// TestEverySettingIsExported: the export and Celery have the same settings, and each is read.
func TestEverySettingIsExported(t *testing.T) {
	t.Parallel()
	byDefault, changed := recordedCelery(t)
	var names map[string]json.RawMessage
	if err := json.Unmarshal(byDefault, &names); err != nil {
		t.Fatal(err)
	}
	unchanged := map[string]bool{ // refused when set, or only with a database
		"security": true, "task_always_eager": true, "redis_backend_credential_provider": true, "result_database": true,
	}
	before := reflect.ValueOf(*mustParseCelery(t, string(byDefault)))
	after := reflect.ValueOf(*mustParseCelery(t, string(changed)))
	for i := range before.NumField() {
		name := before.Type().Field(i).Tag.Get("json")
		if _, exported := names[name]; !exported && name != "result_database" {
			t.Errorf("%s is not exported", name)
		}
		delete(names, name)
		if same := reflect.DeepEqual(before.Field(i).Interface(), after.Field(i).Interface()); same != unchanged[name] {
			t.Errorf("%s: read from the file is %v", name, !same)
		}
	}
	if len(names) > 0 {
		t.Errorf("exported and not read: %v", slices.Sorted(maps.Keys(names)))
	}
}

func TestChangedCelery(t *testing.T) {
	t.Parallel()
	_, changed := recordedCelery(t)
	c := mustParseCelery(t, string(changed))
	const tls = "?ssl_cert_reqs=required&ssl_ca_certs=%2Fca.pem"
	if got := c.BrokerURL.Reveal(); got != "rediss://:pw@a/1"+tls+";rediss://b/2"+tls {
		t.Error(got)
	}
	if got := c.ResultBackend.Reveal(); got != "sentinel://:p%2Fw@s1:26379/3;sentinel://:p%2Fw@s2:26379/3" {
		t.Error(got)
	}
	if c.WorkerConcurrency != ConcurrencyAuto || !c.AcksOnFailure() || c.AcksOnTimeout() || c.TaskDefaultDeliveryMode != 1 {
		t.Errorf("%+v", c)
	}
	policy := RetryPolicy{IntervalStart: 0.1, IntervalStep: 1, IntervalMax: 1} // what is left out is kombu's default
	if diff := cmp.Diff(policy, c.TaskPublishRetryPolicy); diff != "" {
		t.Error(diff)
	}
	if c.ResultExpires != nil || *c.ResultChordExpires != 0 || c.ResultFailureExpires.Duration() != 7*24*time.Hour {
		t.Errorf("%v %v %v", c.ResultExpires, c.ResultChordExpires, c.ResultFailureExpires)
	}
	var names []string
	for i := range c.TaskQueues {
		q := &c.TaskQueues[i]
		names = append(names, fmt.Sprintf("%s/%s %s(%s) %s %v", q.Name, q.Alias, q.Exchange.Name, q.Exchange.Type, q.RoutingKey, q.TTL()))
	}
	want := []string{
		"main/ tasks(topic) task.# 0s", "video/ media(topic) video.* 2.5s", "short/ tasks(topic) task.default 1m0s", "wide/ tasks(topic) task.default 0s",
		"bcast.00000000-1111-2222-3333-444444444444/announce announce(fanout) task.default 0s", "fixed-queue/fixed fixed(fanout) task.default 0s",
	}
	if diff := cmp.Diff(want, names); diff != "" {
		t.Error(diff)
	}
	if q := c.TaskQueues[3]; len(q.Bindings) != 2 || q.Bindings[0].RoutingKey != "audio.#" || q.Bindings[1].Exchange.Type != "fanout" {
		t.Errorf("%+v", q)
	}
	if unique, fixed := c.TaskQueues[4], c.TaskQueues[5]; !unique.Broadcast || !unique.Unique || !fixed.Broadcast || fixed.Unique {
		t.Errorf("%+v %+v", unique, fixed)
	}
	if q := c.TaskQueues[2]; q.Durable || !q.AutoDelete || string(q.Arguments) == "" {
		t.Errorf("%+v", q)
	}
}

// TestSettingsAgainstCelery: the recording is what the installed Celery and the shim of this repository give.
func TestSettingsAgainstCelery(t *testing.T) {
	t.Parallel()
	if diff := cmp.Diff(string(mustReadTestdata(t, "celery_settings.json")), string(mustCapture(t, "settings"))); diff != "" {
		t.Errorf("the recording is out of date (-recorded +now):\n%s", diff)
	}
}

func TestAnnotation(t *testing.T) {
	t.Parallel()
	_, changed := recordedCelery(t)
	c := mustParseCelery(t, string(changed))
	for task, want := range map[string]string{"a.b": `{"rate_limit": "5/m", "time_limit": 3}`, "other": `{"time_limit": 3}`} {
		got, err := c.Annotation(task)
		var all celeryproto.Members
		for _, name := range slices.Sorted(maps.Keys(got)) {
			all = append(all, celeryproto.Member{Key: name, Value: got[name]})
		}
		if text := string(all.Append(nil)); text != want {
			t.Errorf("%s: %s, want %s", task, text, want)
		}
		// The class is asked only where no table has the task.
		fault := map[string]string{"a.b": "on_failure is a function builtins.print", "other": "class site.annotations.All"}[task]
		if err == nil || !strings.Contains(err.Error(), fault) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: %v", task, err)
		}
	}
	delete(c.TaskAnnotations[0].Tasks, "*")
	if _, err := c.Annotation("other"); err == nil || strings.Count(err.Error(), "class site.annotations.All") != 1 {
		t.Error(err)
	}
	// The first table with the task counts, even an empty one; "*" wins over it.
	c = mustParseCelery(t, `{"broker_url": "redis://h", "task_annotations": [
		{"tasks": {"a": {}, "b": {"x": 1}}}, {"tasks": {"a": {"x": 2}, "b": {"x": 3}, "*": {"y": 4}}}, {"tasks": {"*": {"y": 5, "z": 6}}}]}`)
	for task, want := range map[string]string{"a": "map[y:4]", "b": "map[x:1 y:4]"} {
		if got, err := c.Annotation(task); err != nil || fmt.Sprint(got) != want {
			t.Errorf("%s: %v, %v, want %s", task, got, err, want)
		}
	}
}

func TestResultStore(t *testing.T) {
	t.Parallel()
	for backend, want := range map[string]ResultStore{
		"": NoResults, "disabled": NoResults, "redis://h": RedisResults, "rediss://h?ssl_cert_reqs=none": RedisResults,
		"sentinel://a;sentinel://b": RedisResults, "redis+socket:///s": RedisResults, "django-db": DatabaseResults,
	} {
		if got, err := (&Celery{ResultBackend: Secret(backend)}).ResultStore(); err != nil || got != want {
			t.Errorf("%s: %v, %v", backend, got, err)
		}
	}
	for backend, part := range map[string]string{
		"django-cache": "django-cache", "rpc://": "rpc is not", "db+postgresql://u:topsecret@h/d": "db+postgresql is not",
		"class site.Backend": "this one is not", "site:Backend": "site:Backend is not",
	} {
		got, err := (&Celery{ResultBackend: Secret(backend)}).ResultStore()
		if err == nil || got != NoResults || !strings.Contains(err.Error(), part) || strings.Contains(err.Error(), "topsecret") {
			t.Errorf("%s: %v, %v, want %q in it", backend, got, err, part)
		}
	}
}

func TestParseRate(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]float64{"": 0, "10": 10, "2.5": 2.5, "10/s": 10, "120/m": 2, "7200/h": 2, "0/m": 0, " 1 /s": 1, "5/": 5} {
		if got, err := ParseRate(text); err != nil || got != want {
			t.Errorf("%q: %v, %v, want %v", text, got, err, want)
		}
	}
	for _, text := range []string{"x", "10/d", "/s", "-1/s", "nan", "inf/m", "1e300", "1/s/s"} {
		if got, err := ParseRate(text); err == nil {
			t.Errorf("%q: %v", text, got)
		}
	}
}

func TestCeleryNamesAllFaults(t *testing.T) {
	t.Parallel()
	_, err := ParseSettings(withCelery(`{
		"broker_url": "redis://:topsecret@h", "broker_connection_timeout": -1, "broker_failover_strategy": {"unsupported": "function site.next"},
		"broker_pool_limit": -1, "result_failure_expires": -1, "result_serializer": "", "result_backend": "django-db",
		"redis_backend_credential_provider": {"unsupported": "site.Provider"}, "redis_socket_timeout": -2, "task_default_delivery_mode": 3,
		"task_protocol": 3, "task_default_rate_limit": "often", "task_publish_retry_policy": {"interval_step": -1}, "task_always_eager": true,
		"timezone": "", "security": ["security_key", "security_certificate"], "worker_prefetch_multiplier": -4, "worker_soft_shutdown_timeout": -1,
		"control_exchange": "", "event_queue_expires": -1, "event_serializer": ""}`))
	if err == nil {
		t.Fatal("accepted")
	}
	for _, want := range []string{
		"celery.broker_connection_timeout", "celery.broker_failover_strategy: function site.next", "celery.broker_pool_limit",
		"celery.result_failure_expires", "celery.result_serializer", "celery.result_database", "celery.redis_backend_credential_provider: site.Provider",
		"celery.redis_socket_timeout", "celery.task_default_delivery_mode", "celery.task_protocol", "celery.task_default_rate_limit: \"often\"",
		"celery.task_publish_retry_policy.interval_step", "celery.task_always_eager", "celery.timezone", "celery.security_key: is set",
		"celery.worker_prefetch_multiplier", "celery.worker_soft_shutdown_timeout", "celery.control_exchange", "celery.event_queue_expires",
		"celery.event_serializer",
	} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%s is not named", want)
		}
	}
	if strings.Contains(err.Error(), "topsecret") {
		t.Error(err)
	}
}

func TestCeleryRefuses(t *testing.T) {
	t.Parallel()
	for section, part := range map[string]string{
		`{"worker_concurrency": -1}`:                                     "celery.worker_concurrency",
		`{"worker_concurrency": "many"}`:                                 "celery.worker_concurrency",
		`{"task_queues": [{}]}`:                                          "celery.task_queues: a queue has no name",
		`{"task_queues": {"a": {}}}`:                                     "celery.task_queues: a JSON object does not fit",
		`{"task_routes": [{"rules": [{"route": {}}]}]}`:                  "not one of task, glob and regex",
		`{"task_routes": [{"rules": [{"task": "a", "glob": "b*"}]}]}`:    "not one of task, glob and regex",
		`{"task_routes": [{"rules": [{"glob": "b*"}]}]}`:                 `"b*" leads nowhere`,
		`{"task_routes": [{"rules": [{"regex": "b+", "route": "q"}]}]}`:  `"b+" leads nowhere`,
		`{"task_publish_retry_policy": {"max_retries": "x"}}`:            "max_retries",
		`{"broker_failover_strategy": 5}`:                                "a JSON number does not fit",
		`{"result_database": "other", "broker_url": "redis://h"}`:        `celery.result_database: "other" is not among the databases`,
		`{"broker_failover_strategy": "best", "broker_url": "redis://"}`: `"best" is neither`,
	} {
		if _, err := ParseSettings(withCelery(section)); err == nil || !strings.Contains(err.Error(), part) {
			t.Errorf("%s: %v, want %q in it", section, err, part)
		}
	}
}

func TestDatabases(t *testing.T) {
	t.Parallel()
	file := func(database string) []byte {
		return []byte(`{"schema": 1, "channel_layer": {"hosts": [{"url": "redis://h/1"}]},
			"celery": {"broker_url": "redis://h", "result_backend": "django-db", "result_database": "results"}, "databases": {"results": ` + database + `}}`)
	}
	s, err := ParseSettings(file(`{"engine": "django.db.backends.postgresql", "vendor": "postgresql", "name": "site", "host": "db", "port": "5432",
		"user": "u", "password": "topsecret", "options": {"sslmode": "require", "sslpassword": "topsecret"}, "time_zone": "UTC"}`))
	if err != nil {
		t.Fatal(err)
	}
	want := Database{
		Engine: "django.db.backends.postgresql", Vendor: "postgresql", Name: "site", Host: "db", Port: "5432", User: "u", Password: "topsecret",
		Options: SecretJSON(`{"sslmode": "require", "sslpassword": "topsecret"}`), TimeZone: "UTC",
	}
	if diff := cmp.Diff(want, s.Databases["results"]); diff != "" {
		t.Error(diff)
	}
	for _, text := range []string{fmt.Sprintf("%v %+v %#v", *s, *s, *s), string(must(json.Marshal(s)))} {
		if strings.Contains(text, "topsecret") {
			t.Error(text)
		}
	}
	for database, part := range map[string]string{
		`{}`: "databases.results.vendor: missing", `{"vendor": "sqlite"}`: "databases.results.name: missing",
		`{"vendor": "mysql", "options": [1]}`: "databases.results.options: not an object",
	} {
		if _, err := ParseSettings(file(database)); err == nil || !strings.Contains(err.Error(), part) {
			t.Errorf("%s: %v, want %q in it", database, err, part)
		}
	}
}

func must[T any](value T, err error) T {
	if err != nil {
		panic(err)
	}
	return value
}

func TestWarnings(t *testing.T) {
	t.Parallel()
	s, err := ParseSettings(withCelery(`{"broker_url": "redis://h", "result_backend": "rpc://",
		"task_routes": [{"unsupported": "function site.route"}, {"rules": [{"regex": "(?=a)", "route": {}}, {"task": "a", "unsupported": "a route that is a int"}]}],
		"task_annotations": [{"unsupported": "class site.All"}, {"tasks": {"a": {"on_failure": {"unsupported": "function site.failed"}, "rate_limit": 1}}}]}`))
	if err != nil {
		t.Fatal(err)
	}
	warnings := strings.Join(s.Warnings(), "\n")
	for _, want := range []string{
		"celery.task_routes: function site.route", `celery.task_routes: regular expression "(?=a)"`, "celery.task_routes: a route that is a int",
		"celery.task_annotations: class site.All", "celery.task_annotations: a: on_failure is a function site.failed", "celery.result_backend: rpc",
	} {
		if !strings.Contains(warnings, want) {
			t.Errorf("%q is missing in\n%s", want, warnings)
		}
	}
	if n := len(s.Warnings()); n != 6 {
		t.Errorf("%d warnings\n%s", n, warnings)
	}
	plain := mustParse(t, minimalSettings)
	if got := plain.Warnings(); len(got) != 0 {
		t.Error(got)
	}
}

func mustParse(tb testing.TB, file string) *Settings {
	tb.Helper()
	s, err := ParseSettings([]byte(file))
	if err != nil {
		tb.Fatal(err)
	}
	return s
}
