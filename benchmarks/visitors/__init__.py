"""People who use the page, without browsers: what `benchmarks.crowd` and `benchmarks.sessions` share."""
