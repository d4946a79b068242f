package redisbroker_test

import (
	"encoding/base64"
	"encoding/json"
	"os"
	"path/filepath"
	"testing"
)

// fixture is a file of testdata, recorded from Celery 5.7 with kombu 5.7.
type fixture struct {
	Redis []fixtureItem `json:"redis"`
}

type fixtureItem struct {
	Type, Key, Field, Cmd, Client, Note string
	ValueUTF8                           *string `json:"value_utf8"`
	Score                               float64
	Args                                []struct {
		UTF8 *string `json:"arg_utf8"`
		B64  string  `json:"arg_b64"`
	}
}

func (i fixtureItem) value() string {
	if i.ValueUTF8 == nil {
		return ""
	}
	return *i.ValueUTF8
}

func (i fixtureItem) args(t testing.TB) []string {
	t.Helper()
	var args []string
	for _, a := range i.Args {
		if a.UTF8 != nil {
			args = append(args, *a.UTF8)
			continue
		}
		b, err := base64.StdEncoding.DecodeString(a.B64)
		if err != nil {
			t.Fatal(err)
		}
		args = append(args, string(b))
	}
	return args
}

func mustFixture(t testing.TB, name string) fixture {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("testdata", name+".json"))
	if err != nil {
		t.Fatal(err)
	}
	var f fixture
	if err := json.Unmarshal(b, &f); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return f
}

// commands are the recorded commands of one name, in order.
func (f fixture) commands(t testing.TB, name string) [][]string {
	t.Helper()
	var all [][]string
	for _, item := range f.Redis {
		if item.Type == "command" && item.Cmd == name {
			all = append(all, item.args(t))
		}
	}
	return all
}

// entries are the fields of the unacked hash.
func (f fixture) entries() map[string]string {
	entries := make(map[string]string)
	for _, item := range f.Redis {
		if item.Type == "hash" && item.Key == "unacked" {
			entries[item.Field] = item.value()
		}
	}
	return entries
}

// list are the elements of a list, left to right.
func (f fixture) list(key string) []string {
	var all []string
	for _, item := range f.Redis {
		if item.Type == "list" && item.Key == key {
			all = append(all, item.value())
		}
	}
	return all
}
