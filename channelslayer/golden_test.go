package channelslayer

import (
	"encoding/base64"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// The files of testdata were recorded from channels_redis 4.3.0, channels 4.3.2, msgpack 1.2.4 on Python 3.11.
// Each has the common form of a case: what was done, what Redis held then, and what a reader must get.
type golden struct {
	Config json.RawMessage `json:"config"`
	Redis  []goldenKey     `json:"redis"`
	Input  struct {
		SendTo  string   `json:"send_to"`
		Group   string   `json:"group"`
		Members []string `json:"members"`
	} `json:"input"`
	Expect struct {
		Channel string              `json:"__asgi_channel__"`
		Message map[string]any      `json:"message"`
		Lists   map[string][]string `json:"lists"`
	} `json:"expect"`
}

type goldenKey struct {
	Key     string `json:"key"`
	TTL     int    `json:"ttl"`
	Members []struct {
		Value string  `json:"value_b64"`
		Score float64 `json:"score"`
	} `json:"members"`
}

func (k goldenKey) member(t testing.TB, i int) string {
	t.Helper()
	return unbase64(t, k.Members[i].Value)
}

func mustGolden[T any](t testing.TB, name string) T {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("testdata", name+".json"))
	if err != nil {
		t.Fatal(err)
	}
	var v T
	d := json.NewDecoder(strings.NewReader(string(b)))
	d.UseNumber()
	if err := d.Decode(&v); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return v
}

func unbase64(t testing.TB, s string) string {
	t.Helper()
	b, err := base64.StdEncoding.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// fromJSON gives a golden's values the types of a decoded Message.
func fromJSON(t testing.TB, v any) any {
	t.Helper()
	switch v := v.(type) {
	case json.Number:
		if strings.ContainsAny(v.String(), ".eE") {
			f, err := v.Float64()
			if err != nil {
				t.Fatal(err)
			}
			return f
		}
		if n, err := v.Int64(); err == nil {
			return n
		}
		var u uint64
		if err := json.Unmarshal([]byte(v), &u); err != nil {
			t.Fatal(err)
		}
		return u
	case []any:
		for i := range v {
			v[i] = fromJSON(t, v[i])
		}
	case map[string]any:
		for k := range v {
			v[k] = fromJSON(t, v[k])
		}
	}
	return v
}

func allNames(names channelNames) []string {
	var list []string
	names.each(func(name string) { list = append(list, name) })
	return list
}

func TestGoldenSend(t *testing.T) {
	t.Parallel()
	for name, length := range map[string]int{
		"core_send_specific_msgpack_plain_shards1": 12, "core_send_general_msgpack_plain_shards1": 12,
		"core_random_prefix_0": 0, "core_random_prefix_4": 4,
	} {
		g := mustGolden[golden](t, name)
		member := g.Redis[0].member(t, 0)
		c := codec{randomLength: length}
		r, names, err := c.decode(member, g.Redis[0].Members[0].Score)
		if err != nil {
			t.Errorf("%s: decode: %v", name, err)
			continue
		}
		m, err := r.Map()
		if err != nil {
			t.Errorf("%s: Map: %v", name, err)
			continue
		}
		want := Message(fromJSON(t, g.Expect.Message).(map[string]any))
		if diff := cmp.Diff(want, m); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
		if got := strings.Join(allNames(names), ","); got != g.Expect.Channel {
			t.Errorf("%s: channel %q, want %q", name, got, g.Expect.Channel)
		}
		again, err := c.encode(m, g.Expect.Channel)
		if err != nil {
			t.Errorf("%s: encode: %v", name, err)
			continue
		}
		if again[length:] != member[length:] {
			t.Errorf("%s: encoded again\n%q\nwant\n%q", name, again[length:], member[length:])
		}
	}
}

func TestGoldenGroupSend(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"core_group_send_msgpack_plain_shards1", "core_other_prefix_expiry"} {
		g := mustGolden[golden](t, name)
		for _, key := range g.Redis {
			if strings.Contains(key.Key, ":group:") {
				continue
			}
			member := key.member(t, 0)
			c := codec{randomLength: DefaultRandomPrefixLength}
			r, names, err := c.decode(member, key.Members[0].Score)
			if err != nil {
				t.Errorf("%s: %v", key.Key, err)
				continue
			}
			text, ok := r.Text()
			if r.Type() != "ws_message" || !ok || text != g.Expect.Message["message"] {
				t.Errorf("%s: type %q, text %q", key.Key, r.Type(), text)
			}
			if want := g.Expect.Lists[strings.TrimPrefix(key.Key, "asgi")]; want != nil && !sameNames(want, allNames(names)) {
				t.Errorf("%s: names %q, want %q", key.Key, allNames(names), want)
			}
			m, err := r.Map()
			if err != nil {
				t.Errorf("%s: Map: %v", key.Key, err)
				continue
			}
			head, err := c.encodeOpen(m)
			if err != nil {
				t.Errorf("%s: encode: %v", key.Key, err)
				continue
			}
			// The list of names is appended in Redis; the redis tests compare the whole.
			if !strings.HasPrefix(member[12:], head[12:]) {
				t.Errorf("%s: encoded again\n%q\nwant the start of\n%q", key.Key, head[12:], member[12:])
			}
		}
	}
}

