"""What the server holds for each open page: the last run of every tab, with a flag to stop it and its results."""

import atexit
import secrets
import shutil
import threading
import time
from collections import Counter
from collections.abc import Sequence

from shortcut_gen.pipeline import Continuation
from ui.folders import Folders, Prompts
from ui.live import LiveSound
from ui.results import Made, Result
from ui.runs import PROGRAM, Admission, Lapsed, Missing, Run, Watch

RUNS_AT_ONCE = 8
"""Over all tabs. They share the batch of their model, so that none waits for another's length."""
WAITING_RUNS = 200
"""Runs that wait for their turn at most; one more is refused."""
RUNS_OF_BROWSER = 4
"""Runs of one browser's pages that compute or wait at most: each holds one of its six connections to this server."""
OPEN_SECONDS = 90.0
"""For which a page is taken to be open that has said so: one out of sight may speak once a minute."""
TAKEN_WITHIN = 15.0
"""Seconds for which a place is held for a page of which nothing is heard any more."""
REFUSED = "refused"
"""In place of a run's token."""
KEEP_RUNS = 96
"""Tabs of pages whose steps are kept; the one unused for longest goes first."""
KEEP_STEPS = 200
"""Steps of one of them that are kept: ids and drawings, under 1 MB each."""
MADE_BYTES = 2 * 1024**3
"""Of files that were made from them; those unused for longest are made again when they are asked for."""
KEEP_PROGRAMS = 8
"""Runs for programs whose results are kept; a program fetches its files at once."""
END_SECONDS = 3.0
"""What a run that is stopped may take to end when the server does."""
GRACE_SECONDS = 600.0
"""How long the results of a closed page stay: a laptop that slept comes back to them."""
UNHEARD_SECONDS = 90.0
"""How long sound stays of which nobody asks for the rest: a page asks every second, one out of sight every minute."""
KEEP_SECONDS = 24 * 3600.0
"""How long those of a page stay that never said that it was closed."""


