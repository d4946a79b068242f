package dispatch

// Outcome says what a trigger led to on the server's side. The values are few and fixed: they label a counter.
type Outcome string

// The outcomes.
const (
	// OutcomePlanned: the tasks and frames of the plan are to be sent; there may be none when nobody was addressed.
	OutcomePlanned Outcome = "planned"
	// OutcomeUnregistered: the site's Python registry is not known, so the signal goes to each configured queue.
	OutcomeUnregistered Outcome = "unregistered"
	// OutcomeUnknownSignal: SERVER was addressed and nobody handles the signal; nothing goes to a queue.
	OutcomeUnknownSignal Outcome = "unknown_signal"
	// OutcomeNotCallable: all handlers of the signal refuse browsers; nothing goes to a queue.
	OutcomeNotCallable Outcome = "not_callable_from_client"
)

// Observer has optional functions for metrics. They are called from many goroutines and must be quick.
type Observer struct {
	// Planned is called for each successful Plan.
	Planned func(outcome Outcome, fromClient bool, tasks, groups int)
	// PlanFailed is called for each Plan that returned an error.
	PlanFailed func()
	// RegistryChanged is called when the registry has other contents, with its number of signals.
	RegistryChanged func(signals int)
	// RegistryFailed is called each time that the registry, or an entry, cannot be read.
	RegistryFailed func()
	// BadRevocation is called for each announcement that cannot be read.
	BadRevocation func()
	// BadNote is called for each note of another gateway that cannot be read.
	BadNote func()
}

func (o *Observer) planned(p *Plan, fromClient bool) {
	if o.Planned != nil {
		o.Planned(p.Outcome, fromClient, len(p.Messages), len(p.Groups))
	}
}

func (o *Observer) planFailed() {
	if o.PlanFailed != nil {
		o.PlanFailed()
	}
}

func (o *Observer) registryChanged(signals int) {
	if o.RegistryChanged != nil {
		o.RegistryChanged(signals)
	}
}

func (o *Observer) registryFailed() {
	if o.RegistryFailed != nil {
		o.RegistryFailed()
	}
}

func (o *Observer) badRevocation() {
	if o.BadRevocation != nil {
		o.BadRevocation()
	}
}

func (o *Observer) badNote() {
	if o.BadNote != nil {
		o.BadNote()
	}
}
