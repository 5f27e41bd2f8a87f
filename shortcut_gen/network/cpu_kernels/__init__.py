"""What PyTorch is slow at in training on a CPU, in C++: attention, GELU, SwiGLU's product and rotary positions.

Optional, as the compiler is. Scores of attention are never stored, forward or backward.
"""

from shortcut_gen.network.cpu_kernels.functions import gated, gelu, native_attention, rotated, takes
from shortcut_gen.network.cpu_kernels.library import LEVELS, problem

__all__ = ["LEVELS", "gated", "gelu", "native_attention", "problem", "rotated", "takes"]
