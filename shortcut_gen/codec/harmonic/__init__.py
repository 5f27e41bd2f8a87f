"""A speech codec for 16 kHz whose decoder shapes a harmonic source and noise; a processor can train it."""
