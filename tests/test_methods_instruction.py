"""An instruction before every prompt: where it stands, who sees it, and that it is gone again."""

from __future__ import annotations

import pytest
import torch

from grains.damage import NeutralText
from grains.data import PairBatch
from grains.methods import METHODS, Instruction, InstructionSteering, Material
from grains.methods.instruction import INSTRUCTIONS
from grains.models import Encoder
from grains.types import ContrastivePair
from tests.saying import says
from tests.test_encoding import PLAIN, WITH_BOS, content, text, tokenizer_with
from tests.tiny_vision import picture, seeing

SAID = "Answer in words"
STEERING = InstructionSteering(text=SAID)
QUESTION = "Where do the birds go?"
USER_ONLY = (
    "{% for m in messages %}{% if m.role == 'user' %}<|user|>{{ m.content }}{% endif %}{% endfor %}"
)
STRICT = "{% if messages[0].role != 'user' %}{{ raise_exception('no') }}{% endif %}" + USER_ONLY


def pair(template="qa", **fields):
    given = {"prompt": QUESTION, "chosen": "They fly south", "rejected": "No", **fields}
    return ContrastivePair(template=template, **given)


@pytest.mark.parametrize(
    ("template", "opened"),
    [
        ("qa", f"{SAID}\nQ: {QUESTION}\nA:"),
        ("plain", f"{SAID}\n{QUESTION}"),
        ("Go: {prompt} - ", f"{SAID}\nGo: {QUESTION} - "),
    ],
)
@pytest.mark.parametrize("tokenizer", [PLAIN, WITH_BOS])
def test_it_stands_before_the_template_and_takes_no_credit(tokenizer, template, opened):
    encoder = Encoder(tokenizer)
    without = encoder.encode([pair(template)], "chosen")
    with encoder.prompter.instructed(f" {SAID}\n"):
        encoded = encoder.encode([pair(template)], "chosen")
    ids = encoded.input_ids[0, encoded.input_ids[0] != tokenizer.bos_token_id]
    assert text(tokenizer, ids).startswith(opened)
    assert (encoded.input_ids == tokenizer.bos_token_id).sum() == (tokenizer is WITH_BOS)
    # Without a template before it, the question's first token is at position 0 and not credited.
    assert content(tokenizer, encoded).endswith(content(tokenizer, without))
    assert SAID not in content(tokenizer, encoded) and QUESTION[1:] in content(tokenizer, encoded)
    again = encoder.encode([pair(template)], "chosen")
    assert torch.equal(again.input_ids, without.input_ids)


@pytest.mark.parametrize(
    ("chat", "opened"),
    [
        (PLAIN.chat_template, f"<|system|>\n{SAID}<|end|>\n<|user|>\n{QUESTION}"),
        (USER_ONLY, f"<|user|>{SAID}\n{QUESTION}"),
        (STRICT, f"<|user|>{SAID}\n{QUESTION}"),
    ],
    ids=["takes one", "drops it", "refuses it"],
)
def test_in_a_chat_it_is_the_system_message_where_there_is_one(chat, opened):
    tokenizer = tokenizer_with(chat=chat)
    encoder = Encoder(tokenizer)
    without = encoder.encode([pair("chat")], None)
    with encoder.prompter.instructed(SAID):
        rendered, start = encoder.render(QUESTION, "chat")
        encoded = encoder.encode([pair("chat")], None)
    assert rendered.startswith(opened) and rendered[start:].startswith(QUESTION)
    assert content(tokenizer, encoded).strip() == content(tokenizer, without).strip() == QUESTION


def test_a_second_one_follows_the_first():
    prompter = Encoder(PLAIN).prompter
    with prompter.instructed(SAID), prompter.instructed("Be brief"):
        assert prompter.render("Why?", "plain")[0] == f"{SAID}\nBe brief\nWhy?"
    with pytest.raises(RuntimeError), prompter.instructed(SAID):
        raise RuntimeError
    assert prompter.render("Why?", "plain")[0] == "Why?"


@pytest.mark.parametrize("tokenizer", [PLAIN, WITH_BOS])
def test_neutral_text_keeps_its_tokens_and_what_is_scored(tokenizer):
    encoder = Encoder(tokenizer, max_length=40)
    texts = ["What is it? It is known", "The sky is blue on a clear day"]
    without = encoder.encode_texts(texts, 0.25)
    with encoder.prompter.instructed(SAID):
        encoded = encoder.encode_texts(texts, 0.25)
    scored, before = encoded.answer_mask, without.answer_mask
    assert torch.equal(encoded.input_ids[scored], without.input_ids[before])
    assert content(tokenizer, encoded) == content(tokenizer, without)
    row = encoded.input_ids[1]
    assert text(tokenizer, row[row > tokenizer.eos_token_id]) == f"{SAID}\n{texts[1]}"
    assert (row == tokenizer.bos_token_id).sum() == (tokenizer is WITH_BOS)
    with (
        encoder.prompter.instructed(SAID * 20),
        says("its instruction", "wanted at most 40, the model's context"),
    ):
        encoder.encode_texts(texts, 0.25)


