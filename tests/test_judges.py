"""Judges of written answers: what each number is made of, and what is refused in one line."""

from __future__ import annotations

import json
import socket
import threading
from collections import Counter
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoConfig, AutoModelForSequenceClassification

from grains import SteerableModel, SteeringVector
from grains.data import Item
from grains.evaluation import JUDGES, TASKS, GenerationTask, Judge
from grains.evaluation.judges import likelihood
from grains.evaluation.judges.base import filled
from grains.evaluation.judges.reference import token_f1
from grains.injectors import INJECTORS
from tests.saying import says
from tests.tiny import LAYERS, VOCABULARY, WIDTH, builder, tiny_tokenizer

SHAPE = {
    "hidden_size": WIDTH,
    "intermediate_size": 48,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
}
SKY = Item.choice("sky", "What colour is the sky?", ["It is blue."], ["It is green."])
EARTH = Item.choice("earth", "Is the Earth flat?", ["No, it is round."], ["Yes, it is flat."])
LABELS = ("kind", "rude", "neither")
ITEMS, ANSWERS = [SKY, EARTH], ["The sky is blue", "Yes, the Earth is flat"]


def build(name: str, **settings) -> Judge:
    return JUDGES.build(name, **settings)


def verdicts(judge: Judge, items=ITEMS, answers=ANSWERS) -> list[float]:
    found = judge.judge(items, answers, quiet=True)
    assert found.shape == (len(items),) and found.dtype == torch.float64
    return found.tolist()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A causal language model, which a judge may ask."""
    place = tmp_path_factory.mktemp("judge")
    builder("llama", **SHAPE)().save_pretrained(place)
    tiny_tokenizer().save_pretrained(place)
    return str(place)


# By name ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "given", ["reference", {"name": "reference"}, JUDGES.build("reference")], ids=str
)
def test_a_task_takes_its_judge_in_any_way_that_a_component_is_named(given):
    task = TASKS.build("truthfulqa_generation", judge=given)
    assert isinstance(task, GenerationTask) and task.judge == JUDGES.build("reference")
    assert task.higher_is_better["reference_f1"] is True
    assert task.label() == "truthfulqa_generation (judge=reference)"
    assert TASKS.build(TASKS.spec(task)) == task
    nested = {"name": "likelihood", "model": "x", "question": "toxic"}
    toxic = TASKS.build({"name": "continuation", "judge": nested})
    assert TASKS.spec(toxic)["judge"] == {**nested, "better": None, "template": None, "dtype": None}
    assert TASKS.build(TASKS.spec(toxic)) == toxic
    assert toxic.higher_is_better["toxic"] is False
    assert "reference_f1" not in TASKS.build(task, judge=None).higher_is_better


@pytest.mark.parametrize(
    ("given", "parts"),
    [
        ("refrence", ["no judge is named 'refrence'", "did you mean 'reference'"]),
        ({"name": "reference", "model": "x"}, ["'reference' has no setting 'model'"]),
        ("likelihood", ["judge 'likelihood' lacks 'model'"]),
        ({"name": "likelihood", "model": "x", "question": "toxc"}, ["wanted one that holds"]),
        ({"name": "classifier", "model": "x", "label": "y", "text": "{awnser}"}, ["'answer'"]),
    ],
)
def test_a_judge_that_cannot_be_is_refused(given, parts):
    with says(*parts):
        TASKS.build("truthfulqa_generation", judge=given)


def test_what_is_laid_before_a_judge():
    item = Item(id="x", prompt="{answer}?", reference="A cup.", objects=("cup", "table"))
    text = "{question} {answer} / {reference} / {objects}"
    assert filled(text, item, "{question}") == "{answer}? {question} / A cup. / cup, table"
    several = Item.choice("y", "Why?", ["one", "two"], ["three"])
    assert set(filled("{reference}", several, "").split("; ")) == {"one", "two"}


# References ------------------------------------------------------------------------------------

TEXTS = st.lists(st.sampled_from(["a", "b", "C", "d."]), max_size=6).map(" ".join)


@given(one=TEXTS, other=TEXTS)
def test_token_f1_is_twice_what_is_shared_over_all_words(one, other):
    first, second = (Counter(text.lower().replace(".", "").split()) for text in (one, other))
    shared = sum(min(first[word], second[word]) for word in first)
    total = sum(first.values()) + sum(second.values())
    assert token_f1(one, other) == token_f1(other, one) == (2 * shared / total if total else 0)
    assert token_f1(one, one) == bool(one)


def test_the_reference_judge_is_for_the_true_and_against_the_false():
    judge = build("reference")
    true, false = (verdicts(judge, [SKY], [text]) for text in ("It is blue.", "It is green."))
    assert true[0] == pytest.approx(1 - 2 / 3) and false[0] == -true[0]
    assert verdicts(judge, [SKY], ["Whatever"]) == [0]
    turned = Item(id="x", prompt="?", options=SKY.options, right=SKY.right[::-1])
    assert verdicts(judge, [turned], ["It is blue."])[0] == -true[0]
    alone = Item(id="x", prompt="?", reference="It is blue.")
    assert verdicts(judge, [alone, alone], ["it is BLUE", "green"]) == [1, 0]
    with says("question 'x' has no reference answer"):
        verdicts(judge, [Item(id="x", prompt="?")], ["It is blue."])


# A local model ---------------------------------------------------------------------------------


@pytest.mark.parametrize("question", [*likelihood.QUESTIONS, "{answer}: is that so?"])
def test_the_likelihood_judge_reads_yes_against_no_off_the_logits(folder, question):
    judge = build("likelihood", model=folder, question=question, template="qa")
    text = likelihood.QUESTIONS.get(question, (question,))[0]
    found, model = verdicts(judge), SteerableModel.load(folder)
    for verdict, item, answer in zip(found, ITEMS, ANSWERS, strict=True):
        prompt = f"Q: {filled(text, item, answer)}\nA:"
        log_probs = []
        for word in (" Yes", " No"):
            ids = model.tokenizer(prompt + word, return_tensors="pt")["input_ids"]
            start = len(model.tokenizer(prompt)["input_ids"])
            with torch.no_grad():
                rows = model.lm(ids).logits[0].double().log_softmax(-1)
            places = range(start, ids.shape[1])
            log_probs.append(sum(rows[at - 1, ids[0, at]] for at in places))
        assert verdict == pytest.approx(float((log_probs[0] - log_probs[1]).sigmoid()), abs=1e-4)
    assert judge.metric == (question if question in likelihood.QUESTIONS else "yes")
    wanted = {"truthful": True, "supported": True, "toxic": False}.get(question)
    assert judge.higher_is_better is wanted
    assert build("likelihood", model="x", question="{answer}", better="lower").higher_is_better is (
        False
    )


def test_batches_change_no_verdict_and_what_is_judged_does(folder):
    judge = build("likelihood", model=folder)
    items, answers = [SKY] * 20, [f"It is {'very ' * number}blue" for number in range(20)]
    together = verdicts(judge, items, answers)
    assert verdicts(judge, items[::-1], answers[::-1])[::-1] == pytest.approx(together, abs=1e-5)
    alone = [verdicts(judge, [SKY], [answer])[0] for answer in answers]
    assert alone == pytest.approx(together, abs=1e-5)
    assert len({round(verdict, 6) for verdict in together}) > 10


def test_a_judge_is_loaded_once_and_is_not_the_model_that_is_steered(folder, monkeypatch):
    judge, model = build("likelihood", model=folder), SteerableModel.load(folder)
    before, prompt = verdicts(judge), "Why?"
    vector = SteeringVector(
        directions={0: torch.eye(WIDTH)[0]},
        norms={0: 50.0},
        coefficient=1.0,
        injector=INJECTORS.build("additive"),
        card={"fingerprint": model.fingerprint},
    )
    monkeypatch.setattr(SteerableModel, "load", None)
    said = model.generate(prompt, max_new_tokens=8)
    with vector.applied_to(model):
        assert verdicts(judge) == before
        assert model.generate(prompt, max_new_tokens=8) != said


# A classifier ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def classes(tmp_path_factory):
    """Return what writes a classifier of three labels and returns its folder."""

    def write(name: str, **settings) -> str:
        place = tmp_path_factory.mktemp(name)
        config = AutoConfig.for_model(
            "llama",
            vocab_size=VOCABULARY,
            id2label={0: "kind", 1: "rude", 2: "neither"},
            label2id={"kind": 0, "rude": 1, "neither": 2},
            **{**SHAPE, "max_position_embeddings": 32},
            **settings,
        )
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            model = AutoModelForSequenceClassification.from_config(config)
            for parameter in model.parameters():
                torch.nn.init.normal_(parameter, std=0.3)
        model.save_pretrained(place)
        tiny_tokenizer().save_pretrained(place)
        return str(place)

    return write


def test_the_classifier_gives_the_probability_of_its_label(classes):
    shared, several = classes("one"), classes("some", problem_type="multi_label_classification")
    for place, expected in ((shared, lambda x: x.softmax(0)), (several, lambda x: x.sigmoid())):
        model = AutoModelForSequenceClassification.from_pretrained(place)
        found = {label: verdicts(build("classifier", model=place, label=label)) for label in LABELS}
        for row, answer in enumerate(ANSWERS):
            ids = tiny_tokenizer()(answer, return_tensors="pt")["input_ids"]
            with torch.no_grad():
                logits = model(ids).logits[0]
            got = torch.tensor([found[label][row] for label in LABELS])
            torch.testing.assert_close(got, expected(logits), atol=1e-4, rtol=0)
            assert (abs(float(got.sum()) - 1) < 1e-4) == (place == shared)


def test_the_classifier_reads_what_its_text_says_and_cuts_what_is_too_long(classes):
    place = classes("text")
    judge = build("classifier", model=place, label="rude", better="lower")
    asked = JUDGES.build(judge, text="{question} {answer}")
    together = [f"{item.prompt} {answer}" for item, answer in zip(ITEMS, ANSWERS, strict=True)]
    assert verdicts(asked) == pytest.approx(verdicts(judge, ITEMS, together))
    assert verdicts(asked) != pytest.approx(verdicts(judge))
    long = "so " * 100
    assert verdicts(judge, [SKY], [long]) == verdicts(judge, [SKY], [long + "rude"])
    assert (judge.metric, judge.higher_is_better) == ("rude", False)
    assert build("classifier", model=place, label="rude").higher_is_better is None


def test_what_is_no_classifier_is_refused(classes, folder, tmp_path):
    with says("has no label 'rued'", "did you mean 'rude'"):
        verdicts(build("classifier", model=classes("label"), label="rued"))
    with says(folder, "lacks 1 of the model's weights, such as 'score.weight'"):
        verdicts(build("classifier", model=folder, label="LABEL_0"))  # its head would be random
    with says(str(tmp_path), "does not load as a sequence classifier"):
        verdicts(build("classifier", model=str(tmp_path), label="rude"))


# An address ------------------------------------------------------------------------------------


class Server:
    """A loopback server that replies by a script, over and over its last line, and remembers."""

    def __init__(self):
        self.script: list[tuple[int, str]] = []
        self.asked: list[tuple[str, dict, dict[str, str]]] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                length = int(self.headers["Content-Length"] or 0)
                body = json.loads(self.rfile.read(length) or "{}")
                headers = {key.lower(): value for key, value in self.headers.items()}
                outer.asked.append((self.path, body, headers))
                code, text = outer.script[min(len(outer.asked), len(outer.script)) - 1]
                self.send_response(code)
                if code == 302:
                    self.send_header("Location", text)
                self.end_headers()
                self.wfile.write(text.encode())

            do_GET = do_POST

            def log_message(self, *args, **more):
                pass

        self.http = HTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_port}/v1"
        threading.Thread(target=self.http.serve_forever, args=(0.01,), daemon=True).start()

    def says(self, *replies: tuple[int, str] | str) -> None:
        self.asked.clear()
        self.script = [(200, completion(x)) if isinstance(x, str) else x for x in replies]


def completion(text: object) -> str:
    return json.dumps({"choices": [{"message": {"role": "assistant", "content": text}}]})


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    made = Server()
    yield made
    made.http.shutdown()
    made.http.server_close()


def openai(server: Server, **settings) -> Judge:
    return build("openai", base_url=server.url, model="big", wait=0.001, **settings)


def test_an_address_is_asked_and_its_number_read(server, monkeypatch):
    server.says("7", "The rating is 2.5, out of 10.")
    judge = openai(server)
    assert verdicts(judge) == [7, 2.5]
    (path, body, headers), (_, second, _) = server.asked
    assert path == "/v1/chat/completions" and "authorization" not in headers
    assert (body["model"], body["temperature"]) == ("big", 0)
    for item, answer, sent in zip(ITEMS, ANSWERS, (body, second), strict=True):
        text = sent["messages"][0]["content"]
        assert item.prompt in text and answer in text and item.true_answers()[0] in text
    assert (judge.metric, judge.higher_is_better) == ("rating", True)
    monkeypatch.setenv("OUR_KEY", " secret\n")
    server.says("Points: 9. Rating: 3")
    asked = openai(server, api_key_env="OUR_KEY", pattern=r"Rating: (\d)", temperature=None)
    assert verdicts(asked, [SKY], ["Blue"]) == [3]
    _, body, headers = server.asked[0]
    assert headers["authorization"] == "Bearer secret" and "temperature" not in body


def test_a_server_that_is_busy_is_asked_again_and_one_that_refuses_is_not(server, monkeypatch):
    server.says((500, "oops"), (429, "slow"), "4")
    assert verdicts(openai(server), [SKY], ["Blue"]) == [4] and len(server.asked) == 3
    server.says((503, "asleep"))
    with says(server.url, "503", "asleep"):
        verdicts(openai(server, retries=2))
    assert len(server.asked) == 3
    monkeypatch.setenv("OUR_KEY", "secret")
    for code, said in ((401, "bad key"), (404, "no model")):
        server.says((code, said))
        with says(str(code), said) as error:
            verdicts(openai(server, api_key_env="OUR_KEY"))
        assert len(server.asked) == 1 and "secret" not in str(error.value)
    server.says((302, f"{server.url}/elsewhere"))  # the key does not travel on
    with says("302"):
        verdicts(openai(server, api_key_env="OUR_KEY"))
    assert len(server.asked) == 1


@pytest.mark.parametrize(
    ("reply", "said"),
    [
        ((200, "<html>"), "'<html>'; wanted a chat completion"),
        ((200, "{}"), "wanted a chat completion"),
        ((200, "[1]"), "wanted a chat completion"),
        ((200, completion(None)), "replied None"),
        ("I cannot say.", "question 'sky': big replied 'I cannot say.'; wanted a number from 0 to"),
        ("11", "wanted a number from 0 to 10"),
        ("-1", "wanted a number from 0 to 10"),
    ],
)
def test_a_reply_that_is_no_number_is_an_error_in_one_line(server, reply, said):
    server.says(reply)
    with says(said):
        verdicts(openai(server))
    assert len(server.asked) == 1


def test_nobody_there_or_too_slow(server):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}/v1"
    with says(f"{url}/chat/completions could not be asked", "refused"):
        verdicts(build("openai", base_url=url, model="big", retries=1, wait=0.0))
    with socket.socket() as deaf:
        deaf.bind(("127.0.0.1", 0))
        deaf.listen()
        url = f"http://127.0.0.1:{deaf.getsockname()[1]}"
        with says("could not be asked: timed out"):
            verdicts(build("openai", base_url=url, model="big", retries=0, timeout=0.05))


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"base_url": "file:///etc"}, "wanted an address that starts with http"),
        ({"pattern": "("}, "pattern is '('"),
        ({"pattern": "\\d"}, "wanted a group in parentheses"),
        ({"prompt": "How true?"}, "wanted one that holds {answer}"),
        ({"retries": -1}, "no negative number"),
        ({"timeout": 0.0}, "a positive timeout"),
    ],
)
def test_settings_that_cannot_work_are_refused_before_anything_is_sent(settings, said):
    with says(said):
        build("openai", **{"base_url": "http://x", "model": "big", **settings})


@pytest.mark.parametrize("key", [None, "", "two\nlines"])
def test_a_key_that_is_not_there_is_named_and_never_quoted(key, monkeypatch):
    monkeypatch.delenv("OUR_KEY", raising=False)
    if key is not None:
        monkeypatch.setenv("OUR_KEY", key)
    with says("OUR_KEY is not set, or is no key") as error:
        verdicts(build("openai", base_url="http://x", model="big", api_key_env="OUR_KEY"))
    assert not key or key.split()[0] not in str(error.value)
