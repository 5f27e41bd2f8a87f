"""Those who mean harm, without browsers: what `benchmarks.hostile` sends, and what it watches meanwhile."""
