"""Model families: one row of data each, checked against the model that is loaded.

Nothing is guessed. A model whose family has no row is steered by naming the path of its blocks.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import nn

from grains.errors import GrainsError, did_you_mean
from grains.hooks import Heads


@dataclass(frozen=True, kw_only=True)
class Family:
    """What must be known of a family of causal language models.

    Args:
        name: what we call it.
        model_types: the values of transformers' `config.model_type` that belong to it.
        blocks: dotted path of the list of decoder blocks, from the causal language model down.
        embedding_width: the field of the config that holds the width of the input embeddings,
            where it may differ from the width of the residual stream.
        vision: dotted path of the list of the vision tower's blocks; empty without a tower.
        picture: what stands for a picture in a prompt; `{token}` is the processor's image token.
        token_types: the input that tells image tokens, by 1, from all others; empty if none does.
        heads: dotted path, from a block down, of the output projection of its attention, which is
            given the outputs of all heads side by side; empty where it may be bypassed.
        prefix: whether the prompt is a prefix in which every token sees every other one. It is then
            opened by BOS and closed by an end of line, and `token_type_ids` tells the answer, by 1.
    """

    name: str
    model_types: tuple[str, ...]
    blocks: str
    embedding_width: str = "hidden_size"
    vision: str = ""
    picture: str = "{token}"
    token_types: str = ""
    heads: str = "self_attn.o_proj"
    prefix: bool = False


FAMILIES: tuple[Family, ...] = (
    Family(name="llama", model_types=("llama",), blocks="model.layers"),
    Family(name="smollm3", model_types=("smollm3",), blocks="model.layers"),
    Family(name="granite", model_types=("granite",), blocks="model.layers"),
    Family(name="cohere", model_types=("cohere", "cohere2"), blocks="model.layers"),
    Family(name="mistral", model_types=("mistral",), blocks="model.layers"),
    Family(name="mixtral", model_types=("mixtral",), blocks="model.layers"),
    Family(name="qwen2", model_types=("qwen2",), blocks="model.layers"),
    Family(name="qwen2_moe", model_types=("qwen2_moe",), blocks="model.layers"),
    Family(name="qwen3", model_types=("qwen3",), blocks="model.layers"),
    Family(name="qwen3_moe", model_types=("qwen3_moe",), blocks="model.layers"),
    Family(name="gemma", model_types=("gemma",), blocks="model.layers"),
    Family(name="gemma2", model_types=("gemma2",), blocks="model.layers"),
    Family(name="gemma3", model_types=("gemma3_text",), blocks="model.layers"),
    Family(name="phi", model_types=("phi",), blocks="model.layers", heads="self_attn.dense"),
    Family(name="phi3", model_types=("phi3",), blocks="model.layers"),
    Family(name="gpt2", model_types=("gpt2",), blocks="transformer.h", heads="attn.c_proj"),
    Family(
        name="gpt_neox",
        model_types=("gpt_neox",),
        blocks="gpt_neox.layers",
        heads="attention.dense",
    ),
    Family(name="gptj", model_types=("gptj",), blocks="transformer.h", heads="attn.out_proj"),
    Family(
        name="opt",
        model_types=("opt",),
        blocks="model.decoder.layers",
        embedding_width="word_embed_proj_dim",  # 512 of 1024 in opt-350m: projected in and out
        heads="self_attn.out_proj",
    ),
    Family(
        name="falcon",
        model_types=("falcon",),
        blocks="transformer.h",
        heads="self_attention.dense",
    ),
    # With `slow_but_exact` bloom multiplies by parts of its projection's weights, past any hook.
    Family(name="bloom", model_types=("bloom",), blocks="transformer.h", heads=""),
    Family(name="mpt", model_types=("mpt",), blocks="transformer.blocks", heads="attn.out_proj"),
    Family(
        name="llava",
        model_types=("llava", "llava_next"),
        blocks="model.language_model.layers",
        vision="model.vision_tower.encoder.layers",
    ),
    Family(
        name="qwen_vl",
        model_types=("qwen2_vl", "qwen2_5_vl", "qwen3_vl"),
        blocks="model.language_model.layers",
        vision="model.visual.blocks",
        picture="<|vision_start|>{token}<|vision_end|>",
        token_types="mm_token_type_ids",
    ),
    Family(
        name="gemma3_vision",
        model_types=("gemma3",),
        blocks="model.language_model.layers",
        vision="model.vision_tower.encoder.layers",
        token_types="token_type_ids",
    ),
    Family(
        name="idefics3",
        model_types=("idefics3", "smolvlm"),
        blocks="model.text_model.layers",
        vision="model.vision_model.encoder.layers",
    ),
    Family(
        name="internvl",
        model_types=("internvl",),
        blocks="model.language_model.layers",
        vision="model.vision_tower.encoder.layer",
    ),
    Family(
        name="paligemma",
        model_types=("paligemma",),
        blocks="model.language_model.layers",
        vision="model.vision_tower.encoder.layers",
        prefix=True,
    ),
)

_CROSS_ATTENTION = (
    "its decoder reads pictures by cross-attention, so that there are no image tokens in the "
    "sequence to credit and mask"
)
REFUSED = {"mllama": _CROSS_ATTENTION, "idefics": _CROSS_ATTENTION}
"""Model types that cannot be steered here, and why."""


def family_of(model_type: str) -> Family | None:
    """Return the row of a `config.model_type`, or None if there is none.

    >>> family_of("gemma3_text").blocks
    'model.layers'
    """
    return next((family for family in FAMILIES if model_type in family.model_types), None)


def refuse_unfit(model_type: str, name: str) -> None:
    """Refuse a model whose pictures could not be credited.

    Raises:
        GrainsError: with the reason.
    """
    if model_type in REFUSED:
        fit = ", ".join(kind for row in FAMILIES if row.vision for kind in row.model_types)
        raise GrainsError(
            f"{name} is of the type {model_type!r}: {REFUSED[model_type]}; wanted one of {fit}"
        )


def find_blocks(model: Any, path: str | None = None) -> tuple[str, nn.ModuleList]:
    """Return the dotted path and the list of a model's decoder blocks.

    Args:
        model: a causal language model of transformers.
        path: where the blocks are, for a family without a row. It is checked like a row.

    Raises:
        GrainsError: if the family is unknown and no path is given, or if what is found there is not
            a list of as many blocks, of the width, that the config tells.
    """
    config = model.config.get_text_config()
    kind = model.config.model_type
    family = family_of(kind)
    if path is None:
        if family is None:
            known = [name for row in FAMILIES for name in row.model_types]
            raise GrainsError(
                f'no model family has the type {kind!r}; name its blocks by blocks="path.to.layers"'
                f"{_suggestion(model)}. Known types: {did_you_mean(kind, known)}"
            )
        path = family.blocks
    blocks = _submodule(model, path)
    if not isinstance(blocks, nn.ModuleList):
        found = "nothing" if blocks is None else f"a {type(blocks).__name__}"
        raise GrainsError(
            f"{type(model).__name__} has {found} at blocks={path!r}; wanted a ModuleList of its "
            f"{config.num_hidden_layers} decoder blocks{_suggestion(model)}"
        )
    if len(blocks) != config.num_hidden_layers:
        raise GrainsError(
            f"{type(model).__name__} has {len(blocks)} modules at blocks={path!r}; wanted the "
            f"{config.num_hidden_layers} decoder blocks of its config{_suggestion(model)}"
        )
    field = family.embedding_width if family else "hidden_size"
    width, wanted = model.get_input_embeddings().weight.shape[-1], getattr(config, field)
    if width != wanted:
        raise GrainsError(
            f"{type(model).__name__} has input embeddings of width {width}; wanted the {wanted} "
            f"that its config gives as {field}"
        )
    return path, blocks


def find_vision_blocks(model: Any) -> nn.ModuleList | None:
    """Return the list of a model's vision tower's blocks; None where its row names no tower.

    Raises:
        GrainsError: if what is found is not a list of as many blocks as the config tells.
    """
    family = family_of(model.config.model_type)
    if family is None or not family.vision:
        return None
    config = model.config.vision_config
    count = getattr(config, "num_hidden_layers", None) or config.depth
    blocks = _submodule(model, family.vision)
    if not isinstance(blocks, nn.ModuleList) or len(blocks) != count:
        length = f" of {len(blocks)}" if isinstance(blocks, nn.ModuleList) else ""
        raise GrainsError(
            f"{type(model).__name__} has a {type(blocks).__name__}{length} at {family.vision!r}; "
            f"wanted the {count} blocks of its vision tower"
        )
    return blocks


def find_heads(model: Any, blocks: nn.ModuleList) -> Heads | None:
    """Return a model's attention heads; None where its row names no projection that joins them.

    Raises:
        GrainsError: if what is found does not join as many heads as the config tells.
    """
    family = family_of(model.config.model_type)
    found = [_submodule(block, family.heads) for block in blocks] if family else []
    projections = [module for module in found if module is not None]
    if family is None or not family.heads or len(projections) < len(blocks):
        return None
    count = model.config.get_text_config().num_attention_heads
    # transformers' `Conv1D`, which is GPT-2's, has its weights the other way round.
    widths: set[Any] = {getattr(one, "in_features", None) or one.nx for one in projections}
    width = min(widths)
    if len(widths) > 1 or width % count:
        raise GrainsError(
            f"{type(model).__name__} has projections of {sorted(widths)} inputs at "
            f"{family.heads!r} of its blocks; wanted one multiple of its {count} heads"
        )
    return Heads(projections, count, width // count)


def vision_width(config: Any) -> int:
    """Return the width of a vision tower's blocks; `config` is the whole model's."""
    tower = config.vision_config
    # Qwen2-VL's hidden_size is what the tower hands on: the decoder's.
    return getattr(tower, "embed_dim", None) or tower.hidden_size


def _submodule(model: nn.Module, path: str) -> nn.Module | None:
    try:
        return model.get_submodule(path)
    except AttributeError:
        return None


def _suggestion(model: Any) -> str:
    """Name the lists that are as long as the config says: for the reader to choose from."""
    count = model.config.get_text_config().num_hidden_layers
    paths = [
        path
        for path, module in model.named_modules()
        if isinstance(module, nn.ModuleList) and len(module) == count
    ]
    return f" (lists of {count} modules here: {', '.join(map(repr, paths))})" if paths else ""
