package dispatch

import (
	"slices"
	"strings"
)

// snapshot is one state of the registry, never changed after newSnapshot.
type snapshot struct {
	entries []*Entry // sorted: python, then go:…
	routes  map[string]*route
	python  bool
	digest  string // of all entries
	// goQueues are the default queues of the Go applications, which their workers consume.
	goQueues []string
}

// route is what triggering one signal needs.
type route struct {
	handlers []Handler
	dest     destination
	// clientCallable says that at least one handler may be called by browsers. Then the call goes to all queues, as in Python: the
	// task that computes queues leaves out those of the other handlers, since they have the call already.
	clientCallable bool
}

// destination says where the tasks of a signal go.
type destination struct {
	queues  []string // distinct, in the order of the handlers
	dynamic bool     // Python has to compute further queues
	// declared are the queues that dynamic handlers say they may compute; undeclared, that one of them says nothing.
	declared   []string
	undeclared bool
}

// empty reports whether nothing is to be sent.
func (d *destination) empty() bool { return len(d.queues) == 0 && !d.dynamic }

// add adds the handler's queue.
func (d *destination) add(h *Handler) {
	switch {
	case h.Dynamic:
		d.dynamic = true
		d.undeclared = d.undeclared || len(h.Queues) == 0
		d.declared = append(d.declared, h.Queues...)
	case !slices.Contains(d.queues, h.Queue):
		d.queues = append(d.queues, h.Queue)
	}
}

// newSnapshot builds the routes. It sorts entries in place.
func newSnapshot(entries []*Entry) *snapshot {
	slices.SortFunc(entries, func(a, b *Entry) int {
		if (a.Language == LanguagePython) != (b.Language == LanguagePython) {
			if a.Language == LanguagePython {
				return -1
			}
			return 1
		}
		return strings.Compare(a.Publisher, b.Publisher)
	})
	s := &snapshot{entries: entries, routes: map[string]*route{}}
	var digests strings.Builder
	for _, e := range entries {
		digests.WriteString(e.Publisher + "=" + e.Digest + "/" + e.DefaultQueue + "\n")
		switch {
		case e.Language == LanguagePython:
			s.python = true
		case !slices.Contains(s.goQueues, e.DefaultQueue):
			s.goQueues = append(s.goQueues, e.DefaultQueue)
		}
		for signal, handlers := range e.Signals {
			s.route(signal).add(handlers)
		}
	}
	s.digest = digests.String()
	return s
}

func (s *snapshot) route(signal string) *route {
	r := s.routes[signal]
	if r == nil {
		r = &route{}
		s.routes[signal] = r
	}
	return r
}

func (r *route) add(handlers []Handler) {
	for i := range handlers {
		h := &handlers[i]
		r.handlers = append(r.handlers, *h)
		r.dest.add(h)
		r.clientCallable = r.clientCallable || h.clientCallable()
	}
}

// publishers returns the names of all publishers.
func (s *snapshot) publishers() []string {
	names := make([]string, len(s.entries))
	for i, e := range s.entries {
		names[i] = e.Publisher
	}
	return names
}

// languages is a set of languages.
type languages uint8

const (
	inPython languages = 1 << iota
	inGo
)

func languageBit(h *Handler) languages {
	if h.Language == LanguageGo {
		return inGo
	}
	return inPython
}

// queuesOf returns all queues that a handler may use.
func (h *Handler) queuesOf() []string {
	if h.Dynamic {
		return h.Queues
	}
	return []string{h.Queue}
}

// queueLanguages returns the languages of the handlers on each queue.
func (s *snapshot) queueLanguages() map[string]languages {
	set := map[string]languages{}
	for _, r := range s.routes {
		for i := range r.handlers {
			for _, queue := range r.handlers[i].queuesOf() {
				set[queue] |= languageBit(&r.handlers[i])
			}
		}
	}
	return set
}

// conflictErrors returns a ConflictError for each signal and queue with handlers in both languages, sorted; only those in which publisher
// takes part, unless it is "".
func (s *snapshot) conflictErrors(publisher string) []error {
	var conflicts []*ConflictError
	for signal, r := range s.routes {
		conflicts = append(conflicts, r.conflicts(signal, publisher)...)
	}
	slices.SortFunc(conflicts, func(a, b *ConflictError) int {
		return strings.Compare(a.Signal+"\x00"+a.Queue, b.Signal+"\x00"+b.Queue)
	})
	errs := make([]error, len(conflicts))
	for i, c := range conflicts {
		errs[i] = c
	}
	return errs
}

func (r *route) conflicts(signal, publisher string) []*ConflictError {
	var conflicts []*ConflictError
	seen := map[string]bool{}
	for i := range r.handlers {
		for j := i + 1; j < len(r.handlers); j++ {
			a, b := &r.handlers[i], &r.handlers[j] // Python stands first
			if a.Language == b.Language || publisher != "" && a.Publisher != publisher && b.Publisher != publisher {
				continue
			}
			for _, queue := range a.queuesOf() {
				if !seen[queue] && slices.Contains(b.queuesOf(), queue) {
					seen[queue] = true
					conflicts = append(conflicts, &ConflictError{Signal: signal, Queue: queue, Handlers: [2]string{a.where(), b.where()}})
				}
			}
		}
	}
	return conflicts
}
