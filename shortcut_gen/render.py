"""Score to sound."""

from shortcut_gen.media import Audio, Score


def render(score: Score, *, sample_rate: int = 44100) -> Audio:
    """Stereo sound of a score."""
    raise NotImplementedError


def renderer_name() -> str:
    """What renders here, in words."""
    raise NotImplementedError
