// Package sample has what the Go worker and the Go programs of the integration tests share with project/demo: the named payloads
// and the names of targets.
package sample

import (
	"maps"
	"math"
	"math/big"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/dfws/dfws/celeryproto"
	"github.com/dfws/dfws/worker"
)

// Plain is project/demo/payloads.py's PLAIN: what a browser can send as well.
func Plain() map[string]any {
	big70 := new(big.Int).Lsh(big.NewInt(1), 70)
	negative := new(big.Int).Sub(big.NewInt(math.MinInt64), big.NewInt(1))
	return map[string]any{
		"a_text": "é☃𝄞 </script>&'\"\\ \u2028 \x00\x7f 😀",
		"b_nested": map[string]any{
			"list": []any{1, []any{2, map[string]any{"deep": []any{nil, true, map[string]any{}}}}, []any{}},
			"map":  map[string]any{"": "empty key", "é": "key"},
		},
		"c_none":     nil,
		"d_big":      big70,
		"e_negative": negative,
		"f_float":    []float64{0.1, 1e22, 1e16, 1.5e300, 5e-324, math.Copysign(0, -1), 1, 123456789.123},
		"g_bool":     []bool{true, false},
	}
}

// Typed is project/demo/payloads.py's TYPED: with the types that Celery's JSON has.
func Typed() map[string]any {
	typed := map[string]any{
		"h_datetime":        time.Date(2026, 1, 2, 3, 4, 5, 678901000, time.UTC),
		"i_datetime_offset": time.Date(2026, 1, 2, 3, 4, 5, 0, time.FixedZone("", 2*60*60)),
		"j_datetime_naive":  celeryproto.NaiveTimeOf(time.Date(2026, 1, 2, 3, 4, 5, 678901000, time.UTC)),
		"k_date":            celeryproto.Date{Year: 2026, Month: time.January, Day: 2},
		"l_time":            celeryproto.TimeOfDay{Hour: 3, Minute: 4, Second: 5, Microsecond: 678901},
		"m_decimal":         celeryproto.Decimal("1.10"),
		"n_decimals":        []celeryproto.Decimal{"1E+3", "-1E-20"},
		"o_uuid":            uuid.MustParse("00000000-0000-4000-8000-000000000005"),
	}
	maps.Copy(typed, Plain())
	return typed
}

// ByName returns a payload by its name in project/demo/payloads.py; nil when there is none.
func ByName(name string) map[string]any {
	switch name {
	case "plain":
		return Plain()
	case "typed":
		return Typed()
	default:
		return nil
	}
}

// Targets are the targets of these names, as project/demo/targets.py has them.
func Targets(names []string) []worker.Target {
	targets := make([]worker.Target, len(names))
	for i, name := range names {
		targets[i] = target(name)
	}
	return targets
}

func target(name string) worker.Target {
	kind, rest, _ := strings.Cut(name, ":")
	switch {
	case name == "window":
		return worker.ToWindow
	case name == "user":
		return worker.ToUser
	case name == "broadcast":
		return worker.ToBroadcast
	case name == "server":
		return worker.ToServer
	case kind == "object":
		label, key, _ := strings.Cut(rest, ":")
		return worker.ToModel(label, key)
	case kind == "class":
		_, class, _ := strings.Cut(rest, ".")
		return worker.ToRaw("-<" + strings.ToUpper(class[:1]) + class[1:] + ">")
	case kind == "int":
		return worker.ToRaw("-int." + rest)
	default:
		return worker.ToTopic(name)
	}
}
