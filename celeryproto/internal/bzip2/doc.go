// Package bzip2 compresses data to the bzip2 format, which the standard library
// only reads. Blocks are 900 kB, as Python's bz2.compress makes them. The cost
// does not depend on what the data are: sorting takes O(n log n).
//
// # Source
//
// The format has no standard; this is what bzip2 1.0.8 reads (compress.c,
// decompress.c, huffman.c).
package bzip2