def test_the_model_reads_it_inside_the_context_and_only_there(tiny):
    model = tiny("llama")
    asked = [pair(), pair(prompt="Which colour is the sky?")]

    def measured():
        found = model.answer_log_prob(model.encode(asked, "chosen"))
        return found, model.generate(QUESTION, template="qa", max_new_tokens=4)

    without, answer = measured()
    spelt = [pair(template=f"{SAID}\nQ: {{prompt}}\nA:", prompt=p.prompt) for p in asked]
    wanted = model.answer_log_prob(model.encode(spelt, "chosen"))
    with STEERING.applied_to(model):
        inside, said = measured()
    assert torch.equal(inside, wanted)
    assert (inside - without).abs().min() > 1e-3
    assert said != answer
    assert said == model.generate(QUESTION, template=f"{SAID}\nQ: {{prompt}}\nA:", max_new_tokens=4)
    for off in (STEERING.applied_to(model, 0), STEERING.applied_to(model, 0.0, strict=False)):
        with off:
            found, said = measured()
        assert torch.equal(found, without) and said == answer
    found, said = measured()
    assert torch.equal(found, without) and said == answer


def test_it_does_damage_on_neutral_text_and_knows_no_strength(tiny):
    model = tiny("llama")
    known = NeutralText(model, ["The sky is blue on a clear day", "Some fly south"], quiet=True)
    with STEERING.applied_to(model):
        damage = known.damage()
    assert damage.kl > 1e-3
    for strength in (0.01, -2.0):
        with STEERING.applied_to(model, strength):
            assert known.damage() == damage
    assert known.damage().kl == 0
    assert STEERING.graded is False


@pytest.mark.parametrize("name", ["llava", "qwen2_vl", "paligemma"])
def test_pictures_stay_where_they_belong(name):
    model = seeing(name)
    asked = pair(image=picture(0), template="{prompt}")
    without = model.encode([asked], "chosen")
    with STEERING.applied_to(model):
        encoded = model.encode([asked], "chosen")
        said = "" if name == "paligemma" else model.encoder.prompter.render("Why?", "chat", 1)[0]
    more = encoded.input_ids.shape[1] - without.input_ids.shape[1]
    assert more == len(model.tokenizer(f"{SAID}\n", add_special_tokens=False)["input_ids"])
    assert encoded.image.sum() == without.image.sum() > 0
    assert torch.equal(encoded.image[0, :4], without.image[0, :4])  # before the instruction
    assert model.tokenizer.decode(encoded.input_ids[encoded.content]) == model.tokenizer.decode(
        without.input_ids[without.content]
    )
    assert name == "paligemma" or said.startswith(f"<|system|>\n{SAID}<|end|>\n<|user|>")
    assert torch.isfinite(model.answer_log_prob(encoded)).all()


def material(model, pairs):
    batch = PairBatch(index=torch.arange(len(pairs)), pairs=tuple(pairs))
    return Material(model=model, batches=[batch], layer_sets=[(1,)], quiet=True)


def test_the_method_offers_what_its_settings_say(tiny):
    given = material(tiny("llama"), [pair(), pair(template="chat", prompt="Why?", chosen="Known")])
    [(label, steering, marks)] = METHODS.build("instruction").fit(given)
    assert (label, steering.text, marks) == ("instruction", INSTRUCTIONS["truthful"], {})
    assert steering.to_record() == (
        {},
        {"kind": "instruction", "text": INSTRUCTIONS["truthful"], "coefficient": 1.0},
    )
    [(_, steering, _)] = METHODS.build("instruction", behaviour="harmless").fit(given)
    assert steering.text == INSTRUCTIONS["harmless"]
    [(_, steering, _)] = METHODS.build("instruction", text=SAID, examples=2).fit(given)
    assert steering.text == f"{SAID}\n\nQ: {QUESTION}\nA: They fly south\n\nQ: Why?\nA: Known"


def test_the_examples_are_the_datas_first_and_not_the_shortest(tiny):
    first, second = pair(), pair(prompt="Why?", chosen="Known")
    batch = PairBatch(index=torch.tensor([1, 0]), pairs=(second, first))
    given = Material(model=tiny("llama"), batches=[batch], layer_sets=[(1,)], quiet=True)
    [(_, steering, _)] = METHODS.build("instruction", text=SAID, examples=1).fit(given)
    assert steering.text == f"{SAID}\n\nQ: {QUESTION}\nA: They fly south"
    [(_, steering, _)] = METHODS.build("instruction", text=SAID, examples=2).fit(given)
    assert steering.text.endswith("A: They fly south\n\nQ: Why?\nA: Known")


def test_mistakes_are_named(tiny):
    for name in INSTRUCTIONS:
        with says(f"text is '{name}'; wanted words of your own, or behaviour='{name}'"):
            Instruction(text=name)
        assert Instruction(text=f"Be {name}.").text == f"Be {name}."
    with says("behaviour is 'truthfull'", "did you mean 'truthful'", "the text"):
        Instruction(behaviour="truthfull")
    with says("examples is -1"):
        Instruction(examples=-1)
    with says("examples is 3", "there are 1 pairs"):
        Instruction(examples=3).fit(material(tiny("llama"), [pair()]))
    with says("pair 'a'", "has an image"):
        Instruction(examples=1).fit(material(tiny("llama"), [pair(id="a", image=picture(0))]))
    with says("the instruction is ' '", "wanted some text"):
        InstructionSteering(text=" ")
    with says("the coefficient is nan"):
        STEERING.applied_to(tiny("llama"), float("nan"))
