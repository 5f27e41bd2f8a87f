"""Where the checkpoints that come with the project lie, from whichever folder it is called."""

from pathlib import Path

NAME = "checkpoints"


def checkpoints() -> Path:
    """The folder of checkpoints: the one here, else that of the checkout, else that of the installed package.

    Where there is none it is the one that would be here, so that whoever opens it says what is missing.
    """
    here, package = Path(NAME), Path(__file__).resolve().parent
    if here.is_dir():
        return here
    return next((folder for folder in (package.parent / NAME, package / NAME) if (folder / "piano").is_dir()), here)
