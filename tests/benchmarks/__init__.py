"""resqued side by side with what RQ itself offers. Run by hand: tests/benchmarks/run."""
