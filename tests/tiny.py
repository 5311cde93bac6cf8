"""Tiny random models, one or more for every row of the family table, their tokenizer, a GGUF file.

All are made in code from a seed: float32, evaluation mode, dropout off. `model.double()` works on
each; mixtures of experts are set to the implementation that takes float64.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel, PreTrainedTokenizerFast

WIDTH = 32
LAYERS = 3
VOCABULARY = 384

_CORPUS = [
    "What happens if you swallow a seed? Nothing much happens: it passes through you.",
    "Which colour is the sky on a clear day? The sky is blue, and at night it is black.",
    "Q: Is the Earth flat?\nA: No, the Earth is round, as anyone may see from a ship.\n",
    "Where do the birds go in winter? Some of them fly south, others stay where they are.",
    "The answer to the question is not known; nobody has found out the reason yet.",
]
_CHAT = (
    "{% for message in messages %}<|{{ message['role'] }}|>\n{{ message['content'] }}<|end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|assistant|>\n{% endif %}"
)


@cache
def tiny_tokenizer() -> PreTrainedTokenizerFast:
    """A byte-level BPE of `VOCABULARY` tokens with bos, eos, pad and a chat template.

    It adds no token by itself: a text is encoded to exactly its own characters.
    """
    special = ["<|pad|>", "<|begin|>", "<|end|>", "<|user|>", "<|assistant|>", "<|system|>"]
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=special,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    backend.train_from_iterator(_CORPUS, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        pad_token="<|pad|>",
        bos_token="<|begin|>",
        eos_token="<|end|>",
        chat_template=_CHAT,
    )


def builder(model_type: str, **settings: Any) -> Callable[[], PreTrainedModel]:
    """Return what makes a fresh model of a type, the same one each time."""

    def build() -> PreTrainedModel:
        tokens = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
        config = AutoConfig.for_model(model_type, vocab_size=VOCABULARY, **tokens, **settings)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
            for name, parameter in model.named_parameters():
                if parameter.ndim == 1:  # norms at one and biases at zero would hide errors
                    torch.nn.init.normal_(parameter, mean=parameter.mean().item(), std=0.1)
                else:
                    torch.nn.init.normal_(parameter, std=0.3 if "embed" in name else 0.15)
        if getattr(config, "num_local_experts", None) or getattr(config, "num_experts", None):
            model.set_experts_implementation("eager")
        return model.eval()

    return build


_LLAMA = {
    "hidden_size": WIDTH,
    "intermediate_size": 48,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 128,
}
_EXPERTS = {"moe_intermediate_size": 24, "num_experts": 4, "num_experts_per_tok": 2}
_HEADS = {**_LLAMA, "head_dim": 8}
_GPT = {"n_embd": WIDTH, "n_layer": LAYERS, "n_head": 4, "n_positions": 128}
_BIG_HEAD = {
    "hidden_size": WIDTH,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": 4,
    "attention_dropout": 0.0,
    "hidden_dropout": 0.0,
}
_OPT = {
    "hidden_size": WIDTH,
    "ffn_dim": 48,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": 4,
    "max_position_embeddings": 128,
    "dropout": 0.0,
}

TINY: dict[str, Callable[[], PreTrainedModel]] = {
    "llama": builder("llama", **_LLAMA),
    "smollm3": builder("smollm3", **_LLAMA, no_rope_layers=[1, 1, 0]),
    "granite": builder("granite", **_LLAMA, residual_multiplier=0.5, embedding_multiplier=3.0),
    "cohere": builder("cohere", **_LLAMA),
    "cohere2": builder("cohere2", **_LLAMA, sliding_window=4),
    "mistral": builder("mistral", **_HEADS, sliding_window=4),
    "mixtral": builder("mixtral", **_HEADS, num_local_experts=4, num_experts_per_tok=2),
    "qwen2": builder("qwen2", **_LLAMA),
    "qwen2_moe": builder(
        "qwen2_moe", **_LLAMA, **_EXPERTS, shared_expert_intermediate_size=24, decoder_sparse_step=1
    ),
    "qwen3": builder("qwen3", **_HEADS),
    "qwen3_moe": builder("qwen3_moe", **_HEADS, **_EXPERTS, decoder_sparse_step=1),
    "gemma": builder("gemma", **_HEADS),
    "gemma2": builder("gemma2", **_HEADS, sliding_window=4, query_pre_attn_scalar=8),
    "gemma3": builder("gemma3_text", **_HEADS, sliding_window=4, query_pre_attn_scalar=8),
    "phi": builder("phi", **{**_LLAMA, "num_key_value_heads": 4}, partial_rotary_factor=0.5),
    "phi3": builder("phi3", **_LLAMA),
    "gpt2": builder("gpt2", **_GPT, embd_pdrop=0.0, attn_pdrop=0.0, resid_pdrop=0.0),
    "gpt_neox": builder("gpt_neox", **_BIG_HEAD, intermediate_size=48, rotary_pct=0.5),
    "gptj": builder("gptj", **_GPT, rotary_dim=4),
    "opt": builder("opt", **_OPT, word_embed_proj_dim=WIDTH),
    "opt_projected": builder(
        "opt", **_OPT, word_embed_proj_dim=WIDTH // 2, do_layer_norm_before=False
    ),
    "falcon": builder("falcon", **_BIG_HEAD, alibi=False),
    "falcon_alibi": builder(
        "falcon", **_BIG_HEAD, alibi=True, multi_query=False, parallel_attn=False
    ),
    "bloom": builder("bloom", hidden_size=WIDTH, n_layer=LAYERS, n_head=4),
    "mpt": builder("mpt", d_model=WIDTH, n_layers=LAYERS, n_heads=4, max_seq_len=128),
}
"""A builder of one small random model by name; a name is a family's, or that of a variant of it."""


def write_tiny_gguf(path: Path, *, pre_tokenizer: str = "gpt-2", without: str = "-") -> Path:
    """Write the tiny Llama and its tokenizer to a file, as llama.cpp's tools would.

    Weights whose name contains `without` are left out.
    """
    model, tokenizer = TINY["llama"](), tiny_tokenizer()
    config = model.config
    backend = json.loads(tokenizer.backend_tokenizer.to_str())["model"]
    tokens = tokenizer.convert_ids_to_tokens(list(range(len(tokenizer))))
    special = set(tokenizer.all_special_ids)
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_block_count(config.num_hidden_layers)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_dimension_count(config.head_dim)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    writer.add_vocab_size(config.vocab_size)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(pre_tokenizer)
    writer.add_token_list(tokens)
    writer.add_token_types([3 if index in special else 1 for index in range(len(tokens))])
    writer.add_token_merges([" ".join(merge) for merge in backend["merges"]])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_pad_token_id(0)
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, config.num_hidden_layers)
    heads = {"q_proj": config.num_attention_heads, "k_proj": config.num_key_value_heads}
    for key, value in model.state_dict().items():
        if without in key:
            continue
        array = value.numpy()
        for part, count in heads.items():
            if part in key:  # llama.cpp turns pairs of neighbours, transformers two halves
                split = array.reshape(count, 2, -1, array.shape[1])
                array = np.ascontiguousarray(split.swapaxes(1, 2)).reshape(array.shape)
        name = names.get_name(key, try_suffixes=(".weight",))
        assert name is not None
        writer.add_tensor(name, array)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path
