package dispatch

import (
	"context"
	_ "embed"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/redis/go-redis/v9"
)

//go:embed scripts/take_parked.lua
var takeParkedSource string

var takeParkedScript = redis.NewScript(takeParkedSource)

// Limits of what is read, whoever wrote it.
const (
	// MaxParkedMessages and MaxParkedBytes bound what TakeParked returns for one page.
	MaxParkedMessages = 10_000
	MaxParkedBytes    = 16 << 20
	// maxParkedOwners bounds the gateways that are asked for one page.
	maxParkedOwners = 8
	// maxNoteBytes bounds a note.
	maxNoteBytes = 1024
	// maxNoteField bounds its names.
	maxNoteField = 64
	// putBatch is how many bytes of messages one command writes.
	putBatch = 1 << 20
)

// NoteKind says what a note is about.
type NoteKind string

// The kinds of notes.
const (
	// NoteClaim: a window of the page opens at From, which asks for what was kept.
	NoteClaim NoteKind = "claim"
	// NoteReady answers a claim: the messages are written, or there are none.
	NoteReady NoteKind = "ready"
	// NoteMore follows a NoteReady: messages that were under way at that time are written.
	NoteMore NoteKind = "more"
	// NoteLate goes to all gateways: messages for the page were found at From after its window may have come back elsewhere.
	NoteLate NoteKind = "late"
)

// Note is what one gateway tells another about a page whose window has lost its socket.
type Note struct {
	Kind NoteKind `json:"kind"`
	// From is the gateway that wrote the note.
	From string `json:"from"`
	// Page names the page: a hash over its window key and identity.
	Page string `json:"page"`
	// Group is the group of its window key.
	Group string `json:"group,omitempty"`
	// Token names the claim.
	Token string `json:"token,omitempty"`
	// Messages is how many were written.
	Messages int `json:"messages,omitempty"`
	// Left is how many further windows of the page the gateway still keeps messages for.
	Left int `json:"left,omitempty"`
	// SilentMillis is for how long the socket of a NoteLate has given no sign of life.
	SilentMillis int64 `json:"silent_ms,omitempty"`
}

// noteJSON is a Note on the wire.
type noteJSON struct {
	Schema int `json:"schema"`
	Note
}

// encode is the note as text.
func (n *Note) encode() ([]byte, error) { return json.Marshal(noteJSON{registrySchema, *n}) }

// DecodeNote reads a note.
func DecodeNote(b []byte) (Note, error) {
	if len(b) > maxNoteBytes {
		return Note{}, fmt.Errorf("dispatch: note: more than %d bytes", maxNoteBytes)
	}
	var wire noteJSON
	if err := json.Unmarshal(b, &wire); err != nil {
		return Note{}, fmt.Errorf("dispatch: note: %w", err)
	}
	n := wire.Note
	if wire.Schema != registrySchema {
		return Note{}, fmt.Errorf("dispatch: note: schema %d is not supported", wire.Schema)
	}
	switch n.Kind {
	case NoteClaim, NoteReady, NoteMore, NoteLate:
	default:
		return Note{}, fmt.Errorf("dispatch: note: kind: not known")
	}
	for field, text := range map[string]string{"from": n.From, "page": n.Page} {
		if !isHexName(text) {
			return Note{}, fmt.Errorf("dispatch: note: %s: not in lower-case hex", field)
		}
	}
	if n.Token != "" && !isHexName(n.Token) {
		return Note{}, errors.New("dispatch: note: token: not in lower-case hex")
	}
	if n.Group != "" && !isGroupName(n.Group) {
		return Note{}, errors.New("dispatch: note: group: not a SHA-256 in lower-case hex")
	}
	if n.Messages < 0 || n.Left < 0 || n.SilentMillis < 0 {
		return Note{}, errors.New("dispatch: note: a negative number")
	}
	return n, nil
}

// isHexName reports whether a text may be part of a key.
func isHexName(s string) bool {
	if _, err := hex.DecodeString(s); err != nil || s == "" || len(s) > maxNoteField {
		return false
	}
	for i := range len(s) {
		if s[i] >= 'A' && s[i] <= 'F' {
			return false
		}
	}
	return true
}

// Parked is the part of a Store through which gateways hand over what they keep for pages whose window has lost its socket. It is at
// rest in Redis only when the gateway ends or another one asks for it; before, Redis knows who has it.
type Parked struct {
	store *Store
	self  string
}

// Parked returns the view of one gateway; self is its name in lower-case hex, new at each start.
func (s *Store) Parked(self string) (*Parked, error) {
	if !isHexName(self) {
		return nil, errors.New("dispatch: parked: the gateway's name is not in lower-case hex")
	}
	return &Parked{s, self}, nil
}

// Announce says that this gateway keeps messages for the pages, for as long as ttl.
func (p *Parked) Announce(ctx context.Context, pages []string, ttl time.Duration) error {
	_, err := p.store.client.Pipelined(ctx, func(pipe redis.Pipeliner) error {
		for _, page := range pages {
			key := p.store.keys.parkedOwners(page)
			pipe.SAdd(ctx, key, p.self)
			pipe.PExpire(ctx, key, ttl)
		}
		return nil
	})
	return parkedError("announce", err)
}

