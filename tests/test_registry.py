"""Names become components: ours, other people's, and one line for every mistake."""

from __future__ import annotations

import dataclasses
import sys
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Literal

import pytest

from grains.attributors import ATTRIBUTORS
from grains.directions import DIRECTION_FINDERS
from grains.discovery import discover
from grains.errors import GrainsError
from grains.injectors import INJECTORS
from grains.maskers import MASKERS
from grains.registry import Registry
from grains.sources import SOURCES

REGISTRIES = [ATTRIBUTORS, MASKERS, DIRECTION_FINDERS, INJECTORS, SOURCES]


@dataclass(frozen=True, kw_only=True)
class Toy(ABC):
    """What every toy is."""

    @abstractmethod
    def play(self) -> str: ...


@dataclass(frozen=True, kw_only=True)
class Ball(Toy):
    """Rolls,
    and bounces.

    At length.
    """

    size: float = 1.0
    colour: Literal["red", "blue"] = "red"
    kicks: int | None = None

    def play(self) -> str:
        return "roll"


@dataclass(frozen=True, kw_only=True)
class Kite(Toy):
    """Flies."""

    string: float

    def play(self) -> str:
        return "fly"


@pytest.fixture
def toys():
    registry = Registry("toy", Toy)
    registry.register("ball")(Ball)
    registry.register("kite")(Kite)
    return registry


def refused(action, *arguments, match, **settings):
    with pytest.raises(GrainsError, match=match) as caught:
        action(*arguments, **settings)
    assert "\n" not in str(caught.value)


# --- ours ----------------------------------------------------------------------------------------


def test_the_decorator_files_a_class_and_returns_it(toys):
    assert toys.names() == ["ball", "kite"]
    assert toys.get("ball") is Ball
    assert toys.register("red ball")(Ball) is Ball


def test_a_taken_name_is_refused(toys):
    refused(toys.register("ball"), Kite, match="toy 'ball' is taken by Ball; wanted another name")
    assert toys.get("ball") is Ball


class Bare(Toy):
    def play(self) -> str:
        return ""


@dataclass(frozen=True)
class Stranger:
    pass


@dataclass(frozen=True)
class Half(Toy):
    pass


@pytest.mark.parametrize(
    ("cls", "match"),
    [
        (Stranger, "wanted a subclass of Toy"),
        ("Ball", "is 'Ball'; wanted a subclass of Toy"),
        (lambda: Ball(), "wanted a subclass of Toy"),
        (Half, "is abstract; it lacks play"),
        (Toy, "is abstract; it lacks play"),
    ],
)
def test_what_is_no_component_is_refused(toys, cls, match):
    refused(toys.register("new"), cls, match=match)
    assert toys.names() == ["ball", "kite"]


def test_a_class_that_is_no_dataclass_is_refused():
    class Plain(ABC):
        @abstractmethod
        def play(self) -> str: ...

    class Undecorated(Plain):
        def play(self) -> str:
            return ""

    refused(Registry("toy", Plain).register("new"), Undecorated, match="wanted a frozen dataclass")


def test_an_unknown_name_is_told_the_nearest(toys):
    refused(toys.get, "bal", match="no toy is named 'bal'; did you mean 'ball'.*: ball, kite")
    refused(toys.build, "zzzz", match="no toy is named 'zzzz'; there are: ball, kite")


def test_an_unknown_setting_is_told_the_nearest(toys):
    refused(
        toys.build, "ball", sise=2.0, match="toy 'ball' has no setting 'sise'; did you mean 'size'"
    )


@pytest.mark.parametrize(
    ("settings", "match"),
    [
        ({"size": "big"}, "toy 'ball': size is 'big'; wanted float"),
        ({"size": None}, "size is None; wanted float"),
        ({"kicks": 1.5}, "kicks is 1.5; wanted int | None"),
        ({"colour": "green"}, "colour is 'green'; wanted one of 'red', 'blue'"),
    ],
)
def test_a_value_of_the_wrong_type_is_refused(toys, settings, match):
    refused(toys.build, "ball", match=match.replace("|", r"\|"), **settings)


def test_a_setting_that_is_lacking_is_named(toys):
    refused(toys.build, "kite", match="toy 'kite' lacks 'string'; wanted string=...")
    assert toys.build("kite", string=3) == Kite(string=3)  # an int is a number, too


