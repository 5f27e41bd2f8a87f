"""Example prompts: openings of works in the public domain, written out and performed by `ui.examples.make`."""
