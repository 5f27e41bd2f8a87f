"""PyTorch's peers at the baseline's shape: transformers' GPT-2 and x-transformers, to decode and to train with.

GPT-2 is the baseline to the last weight, so its logits are the baseline's; x-transformers has no biases in its
attention and is as large but for these.
"""

from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.decoding.round import Decode, random_model, served
from shortcut_gen.network.config import ModelConfig
from shortcut_gen.network.model import ShortcutLM


def gpt2(config: ModelConfig) -> Any:
    """transformers' GPT-2 of that shape, weights random, without dropout."""
    from shortcut_gen.codec import torchaudio_loader  # noqa: F401  transformers imports torchaudio; see there

    from transformers import GPT2Config, GPT2LMHeadModel  # isort: skip

    return GPT2LMHeadModel(
        GPT2Config(
            vocab_size=config.vocab_size,
            n_positions=config.context,
            n_embd=config.width,
            n_layer=config.layers,
            n_head=config.heads,
            n_inner=config.feedforward,
            activation_function="gelu_new",
            resid_pdrop=0.0,
            embd_pdrop=0.0,
            attn_pdrop=0.0,
            bos_token_id=None,
            eos_token_id=None,
        )
    )


@torch.no_grad()
def gpt2_of(model: ShortcutLM) -> Any:
    """The same with a baseline's weights."""
    other = gpt2(model.config).eval()
    state = model.state_dict()
    given = {"transformer.wte.weight": state["embedding.weight"], "lm_head.weight": state["embedding.weight"]}
    given["transformer.wpe.weight"] = state["positions.weight"]
    given |= {f"transformer.ln_f.{part}": state[f"norm.{part}"] for part in ("weight", "bias")}
    for number in range(model.config.layers):
        mine, its = f"blocks.{number}.", f"transformer.h.{number}."
        for part in ("weight", "bias"):
            given[f"{its}ln_1.{part}"] = state[f"{mine}attention_norm.{part}"]
            given[f"{its}ln_2.{part}"] = state[f"{mine}mlp_norm.{part}"]
            joined = torch.cat([state[f"{mine}attention.{name}.{part}"] for name in ("query", "keys_values")])
            # Its matrices stand the other way round.
            given[f"{its}attn.c_attn.{part}"] = joined.T if joined.dim() > 1 else joined
            for name, place in (("attn.c_proj", "attention.out"), ("mlp.c_fc", "mlp.up"), ("mlp.c_proj", "mlp.down")):
                value = state[f"{mine}{place}.{part}"]
                given[f"{its}{name}.{part}"] = value.T if value.dim() > 1 else value
    other.load_state_dict(given)
    return other


def x_transformer(config: ModelConfig) -> Any:
    """x-transformers' decoder of that shape, weights random."""
    from x_transformers import Decoder, TransformerWrapper

    return TransformerWrapper(
        num_tokens=config.vocab_size,
        max_seq_len=config.context,
        tie_embedding=True,
        attn_layers=Decoder(
            dim=config.width,
            depth=config.layers,
            heads=config.heads,
            attn_dim_head=config.width // config.heads,
            ff_mult=config.feedforward / config.width,
            attn_flash=True,
        ),
    )


@served
def transformers(config: ModelConfig, threads: int, device: str = "cpu") -> Decode:
    """GPT-2's own `generate`, in f32."""
    torch.set_num_threads(threads)
    model = gpt2_of(random_model(config)).to(device)

    @torch.inference_mode()
    def decode(prompts: list[list[int]], new: int, top_k: int, seed: int) -> list[list[int]]:
        torch.manual_seed(seed)
        ids = torch.tensor(prompts, device=device)  # (B, T)
        drawn = {"do_sample": True, "top_k": top_k, "temperature": 1.0} if top_k > 1 else {"do_sample": False}
        out: Tensor = model.generate(
            ids, attention_mask=torch.ones_like(ids), max_new_tokens=new, pad_token_id=0, **drawn
        )
        return out[:, ids.shape[1] :].tolist()

    return decode


@served
def x_transformers(config: ModelConfig, threads: int, device: str = "cpu") -> Decode:
    """x-transformers' own `generate`, in f32, with its cache."""
    from x_transformers import AutoregressiveWrapper

    torch.set_num_threads(threads)
    torch.manual_seed(0)
    model: nn.Module = AutoregressiveWrapper(x_transformer(config)).eval().to(device)

    @torch.inference_mode()
    def decode(prompts: list[list[int]], new: int, top_k: int, seed: int) -> list[list[int]]:
        torch.manual_seed(seed)
        out: Tensor = model.generate(
            torch.tensor(prompts, device=device),
            new,
            temperature=1.0 if top_k > 1 else 0.0,
            filter_logits_fn="top_k",
            filter_kwargs={"k": top_k},
            cache_kv=True,
        )
        return out.tolist()

    return decode
