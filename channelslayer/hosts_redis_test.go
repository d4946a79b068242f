package channelslayer

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/dfws/dfws/integration/redistest"
)

// threeHosts are three databases of one server.
func threeHosts(s *redistest.Server) []Host {
	return []Host{{URL: s.URLFor(0)}, {URL: s.URLFor(1)}, {URL: s.URLFor(2)}}
}

// onHost returns a name that the ring puts on a host.
func onHost(t testing.TB, prefix string, host, hosts int) string {
	t.Helper()
	for n := range 10_000 {
		if name := fmt.Sprintf("%s%d", prefix, n); ringIndex(name, hosts) == host {
			return name
		}
	}
	t.Fatalf("no name for host %d of %d", host, hosts)
	return ""
}

// client returns a client of one server of a layer.
func (c *Core) hostClient(i int) *redis.Client { return c.ring[i].client }

func TestReceiverOnSeveralHosts(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	l, err := Open(Config{Hosts: threeHosts(s)})
	must(t, err)
	defer l.Close()
	r := startReceiver(t, l, fastUpkeep())
	var groups []string
	for host := range 3 {
		groups = append(groups, onHost(t, "group", host, 3))
	}
	must(t, r.Join(t.Context(), groups...))
	if r.Joined() != 3 {
		t.Errorf("%d joined", r.Joined())
	}
	for host, g := range groups {
		for other := range 3 {
			if got, want := len(members(t, l.hostClient(other), l.keys.group(g))), min(1, max(0, 1-abs(host-other))); got != want {
				t.Errorf("%s has %d members on host %d, want %d", g, got, other, want)
			}
		}
		must(t, l.GroupSend(t.Context(), g, text("to its group")))
		eventually(t, g, func() bool { return r.has(g + ":to its group") })
		must(t, l.Send(t.Context(), r.GroupChannel(g), text("direct")))
		eventually(t, g, func() bool { return r.has(g + ":direct") })
		// Python's send puts it on the server of the whole name.
		bytes, err := l.codec.encode(text("from Python"), r.GroupChannel(g))
		must(t, err)
		must(t, l.ring.at(r.GroupChannel(g)).client.ZAdd(t.Context(), r.key, redis.Z{Score: 1, Member: bytes}).Err())
		eventually(t, g, func() bool { return r.has(g + ":from Python") })
	}
	// One server loses everything: only its groups are missing, and not for long.
	must(t, l.hostClient(1).FlushDB(t.Context()).Err())
	eventually(t, "the group again", func() bool { return len(members(t, l.hostClient(1), l.keys.group(groups[1]))) == 1 })

	must(t, r.Leave(t.Context(), groups[2]))
	if got := members(t, l.hostClient(2), l.keys.group(groups[2])); len(got) != 0 {
		t.Errorf("after Leave: %q", got)
	}
	must(t, r.stop())
	for host := range 3 {
		keys, err := l.hostClient(host).Keys(t.Context(), "*").Result()
		must(t, err)
		keys = slices.DeleteFunc(keys, func(key string) bool { return strings.HasSuffix(key, ":sweeping") })
		if len(keys) > 0 {
			t.Errorf("host %d after the stop: %q", host, keys)
		}
	}
}

func abs(n int) int { return max(n, -n) }

// A receiver that dies leaves its traces on every server; the others remove them there.
func TestSweepOnSeveralHosts(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	l, err := Open(Config{Hosts: threeHosts(s)})
	must(t, err)
	defer l.Close()
	dead, err := l.NewReceiver(fastUpkeep())
	must(t, err)
	for host := range 3 {
		must(t, dead.Join(t.Context(), onHost(t, "group", host, 3))) // it never runs: no sign of life follows
	}
	for _, part := range dead.shards {
		must(t, part.client.Close())
	}
	startReceiver(t, l, fastUpkeep())
	for host := range 3 {
		eventually(t, fmt.Sprintf("the sweep on host %d", host), func() bool {
			return len(members(t, l.hostClient(host), l.keys.group(onHost(t, "group", host, 3)))) == 0
		})
	}
}

