package compat

import "github.com/dfws/dfws/celeryproto"

// EncodeOpts encodes the options of a signal for a browser, as Django's DjangoJSONEncoder does.
func EncodeOpts(v any) (celeryproto.Raw, error) { return celeryproto.EncodeValue(v) }
