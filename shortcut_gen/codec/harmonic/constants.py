"""Tables that are made once."""

from collections.abc import Callable
from functools import cache, wraps
from typing import ParamSpec, TypeVar

import torch

P = ParamSpec("P")
R = TypeVar("R")


def constant(make: Callable[P, R]) -> Callable[P, R]:
    """A function of tensors, called once for each of its arguments: training may need what inference made first."""

    @cache
    @wraps(make)
    def made(*args: P.args, **kwargs: P.kwargs) -> R:
        with torch.inference_mode(False):
            return make(*args, **kwargs)

    return made  # type: ignore[return-value]
