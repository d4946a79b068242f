package bzip2

// blockSize is how many bytes a block may have after run-length encoding: level
// 9, less what bzip2 itself keeps free.
const (
	level     = 9
	blockSize = level*100_000 - 19
)

// Magic numbers of a block and of the end of the stream: π and √π.
const (
	blockMagic = 0x314159265359
	endMagic   = 0x177245385090
)

// Compress returns data as a bzip2 stream.
func Compress(data []byte) []byte {
	w := &bitWriter{}
	for _, c := range []byte{'B', 'Z', 'h', '0' + level} {
		w.bits(uint64(c), 8)
	}
	var combined uint32
	for len(data) > 0 {
		block, n := runLengths(data)
		crc := checksum(data[:n])
		combined = combined<<1 | combined>>31
		combined ^= crc
		writeBlock(w, block, crc)
		data = data[n:]
	}
	w.bits(endMagic, 48)
	w.bits(uint64(combined), 32)
	return w.bytes()
}

// bitWriter writes the most significant bit first.
type bitWriter struct {
	out  []byte
	word uint64
	n    int // bits in word
}

func (w *bitWriter) bits(v uint64, n int) {
	for n > 0 {
		k := min(n, 56-w.n)
		w.word = w.word<<k | v>>(n-k)&(1<<k-1)
		w.n += k
		n -= k
		for w.n >= 8 {
			w.n -= 8
			w.out = append(w.out, byte(w.word>>w.n))
		}
	}
}

// bytes fills the last byte with zeros.
func (w *bitWriter) bytes() []byte {
	if w.n > 0 {
		w.bits(0, 8-w.n)
	}
	return w.out
}

// crcTable is for CRC-32 with the most significant bit first.
var crcTable = func() (table [256]uint32) {
	for i := range table {
		c := uint32(i) << 24
		for range 8 {
			if c&(1<<31) != 0 {
				c = c<<1 ^ 0x04c11db7
			} else {
				c <<= 1
			}
		}
		table[i] = c
	}
	return table
}()

func checksum(data []byte) uint32 {
	crc := ^uint32(0)
	for _, c := range data {
		crc = crc<<8 ^ crcTable[byte(crc>>24)^c]
	}
	return ^crc
}

// Runs of four to 255 equal bytes are written as four and a count.
const (
	minRun = 4
	maxRun = 255
)

// runLengths encodes the beginning of data to one block, and tells how many
// bytes it took.
func runLengths(data []byte) (block []byte, n int) {
	block = make([]byte, 0, min(blockSize, len(data)+len(data)/4+1))
	for n < len(data) && len(block)+minRun+1 <= blockSize {
		c := data[n]
		run := 1
		for run < maxRun && n+run < len(data) && data[n+run] == c {
			run++
		}
		for range min(run, minRun) {
			block = append(block, c)
		}
		if run >= minRun {
			block = append(block, byte(run-minRun))
		}
		n += run
	}
	return block, n
}

func writeBlock(w *bitWriter, block []byte, crc uint32) {
	w.bits(blockMagic, 48)
	w.bits(uint64(crc), 32)
	w.bits(0, 1) // not randomized
	last, origin := transform(block)
	w.bits(uint64(origin), 24)
	var used [256]bool
	for _, c := range block {
		used[c] = true
	}
	writeUsed(w, &used)
	symbols, alphabet := moveToFront(last, &used)
	writeCoded(w, symbols, alphabet)
}

// writeUsed tells which bytes occur: 16 bits for groups of 16 bits.
func writeUsed(w *bitWriter, used *[256]bool) {
	var groups uint64
	for i, is := range used {
		if is {
			groups |= 1 << (15 - i/16)
		}
	}
	w.bits(groups, 16)
	for g := range 16 {
		if groups&(1<<(15-g)) == 0 {
			continue
		}
		var bits uint64
		for i := range 16 {
			if used[16*g+i] {
				bits |= 1 << (15 - i)
			}
		}
		w.bits(bits, 16)
	}
}

// transform is the Burrows-Wheeler transform: the last column of the sorted
// rotations of the block, and the place of the block itself among them.
func transform(block []byte) (last []byte, origin int) {
	order := sortRotations(block)
	last = make([]byte, len(block))
	for i, at := range order {
		if at == 0 {
			origin = i
			last[i] = block[len(block)-1]
			continue
		}
		last[i] = block[at-1]
	}
	return last, origin
}

// sortRotations sorts the rotations by their first byte, then by two bytes, four
// and so on, each time with the ranks of the step before.
func sortRotations(block []byte) []int32 {
	n := len(block)
	order, rank := make([]int32, n), make([]int32, n)
	var first [257]int32
	for _, c := range block {
		first[int(c)+1]++
	}
	for i := range 256 {
		first[i+1] += first[i]
	}
	next := first
	for i, c := range block {
		order[next[c]] = int32(i)
		next[c]++
		rank[i] = first[c]
	}
	// A rank is the place of the first of equal rotations.
	shifted, newRank := make([]int32, n), make([]int32, n)
	place := make([]int32, n)
	for width := 1; width < n; width *= 2 {
		for i, at := range order {
			if at -= int32(width); at < 0 {
				at += int32(n)
			}
			shifted[i] = at
		}
		// shifted is sorted by its second half; counting sorts it by the first.
		for i := range place {
			place[i] = int32(i)
		}
		for _, at := range shifted {
			r := rank[at]
			order[place[r]] = at
			place[r]++
		}
		distinct := rerank(order, rank, newRank, width)
		rank, newRank = newRank, rank
		if distinct == n {
			break
		}
	}
	return order
}

// rerank gives rotations that are equal in twice the width the same rank.
func rerank(order, rank, newRank []int32, width int) (distinct int) {
	n := len(order)
	second := func(at int32) int32 { return rank[(int(at)+width)%n] }
	for i, at := range order {
		if i > 0 {
			if before := order[i-1]; rank[before] == rank[at] && second(before) == second(at) {
				newRank[at] = newRank[before]
				continue
			}
		}
		newRank[at] = int32(i)
		distinct++
	}
	return distinct
}
