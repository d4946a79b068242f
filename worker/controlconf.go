package worker

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"reflect"
	"runtime"
	"slices"
	"strings"

	"github.com/dfws/dfws/celeryproto"
	"github.com/dfws/dfws/celeryproto/canvas"
	"github.com/dfws/dfws/compat"
)

// protocolVersion is the release of Celery that this library is like.
const protocolVersion = "5.7"

// setting is one of Celery's settings with its value on this site.
type setting struct {
	name      string
	value     celeryproto.Raw
	isDefault bool
}

// ownSettings are those of Celery's settings that a Go worker has no choice in, with what holds for it.
func ownSettings() []setting {
	return []setting{
		{name: "worker_hijack_root_logger", value: rawBool(false)},
		{name: "worker_log_color", value: rawBool(false)},
		{name: "broker_heartbeat", value: rawInt(0)},
		{name: "worker_pool", value: rawText(poolName)},
		{name: "deprecated_settings", value: rawNull},
		{name: "include", value: rawList()},
	}
}

// alwaysShown are settings that conf tells even where they are Celery's defaults: nobody would ask for the others.
var alwaysShown = []string{"accept_content", "broker_url", "enable_utc", "result_backend", "timezone"}

// settingsOf lists the site's Celery settings by name, secrets hidden (celery 5.7, app/utils.py, Settings.table).
func settingsOf(celery, defaults *compat.Celery) []setting {
	found := ownSettings()
	value, usual := reflect.ValueOf(celery).Elem(), reflect.ValueOf(defaults).Elem()
	for i := range value.NumField() {
		name, _, _ := strings.Cut(value.Type().Field(i).Tag.Get("json"), ",")
		if name == "" || name == "-" {
			continue
		}
		s := setting{name: name, isDefault: reflect.DeepEqual(value.Field(i).Interface(), usual.Field(i).Interface())}
		s.value = settingValue(name, value.Field(i))
		found = append(found, s)
	}
	slices.SortFunc(found, func(a, b setting) int { return cmp.Compare(a.name, b.name) })
	return found
}

// settingValue is a setting's value as JSON, hidden where it may be secret.
func settingValue(name string, v reflect.Value) celeryproto.Raw {
	if secret, ok := v.Interface().(compat.Secret); ok {
		switch text := secret.Reveal(); {
		case text == "":
			return rawNull
		case strings.Contains(text, "://"):
			return rawText(maskURL(text))
		case !isHidden(name):
			return rawText(text)
		}
		return rawText(mask)
	}
	if isHidden(name) && !v.IsZero() {
		return rawText(mask)
	}
	var raw celeryproto.Raw
	if v.Kind() == reflect.Slice && v.Type().Elem().Kind() == reflect.Uint8 {
		raw = v.Bytes()
	} else if encoded, err := json.Marshal(v.Interface()); err == nil {
		raw = encoded
	}
	if len(raw) == 0 || celeryproto.CheckJSON(raw, celeryproto.JSONLimits{}) != nil {
		return rawNull
	}
	return hideSecrets(raw)
}

// conf tells the site's settings as this worker knows them: those that differ from Celery's defaults, or all of them.
func (r *remote) conf(_ context.Context, args *arguments) (celeryproto.Raw, error) {
	var o object
	for _, s := range r.settings(args.truth("with_defaults")) {
		o.raw(s.name, s.value)
	}
	return o.json(), nil
}

func (r *remote) settings(withDefaults bool) []setting {
	defaults := compat.DefaultCelery()
	all := settingsOf(&r.engine.cfg.Settings.Celery, &defaults)
	if withDefaults {
		return all
	}
	return slices.DeleteFunc(all, func(s setting) bool { return s.isDefault && !slices.Contains(alwaysShown, s.name) })
}

// report is what celery 5.7, app/utils.py (bugreport), says of a Python worker, in the same lines.
func (r *remote) report(context.Context, *arguments) (celeryproto.Raw, error) {
	celery := &r.engine.cfg.Settings.Celery
	transport, _, _ := strings.Cut(celery.BrokerURL.Reveal(), "://")
	results := "disabled:///"
	if url := celery.ResultBackend.Reveal(); url != "" {
		results = maskURL(url)
	}
	var b strings.Builder
	fmt.Fprintf(&b, "\nsoftware -> celery:%s (its protocol, spoken by %s:%s) go:%s\n", protocolVersion, Software, softwareVersion(),
		strings.TrimPrefix(runtime.Version(), "go"))
	fmt.Fprintf(&b, "platform -> system:%s arch:%s\n            imp:go\n", systemName(), runtime.GOARCH)
	fmt.Fprintf(&b, "loader   -> %s\nsettings -> transport:%s results:%s\n\n", poolName, transport, results)
	for _, s := range r.settings(false) {
		fmt.Fprintf(&b, "%s: %s\n", s.name, canvas.Repr(s.value))
	}
	return celeryproto.ReplyOK(rawText(b.String())), nil
}
