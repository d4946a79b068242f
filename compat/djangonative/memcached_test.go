package djangonative

import (
	"encoding/json"
	"os"
	"testing"
)

// TestRendezvous compares with pymemcache's choice of servers.
func TestRendezvous(t *testing.T) {
	t.Parallel()
	b, err := os.ReadFile("../djangostate/testdata/django-5.2/memcached_rendezvous.json")
	if err != nil {
		t.Fatal(err)
	}
	var golden struct {
		Config struct {
			Nodes []string `json:"nodes"`
		} `json:"config"`
		Keys []struct {
			Key    string            `json:"key"`
			Scores map[string]uint32 `json:"scores"`
			Node   string            `json:"node"`
		} `json:"keys"`
	}
	if err := json.Unmarshal(b, &golden); err != nil || len(golden.Keys) == 0 {
		t.Fatal(err)
	}
	r := &rendezvous{names: golden.Config.Nodes}
	for _, g := range golden.Keys {
		for node, want := range g.Scores {
			if got := murmur3([]byte(node + "-" + g.Key)); got != want {
				t.Errorf("murmur3 of %s with %s: %d, want %d", g.Key, node, got, want)
			}
		}
		if got := r.names[r.pick(g.Key)]; got != g.Node {
			t.Errorf("%s: %s, want %s", g.Key, got, g.Node)
		}
	}
	for server, want := range map[string]string{"h:11211": "h:11211", "::1:11211": "[::1]:11211", "[::1]:1": "[::1]:1", "/run/m.sock": "/run/m.sock"} {
		if addr, err := memcachedAddr(server); err != nil || addr.String() != want {
			t.Errorf("%s: %v, %v", server, addr, err)
		}
	}
	if _, err := memcachedAddr("h"); err == nil {
		t.Error("no port")
	}
}