// One of the servers is away: what is on the others goes on.
func TestOneHostAway(t *testing.T) {
	t.Parallel()
	here, away := redistest.Start(t), redistest.Start(t)
	l, err := Open(Config{Hosts: []Host{{URL: here.URL}, {URL: away.URL}}})
	must(t, err)
	defer l.Close()
	// Receivers whose own key is on the server that stays.
	r := startReceiver(t, l, fastUpkeep())
	for ringIndex(r.name, 2) != 0 {
		must(t, r.stop())
		r = startReceiver(t, l, fastUpkeep())
	}
	good, bad := onHost(t, "group", 0, 2), onHost(t, "group", 1, 2)
	must(t, r.Join(t.Context(), good, bad))
	away.Stop()
	must(t, l.GroupSend(t.Context(), good, text("1")))
	eventually(t, "the message of the server that is there", func() bool { return r.has(good + ":1") })
	if err := l.GroupSend(t.Context(), bad, text("2")); err == nil || !Retryable(err) {
		t.Errorf("GroupSend to the server that is away: %v", err)
	}
	if err := l.Ping(t.Context()); err == nil {
		t.Error("Ping says nothing of the server that is away")
	}
	// A general channel is on both; what is sent to the one that is there arrives.
	sent := 0
	for range 4 {
		if err := l.Send(t.Context(), "general", text("4")); err == nil {
			sent++
		} else if !Retryable(err) {
			t.Errorf("Send: %v", err)
		}
	}
	for range sent {
		if m, err := l.Receive(t.Context(), "general"); err != nil || m["message"] != "4" {
			t.Errorf("Receive while one server is away: %v, %v", m, err)
		}
	}
	if sent != 2 {
		t.Errorf("%d of 4 were sent", sent)
	}
	away.StartAgain()
	eventually(t, "the group on the server that is back", func() bool {
		return l.GroupSend(t.Context(), bad, text("3")) == nil && r.has(bad+":3")
	})
}

// What the two-step group send does with members and keys that are no good, and with capacities that only Go can compute.
func TestGroupSendInSteps(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	rules := []CapacityRule{{Regexp: regexp.MustCompile(`\Aspecific\.s`), Capacity: 1}, {Glob: "special", Capacity: 2}, {Glob: "*", Capacity: 3}}
	for name, cfg := range map[string]Config{
		"regexp": {Hosts: []Host{{URL: s.URL}}, ChannelCapacity: rules},
		"hosts":  {Hosts: threeHosts(s), ChannelCapacity: rules, SymmetricEncryptionKeys: []Secret{"k"}},
	} {
		t.Run(name, func(t *testing.T) {
			var sent GroupSent
			cfg.Prefix = prefixOf(t)
			cfg.Observer.GroupSent = func(s GroupSent) { sent = s }
			l, err := Open(cfg)
			must(t, err)
			defer l.Close()
			names := []string{"specific.small!1", "specific.small!2", "special", "other", "specific.t!1"}
			for _, channel := range names {
				must(t, l.GroupAdd(t.Context(), "g", channel))
			}
			group := l.ring.at("g").client
			must(t, group.ZAdd(t.Context(), l.keys.group("g"), redis.Z{Score: 3e9, Member: "\xff"}, redis.Z{Score: 1, Member: "specific.expired!1"}).Err())
			must(t, l.ring.at("other").client.Set(t.Context(), l.keys.channel("other"), "text", 0).Err())
			var over []int
			for range 4 {
				must(t, l.GroupSend(t.Context(), "g", text("x")))
				if sent.Members != 6 || sent.Keys != 4 || sent.Rejected != 2 {
					t.Errorf("%+v", sent)
				}
				over = append(over, sent.OverCapacity)
			}
			if want := []int{0, 1, 2, 3}; !slices.Equal(over, want) {
				t.Errorf("over capacity %v, want %v", over, want)
			}
			for channel, want := range map[string]int64{"specific.small!": 1, "special": 2, "specific.t!": 3} {
				client := l.ring.at(channel).client
				if n := client.ZCard(t.Context(), l.keys.channel(channel)).Val(); n != want {
					t.Errorf("%s has %d messages, want %d", channel, n, want)
				}
				if ttl := client.TTL(t.Context(), l.keys.channel(channel)).Val(); ttl <= 0 || ttl > time.Minute {
					t.Errorf("%s: ttl %v", channel, ttl)
				}
			}
			z := l.ring.at("specific.small!").client.ZRange(t.Context(), l.keys.channel("specific.small!"), 0, 0).Val()
			_, lists, err := l.codec.decode(z[0], 0)
			must(t, err)
			if got := allNames(lists); !slices.Equal(got, names[:2]) {
				t.Errorf("names %q", got)
			}
		})
	}
}

// Without members a value that cannot be sent is refused all the same.
func TestGroupSendInStepsRefuses(t *testing.T) {
	t.Parallel()
	s := redistest.Shared(t)
	l := open(t, s, Config{SerializerFormat: SerializerJSON})
	if err := l.GroupSend(t.Context(), "nobody", Message{"type": []byte{1}}); err == nil {
		t.Error("bytes were sent as JSON")
	}
}