class Sessions:
    """The last run of every tab of every open page of one server, by the session hash that Gradio gives a page."""

    watch = Watch()
    """Is told of runs."""
    most_seconds: float | None = None
    """How long a run can go on at most, where that is less than a tab's own limit."""
    parting = ""
    """What is said to whoever has a run when the server ends before it is done."""
    draining = False
    """No run is taken any more; those that were are made."""

    def __init__(
        self,
        runs: int = RUNS_AT_ONCE,
        waiting: int | None = None,
        of_client: int | None = None,
        made_bytes: int = MADE_BYTES,
    ) -> None:
        """runs: that compute at a time. waiting: how many wait at most, WAITING_RUNS of them if not said. of_client:
        how many of one client compute or wait at a time; None is no limit. made_bytes: of results that are kept.
        """
        self.runs, self.of_client = runs, of_client
        self._waiting = waiting
        self.files = Folders()
        self.prompts = Prompts(self.files.results)
        self._runs: dict[tuple[str, str], Run] = {}
        self.made = Made(made_bytes)
        self._shown: dict[tuple[str, str], int] = {}
        """The number of the step that a page shows."""
        self._alive: dict[str, float] = {}
        """When an open page last said that it is."""
        self._lapsed = Lapsed()
        self.over = False
        self._lock = threading.Lock()
        atexit.register(self.clear)

    @property
    def most_waiting(self) -> int:
        """Runs that wait at most."""
        return WAITING_RUNS if self._waiting is None else self._waiting

    def ask(self, page: str, tab: str = "", browser: str = "", client: str = "") -> tuple[Admission, str, int]:
        """A place for a run of a tab; the run before it is stopped. Returns also the token by which `start_run` takes
        it, and how many runs wait before it.
        """
        key = (page, tab)
        with self._lock:
            others = [run for other, run in self._runs.items() if other != key and self._takes(other[0], run)]
            full = self._is_full(client, others) or self.draining
            others = [run for run in others if run.browser != PROGRAM]
            of_browser = sum(run.browser == browser for run in others) if browser else 0
            if full or len(others) >= self.runs + self.most_waiting or of_browser >= RUNS_OF_BROWSER:
                self.watch.refused(tab)
                return Admission.REFUSED, REFUSED, 0
            run = self._new_run(key)
            run.browser, run.client = browser, client
            before = max(len(others) - self.runs, 0)
            waits = len(others) >= self.runs
            return Admission.WAITS if waits else Admission.SERVED, run.folder.name, before

    def _is_full(self, client: str, others: Sequence[Run]) -> bool:
        """Whether a client has all the places that it may have, by the runs that take one."""
        return bool(client and self.of_client and sum(run.client == client for run in others) >= self.of_client)

    def _takes(self, page: str, run: Run) -> bool:
        """Whether a run takes a place: it computes, or it waits and its page is there to take it."""
        if run.ended or not run.asked:
            return not run.ended
        young = time.monotonic() - run.asked_at < TAKEN_WITHIN
        return not run.stop.is_set() and (young or self._is_open(page))

    def alive(self, page: str) -> None:
        """A page says that it is open."""
        now = time.monotonic()
        with self._lock:
            self._alive = {each: at for each, at in self._alive.items() if now - at < OPEN_SECONDS} | {page: now}
            for key, run in self._runs.items():
                if key[0] == page:
                    run.closed_at, run.heard_at = None, now  # it may have been left, and come back to

    def _is_open(self, page: str) -> bool:
        return time.monotonic() - self._alive.get(page, -OPEN_SECONDS) < OPEN_SECONDS

    def start_run(self, page: str, tab: str = "", token: str | None = None, client: str = "") -> Run | None:
        """The run of the place that was asked for, or a new one without a token.

        None where the place was refused or given up, or another click of the page took it, or the server ends, or the
        client has all that it may have. A page that was not heard of while it waited has lost its place, and is served
        all the same if it is there when its turn comes.
        """
        key = (page, tab)
        with self._lock:
            if self.over or (self.draining and not token):
                return None
            if not token:
                others = [run for other, run in self._runs.items() if other != key and self._takes(other[0], run)]
                if self._is_full(client, others):
                    return None
            run = self._runs.get(key) if token else self._new_run(key)
            if run is None and token and (browser := self._lapsed.take(key, token)) is not None:
                run = self._new_run(key, browser, token)
            if run is None or (token and run.folder.name != token):
                return None
            run.client = client or run.client
            run.asked = False
            run.ended = run.stop.is_set()  # stopped while it waited
            return None if run.ended else run

    def start_program(self, page: str, client: str = "") -> Run | None:
        """A run for a program's session, beside what else it has; None where the server ends."""
        with self._lock:
            if self.over:
                return None
            run = self._new_run((page, secrets.token_hex(8)), PROGRAM)
            run.asked, run.client = False, client
            return run

    def drop(self, run: Run) -> None:
        """A run that came to nothing: its files go at once."""
        run.failed = True
        with self._lock:
            for key in [key for key, other in self._runs.items() if other is run]:
                self._discard(key)

    def _new_run(self, key: tuple[str, str], browser: str = "", token: str = "") -> Run:
        """Its predecessor is stopped, and stays among its older ones where it has made something.

        token: of the place that it had; a new one if not said.
        """
        self._sweep(key, browser == PROGRAM)
        before = self._runs.pop(key, None)
        if before is not None:
            before.stop.set()
            before.sound.forget()  # nobody is to hear it any more
        older = [] if before is None else [before, *before.older]
        kept = [each for each in older if each.made]
        for each in older:
            if not each.made:
                shutil.rmtree(each.folder, ignore_errors=True)
        # An unguessable name: whoever has not been given the address of a file cannot ask for it.
        run = Run(self.files.results / (token or secrets.token_hex(16)), kept)
        run.number = kept[0].number + 1 if kept else 1
        run.folder.mkdir(parents=True)
        run.browser = browser
        run.tab = key[1]
        run.sound.first = lambda: self.watch.sounded(run)
        self._runs[key] = run  # last in the order, so the oldest is first to go
        return run

    def end_run(self, run: Run) -> None:
        """It computes no more; its results stay."""
        if not run.ended:
            run.ended = True
            self.watch.ended(run)

    def live(self, token: str) -> LiveSound | None:
        """The sound of the run of that token, as long as it is kept."""
        with self._lock:
            return next((run.sound for run in self._runs.values() if run.folder.name == token), None)

    def run_of(self, token: str) -> Run | None:
        """The run of that token, as long as it is kept."""
        with self._lock:
            runs = (each for run in self._runs.values() for each in (run, *run.older))
            return next((run for run in runs if run.folder.name == token), None)

    def finish_step(self, run: Run, made: Sequence[Continuation], drawing: str) -> None:
        """A run is done: it becomes its page's newest step, and the one that is shown. The oldest make room."""
        with self._lock:
            run.made, run.drawing = tuple(made), drawing
            run.making = ()
            for key in [key for key, other in self._runs.items() if other is run]:  # maybe not the page that began it
                self._shown[key] = run.number
            while len(run.older) >= KEEP_STEPS:
                shutil.rmtree(run.older.pop().folder, ignore_errors=True)

    def add(self, page: str, tab: str, browser: str) -> Run | None:
        """A step that is there already, such as one of a file; None where the server ends."""
        with self._lock:
            if self.over:
                return None
            run = self._new_run((page, tab))
            run.browser, run.asked, run.ended = browser, False, True
            while len(run.older) >= KEEP_STEPS:
                shutil.rmtree(run.older.pop().folder, ignore_errors=True)
            return run

    def beside(self, run: Run) -> list[Run]:
        """The steps of the page that has a run, itself among them, in the order in which they were made."""
        with self._lock:
            for newest in self._runs.values():
                if run is newest or run in newest.older:
                    return [each for each in reversed([newest, *newest.older]) if each.made]
            return []

    def busy(self, page: str, tab: str) -> bool:
        """Whether a run of the tab waits or goes on."""
        with self._lock:
            run = self._runs.get((page, tab))
            return run is not None and not run.ended and not run.stop.is_set()

    def steps(self, page: str, tab: str = "") -> list[Run]:
        """The page's steps, in the order in which they were made."""
        with self._lock:
            run = self._runs.get((page, tab))
            return [each for each in reversed([run, *run.older]) if each.made] if run else []

    def shown(self, page: str, tab: str = "") -> Run | None:
        """The step that the page shows."""
        number = self._shown.get((page, tab))
        return next((step for step in self.steps(page, tab) if step.number == number), None)

    def show(self, page: str, tab: str, step: Run) -> None:
        """The page shows that step from now on."""
        self._shown[page, tab] = step.number

    def adopt(self, page: str, browser: str, tab: str = "") -> bool:
        """A page that is new takes the steps of the last one of its browser that is closed: it was reloaded.

        Whether it is worth asking again: the page before may still seem to be open, as browsers close late.
        """
        with self._lock:
            if (page, tab) in self._runs or not browser:
                return False
            mine = [key for key, run in self._runs.items() if key[1] == tab and run.browser == browser]
            for key in reversed(mine):
                if not self._is_open(key[0]):
                    run = self._runs[page, tab] = self._runs.pop(key)
                    self._shown[page, tab] = self._shown.pop(key, 0)
                    run.stop.set()  # nobody looks at it any more
                    run.closed_at = None
                    return False
            return bool(mine)

    def missing(self, page: str, tab: str, token: str | None) -> Missing:
        """Why there is no run of a place."""
        key = (page, tab)
        with self._lock:
            run = self._runs.get(key)
            if token == REFUSED or (run is not None and run.folder.name != token):
                return Missing.TOLD
            back = run is not None or self._lapsed.knows(key, token or "")
            return Missing.GIVEN_BACK if back else Missing.GONE

    def stop(self, page: str, tab: str = "") -> bool:
        """The tab's run is to end and keep what it has. Whether it had begun."""
        with self._lock:
            run = self._runs.get((page, tab))
            if run is None:
                return False
            run.stop.set()
            return not run.asked

    def outcome(self, page: str, tab: str = "") -> str:
        """What the tab's last run came to; "" as long as it goes on, or where there is none."""
        with self._lock:
            run = self._runs.get((page, tab))
            return run.outcome if run else ""

    def load(self) -> tuple[int, int]:
        """Runs that are made, and runs that wait for a place; those of programs among them."""
        with self._lock:
            taken = [run for key, run in self._runs.items() if self._takes(key[0], run)]
            return sum(not run.asked for run in taken), sum(run.asked for run in taken)

    def hand_back(self, parting: str) -> None:
        """Every run is to end with what it has; whoever asked for one is told why."""
        with self._lock:
            self.parting, self.draining = parting, True
            for run in self._runs.values():
                run.stop.set()

    def sweep(self) -> None:
        """Results of pages that were closed, or not heard of for long, go."""
        now = time.monotonic()
        with self._lock:
            late = [
                key
                for key, run in self._runs.items()
                if (run.closed_at is not None and now - run.closed_at > GRACE_SECONDS)
                or (now - max(run.heard_at, run.asked_at) > KEEP_SECONDS and not self._takes(key[0], run))
            ]
            for key in late:
                self._discard(key)

    def tidy(self, upload_seconds: float, temporary_seconds: float) -> None:
        """What is older goes, whether or not anyone asks for anything."""
        self.sweep()
        with self._lock:
            for run in self._runs.values():
                run.sound.forget_unheard(UNHEARD_SECONDS)
        self.files.tidy(upload_seconds, temporary_seconds)

    def stop_all(self) -> None:
        """Every run is to end, and no other begins: the server ends. Waits a while for those that compute."""
        with self._lock:
            self.over = True
            for run in self._runs.values():
                run.stop.set()
                run.sound.close()
        until = time.monotonic() + END_SECONDS
        while time.monotonic() < until and any(not run.ended and not run.asked for run in list(self._runs.values())):
            time.sleep(0.02)

    def result(self, token: str, name: str) -> Result | None:
        """A file of the run, or the prompt, of that token."""
        with self._lock:
            runs = (each for run in self._runs.values() for each in (run, *run.older))
            found = (each.results.get(name) for each in runs if each.folder.name == token)
            return self.prompts.find(token, name) or next(found, None)

    def close(self, page: str) -> None:
        """The page was closed: its runs end, their results go a while later."""
        with self._lock:
            self._alive.pop(page, None)
            for key, run in self._runs.items():
                if key[0] == page:
                    run.stop.set()
                    run.sound.close()
                    run.sound.forget()
                    run.closed_at = time.monotonic()

    def clear(self) -> None:
        """Everything goes; the server ends."""
        with self._lock:
            for key in list(self._runs):
                self._discard(key)
            self.files.clear()
        atexit.unregister(self.clear)

    def _sweep(self, keep: tuple[str, str], program: bool) -> None:
        """Pages' runs and programs' are counted apart: neither pushes the other's results out."""
        now = time.monotonic()
        alike = {key: run for key, run in self._runs.items() if (run.browser == PROGRAM) == program}
        over = len(alike) + (keep not in alike) - (KEEP_PROGRAMS if program else KEEP_RUNS)
        others = [(key, run) for key, run in alike.items() if key != keep]
        spare = [(key, run.client) for key, run in others if program or not self._takes(key[0], run)]
        late = [key for key, run in others if run.closed_at is not None and now - run.closed_at > GRACE_SECONDS]
        held = Counter(run.client for run in alike.values())
        while over > 0 and spare:
            # Of whoever has most, the one unused for longest: nobody pushes all others' out.
            first = max(spare, key=lambda each: held[each[1]])
            spare.remove(first)
            held[first[1]] -= 1
            late.append(first[0])
            over -= 1
        for key in set(late):
            self._discard(key)

    def _discard(self, key: tuple[str, str]) -> None:
        self._shown.pop(key, None)
        if run := self._runs.pop(key, None):
            if run.asked:
                self._lapsed.note(key, run)
            run.stop.set()
            run.sound.close()
            for each in (run, *run.older):
                shutil.rmtree(each.folder, ignore_errors=True)
