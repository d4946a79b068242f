package compat

import "log/slog"

// redacted is what every attempt to print a Secret shows.
const redacted = "[redacted]"

// Secret is a text that must not reach a log, an error or a metric: a password, a key, a URL that holds a password.
// Printing it in any usual way gives "[redacted]"; Reveal gives the text to the one place that needs it.
type Secret string

// Reveal returns the text itself.
func (s Secret) Reveal() string { return string(s) }

// String implements fmt.Stringer.
func (s Secret) String() string { return redacted }

// GoString implements fmt.GoStringer, for %#v.
func (s Secret) GoString() string { return redacted }

// LogValue implements slog.LogValuer.
func (s Secret) LogValue() slog.Value { return slog.StringValue(redacted) }

// MarshalText implements encoding.TextMarshaler, and with it JSON.
func (s Secret) MarshalText() ([]byte, error) { return []byte(redacted), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (s *Secret) UnmarshalText(text []byte) error {
	*s = Secret(text)
	return nil
}

// SecretJSON is JSON that may hold a password: options of a connection. Printing it in any usual way gives "[redacted]". Nil means none.
type SecretJSON []byte

// String implements fmt.Stringer.
func (s SecretJSON) String() string { return redacted }

// GoString implements fmt.GoStringer, for %#v.
func (s SecretJSON) GoString() string { return redacted }

// LogValue implements slog.LogValuer.
func (s SecretJSON) LogValue() slog.Value { return slog.StringValue(redacted) }

// MarshalJSON implements json.Marshaler.
func (s SecretJSON) MarshalJSON() ([]byte, error) { return []byte(`"` + redacted + `"`), nil }

// UnmarshalJSON implements json.Unmarshaler. null is none.
func (s *SecretJSON) UnmarshalJSON(b []byte) error {
	*s = nil
	if string(b) != "null" {
		*s = append(*s, b...)
	}
	return nil
}
