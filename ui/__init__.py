"""The demo: a page that continues a prompt. `python -m ui`."""
