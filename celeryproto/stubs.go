package celeryproto

// Repr is Celery's saferepr of a value: 1024 characters, 3 levels.
func Repr(r Raw) string { return "" }

// ReprTuple is Repr with the outermost array written as a tuple.
func ReprTuple(r Raw) string { return "" }
