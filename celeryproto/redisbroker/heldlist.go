package redisbroker

// heldList is a list of deliveries in the order taken, linked through them: adding and removing costs nothing else. Its user has
// the lock.
type heldList struct {
	first, last *Delivery
	n           int
}

func (l *heldList) add(d *Delivery) {
	d.prev = l.last
	if l.last == nil {
		l.first = d
	} else {
		l.last.next = d
	}
	l.last = d
	l.n++
}

// remove takes a delivery out that is in the list.
func (l *heldList) remove(d *Delivery) {
	if d.prev == nil {
		l.first = d.next
	} else {
		d.prev.next = d.next
	}
	if d.next == nil {
		l.last = d.prev
	} else {
		d.next.prev = d.prev
	}
	d.prev, d.next = nil, nil
	l.n--
}

func (l *heldList) all() []*Delivery {
	all := make([]*Delivery, 0, l.n)
	for d := l.first; d != nil; d = d.next {
		all = append(all, d)
	}
	return all
}
