// Package pickle reads and writes Python's pickle format as data.
//
// A pickle is a program for a stack machine. Python runs it with all of its
// classes and functions at hand; here there are none. The reader knows the
// plain types (None, bool, int, float, str, bytes, bytearray, list, tuple, dict,
// set, frozenset) and keeps everything else as a description: a Global is a
// name, an Object is a call of a Global with its arguments and state. Whoever
// reads decides which descriptions stand for data (package celeryproto has a
// short list) and refuses the others by name. Nothing is imported, looked up,
// called or executed.
//
// Time and memory are linear in the length of the input, and bounded by
// Limits.MaxValues. What the reader returns may share parts and contain
// itself, as Python's own objects may.
//
// # Source
//
// CPython 3.11: Lib/pickle.py and Lib/pickletools.py, protocols 0 to 5.
package pickle
