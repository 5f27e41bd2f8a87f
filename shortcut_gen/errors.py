"""The errors a user can cause. Each carries one line: what was given and what is needed."""


class ShortcutGenError(Exception):
    """Base of every error this project raises on purpose; its text is shown to the user as it is."""


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
