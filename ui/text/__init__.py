"""All that a user reads or hears read aloud on the page, in one place, for whoever translates or edits it.

Constants and small functions that format a line, a module a part of the page; they know nothing of the rest of `ui`.
`script` has the words of the page's JavaScript, which `ui.app` hands over when the page is built. Messages of the
library (`shortcut_gen`) are its own, as are what the command line and programs are told (`ui.__main__`, `ui.api`,
`ui.harp`, `ui.programs`) and why a request is turned away (`ui.guard`, `ui.bodies`).
"""
