"""torchaudio, importable beside a torch without CUDA.

torchaudio's wheels link a CUDA library, and where torch is a CPU build its extension fails to load with an OSError that
takes `import torchaudio`, and `import encodec`, with it. The transforms used here are plain torch: the extension may
stay away. Nothing changes where it loads.
"""

import importlib.util
import sys
from pathlib import Path
from typing import Any

_UTILS = "torchaudio._extension.utils"


def allow_missing_extension() -> None:
    """Make `import torchaudio` survive an extension that cannot be loaded; call it before the import."""
    if "torchaudio" in sys.modules or _UTILS in sys.modules:
        return
    found = importlib.util.find_spec("torchaudio")
    if found is None or not found.submodule_search_locations:
        return
    path = Path(next(iter(found.submodule_search_locations))) / "_extension" / "utils.py"
    spec = importlib.util.spec_from_file_location(_UTILS, path)
    if spec is None or spec.loader is None or not path.is_file():
        return
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    load = getattr(module, "_load_lib", None)
    if load is None:  # another version, which may need none of this
        return

    def load_if_possible(*arguments: Any) -> bool:
        try:
            return bool(load(*arguments))
        except OSError:
            return False

    vars(module)["_load_lib"] = load_if_possible
    sys.modules[_UTILS] = module


allow_missing_extension()

import torchaudio  # noqa: E402

__all__ = ["torchaudio"]
