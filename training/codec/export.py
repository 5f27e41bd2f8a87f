"""A codec folder of a run of `training.fit_codec`; `training.export` calls it where the run is one."""

from pathlib import Path
from typing import Any

from shortcut_gen.codec.folder import CodecInfo, save_codec
from shortcut_gen.codec.harmonic.config import HarmonicConfig
from shortcut_gen.codec.harmonic.network import HarmonicNetwork
from shortcut_gen.errors import CheckpointError
from training.cards.codec import write_codec_card


def export_codec(path: Path, state: dict[str, Any], folder: Path) -> None:
    """Write config.json, model.safetensors and a card from a run's state, read from `path`. Raises CheckpointError."""
    about = state["run"]
    config = HarmonicConfig.from_dict(about["codec"])
    codec = HarmonicNetwork(config)
    try:
        codec.load_state_dict(state["state_dict"]["codec"])
    except RuntimeError as error:
        raise CheckpointError(f"{path}: its weights do not fit its codec: {str(error).splitlines()[-1]}") from error
    corpus = dict(about["corpus"])
    recipe = {key: value for key, value in about.items() if key not in ("codec", "corpus")} | about.get("spent", {})
    info = CodecInfo(
        config=config, architecture="harmonic", corpus=corpus, recipe=recipe, licence=corpus.get("licence", "")
    )
    save_codec(folder, codec, info)
    write_codec_card(folder, info)
    print(f"{folder}: {about['parameters']:,} parameters after step {state['step']:,}")
