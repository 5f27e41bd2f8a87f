"""What PyTorch is slow at in training on a CPU, in C++: attention and GELU. Optional, as the compiler is.

Scores of attention are never stored, forward or backward.
"""

from shortcut_gen.network.cpu_kernels.functions import gelu, native_attention, takes
from shortcut_gen.network.cpu_kernels.library import LEVELS, problem

__all__ = ["LEVELS", "gelu", "native_attention", "problem", "takes"]
