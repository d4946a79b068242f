package celeryproto

import (
	"strings"

	"github.com/dfws/dfws/celeryproto/internal/pickle"
)

// Exception classes that every Python with Celery has and that take any
// arguments. A class that a reader lacks, or that refuses its arguments, would
// make AsyncResult.get raise an error of unpickling instead of the exception.
var (
	builtinExceptions = words(`ArithmeticError AssertionError AttributeError BaseException BrokenPipeError
		BufferError BytesWarning ChildProcessError ConnectionAbortedError ConnectionError ConnectionRefusedError
		ConnectionResetError DeprecationWarning EOFError Exception FileExistsError FileNotFoundError FloatingPointError
		FutureWarning GeneratorExit ImportError ImportWarning IndexError InterruptedError
		IsADirectoryError KeyError KeyboardInterrupt LookupError MemoryError ModuleNotFoundError NameError
		NotADirectoryError NotImplementedError OSError OverflowError PendingDeprecationWarning PermissionError
		ProcessLookupError RecursionError ReferenceError ResourceWarning RuntimeError RuntimeWarning StopAsyncIteration
		StopIteration SyntaxWarning SystemError SystemExit TimeoutError TypeError UnboundLocalError
		UnicodeError UnicodeWarning UserWarning ValueError Warning ZeroDivisionError`)
	celeryExceptions = words(`AlreadyRegistered BackendError CeleryError ChordError Ignore ImproperlyConfigured IncompleteStream
		InvalidTaskError MaxRetriesExceededError NotRegistered QueueNotFound SecurityError TaskError TaskPredicate
		TaskRevokedError TimeoutError`)
	billiardExceptions = words(`SoftTimeLimitExceeded Terminated TimeLimitExceeded WorkerLostError`)
	kombuExceptions    = words(`ContentDisallowed DecodeError EncodeError KombuError LimitExceeded NotBoundError OperationalError
		SerializationError SerializerNotInstalled`)
)

func words(s string) map[string]bool {
	set := map[string]bool{}
	for _, word := range strings.Fields(s) {
		set[word] = true
	}
	return set
}

// importable tells whether every reader of results has an exception class.
func importable(module, name string) bool {
	switch module {
	case "builtins":
		return builtinExceptions[name]
	case "celery.exceptions":
		return celeryExceptions[name]
	case "billiard.exceptions":
		return billiardExceptions[name]
	case "kombu.exceptions":
		return kombuExceptions[name]
	default:
		return false
	}
}

// writePickledResult writes a result meta or a chord part with an exception
// object as the result of a failure (celery 5.7, backends/base.py,
// prepare_exception), else what writePickle does.
func writePickledResult(tree any) ([]byte, error) {
	w := pickleWriter{pickle.NewWriter(256)}
	var err error
	switch v := tree.(type) {
	case dict:
		failed := isExceptionState(v.get(keyStatus))
		err = w.dict(v, func(key string, member any) error {
			if failed && key == keyResult {
				return w.exception(member)
			}
			return w.value(member)
		})
	case []any:
		if len(v) != chordPartFields || !isExceptionState(v[2]) {
			err = w.value(v)
			break
		}
		err = w.List(len(v), func(i int) error {
			if i == chordPartFields-1 {
				return w.exception(v[i])
			}
			return w.value(v[i])
		})
	default:
		err = w.value(v)
	}
	if err != nil {
		return nil, err
	}
	return w.Bytes(), nil
}

// writePickledException writes an exception by itself.
func writePickledException(tree any) ([]byte, error) {
	w := pickleWriter{pickle.NewWriter(256)}
	if err := w.exception(tree); err != nil {
		return nil, err
	}
	return w.Bytes(), nil
}

// exception writes the stored form of an exception as the exception itself when
// its class is one that every reader has.
func (w pickleWriter) exception(v any) error {
	stored, isDict := v.(dict)
	if !isDict || len(stored) != 3 {
		return w.value(v)
	}
	name, ok1 := stored.get(keyExcType).(string)
	module, ok2 := stored.get(keyExcModule).(string)
	args, ok3 := stored.get(keyExcMessage).([]any)
	if !ok1 || !ok2 || !ok3 || !importable(module, name) {
		return w.value(v)
	}
	return w.call(module, name, args...)
}
