package dispatch

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/dfws/dfws/celeryproto"
)

const (
	// registrySchema is the schema of an entry.
	registrySchema = 1

	// PublisherPython is the publisher of the site's Python handlers.
	PublisherPython = "python"
	// publisherGoPrefix starts the publisher of each Go application.
	publisherGoPrefix = "go:"

	// LanguagePython is Entry.Language of the site's Python.
	LanguagePython = "python"
	// LanguageGo is Entry.Language of Go applications.
	LanguageGo = "go"

	// AllowServerSide is the value of Handler.Allow that refuses every browser.
	AllowServerSide = "server_side"

	// maxEntryBytes bounds one entry: ten thousand handlers are about 3 MB.
	maxEntryBytes = 16 << 20
)

// PublisherGo returns the publisher name of a Go application.
func PublisherGo(app string) string { return publisherGoPrefix + app }

// Entry is what one publisher has registered: all handlers of the Python site, or those of one Go application.
type Entry struct {
	Schema    int    `json:"schema"`
	Publisher string `json:"publisher"`
	Language  string `json:"language"`
	App       string `json:"app"`
	// Digest tells whether Signals changed: hex SHA-256 of their JSON with sorted keys.
	Digest string `json:"digest"`
	// PublishedAt is Unix time.
	PublishedAt float64 `json:"published_at"`
	Host        string  `json:"host"`
	PID         int     `json:"pid"`
	// DefaultQueue is the queue of handlers that name none. The publisher's workers consume it.
	DefaultQueue string               `json:"default_queue"`
	Signals      map[string][]Handler `json:"signals"`
	// Errbacks says how errbacks are called that may be Python functions; only in Python's entry, once a Python worker has started.
	Errbacks *Errbacks `json:"errbacks,omitempty"`
}

// Handler is one registered function of a signal.
type Handler struct {
	// Handler names the function.
	Handler string
	// Queue is the handler's queue; empty when Dynamic.
	Queue string
	// Dynamic says that only Python can compute the queue, at each call.
	Dynamic bool
	// Queues are the queues that a dynamic handler declares.
	Queues []string
	// Allow is the permission rule: everyone, is_authenticated, is_anonymous, is_staff, is_superuser, has_perm:<perm>, server_side, custom.
	Allow string
	// Arguments are the names that the handler takes; nil when not known.
	Arguments *Arguments
	// Publisher and Language are those of the entry; Lookup fills them.
	Publisher string
	Language  string
}

// Arguments are the names of a handler's arguments.
type Arguments struct {
	Required []string `json:"required"`
	Optional []string `json:"optional"`
	// Any says that unknown names are accepted.
	Any bool `json:"any"`
}

// MarshalJSON writes missing lists as empty ones, as Python does.
func (a Arguments) MarshalJSON() ([]byte, error) {
	type plain Arguments // without this method
	if a.Required == nil {
		a.Required = []string{}
	}
	if a.Optional == nil {
		a.Optional = []string{}
	}
	return json.Marshal(plain(a))
}

// handlerJSON is a Handler on the wire, where a missing queue is null.
type handlerJSON struct {
	Handler   string     `json:"handler"`
	Queue     *string    `json:"queue"`
	Dynamic   bool       `json:"dynamic"`
	Queues    []string   `json:"queues"`
	Allow     string     `json:"allow"`
	Arguments *Arguments `json:"arguments,omitempty"`
}

// MarshalJSON writes the handler as the registry has it.
func (h Handler) MarshalJSON() ([]byte, error) {
	wire := handlerJSON{Handler: h.Handler, Dynamic: h.Dynamic, Queues: h.Queues, Allow: h.Allow, Arguments: h.Arguments}
	if !h.Dynamic {
		wire.Queue = &h.Queue
	}
	if wire.Queues == nil {
		wire.Queues = []string{}
		if !h.Dynamic {
			wire.Queues = []string{h.Queue}
		}
	}
	return json.Marshal(wire)
}

