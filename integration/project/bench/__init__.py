"""What the benchmarks need of the site: a signal whose queue nobody consumes, and many windows at once."""
