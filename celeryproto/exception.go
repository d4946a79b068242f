package celeryproto

// Exception is a Python exception as the JSON result serializer stores it.
type Exception struct {
	// Type is the qualified class name, "ValueError" or "Outer.Inner".
	Type string
	// Module of the class, "builtins"; "" is null.
	Module string
	// Message are the arguments of the exception, JSON values.
	Message []Raw
}
