"""The files that pages could ask a server for."""

from pathlib import Path

from ui.sessions import Sessions


def results_of(sessions: Sessions, suffix: str) -> list[Path]:
    """Those of the runs that pages show, made now where they were not yet; with a suffix, no new parts alone."""
    runs = [each for run in sessions._runs.values() for each in (run, *run.older)]
    results = [result for run in runs for result in run.results.values()]
    wanted = [each for each in results if each.name.endswith(suffix) and not (suffix and "-new" in each.name)]
    return sorted(result.path() for result in wanted)
