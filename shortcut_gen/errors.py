"""The errors a user can cause. Each carries one line: what was given and what is needed."""

MOST = 600
"""Characters of a line: what a damaged file says of itself may be as long as it likes."""


class ShortcutGenError(Exception):
    """Base of every error this project raises on purpose; its text is shown to the user as it is, so it is one line."""

    def __init__(self, *values: object) -> None:
        super().__init__(*(_line(value) if isinstance(value, str) else value for value in values))


def _line(text: str) -> str:
    line = " ".join(text.splitlines())
    return line if len(line) <= MOST else f"{line[: MOST * 2 // 3]} … {line[-MOST // 4 :]}"


class ConfigError(ShortcutGenError, ValueError):
    """A model configuration that cannot be built, such as a width no number of heads divides."""


class SettingsError(ShortcutGenError, ValueError):
    """A sampling, length or command setting outside its range."""


class MediaError(ShortcutGenError):
    """A file that cannot be read as what it should be, or cannot be written."""


class PromptError(ShortcutGenError):
    """A readable prompt that cannot be continued: empty, too short, too long."""


class CheckpointError(ShortcutGenError):
    """A checkpoint folder that is missing, damaged or does not match its config."""


class CodecError(ShortcutGenError):
    """A codec that is unavailable, or that is not the one its codes were made with."""


class DataError(ShortcutGenError):
    """A corpus, shard or manifest that is missing, damaged or of another tokenizer."""


class ClusterError(ShortcutGenError):
    """A cluster that cannot be reached, whose machines differ, or that fails."""