def test_all_spellings_build_equal_components(toys):
    path = f"{Ball.__module__}.Ball"
    spellings = [
        (("ball",), {"size": 2.0, "colour": "blue"}),
        (({"name": "ball", "size": 2.0, "colour": "blue"},), {}),
        (({"name": "ball", "size": 9.0},), {"size": 2.0, "colour": "blue"}),
        (({"class_path": path, "init_args": {"size": 2.0, "colour": "blue"}},), {}),
        (({"class_path": path, "init_args": {"colour": "blue"}},), {"size": 2.0}),
        ((path,), {"size": 2.0, "colour": "blue"}),
        ((Ball(size=2.0, colour="blue"),), {}),
        ((Ball(size=5.0, colour="blue"),), {"size": 2.0}),
    ]
    for arguments, settings in spellings:
        assert toys.build(*arguments, **settings) == Ball(size=2.0, colour="blue")
    assert toys.build("ball") == Ball() != Ball(size=2.0)


def test_a_component_is_returned_itself(toys):
    ball = Ball()
    assert toys.build(ball) is ball


@pytest.mark.parametrize(
    ("settings", "match"),
    [
        ({"size": "big"}, "toy 'ball': size is 'big'; wanted float"),
        ({"colour": "green"}, "toy 'ball': colour is 'green'; wanted one of 'red', 'blue'"),
    ],
)
def test_a_component_is_checked_like_its_settings(toys, settings, match):
    refused(toys.build, Ball(**settings), match=match)
    refused(toys.build, Ball(**settings), kicks=1, match=match)
    mended = {"size": 1.0, "colour": "red"}
    assert toys.build(Ball(**settings), **mended) == Ball()


def test_what_is_given_is_left_as_it_was(toys):
    spec = {"class_path": f"{Ball.__module__}.Ball", "init_args": {"size": 2.0}}
    toys.build(spec, colour="blue")
    assert spec == {"class_path": f"{Ball.__module__}.Ball", "init_args": {"size": 2.0}}


@pytest.mark.parametrize(
    ("spec", "match"),
    [
        (3, "the toy is given as 3; wanted a name, a mapping with 'name', or a Toy"),
        ({"size": 2.0}, "wanted a mapping with 'name'"),
        ("nowhere.Ball", "toy 'nowhere.Ball' does not import .*or a name: .*ball, kite"),
        ("dataclasses.Ball", "does not import"),
        ("dataclasses.dataclass", "wanted a subclass of Toy"),
        ({"class_path": "collections.OrderedDict"}, "wanted a subclass of Toy"),
    ],
)
def test_what_builds_nothing_is_refused(toys, spec, match):
    refused(toys.build, spec, match=match)


def test_a_spec_leads_back_to_an_equal_component(toys):
    for toy in (Ball(), Ball(size=3.0, kicks=2), Kite(string=1.0)):
        assert toys.build(toys.spec(toy)) == toy
    assert toys.spec(Kite(string=1.0)) == {"name": "kite", "string": 1.0}


def test_a_component_without_a_name_is_called_by_its_path(toys):
    @dataclass(frozen=True, kw_only=True)
    class Own(Ball):
        pass

    assert toys.name_of(Ball()) == "ball"
    assert toys.name_of(Own()) == f"{__name__}.{Own.__qualname__}"


def test_the_table_tells_name_and_summary(toys):
    ball, _ = toys.entries()
    assert (ball.kind, ball.name, ball.summary) == ("toy", "ball", "Rolls, and bounces.")
    assert ball.origin.startswith("grains ") and not ball.error


@pytest.mark.parametrize("registry", REGISTRIES, ids=lambda registry: registry.kind)
def test_every_component_of_ours_is_frozen_built_and_described(registry):
    names = registry.names()
    assert names and registry.group == f"grains.{registry.kind}s"
    for name, entry in zip(names, registry.entries(), strict=True):
        component = registry.build(name)
        assert registry.name_of(component) == name
        assert registry.build(component) is component and hash(component) == hash(type(component)())
        assert entry.summary.endswith(".")
        assert not entry.error
        for field in dataclasses.fields(component):
            with pytest.raises(dataclasses.FrozenInstanceError):
                setattr(component, field.name, None)


# --- other people's ------------------------------------------------------------------------------

PLUGIN = f"""
from dataclasses import dataclass
from {__name__} import Toy

@dataclass(frozen=True, kw_only=True)
class Drum(Toy):
    '''Is loud.'''

    sticks: int = 2

    def play(self):
        return "boom"

class Stone:
    pass
"""


