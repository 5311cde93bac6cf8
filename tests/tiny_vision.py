"""Tiny random vision-language models, one for every row of the family table that has a tower.

Each comes with the processor of its family, made in code: pictures of any size, no file, no hub.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import torch
import transformers
from PIL import Image
from tokenizers import Tokenizer
from transformers import (
    AutoConfig,
    AutoModelForImageTextToText,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)

from grains.models import SteerableModel
from grains.models.processors import image_only
from tests.tiny import WIDTH, tiny_tokenizer

LAYERS = 2
VOCABULARY = 448
SIDE, PATCH = 28, 7  # of the picture that a tower sees, and of a patch

_CHAT = (
    "{% for message in messages %}<|{{ message['role'] }}|>\n{% for part in message['content'] %}"
    "{% if part['type'] == 'text' %}{{ part['text'] }}{% else %}IMAGE{% endif %}{% endfor %}"
    "<|end|>\n{% endfor %}{% if add_generation_prompt %}<|assistant|>\n{% endif %}"
)


def _tokenizer(**special: str) -> PreTrainedTokenizerFast:
    return PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(tiny_tokenizer().backend_tokenizer.to_str()),
        pad_token="<|pad|>",
        bos_token="<|begin|>",
        eos_token="<|end|>",
        extra_special_tokens=special,
    )


def _chat(image: str) -> str:
    return _CHAT.replace("IMAGE", image)


def _square(kind: str, **settings: Any) -> Any:
    size = {"height": SIDE, "width": SIDE}
    return getattr(transformers, kind)(size=size, **settings)


def _llava() -> Any:
    shape = {"height": SIDE, "width": SIDE}
    pictures = transformers.CLIPImageProcessorPil(size={"shortest_edge": SIDE}, crop_size=shape)
    return transformers.LlavaProcessor(
        pictures,
        _tokenizer(image_token="<image>"),
        patch_size=PATCH,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=_chat("<image>"),
    )


def _llava_next() -> Any:
    pictures = transformers.LlavaNextImageProcessorPil(
        size={"shortest_edge": SIDE},
        crop_size={"height": SIDE, "width": SIDE},
        image_grid_pinpoints=[[28, 56], [56, 28], [56, 56]],
    )
    return transformers.LlavaNextProcessor(
        pictures,
        _tokenizer(image_token="<image>"),
        patch_size=PATCH,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=_chat("<image>"),
    )


def _qwen(kind: str, patch: int) -> Any:
    pictures = transformers.Qwen2VLImageProcessorPil(
        patch_size=patch, size={"shortest_edge": 4 * patch**2, "longest_edge": 48 * patch**2}
    )
    tokens = _tokenizer(
        image_token="<|image_pad|>",
        video_token="<|video_pad|>",
        vision_start_token="<|vision_start|>",
        vision_end_token="<|vision_end|>",
    )
    chat = _chat("<|vision_start|><|image_pad|><|vision_end|>")
    return image_only(getattr(transformers, kind))(pictures, tokens, chat_template=chat)


def _gemma3() -> Any:
    tokens = _tokenizer(
        image_token="<image_soft_token>", boi_token="<start_of_image>", eoi_token="<end_of_image>"
    )
    return transformers.Gemma3Processor(
        _square("Gemma3ImageProcessorPil"),
        tokens,
        image_seq_length=4,
        chat_template=_chat("<start_of_image>"),
    )


def _idefics(kind: str, pictures: str) -> Any:
    rows = {f"r{i}{j}": f"<row_{i}_col_{j}>" for i in range(1, 5) for j in range(1, 5)}
    tokens = _tokenizer(
        image_token="<image>",
        fake_image_token="<fake_token_around_image>",
        end_of_utterance_token="<end_of_utterance>",
        global_image_token="<global-img>",
        **rows,
    )
    made = getattr(transformers, pictures)(
        size={"longest_edge": 2 * SIDE}, max_image_size={"longest_edge": SIDE}
    )
    processor = getattr(transformers, kind)
    if kind == "SmolVLMProcessor":
        processor = image_only(processor)
    return processor(made, tokens, image_seq_len=4, chat_template=_chat("<image>"))


def _internvl() -> Any:
    tokens = _tokenizer(
        start_image_token="<img>",
        end_image_token="</img>",
        context_image_token="<IMG_CONTEXT>",
        video_token="<video>",
    )
    pictures = _square("GotOcr2ImageProcessorPil", crop_to_patches=True, max_patches=4)
    processor = image_only(transformers.InternVLProcessor)
    return processor(pictures, tokens, image_seq_length=4, chat_template=_chat("<IMG_CONTEXT>"))


def _paligemma() -> Any:
    pictures = _square("SiglipImageProcessorPil")
    pictures.image_seq_length = 16
    return transformers.PaliGemmaProcessor(pictures, _tokenizer(image_token="<image>"))


_TEXT = {
    "hidden_size": WIDTH,
    "intermediate_size": 48,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
    "vocab_size": VOCABULARY,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
_GEMMA = {**_TEXT, "head_dim": 8}
_TOWER = {
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "image_size": SIDE,
    "patch_size": PATCH,
}
_CLIP = {**_TOWER, "model_type": "clip_vision_model", "num_hidden_layers": 3}
_LLAVA = {
    "text_config": {**_TEXT, "model_type": "llama"},
    "vision_config": _CLIP,
    "image_seq_length": 16,
}
_ROPE = {"rope_type": "default", "mrope_section": [1, 1, 2], "rope_theta": 10000.0}
_QWEN_TEXT = {**_TEXT, "rope_parameters": _ROPE}
_QWEN_TOWER = {"depth": 2, "num_heads": 2, "spatial_merge_size": 2, "temporal_patch_size": 2}

TINY_VISION: dict[str, tuple[dict[str, Any], Callable[[], Any]]] = {
    "llava": (_LLAVA, _llava),
    "llava_next": (
        {**_LLAVA, "image_grid_pinpoints": [[28, 56], [56, 28], [56, 56]]},
        _llava_next,
    ),
    "qwen2_vl": (
        {
            "text_config": _QWEN_TEXT,
            "vision_config": {
                **_QWEN_TOWER,
                "embed_dim": 16,
                "hidden_size": WIDTH,
                "patch_size": 7,
            },
        },
        lambda: _qwen("Qwen2VLProcessor", 7),
    ),
    "qwen2_5_vl": (
        {
            "text_config": _QWEN_TEXT,
            "vision_config": {
                **_QWEN_TOWER,
                "hidden_size": 16,
                "intermediate_size": 24,
                "out_hidden_size": WIDTH,
                "patch_size": 7,
                "window_size": 28,
                "fullatt_block_indexes": [1],
            },
        },
        lambda: _qwen("Qwen2_5_VLProcessor", 7),
    ),
    "qwen3_vl": (
        {
            "text_config": {
                **_QWEN_TEXT,
                "head_dim": 8,
                "rope_parameters": {**_ROPE, "mrope_section": [2, 1, 1], "mrope_interleaved": True},
            },
            "vision_config": {
                **_QWEN_TOWER,
                "hidden_size": 16,
                "intermediate_size": 24,
                "out_hidden_size": WIDTH,
                "patch_size": 7,
                "num_position_embeddings": 16,
                "deepstack_visual_indexes": [0, 1],
            },
        },
        lambda: _qwen("Qwen3VLProcessor", 7),
    ),
    "gemma3": (
        {
            "text_config": {
                **_GEMMA,
                "layer_types": ["sliding_attention", "full_attention"],
                "sliding_window": 8,
                "query_pre_attn_scalar": 8,
            },
            "vision_config": {**_TOWER, "model_type": "siglip_vision_model"},
            "mm_tokens_per_image": 4,
        },
        _gemma3,
    ),
    "idefics3": (
        {
            "text_config": {**_TEXT, "model_type": "llama"},
            "vision_config": _TOWER,
            "scale_factor": 2,
        },
        lambda: _idefics("Idefics3Processor", "Idefics3ImageProcessorPil"),
    ),
    "smolvlm": (
        {
            "text_config": {**_TEXT, "model_type": "llama"},
            "vision_config": _TOWER,
            "scale_factor": 2,
        },
        lambda: _idefics("SmolVLMProcessor", "SmolVLMImageProcessorPil"),
    ),
    "internvl": (
        {
            "text_config": {**_TEXT, "model_type": "qwen2"},
            "vision_config": {
                **_TOWER,
                "image_size": [SIDE, SIDE],
                "patch_size": [PATCH, PATCH],
            },
            "image_seq_length": 4,
        },
        _internvl,
    ),
    "paligemma": (
        {
            "text_config": {**_GEMMA, "model_type": "gemma"},
            "vision_config": {
                **_TOWER,
                "model_type": "siglip_vision_model",
                "projection_dim": WIDTH,
                "vision_use_head": False,
            },
            "projection_dim": WIDTH,
            "hidden_size": WIDTH,
        },
        _paligemma,
    ),
}
"""The settings of one small model by the name of its family, and what makes its processor."""

_MARKS = {
    "image_token_id": ("<image>", "<|image_pad|>", "<image_soft_token>", "<IMG_CONTEXT>"),
    "video_token_id": ("<|video_pad|>",),
    "vision_start_token_id": ("<|vision_start|>",),
    "vision_end_token_id": ("<|vision_end|>",),
    "boi_token_index": ("<start_of_image>",),
    "eoi_token_index": ("<end_of_image>",),
}


@cache
def tiny_processor(name: str) -> Any:
    """The processor of a family."""
    return TINY_VISION[name][1]()


def tiny_vision(name: str) -> PreTrainedModel:
    """A fresh model of a family, the same one each time."""
    words = tiny_processor(name).tokenizer.get_vocab()
    marks = {
        key: words[token] for key, tokens in _MARKS.items() for token in tokens if token in words
    }
    settings: Any = TINY_VISION[name][0]
    config = AutoConfig.for_model(name, pad_token_id=0, **settings, **marks)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = AutoModelForImageTextToText.from_config(config, dtype=torch.float32)
        for key, parameter in model.named_parameters():
            if parameter.ndim == 1:  # norms at one and biases at zero would hide errors
                torch.nn.init.normal_(parameter, mean=parameter.mean().item(), std=0.1)
            else:
                torch.nn.init.normal_(parameter, std=0.3 if "embed" in key else 0.15)
    return model.eval()


@cache
def seeing(name: str, dtype: torch.dtype = torch.float32) -> SteerableModel:
    """A model of a family with its processor, the same one to all tests."""
    return SteerableModel(tiny_vision(name).to(dtype), tiny_processor(name))


def picture(seed: int, width: int = SIDE, height: int = SIDE) -> Image.Image:
    """Noise in colour; equal seeds and sizes give equal pictures."""
    noise = torch.randint(256, (height, width, 3), generator=torch.Generator().manual_seed(seed))
    return Image.fromarray(noise.to(torch.uint8).numpy())