// UnmarshalJSON reads the handler and refuses one that has no queue and is not dynamic.
func (h *Handler) UnmarshalJSON(b []byte) error {
	var wire handlerJSON
	if err := json.Unmarshal(b, &wire); err != nil {
		return err
	}
	*h = Handler{Handler: wire.Handler, Dynamic: wire.Dynamic, Queues: wire.Queues, Allow: wire.Allow, Arguments: wire.Arguments}
	if wire.Queue != nil && !wire.Dynamic {
		h.Queue = *wire.Queue
	}
	if h.Queue == "" && !h.Dynamic {
		return fmt.Errorf("handler %q has no queue", h.Handler)
	}
	return nil
}

// clientCallable reports whether a browser may call the handler at all; its rule is asked by the worker.
func (h *Handler) clientCallable() bool { return h.Allow != AllowServerSide }

// where names the handler with its publisher.
func (h *Handler) where() string { return h.Handler + " (" + h.Publisher + ")" }

// DecodeEntry reads one field of the registry. publisher is the field's name.
func DecodeEntry(publisher string, b []byte) (*Entry, error) {
	e, err := decodeEntry(publisher, b)
	if err != nil {
		return nil, &EntryError{Publisher: publisher, Err: err}
	}
	return e, nil
}

func decodeEntry(publisher string, b []byte) (*Entry, error) {
	if len(b) > maxEntryBytes {
		return nil, fmt.Errorf("%d bytes, more than %d", len(b), maxEntryBytes)
	}
	var head struct {
		Schema int `json:"schema"`
	}
	if err := json.Unmarshal(b, &head); err != nil {
		return nil, err
	}
	if head.Schema != registrySchema {
		return nil, fmt.Errorf("schema %d is not supported, only %d is", head.Schema, registrySchema)
	}
	e := new(Entry)
	if err := json.Unmarshal(b, e); err != nil {
		return nil, err
	}
	e.Publisher = publisher
	if err := e.validate(); err != nil {
		return nil, err
	}
	if e.Errbacks != nil {
		slices.Sort(e.Errbacks.OldStyle)
	}
	for _, handlers := range e.Signals {
		for i := range handlers {
			handlers[i].Publisher, handlers[i].Language = e.Publisher, e.Language
		}
	}
	return e, nil
}

// validate checks what the registry relies on.
func (e *Entry) validate() error {
	isGo := strings.HasPrefix(e.Publisher, publisherGoPrefix)
	switch {
	case e.Publisher == "":
		return errors.New("publisher: missing")
	case e.Language == LanguagePython && e.Publisher != PublisherPython, e.Language == LanguageGo && !isGo:
		return fmt.Errorf("publisher: %q does not fit the language %q", e.Publisher, e.Language)
	case e.Language != LanguagePython && e.Language != LanguageGo:
		return fmt.Errorf("language: %q is not known", e.Language)
	case isGo && e.DefaultQueue == "":
		return errors.New("default_queue: missing")
	case e.Errbacks != nil && (e.Errbacks.Task == "" || e.Errbacks.Queue == ""):
		return errors.New("errbacks: task or queue missing")
	}
	return nil
}

// encode writes the entry with its schema and digest.
func (e *Entry) encode() ([]byte, error) {
	out := *e
	out.Schema = registrySchema
	if out.Signals == nil {
		out.Signals = map[string][]Handler{}
	}
	if err := out.validate(); err != nil {
		return nil, err
	}
	var err error
	if out.Digest, err = digest(out.Signals); err != nil {
		return nil, err
	}
	return json.Marshal(&out)
}

// digest is the SHA-256 of the signals as canonical JSON, the same in both languages: sorted keys, no blanks, ASCII.
func digest(signals map[string][]Handler) (string, error) {
	text, err := json.Marshal(signals)
	if err != nil {
		return "", err
	}
	var plain any
	if err := json.Unmarshal(text, &plain); err != nil {
		return "", err
	}
	spaced, err := celeryproto.EncodeValue(plain)
	if err != nil {
		return "", err
	}
	var canonical bytes.Buffer
	if err := json.Compact(&canonical, spaced); err != nil {
		return "", err
	}
	sum := sha256.Sum256(canonical.Bytes())
	return hex.EncodeToString(sum[:]), nil
}