func TestGoldenInflight(t *testing.T) {
	t.Parallel()
	for _, key := range mustGolden[golden](t, "core_inflight_msgpack_plain_shards1").Redis {
		r, names, err := codec{randomLength: 12}.decode(key.member(t, 0), key.Members[0].Score)
		if err != nil || r.Type() != "direct.msg" || len(allNames(names)) != 1 {
			t.Errorf("%s: type %q, names %q, err %v", key.Key, r.Type(), allNames(names), err)
		}
	}
}

type serializerValues struct {
	Values []struct {
		Value   any     `json:"value"`
		Msgpack *string `json:"msgpack_b64"`
		Head    string  `json:"msgpack_head_hex"`
	} `json:"values"`
	Raw []struct {
		What    string `json:"what"`
		Msgpack string `json:"msgpack_b64"`
	} `json:"raw"`
}

func TestGoldenSerializerValues(t *testing.T) {
	t.Parallel()
	g := mustGolden[serializerValues](t, "serializer_values")
	check := func(want string, value any) {
		t.Helper()
		got, err := codec{}.encode(Message{"type": "t", "v": value}, "")
		if err != nil {
			t.Errorf("%v: %v", value, err)
			return
		}
		if got != want {
			t.Errorf("%v: %x, want %x", value, got, want)
		}
		r, _, err := scanMessage(want)
		if err != nil {
			t.Errorf("%v: scan: %v", value, err)
			return
		}
		m, err := r.Map()
		if err != nil {
			t.Errorf("%v: Map: %v", value, err)
			return
		}
		if diff := cmp.Diff(Message{"type": "t", "v": value}, m); diff != "" {
			t.Errorf("decoded (-want +got):\n%s", diff)
		}
	}
	for _, v := range g.Values {
		if v.Msgpack != nil {
			check(unbase64(t, *v.Msgpack), fromJSON(t, v.Value))
		}
	}
	check("\x82\xa4type\xa1t\xa1v\xdb\x00\x01\x00\x00"+strings.Repeat("a", 65536), strings.Repeat("a", 65536))
	check(unbase64(t, g.Raw[0].Msgpack), []byte{0, 255})
	check(unbase64(t, g.Raw[1].Msgpack), []any{int64(1), int64(2)})
}

