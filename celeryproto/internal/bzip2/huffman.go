package bzip2

import (
	"container/heap"
	"slices"
)

// Symbols of a block: two digits for the lengths of runs of zero, then the
// places in the list of bytes, then the end.
const (
	runA = 0
	runB = 1
)

// moveToFront replaces each byte by its place in a list from which it moves to
// the front, and runs of the first place by their length in bijective base 2.
func moveToFront(last []byte, used *[256]bool) (symbols []uint16, alphabet int) {
	var list []byte
	for i, is := range used {
		if is {
			list = append(list, byte(i))
		}
	}
	alphabet = len(list) + 2
	symbols = make([]uint16, 0, len(last)+1)
	run := 0
	flush := func() {
		for ; run > 0; run = (run - 1) / 2 {
			if run%2 == 1 {
				symbols = append(symbols, runA)
			} else {
				symbols = append(symbols, runB)
			}
		}
	}
	for _, c := range last {
		at := slices.Index(list, c)
		if at == 0 {
			run++
			continue
		}
		flush()
		symbols = append(symbols, uint16(at+1))
		copy(list[1:at+1], list[:at])
		list[0] = c
	}
	flush()
	return append(symbols, uint16(alphabet-1)), alphabet
}

// A block has two to six codes; each group of 50 symbols uses one of them.
const (
	groupSize  = 50
	maxCodeLen = 17 // bzip2 reads 20
	rounds     = 4
)

// tableCount is what bzip2 takes for so many symbols.
func tableCount(symbols int) int {
	switch {
	case symbols < 200:
		return 2
	case symbols < 600:
		return 3
	case symbols < 1200:
		return 4
	case symbols < 2400:
		return 5
	default:
		return 6
	}
}

func writeCoded(w *bitWriter, symbols []uint16, alphabet int) {
	tables := firstTables(symbols, alphabet)
	selectors := make([]int, (len(symbols)+groupSize-1)/groupSize)
	for range rounds {
		counts := make([][]int, len(tables))
		for t := range counts {
			counts[t] = make([]int, alphabet)
		}
		for i := range selectors {
			group := symbols[i*groupSize : min((i+1)*groupSize, len(symbols))]
			selectors[i] = cheapest(tables, group)
			for _, s := range group {
				counts[selectors[i]][s]++
			}
		}
		for t := range tables {
			tables[t] = codeLengths(counts[t])
		}
	}
	w.bits(uint64(len(tables)), 3)
	w.bits(uint64(len(selectors)), 15)
	writeSelectors(w, selectors, len(tables))
	codes := make([][]uint32, len(tables))
	for t, lengths := range tables {
		writeLengths(w, lengths)
		codes[t] = assignCodes(lengths)
	}
	for i, s := range symbols {
		t := selectors[i/groupSize]
		w.bits(uint64(codes[t][s]), int(tables[t][s]))
	}
}

// firstTables splits the alphabet into ranges of about equal frequency, each of
// which is cheap in one table.
func firstTables(symbols []uint16, alphabet int) [][]uint8 {
	counts := make([]int, alphabet)
	for _, s := range symbols {
		counts[s]++
	}
	tables := make([][]uint8, tableCount(len(symbols)))
	left, from := len(symbols), 0
	for t := range tables {
		want, to, have := left/(len(tables)-t), from, 0
		for to < alphabet && have < want {
			have += counts[to]
			to++
		}
		tables[t] = make([]uint8, alphabet)
		for s := range tables[t] {
			if s < from || s >= to {
				tables[t][s] = 15
			}
		}
		left -= have
		from = to
	}
	return tables
}

func cheapest(tables [][]uint8, group []uint16) int {
	best, bestCost := 0, int(^uint(0)>>1)
	for t, lengths := range tables {
		cost := 0
		for _, s := range group {
			cost += int(lengths[s])
		}
		if cost < bestCost {
			best, bestCost = t, cost
		}
	}
	return best
}

// writeSelectors writes the places of the tables in a list from which the chosen
// one moves to the front, in unary.
func writeSelectors(w *bitWriter, selectors []int, tables int) {
	list := make([]int, tables)
	for i := range list {
		list[i] = i
	}
	for _, t := range selectors {
		at := slices.Index(list, t)
		for range at {
			w.bits(1, 1)
		}
		w.bits(0, 1)
		copy(list[1:at+1], list[:at])
		list[0] = t
	}
}

// writeLengths writes the lengths of a code as differences.
func writeLengths(w *bitWriter, lengths []uint8) {
	at := lengths[0]
	w.bits(uint64(at), 5)
	for _, n := range lengths {
		for ; at < n; at++ {
			w.bits(0b10, 2)
		}
		for ; at > n; at-- {
			w.bits(0b11, 2)
		}
		w.bits(0, 1)
	}
}

// assignCodes gives out the codes by length, then by symbol.
func assignCodes(lengths []uint8) []uint32 {
	codes := make([]uint32, len(lengths))
	var code uint32
	for n := uint8(1); n <= maxCodeLen; n++ {
		for s, length := range lengths {
			if length == n {
				codes[s] = code
				code++
			}
		}
		code <<= 1
	}
	return codes
}

// tree is a node of a Huffman tree: a symbol, or two nodes.
type tree struct {
	weight, depth int
	symbol        int // -1 for an inner node
	left, right   *tree
}

type forest []*tree

func (f forest) Len() int      { return len(f) }
func (f forest) Swap(i, j int) { f[i], f[j] = f[j], f[i] }
func (f *forest) Push(x any)   { *f = append(*f, x.(*tree)) }
func (f forest) Less(i, j int) bool {
	if f[i].weight != f[j].weight {
		return f[i].weight < f[j].weight
	}
	return f[i].depth < f[j].depth
}

func (f *forest) Pop() any {
	last := (*f)[len(*f)-1]
	*f = (*f)[:len(*f)-1]
	return last
}

// codeLengths are those of a Huffman code that gives each symbol a code, those
// that do not occur as well. Where a code gets too long, the frequencies are
// made more alike.
func codeLengths(counts []int) []uint8 {
	weights := make([]int, len(counts))
	for s, n := range counts {
		weights[s] = max(1, n)
	}
	for {
		lengths := make([]uint8, len(weights))
		if huffman(weights).depths(0, lengths) <= maxCodeLen {
			return lengths
		}
		for s := range weights {
			weights[s] = weights[s]/2 + 1
		}
	}
}

func huffman(weights []int) *tree {
	f := make(forest, len(weights))
	for s, weight := range weights {
		f[s] = &tree{weight: weight, symbol: s}
	}
	heap.Init(&f)
	for len(f) > 1 {
		a, b := heap.Pop(&f).(*tree), heap.Pop(&f).(*tree)
		heap.Push(&f, &tree{weight: a.weight + b.weight, depth: max(a.depth, b.depth) + 1, symbol: -1, left: a, right: b})
	}
	return f[0]
}

// depths notes how deep each symbol is, and returns the deepest.
func (t *tree) depths(depth int, lengths []uint8) int {
	if t.symbol >= 0 {
		lengths[t.symbol] = uint8(depth)
		return depth
	}
	return max(t.left.depths(depth+1, lengths), t.right.depths(depth+1, lengths))
}
