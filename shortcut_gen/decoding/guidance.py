"""Guidance: a continuation that holds to its prompt more than the model would by itself.

Each guided row has a twin that has read the last moments of the prompt alone, and then the same ids. Where the two
differ, the prompt spoke; the logits go further that way (classifier-free guidance, arXiv 2207.12598, of language
models arXiv 2306.17806): l + g * (l - l_twin), g being `SamplingParams.guidance`. It costs a second row.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from shortcut_gen.decoding.depth import Seen, surprises
from shortcut_gen.decoding.engines import Decoding, DrawsGuided, Engine, Looking
from shortcut_gen.decoding.sampling import Settings


class _Guide(NamedTuple):
    """How a row is guided."""

    guidance: float = 0.0
    window: Sequence[int] = ()
    """What its twin reads."""
    behind: int = 0
    """Tokens that the row has read when its twin does."""


class GuidedDecoding:
    """Streams that are decoded side by side, some of them guided: a `Looking` decoding, of any engine's.

    The twins have caches of their own, made with the first guided row. Rows that are not guided have the numbers they
    would have without this class, and cost the same.
    """

    def __init__(self, engine: Engine, batch: int) -> None:
        self._engine = engine
        self._batch = batch
        self._own = engine.decoding(batch)
        self._guiding = self._own if isinstance(self._own, DrawsGuided) else None
        self._twins: Decoding | None = None
        self._guides = [_Guide()] * batch
        self.plain: Tensor | None = None
        """Logits of the last `read`, `read_all` or `step` before guidance, (rows, V); the next overwrites them."""
        self.seen: Seen | None = None

    @property
    def lengths(self) -> Sequence[int]:
        """Tokens that each row's cache holds."""
        return self._own.lengths

    @property
    def piece(self) -> int:
        """Tokens that may be read at a time where a window is read in pieces, at most."""
        return self._own.piece

    @property
    def near(self) -> int:
        """Positions that the rows of a step may hold together and stay in the processor's caches."""
        return self._own.near

    def look(self, row: int, *, watched: bool, gains: Sequence[float] = ()) -> None:
        """Whether a row is watched from now on, and its taps' gains."""
        if isinstance(self._own, Looking):
            self._own.look(row, watched=watched, gains=gains)

    def guide(
        self, row: int, guidance: float, window: Sequence[int], behind: int, *, gains: Sequence[float] = ()
    ) -> None:
        """How a row is guided from now on, by 0 not at all. Its twin, with its own taps' gains, reads `window` when the
        row has read so many tokens as `behind`."""
        self._guides[row] = _Guide(guidance, window, behind)
        if not guidance:
            return
        if self._twins is None:
            self._twins = self._engine.decoding(self._batch)
        if isinstance(self._twins, Looking):
            self._twins.look(row, watched=False, gains=gains)

    def read(self, row: int, tokens: Sequence[int], *, start: int = 0) -> Tensor:
        """Read tokens into a row behind its first `start`. Logits, (1, V): guided behind the last token of a window."""
        logits = self._own.read(row, tokens, start=start)
        self.seen, self.plain = _seen(self._own), logits
        guide = self._guides[row]
        if guide.guidance and start + len(tokens) == guide.behind:
            logits = self._guided(logits, [row], [0], self._read_twin(row))
        return logits

    def read_all(self, rows: Sequence[int], windows: Sequence[Sequence[int]]) -> Tensor:
        """`read` of several rows, one after the other. Logits, (rows, V)."""
        logits = self._own.read_all(rows, windows)
        self.seen, self.plain = _seen(self._own), logits
        if places := self._places(rows):
            twins = torch.cat([self._read_twin(rows[place]) for place in places])
            logits = self._guided(logits, rows, places, twins)
        return logits

    def _places(self, rows: Sequence[int]) -> list[int]:
        """Where among some rows those are that are guided."""
        return [place for place, row in enumerate(rows) if self._guides[row].guidance]

    def _read_twin(self, row: int) -> Tensor:
        assert self._twins is not None
        return self._twins.read(row, self._guides[row].window).clone()

    def copy(self, row: int, twin: int) -> None:
        """Make a row hold what another holds, and be guided as it is."""
        self._own.copy(row, twin)
        self._guides[row] = self._guides[twin]
        if self._guides[row].guidance and self._twins is not None:
            self._twins.copy(row, twin)

    def keep(self, rows: Sequence[int]) -> None:
        """Go on with some of the rows alone, in that order."""
        self._own.keep(rows)
        if self._twins is not None:
            self._twins.keep(rows)
        self._batch = len(rows)
        self._guides = [self._guides[row] for row in rows]

    def step(self, tokens: Sequence[int], rows: Sequence[int] | None = None) -> Tensor:
        """Read one token in each of `rows`. Logits, (rows, V)."""
        logits = self._own.step(tokens, rows)
        self.seen, self.plain = _seen(self._own), logits
        rows = range(self._batch) if rows is None else rows
        if places := self._places(rows):
            logits = self._guided(logits, rows, places, self._step_twins(tokens, rows, places)[1])
        return logits

    def draw(
        self,
        tokens: Sequence[int],
        masks: Sequence[Tensor | None],
        params: Settings,
        uniforms: Sequence[float],
        rows: Sequence[int] | None = None,
    ) -> list[int]:
        """`step`, and the next id of each of these rows as `Engine.choose` chooses it."""
        among = range(self._batch) if rows is None else rows
        places = self._places(among)
        if not places:
            drawn = self._own.draw(tokens, masks, params, uniforms, rows)
        elif self._guiding is None:
            drawn = self._engine.choose(self.step(tokens, rows), masks, params, uniforms)
            if self.seen is not None and self.plain is not None:
                logits = self.plain.float().cpu()
                self.seen = self.seen._replace(surprise=surprises(logits.logsumexp(dim=-1), logits, drawn))
            return drawn
        else:
            # Two calls in place of a dozen, at each of which other threads come between.
            twins = self._step_twins(tokens, among, places)[0]
            guidance = {place: self._guides[among[place]].guidance for place in places}
            drawn = self._guiding.draw_guided(tokens, masks, params, uniforms, rows, twins, guidance)
        self.seen = _seen(self._own)
        return drawn

    def _step_twins(self, tokens: Sequence[int], rows: Sequence[int], places: Sequence[int]) -> tuple[Decoding, Tensor]:
        """The twins of the rows at these places read the same tokens. Returns them and their logits, (places, V)."""
        assert self._twins is not None
        return self._twins, self._twins.step([tokens[place] for place in places], [rows[place] for place in places])

    @torch.inference_mode()
    def _guided(self, logits: Tensor, rows: Sequence[int], places: list[int], twins: Tensor) -> Tensor:
        """Logits with those at some places moved away from their twins'."""
        moved = logits.clone()
        guidance = torch.tensor(
            [[self._guides[rows[place]].guidance] for place in places], device=logits.device, dtype=logits.dtype
        )
        moved[places] += guidance * (logits[places] - twins)
        return moved


def _seen(decoding: Decoding) -> Seen | None:
    seen: Seen | None = getattr(decoding, "seen", None)
    return seen
