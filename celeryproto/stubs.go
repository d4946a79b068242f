package celeryproto

import (
	"errors"
	"time"
)

var errUnfinished = errors.New("celeryproto: not written yet")

// DecodeValue converts a JSON value with kombu's typed values to Go.
func DecodeValue(r Raw) (any, error) { return nil, errUnfinished }

// EncodeValue is the reverse of DecodeValue.
func EncodeValue(v any) (Raw, error) { return nil, errUnfinished }

// AppendValue appends what EncodeValue returns.
func AppendValue(dst []byte, v any) ([]byte, error) { return dst, errUnfinished }

// AppendFloat appends f as Python's json.dumps writes it.
func AppendFloat(dst []byte, f float64) []byte { return dst }

// DecodeEnvelope decodes one element of a queue.
func DecodeEnvelope(b []byte) (*Envelope, error) { return nil, errUnfinished }

// Append appends the envelope as kombu writes it.
func (e *Envelope) Append(dst []byte) ([]byte, error) { return dst, errUnfinished }

// Payload is the serialized body: decoded from base64 and decompressed.
func (e *Envelope) Payload(lim Limits) (Raw, error) { return nil, errUnfinished }

// Limits bounds what decoding may cost.
type Limits struct {
	JSON            JSONLimits
	MaxDecompressed int64
}

type taskSource struct{}

// DecodeTask reads the task of an envelope.
func DecodeTask(e *Envelope) (*Task, error) { return nil, errUnfinished }

// Envelope is the message for the task.
func (t *Task) Envelope() (*Envelope, error) { return nil, errUnfinished }

// Append appends the whole envelope.
func (t *Task) Append(dst []byte) ([]byte, error) { return dst, errUnfinished }

// NewTask is a call with fresh IDs. args encodes to an array, kwargs to an object; nil is empty.
func NewTask(name string, args, kwargs any) (*Task, error) { return nil, errUnfinished }

// TaskID is the ID of the task in the headers, or body of protocol 1, "" when unreadable; for messages that DecodeTask refuses.
func (e *Envelope) TaskID() string { return "" }

// TaskName is the name, as TaskID.
func (e *Envelope) TaskName() string { return "" }

// DecodeResult decodes the value of a celery-task-meta key.
func DecodeResult(b []byte) (*ResultMeta, error) { return nil, errUnfinished }

// Append appends the meta as Celery writes it.
func (m *ResultMeta) Append(dst []byte) ([]byte, error) { return dst, errUnfinished }

// Exception decodes the result as an exception.
func (m *ResultMeta) Exception() (*Exception, error) { return nil, errUnfinished }

// Error is "Type: message".
func (e *Exception) Error() string { return e.Type }

// Raw is the exception as the result backend stores it.
func (e *Exception) Raw() Raw { return nil }

// Repr is Celery's saferepr of a value: 1024 characters, 3 levels.
func Repr(r Raw) string { return "" }

// ReprTuple is Repr with the outermost array written as a tuple.
func ReprTuple(r Raw) string { return "" }

// NaiveTimeOf drops the timezone.
func NaiveTimeOf(t time.Time) NaiveTime { return NaiveTime{} }

// In is the instant at which clocks in loc show n.
func (n NaiveTime) In(loc *time.Location) time.Time { return time.Time{} }

// ParseISOTime reads eta and expires texts: naive is UTC.
func ParseISOTime(s string) (time.Time, error) { return time.Time{}, errUnfinished }

// FormatISOTime writes t as Python's datetime.isoformat.
func FormatISOTime(t time.Time) string { return "" }
