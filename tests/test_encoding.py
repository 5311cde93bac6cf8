"""From text to token ids: who may be credited, where answers start, and what is refused."""

from __future__ import annotations

import pytest
import torch
from tokenizers import processors
from transformers import PreTrainedTokenizerFast

from grains.errors import GrainsError
from grains.models import TEMPLATES, Encoder
from grains.types import ContrastivePair
from tests.tiny import tiny_tokenizer

PAD, BOS, EOS = 0, 1, 2
LONG = "What happens if you swallow a seed?"


def tokenizer_with(layout: str = "$A", chat: str | None = None) -> PreTrainedTokenizerFast:
    """The tiny tokenizer, adding special tokens around a text by itself."""
    backend = tiny_tokenizer().backend_tokenizer.__class__.from_str(
        tiny_tokenizer().backend_tokenizer.to_str()
    )
    backend.post_processor = processors.TemplateProcessing(
        single=layout, special_tokens=[("<|begin|>", BOS), ("<|end|>", EOS)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        pad_token="<|pad|>",
        bos_token="<|begin|>",
        eos_token="<|end|>",
        additional_special_tokens=["<|user|>", "<|assistant|>", "<|system|>"],
        chat_template=chat,
    )


PLAIN, WITH_BOS = tiny_tokenizer(), tokenizer_with("<|begin|> $A")


def pair(prompt=LONG, chosen="Nothing much happens", rejected="Yes", **fields):
    return ContrastivePair(prompt=prompt, chosen=chosen, rejected=rejected, **fields)


def content(tokenizer, encoded, row=0):
    """Return the text that may be credited."""
    return tokenizer.decode(encoded.input_ids[row][encoded.content[row]])


def text(tokenizer, ids):
    return tokenizer.decode(ids, clean_up_tokenization_spaces=False)


def refused(encoder, *pairs, match, side="chosen"):
    with pytest.raises(GrainsError, match=match) as caught:
        encoder.encode(pairs, side)
    assert "\n" not in str(caught.value)


def test_an_image_is_refused_and_not_left_out():
    encoder = Encoder(PLAIN)
    for side in ("chosen", None):
        words = r"^pair 'b': it has an image; this model reads text alone$"
        refused(encoder, pair(id="a"), pair(id="b", image="b.png"), match=words, side=side)
    assert encoder.encode([pair(id="b")], "chosen").names == ("b",)


# --- layout --------------------------------------------------------------------------------------


def test_prompts_end_and_answers_start_in_one_column():
    pairs = [pair(), pair("Sky?", "It is blue on a clear day"), pair("Why?", "No")]
    encoded = Encoder(PLAIN).encode(pairs, "chosen")
    start = encoded.prompt_length
    for row, one in enumerate(pairs):
        real = encoded.attention_mask[row].bool()
        ids = encoded.input_ids[row]
        assert text(PLAIN, ids[:start][real[:start]]) == f"Q: {one.prompt}\nA:"
        assert text(PLAIN, ids[start:][real[start:]]) == f" {one.chosen}"
        # Padding is one run in front and one behind, and holds the padding token.
        edges = real.int().diff()
        assert (edges[: start - 1] >= 0).all() and (edges[start:] <= 0).all()
        assert (ids[~real] == PAD).all() and not encoded.content[row][~real].any()
    assert not encoded.attention_mask.bool().all()
    assert torch.equal(encoded.answer_mask.sum(1), encoded.attention_mask[:, start:].sum(1))


def test_positions_count_from_the_first_real_token():
    encoded = Encoder(PLAIN).encode([pair(), pair("Sky?")], "chosen")
    for row in range(2):
        real = encoded.attention_mask[row].bool()
        assert encoded.position_ids[row][real].tolist() == list(range(int(real.sum())))
    assert encoded.position_ids.min() == 0


def test_rows_are_taken_and_may_repeat():
    encoded = Encoder(PLAIN).encode([pair(id="a"), pair("Sky?", id="b")], "chosen")
    taken = encoded.take(torch.tensor([1, 0, 1]))
    assert taken.names == ("b", "a", "b") and taken.prompt_length == encoded.prompt_length
    for name in ("input_ids", "attention_mask", "content"):
        assert torch.equal(getattr(taken, name), getattr(encoded, name)[[1, 0, 1]])


def test_a_batch_moves_as_a_whole():
    encoded = Encoder(PLAIN).encode([pair(), pair("Sky?")], "chosen")
    moved = encoded.to("meta")
    for name in ("input_ids", "attention_mask", "content", "answer_mask", "position_ids"):
        assert getattr(moved, name).device.type == "meta"
        assert getattr(encoded, name).device.type == "cpu"
    assert (moved.names, moved.prompt_length) == (encoded.names, encoded.prompt_length)


def test_prompts_alone_are_the_prompts_of_either_side():
    encoder, pairs = Encoder(PLAIN), [pair(), pair("Sky?", "It is blue on a clear day")]
    alone = encoder.encode(pairs, None)
    for side in ("chosen", "rejected"):
        cut = encoder.encode(pairs, side).prompts()
        for name in ("input_ids", "attention_mask", "content"):
            assert torch.equal(getattr(cut, name), getattr(alone, name))
    assert not alone.answer_mask.any()


def test_batches_are_laid_out_like_single_pairs():
    encoder, pairs = Encoder(WITH_BOS), [pair(), pair("Sky?", "It is blue"), pair("Why?", "No")]
    together = encoder.encode(pairs, "chosen")
    for row, one in enumerate(pairs):
        real = together.attention_mask[row].bool()
        alone = encoder.encode([one], "chosen")
        assert torch.equal(together.input_ids[row][real], alone.input_ids[0])
        assert torch.equal(together.content[row][real], alone.content[0])


# --- content -------------------------------------------------------------------------------------


@pytest.mark.parametrize("template", [*TEMPLATES, "chat", "User said: {prompt} And then:"])
@pytest.mark.parametrize("tokenizer", [PLAIN, tokenizer_with("<|begin|> $A", PLAIN.chat_template)])
def test_content_is_the_prompts_own_words_and_the_answer(tokenizer, template):
    one = pair(f"  {LONG} ", template=template)
    encoded = Encoder(tokenizer).encode([one], "chosen")
    words = content(tokenizer, encoded.prompts())
    whole = text(tokenizer, encoded.input_ids[0, : encoded.prompt_length])
    if template == "plain" and encoded.input_ids[0, 0] != BOS:
        assert LONG.endswith(words.strip()) and len(words) > 20  # position 0 is never content
    else:
        assert words.strip() == LONG
    assert encoded.content[0, encoded.prompt_length :].all()
    assert not encoded.content[0, 0]
    special = torch.isin(encoded.input_ids, torch.tensor(tokenizer.all_special_ids))
    assert not encoded.content[special].any()
    # The opposite: there was something beside the content, if only the first token.
    assert len(whole) > len(words)


def test_a_special_token_that_the_user_writes_is_not_content():
    encoded = Encoder(PLAIN).encode([pair("One <|end|> two?")], "chosen")
    assert EOS in encoded.input_ids[0]
    assert EOS not in encoded.input_ids[0][encoded.content[0]]


@pytest.mark.parametrize("prompt", ["assistant", "user", "e", "|", "<", "[[prompt]]"])
def test_a_prompt_that_is_also_a_word_of_the_template_is_found_in_its_place(prompt):
    encoder = Encoder(PLAIN)
    rendered, start = encoder.render(prompt, "chat")
    assert rendered[start:].startswith(f"{prompt}<|end|>")
    assert rendered[:start] == "<|user|>\n"
    encoded = encoder.encode([pair(prompt, template="chat")], "chosen")
    assert content(PLAIN, encoded.prompts()) == prompt


def test_a_prompt_with_braces_is_left_as_it_is():
    encoded = Encoder(PLAIN).encode([pair("What is {prompt} or {x}?")], None)
    assert text(PLAIN, encoded.input_ids[0]) == "Q: What is {prompt} or {x}?\nA:"


# --- answers -------------------------------------------------------------------------------------


@pytest.mark.parametrize("template", ["qa", "plain", "chat", "{prompt} - "])
@pytest.mark.parametrize(
    "tokenizer", [PLAIN, tokenizer_with("<|begin|> $A <|end|>", PLAIN.chat_template)]
)
def test_both_answers_follow_the_same_prompt_ids(tokenizer, template):
    encoder = Encoder(tokenizer)
    one = pair("Sky", "blue", ", of course", template=template)
    chosen, rejected = (encoder.encode([one], side) for side in ("chosen", "rejected"))
    start = chosen.prompt_length
    assert start == rejected.prompt_length
    assert torch.equal(chosen.input_ids[:, :start], rejected.input_ids[:, :start])
    blank = "" if template in ("chat", "{prompt} - ") else " "
    assert text(tokenizer, chosen.input_ids[0, start:]) == f"{blank}blue"
    assert text(tokenizer, rejected.input_ids[0, start:]) == f"{blank}, of course"
    # A tokenizer that closes every text does not close prompts or answers here.
    last = chosen.input_ids[0, [start - 1, -1]]
    assert EOS not in last


def test_a_token_over_the_seam_is_cut_there():
    # "happ" + "ens" are one token when written together, yet the prompt must stay itself.
    tokenizer, encoder = PLAIN, Encoder(PLAIN)
    joined = tokenizer("Q happens")["input_ids"]
    one = pair("Q ", "happens", "is", template="plain")
    encoded = encoder.encode([one], "chosen")
    start = encoded.prompt_length
    prompt = tokenizer("Q ")["input_ids"]
    assert joined[: len(prompt)] != prompt  # the seam is real
    assert encoded.input_ids[0, :start].tolist() == prompt
    assert encoded.input_ids[0, start:].tolist() == tokenizer("happens")["input_ids"]
    assert torch.equal(encoded.input_ids[:, :start], encoder.encode([one], None).input_ids)


def test_read_out_weights():
    encoded = Encoder(PLAIN).encode([pair(), pair("Sky?", "It is blue on a clear day")], "chosen")
    start, length = encoded.prompt_length, encoded.input_ids.shape[1]
    answer = encoded.answer_mask
    for where in ("last_prompt", "answer_mean", "last"):
        assert torch.allclose(encoded.readout(where).sum(1), torch.ones(2))
    assert (encoded.readout("last_prompt").argmax(1) == start - 1).all()
    assert encoded.readout("last_prompt").count_nonzero() == 2
    mean = encoded.readout("answer_mean")
    assert torch.equal(mean > 0, answer)
    assert torch.allclose(mean[answer].unique(), 1 / answer.sum(1).float().sort(descending=True)[0])
    last = encoded.readout("last")
    ends = [length - 1 - row.flip(0).int().argmax().item() for row in answer]
    assert last.argmax(1).tolist() == ends and ends[0] != ends[1]
    assert last.count_nonzero() == 2


def test_neutral_texts_open_with_a_prompt_of_the_asked_share():
    texts = ["The sky is blue, and at night it is black.", "No, the Earth is round."]
    encoded = Encoder(PLAIN).encode_texts(texts, 0.25)
    for row, one in enumerate(texts):
        ids = PLAIN(one)["input_ids"]
        assert encoded.input_ids[row][encoded.attention_mask[row].bool()].tolist() == ids
        assert encoded.answer_mask[row].sum() == len(ids) - max(1, len(ids) // 4)
    with pytest.raises(GrainsError, match=r"the text 'a' has 1 tokens; wanted 2 or more"):
        Encoder(PLAIN).encode_texts(["a"], 0.25)
    assert Encoder(PLAIN, 3).encode_texts(texts, 0.5).attention_mask.sum(1).tolist() == [3, 3]


# --- what is refused -----------------------------------------------------------------------------


def test_an_answer_longer_than_the_context_is_refused_by_name():
    fits = len(Encoder(PLAIN).encode([pair()], "chosen").input_ids[0])
    Encoder(PLAIN, fits).encode([pair()], "chosen")
    refused(
        Encoder(PLAIN, fits - 1),
        pair("Sky?", "Blue", id="short"),
        pair(id="long"),
        match=f"'long': prompt and chosen answer have {fits} tokens; wanted at most {fits - 1}",
    )
    refused(Encoder(PLAIN, 3), pair(id="x"), match="pair 'x': the prompt has 18 tokens", side=None)


def test_a_prompt_without_tokens_is_refused_by_name():
    empty = pair("", template="plain", id="x")
    refused(Encoder(PLAIN), pair(), empty, match="pair 'x': the prompt has no tokens")
    refused(Encoder(PLAIN), empty, match="pair 'x': the prompt has no tokens", side=None)
    # The opposite: a BOS is enough to predict the answer from.
    assert Encoder(WITH_BOS).encode([empty], "chosen").prompt_length == 1


def test_templates_that_say_nothing_are_refused():
    encoder = Encoder(PLAIN)
    refused(
        encoder, pair(template="qaa"), match="the template is 'qaa'; wanted .*did you mean 'qa'"
    )
    refused(Encoder(tokenizer_with()), pair(template="chat"), match="has no chat template; .*qa")


@pytest.mark.parametrize(
    "chat",
    [
        "{{ messages[0]['content'] | upper }} hi",
        "a fixed text",
        "{{ messages[0]['content'][:4] }} and no more",
    ],
)
def test_a_chat_template_that_changes_the_prompt_is_refused(chat):
    encoder = Encoder(tokenizer_with(chat=chat))
    refused(
        encoder, pair("what is it, hi", template="chat"), match="chat template changes the prompt"
    )


def test_the_chat_template_is_the_default_where_there_is_one():
    assert Encoder(PLAIN).default_template() == "chat"
    assert Encoder(tokenizer_with()).default_template() == "qa"


def test_a_slow_tokenizer_is_refused():
    with pytest.raises(GrainsError, match="the tokenizer is a str; wanted a fast tokenizer"):
        Encoder("gpt2")