func TestGoldenNameRules(t *testing.T) {
	t.Parallel()
	g := mustGolden[struct {
		Names []struct {
			Name     string `json:"name"`
			Channel  bool   `json:"channel"`
			Group    bool   `json:"group"`
			NonLocal string `json:"non_local_name"`
		} `json:"names"`
	}](t, "name_rules")
	if len(g.Names) < 20 {
		t.Fatalf("%d names", len(g.Names))
	}
	for _, n := range g.Names {
		if err := CheckChannelName(n.Name); (err == nil) != n.Channel {
			t.Errorf("channel %q: %v, Python takes it: %t", n.Name, err, n.Channel)
		}
		if err := CheckGroupName(n.Name); (err == nil) != n.Group {
			t.Errorf("group %q: %v, Python takes it: %t", n.Name, err, n.Group)
		}
		if got := nonLocalName(n.Name); got != n.NonLocal {
			t.Errorf("nonLocalName(%q) = %q, want %q", n.Name, got, n.NonLocal)
		}
	}
}

func TestGoldenCapacity(t *testing.T) {
	t.Parallel()
	g := mustGolden[struct {
		Config struct {
			Capacity        int `json:"capacity"`
			ChannelCapacity []struct {
				Glob     string `json:"glob"`
				Regex    string `json:"regex_match_at_start"`
				Capacity int    `json:"capacity"`
			} `json:"channel_capacity"`
		} `json:"config"`
		Channels []struct {
			Channel  string `json:"channel"`
			Capacity int    `json:"capacity"`
		} `json:"channels"`
	}](t, "capacity")
	var rules []CapacityRule
	byRegexp := 0
	for _, r := range g.Config.ChannelCapacity {
		if r.Regex != "" {
			byRegexp = r.Capacity // compiled expressions do not leave Python
			continue
		}
		rules = append(rules, CapacityRule{Glob: r.Glob, Capacity: r.Capacity})
	}
	c, err := newCapacities(g.Config.Capacity, rules)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range g.Channels {
		if want.Capacity == byRegexp {
			continue
		}
		if got := c.of(want.Channel); got != want.Capacity {
			t.Errorf("capacity of %s: %d, want %d", want.Channel, got, want.Capacity)
		}
	}
}

// The keys and messages of each command that Python sent, as MONITOR showed them.
func TestGoldenMonitor(t *testing.T) {
	t.Parallel()
	g := mustGolden[struct {
		Input map[string]string `json:"input"`
		Steps []struct {
			Step     string `json:"step"`
			Commands []struct {
				Lua  bool     `json:"lua"`
				Args []string `json:"args"`
			} `json:"commands"`
		} `json:"steps"`
	}](t, "monitor_core_shards1")
	keys := layerKeys{prefix: DefaultPrefix}
	known := map[string]bool{keys.group(g.Input["group"]): true, keys.channel("celery"): true}
	for _, name := range []string{"a1", "a2", "b1"} {
		known[keys.channel(g.Input[name])] = true
	}
	messages := 0
	for _, step := range g.Steps {
		for _, cmd := range step.Commands {
			switch cmd.Args[0] {
			case "EXPIRE", "ZREM", "ZRANGE", "ZREMRANGEBYSCORE", "ZCOUNT", "BZPOPMIN":
				if key := strings.TrimSuffix(cmd.Args[1], "$inflight"); !known[key] {
					t.Errorf("%s: unknown key %s", step.Step, key)
				}
			case "ZADD":
				if strings.Contains(cmd.Args[1], ":group:") {
					continue
				}
				member, err := strconv.Unquote(`"` + strings.ReplaceAll(cmd.Args[3], `"`, `\"`) + `"`)
				if err != nil {
					t.Fatalf("%s: %v", cmd.Args[3], err)
				}
				if _, _, err := (codec{randomLength: 12}).decode(member, 0); err != nil {
					t.Errorf("%s: %v", step.Step, err)
				}
				messages++
			}
		}
	}
	if messages < 7 {
		t.Errorf("%d messages decoded", messages)
	}
}

// sameNames compares without order: it is that of the set's scores, which are equal when a process joined twice in one instant.
func sameNames(a, b []string) bool {
	return slices.Equal(slices.Sorted(slices.Values(a)), slices.Sorted(slices.Values(b)))
}