@pytest.fixture
def install(tmp_path, monkeypatch):
    """Return what installs a distribution with entry points, and with a module of its name."""
    monkeypatch.syspath_prepend(tmp_path)

    def add(name, points, code=PLUGIN):
        info = tmp_path / f"{name}-1.2.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.2\n")
        (info / "entry_points.txt").write_text(points)
        (tmp_path / f"{name}.py").write_text(code)
        monkeypatch.delitem(sys.modules, name, raising=False)

    yield add
    for name in [name for name, module in sys.modules.items() if _below(module, tmp_path)]:
        del sys.modules[name]


def _below(module, folder):
    return str(getattr(module, "__file__", None)).startswith(str(folder))


def points(*lines):
    return "\n".join(["[console_scripts]", "other = some.where:main", "[grains.toys]", *lines, ""])


def test_a_plug_in_is_found_by_name_and_imported_only_when_named(toys, install):
    install("toyshop", points("drum = toyshop:Drum"))
    assert toys.names() == ["ball", "kite", "drum"]
    assert toys.get("ball") is Ball
    assert "toyshop" not in sys.modules
    drum = toys.build("drum", sticks=3)
    assert drum.play() == "boom" and drum.sticks == 3
    assert toys.name_of(drum) == "drum" and toys.build(toys.spec(drum)) == drum
    row = list(toys.entries())[-1]
    assert (row.name, row.origin, row.summary) == ("drum", "toyshop 1.2", "Is loud.")
    refused(toys.build, "drum", stick=1, match="no setting 'stick'; did you mean 'sticks'")
    refused(toys.get, "drumm", match="did you mean 'drum'")


def test_what_is_not_installed_is_not_found(toys):
    assert discover(toys.group) == []
    refused(toys.get, "drum", match="no toy is named 'drum'")


@pytest.mark.parametrize("blow", ["raise RuntimeError('broken')", "import nowhere", "def ("])
def test_a_plug_in_that_does_not_import_is_reported_and_breaks_nothing(toys, install, blow):
    install("broken", points("bear = broken:Bear"), blow)
    install("toyshop", points("drum = toyshop:Drum"))
    assert {"ball", "kite", "bear", "drum"} == set(toys.names())
    assert toys.build("drum").play() == "boom"
    refused(toys.build, "bear", match="toy 'bear' of broken 1.2 does not import: .*Error: ")
    errors = {row.name: row.error for row in toys.entries()}
    assert "does not import" in errors.pop("bear")
    assert set(errors.values()) == {""}


@pytest.mark.parametrize(
    ("target", "match"),
    [
        ("toyshop:Stone", "wanted a subclass of Toy"),
        ("toyshop:Nothing", "does not import: AttributeError"),
        ("toyshop", "wanted a subclass of Toy"),
    ],
)
def test_a_plug_in_that_is_no_component_is_refused(toys, install, target, match):
    install("toyshop", points(f"drum = {target}"))
    refused(toys.build, "drum", match=match)
    assert next(row for row in toys.entries() if row.name == "drum").error


def test_two_plug_ins_of_one_name_are_both_refused(toys, install):
    install("toyshop", points("drum = toyshop:Drum"))
    install("market", points("drum = market:Drum"))
    refused(toys.get, "drum", match="claimed by .* 1.2 and .* 1.2; uninstall all but one")
    assert toys.names().count("drum") == 1
    assert toys.build("ball") == Ball()


def test_a_plug_in_may_not_take_a_name_of_ours(toys, install):
    install("toyshop", points("ball = toyshop:Drum"))
    refused(toys.get, "ball", match="toy 'ball' is claimed by grains .* and toyshop 1.2")
    assert toys.build("kite", string=1.0).play() == "fly"
    assert [row.error for row in toys.entries() if row.origin == "toyshop 1.2"] == [
        f"the name is taken by {next(toys.entries()).origin}"
    ]


def test_a_plug_in_that_is_listed_twice_is_one(toys, install):
    install("toyshop", points("drum = toyshop:Drum"))
    install("toyshop_editable", points("drum = toyshop:Drum"))
    assert toys.build("drum").play() == "boom"


@pytest.mark.parametrize(
    "malformed", ["no section at all\n", "[grains.toys]\nno equals sign\n", "[a]\nx=1\n[a]\nx=2\n"]
)
def test_a_malformed_file_of_another_distribution_hides_no_plug_in(toys, install, malformed):
    install("aaa_malformed", malformed)
    install("toyshop", points("drum = toyshop:Drum"))
    assert toys.build("ball") == Ball()
    assert toys.build("drum").play() == "boom"
    assert [row.origin for row in toys.entries() if row.name == "drum"] == ["toyshop 1.2"]