// Withdraw takes Announce back.
func (p *Parked) Withdraw(ctx context.Context, pages []string) error {
	_, err := p.store.client.Pipelined(ctx, func(pipe redis.Pipeliner) error {
		for _, page := range pages {
			pipe.SRem(ctx, p.store.keys.parkedOwners(page), p.self)
		}
		return nil
	})
	return parkedError("withdraw", err)
}

// Owners returns, for each page, the other gateways that keep messages for it.
func (p *Parked) Owners(ctx context.Context, pages []string) ([][]string, error) {
	replies := make([]*redis.StringSliceCmd, len(pages))
	_, err := p.store.client.Pipelined(ctx, func(pipe redis.Pipeliner) error {
		for i, page := range pages {
			replies[i] = pipe.SRandMemberN(ctx, p.store.keys.parkedOwners(page), maxParkedOwners)
		}
		return nil
	})
	if err != nil {
		return nil, parkedError("owners", err)
	}
	owners := make([][]string, len(pages))
	for i, reply := range replies {
		for _, owner := range reply.Val() {
			if owner != p.self && isHexName(owner) {
				owners[i] = append(owners[i], owner)
			}
		}
	}
	return owners, nil
}

// Put writes messages, oldest first, behind those that are there. They expire after ttl, and so does what Announce said.
func (p *Parked) Put(ctx context.Context, page string, messages [][]byte, ttl time.Duration) error {
	if len(messages) == 0 {
		return nil
	}
	list, owners := p.store.keys.parkedMessages(page, p.self), p.store.keys.parkedOwners(page)
	_, err := p.store.client.TxPipelined(ctx, func(pipe redis.Pipeliner) error {
		var batch []any
		size := 0
		for i, m := range messages {
			batch, size = append(batch, m), size+len(m)
			if size >= putBatch || i == len(messages)-1 {
				pipe.RPush(ctx, list, batch...)
				batch, size = nil, 0
			}
		}
		pipe.PExpire(ctx, list, ttl)
		pipe.PExpire(ctx, owners, ttl)
		return nil
	})
	return parkedError("put", err)
}

// Take takes what a gateway has written for a page, oldest first; with last, the gateway does not have any more. dropped is how many
// messages were beyond MaxParkedMessages and MaxParkedBytes.
func (p *Parked) Take(ctx context.Context, page, owner string, last bool) (messages []string, dropped int, err error) {
	reply, err := takeParkedScript.Run(ctx, p.store.client,
		[]string{p.store.keys.parkedMessages(page, owner), p.store.keys.parkedOwners(page)}, owner, MaxParkedMessages, MaxParkedBytes, last).Slice()
	if err != nil {
		return nil, 0, parkedError("take", err)
	}
	found, _ := reply[0].(int64)
	list, _ := reply[1].([]any)
	for _, m := range list {
		if text, ok := m.(string); ok {
			messages = append(messages, text)
		}
	}
	return messages, int(found) - len(messages), nil
}

// Send sends a note to one gateway, or to all for to == "". received says whether somebody was there to hear it.
func (p *Parked) Send(ctx context.Context, to string, n Note) (received bool, err error) {
	n.From = p.self
	text, err := n.encode()
	if err != nil {
		return false, parkedError("note", err)
	}
	channel := p.store.keys.gateways()
	if to != "" {
		channel = p.store.keys.gateway(to)
	}
	count, err := p.store.client.Publish(ctx, channel, text).Result()
	return count > 0, parkedError("note", err)
}

// Others returns how many gateways listen to all, see WatchAll; whoever calls it must not be one of them.
func (p *Parked) Others(ctx context.Context) (int, error) {
	channel := p.store.keys.gateways()
	counts, err := p.store.client.PubSubNumSub(ctx, channel).Result()
	return int(counts[channel]), parkedError("others", err)
}

// Watch reports the notes to this gateway until ctx ends, one at a time. It survives restarts of Redis; notes that were sent meanwhile are
// missed. It returns nil.
func (p *Parked) Watch(ctx context.Context, report func(Note)) error {
	return p.watch(ctx, p.store.keys.gateway(p.self), report)
}

// WatchAll is Watch for the notes to all gateways. Who listens takes new windows.
func (p *Parked) WatchAll(ctx context.Context, report func(Note)) error {
	return p.watch(ctx, p.store.keys.gateways(), report)
}

func (p *Parked) watch(ctx context.Context, channel string, report func(Note)) error {
	return p.store.watch(ctx, channel, 0, func(e event) {
		if e.gap {
			return
		}
		n, err := DecodeNote([]byte(e.payload))
		if err != nil {
			p.store.observer.badNote()
			p.store.logger.Error("undecodable note of another gateway ignored", "err", err)
			return
		}
		if n.From != p.self {
			report(n)
		}
	})
}

func parkedError(what string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("dispatch: parked: %s: %w", what, err)
}
