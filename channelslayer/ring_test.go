package channelslayer

import (
	"strconv"
	"testing"
)

func TestGoldenRing(t *testing.T) {
	t.Parallel()
	g := mustGolden[struct {
		Names []struct {
			Name  string         `json:"name"`
			Index map[string]int `json:"index"`
		} `json:"names"`
	}](t, "shard_index")
	checked := 0
	for _, n := range g.Names {
		for size, want := range n.Index {
			hosts, err := strconv.Atoi(size)
			if err != nil {
				t.Fatal(err)
			}
			checked++
			if got := ringIndex(n.Name, hosts); got != want {
				t.Errorf("%q on %d hosts: %d, want %d", n.Name, hosts, got, want)
			}
		}
	}
	if checked < 150 {
		t.Errorf("%d checked", checked)
	}
}

func TestRingIndexIsInBounds(t *testing.T) {
	t.Parallel()
	for size := 1; size <= MaxHosts; size++ {
		used := make([]bool, size)
		for n := range 20_000 {
			used[ringIndex(strconv.Itoa(n), size)] = true
		}
		for i, u := range used {
			if !u {
				t.Errorf("%d hosts: none of 20000 names on %d", size, i)
			}
		}
	}
}
