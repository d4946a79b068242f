package dispatch

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/dfws/dfws/integration/redistest"
)

const parkedPage = "00112233445566778899aabbccddeeff"

func mustParked(t *testing.T, store *Store, self string) *Parked {
	t.Helper()
	p, err := store.Parked(self)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestParkedMessages(t *testing.T) {
	t.Parallel()
	server := redistest.Shared(t)
	store, ctx := mustStore(t, server), t.Context()
	a, b := mustParked(t, store, "aa"), mustParked(t, store, "bb")
	owners := func(want ...string) {
		t.Helper()
		got, err := b.Owners(ctx, []string{parkedPage, "00"})
		if err != nil || !slices.Equal(got[0], want) || len(got[1]) != 0 {
			t.Errorf("owners %q, %v; want %q", got, err, want)
		}
	}
	owners()
	if err := a.Announce(ctx, []string{parkedPage}, time.Minute); err != nil {
		t.Fatal(err)
	}
	if err := b.Announce(ctx, []string{parkedPage}, time.Minute); err != nil {
		t.Fatal(err)
	}
	owners("aa") // not itself
	var want []string
	for i := range 300 {
		want = append(want, fmt.Sprint(i, " \x00é", strings.Repeat("x", 10_000)))
	}
	for _, half := range [][]string{want[:200], want[200:]} {
		var messages [][]byte
		for _, text := range half {
			messages = append(messages, []byte(text))
		}
		if err := a.Put(ctx, parkedPage, messages, time.Minute); err != nil {
			t.Fatal(err)
		}
	}
	for _, key := range []string{store.keys.parkedMessages(parkedPage, "aa"), store.keys.parkedOwners(parkedPage)} {
		if ttl := server.Client(t).PTTL(ctx, key).Val(); ttl <= 0 || ttl > time.Minute {
			t.Errorf("%s lives for %v", key, ttl)
		}
	}
	got, dropped, err := b.Take(ctx, parkedPage, "aa", false)
	if err != nil || dropped != 0 || !slices.Equal(got, want) {
		t.Fatalf("took %d messages, %d dropped, %v", len(got), dropped, err)
	}
	owners("aa")
	if got, dropped, err := b.Take(ctx, parkedPage, "aa", true); err != nil || dropped != 0 || len(got) != 0 {
		t.Errorf("taken twice: %d, %d, %v", len(got), dropped, err)
	}
	owners()
	if err := b.Withdraw(ctx, []string{parkedPage}); err != nil {
		t.Fatal(err)
	}
	if keys := server.Client(t).Keys(ctx, store.keys.prefix+"*").Val(); len(keys) != 0 {
		t.Errorf("left behind: %q", keys)
	}
}

// TestParkedIsBounded: whatever is in Redis, what is read has a limit, and what is beyond is known.
func TestParkedIsBounded(t *testing.T) {
	t.Parallel()
	server := redistest.Shared(t)
	store, client, ctx := mustStore(t, server), server.Client(t), t.Context()
	p := mustParked(t, store, "aa")
	key := store.keys.parkedMessages(parkedPage, "bb")
	big := strings.Repeat("x", MaxParkedBytes/4)
	if err := client.RPush(ctx, key, big, big, big, big, "y").Err(); err != nil {
		t.Fatal(err)
	}
	got, dropped, err := p.Take(ctx, parkedPage, "bb", true)
	if err != nil || len(got) != 4 || dropped != 1 {
		t.Errorf("bytes: took %d, %d dropped, %v", len(got), dropped, err)
	}
	many := make([]any, MaxParkedMessages+7)
	for i := range many {
		many[i] = "x"
	}
	if err := client.RPush(ctx, key, many...).Err(); err != nil {
		t.Fatal(err)
	}
	got, dropped, err = p.Take(ctx, parkedPage, "bb", true)
	if err != nil || len(got) != MaxParkedMessages || dropped != 7 {
		t.Errorf("messages: took %d, %d dropped, %v", len(got), dropped, err)
	}
	if err := client.Set(ctx, key, "no list", 0).Err(); err != nil {
		t.Fatal(err)
	}
	if _, _, err := p.Take(ctx, parkedPage, "bb", true); err == nil {
		t.Error("a key of another type is no error")
	}
	if err := client.SAdd(ctx, store.keys.parkedOwners(parkedPage), "not hex", "../x", "CC", "cc").Err(); err != nil {
		t.Fatal(err)
	}
	if owners, err := p.Owners(ctx, []string{parkedPage}); err != nil || !slices.Equal(owners[0], []string{"cc"}) {
		t.Errorf("owners %q, %v", owners, err)
	}
}

func TestParkedNotes(t *testing.T) {
	t.Parallel()
	server := redistest.Shared(t)
	store, ctx := mustStore(t, server), t.Context()
	a, b := mustParked(t, store, "aa"), mustParked(t, store, "bb")
	note := Note{Kind: NoteClaim, Page: parkedPage, Group: strings.Repeat("0", 64), Token: "0123"}
	if received, err := a.Send(ctx, "bb", note); err != nil || received {
		t.Errorf("nobody listens: %v, %v", received, err)
	}
	if n, err := a.Others(ctx); err != nil || n != 0 {
		t.Errorf("%d others, %v", n, err)
	}
	var mu sync.Mutex
	heard := map[string][]Note{}
	hear := func(name string) func(Note) {
		return func(n Note) {
			mu.Lock()
			defer mu.Unlock()
			heard[name] = append(heard[name], n)
		}
	}
	inBackground(t, func(ctx context.Context) error { return b.Watch(ctx, hear("b")) })
	inBackground(t, func(ctx context.Context) error { return b.WatchAll(ctx, hear("all")) })
	eventually(t, "somebody listens", func() bool {
		received, err := a.Send(ctx, "bb", note)
		n, err2 := a.Others(ctx)
		return err == nil && received && err2 == nil && n == 1
	})
	late := Note{Kind: NoteLate, Page: parkedPage, SilentMillis: 5}
	if _, err := a.Send(ctx, "", late); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Send(ctx, "", late); err != nil { // its own
		t.Fatal(err)
	}
	if err := server.Client(t).Publish(ctx, store.keys.gateways(), "junk").Err(); err != nil {
		t.Fatal(err)
	}
	if _, err := a.Send(ctx, "", late); err != nil {
		t.Fatal(err)
	}
	note.From, late.From = "aa", "aa"
	eventually(t, "all is heard", func() bool {
		mu.Lock()
		defer mu.Unlock()
		return slices.Equal(heard["all"], []Note{late, late}) && len(heard["b"]) > 0 && heard["b"][0] == note
	})
}

func TestDecodeNote(t *testing.T) {
	t.Parallel()
	good := `{"schema":1,"kind":"ready","from":"aa","page":"` + parkedPage + `","token":"01","messages":3,"left":1}`
	n, err := DecodeNote([]byte(good))
	if err != nil || n != (Note{Kind: NoteReady, From: "aa", Page: parkedPage, Token: "01", Messages: 3, Left: 1}) {
		t.Errorf("%+v, %v", n, err)
	}
	for name, change := range map[string][2]string{
		"schema": {`"schema":1`, `"schema":2`}, "kind": {"ready", "other"}, "no name": {`"aa"`, `""`}, "name": {`"aa"`, `"a:b"`},
		"capitals": {`"aa"`, `"AA"`}, "page": {parkedPage, "x"}, "token": {`"01"`, `"*"`}, "negative": {":3", ":-3"},
		"long name": {`"aa"`, `"` + strings.Repeat("a", 66) + `"`}, "long": {`"aa"`, `"` + strings.Repeat("a", 2000) + `"`},
		"group": {`"left"`, `"group":"x","left"`}, "no JSON": {"{", "["},
	} {
		if n, err := DecodeNote([]byte(strings.Replace(good, change[0], change[1], 1))); err == nil {
			t.Errorf("%s: %+v", name, n)
		}
	}
}

// FuzzDecodeNote: no panic, and what is accepted survives encoding.
func FuzzDecodeNote(f *testing.F) {
	f.Add([]byte(`{"schema":1,"kind":"claim","from":"aa","page":"` + parkedPage + `","group":"` + strings.Repeat("0", 64) + `","token":"01"}`))
	f.Add([]byte(`{"schema":1,"kind":"late","from":"aa","page":"00","silent_ms":7}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		n, err := DecodeNote(text)
		if err != nil {
			return
		}
		again, err := n.encode()
		if err != nil {
			t.Fatal(err)
		}
		if back, err := DecodeNote(again); err != nil || back != n {
			t.Fatalf("%+v became %+v, %v", n, back, err)
		}
	})
}
