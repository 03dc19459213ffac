"""Settings: the flag before the environment, that before a file, that before the recipe; nothing is taken unseen."""

from pathlib import Path

import pytest

from kinoform.cli.command_list import COMMANDS
from kinoform.cli.commands import loaded
from kinoform.cli.settings import SETTINGS, variable
from tests.support.command_line import Ran, Run
from tests.support.tiny_recipe import tiny

PROMPT = "a red ball"


@pytest.fixture(autouse=True)
def bare(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in SETTINGS:
        monkeypatch.delenv(variable(name), raising=False)


def told(ran: Ran) -> dict[str, dict]:
    assert ran.code == 0, ran.err
    return ran.told[0]


UNFILED = [name for name, (_, mark) in SETTINGS.items() if not mark.in_file]


def test_no_file_sets_what_runs_code_or_writes_elsewhere() -> None:
    assert UNFILED == ["recipe", "config", "log", "log_prompts"]


def test_what_a_command_heeds_is_an_option_of_it_that_the_environment_says_too() -> None:
    for entry in COMMANDS:
        command = loaded(entry.name)
        assert bool(command.settings) == entry.heeds_settings
        variables = {each.name: each.envvar for each in command.params}
        assert {name: variables[name] for name in command.settings} == {
            name: variable(name) for name in command.settings
        }


@pytest.mark.parametrize("command", ["generate", "animate", "bridge", "edit", "outpaint", "plan"])
def test_commands_that_make_videos_heed_what_they_share(command: str) -> None:
    shared = {
        "model",
        "vae",
        "frames",
        "steps",
        "guidance_scale",
        "solver",
        "negative",
        "dtype",
        "device",
        "contact_sheet",
    }
    assert shared <= loaded(command).settings.keys()


def test_each_source_yields_to_the_one_before_it(
    kinoform: Run, model: list[str], here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def steps(*words: str) -> tuple[object, object]:
        shown = told(kinoform("generate", PROMPT, *model, *words, "--show-settings", "--json"))["steps"]
        made = kinoform("generate", PROMPT, *model, *words, "--seed", 7, "--json", "--force", "-o", "x.gif")
        assert told(made)["steps"] == (shown["value"] or tiny().steps)
        return shown["value"], shown["from"]

    assert steps() == (None, "recipe")
    (here / "kinoform.toml").write_text("steps = 4\n")
    assert steps() == (4, "kinoform.toml")
    monkeypatch.setenv("KINOFORM_STEPS", "5")
    assert steps() == (5, "KINOFORM_STEPS")
    assert steps("--steps", "6") == (6, "flag")


def test_the_nearest_file_counts(kinoform: Run, here: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def device() -> tuple[object, object]:
        found = told(kinoform("generate", "--show-settings", "--json"))["dtype"]
        return found["value"], found["from"]

    user = tmp_path / "config" / "kinoform" / "config.toml"
    assert device() == ("auto", "default")
    user.parent.mkdir(parents=True)
    user.write_text("dtype = 'bfloat16'\n")
    assert device() == ("bfloat16", str(user))
    (here / "kinoform.toml").write_text("dtype = 'float16'\n")
    assert device() == ("float16", "kinoform.toml")
    (here / "other.toml").write_text("dtype = 'float32'\n")
    monkeypatch.setenv("KINOFORM_CONFIG", "other.toml")
    assert device() == ("float32", "other.toml")
    found = told(kinoform("generate", "--config", "kinoform.toml", "--show-settings", "--json"))["dtype"]
    assert found == {"value": "float16", "from": "kinoform.toml"}


def test_a_table_is_for_its_command_alone(kinoform: Run, here: Path) -> None:
    (here / "kinoform.toml").write_text("steps = 4\n[generate]\nsteps = 5\n[evaluate]\nsteps = 6\nguidance_scale = 3\n")
    generate = told(kinoform("generate", "--show-settings", "--json"))
    evaluate = told(kinoform("evaluate", "--show-settings", "--json"))
    assert (generate["steps"]["value"], evaluate["steps"]["value"]) == (5, 6)
    assert (generate["guidance_scale"]["value"], evaluate["guidance_scale"]["value"]) == (None, "3")


def test_keys_may_be_spelt_as_flags_are(kinoform: Run, here: Path, model: list[str]) -> None:
    (here / "kinoform.toml").write_text("contact-sheet = true\nno_metadata = true\n")
    kinoform("generate", PROMPT, *model, "-o", "a.gif")
    assert (here / "a_sheet.png").is_file() and kinoform("info", "a.gif").code == 2
    kinoform("generate", PROMPT, *model, "-o", "b.gif", "--no-contact-sheet", "--metadata")
    assert not (here / "b_sheet.png").exists() and kinoform("info", "b.gif").code == 0


def test_people_see_where_values_come_from(kinoform: Run, here: Path) -> None:
    (here / "kinoform.toml").write_text("steps = 4\n")
    lines = [line.split() for line in kinoform("generate", "--shift", "3", "--show-settings").out.splitlines()]
    assert ["steps", "4", "kinoform.toml"] in lines and ["shift", "3.0", "flag"] in lines
    assert ["guidance_scale", "-", "recipe"] in lines and ["model", "mini", "default"] in lines


def test_a_length_said_by_flag_replaces_one_said_elsewhere(kinoform: Run, model: list[str], here: Path) -> None:
    (here / "kinoform.toml").write_text("frames = 9\n")
    words = ["generate", PROMPT, *model, "--seed", 7, "--steps", 1, "--json", "--force", "-o", "x.gif"]
    assert told(kinoform(*words))["num_frames"] == 9
    assert told(kinoform(*words, "--seconds", 0.6))["num_frames"] == 5
    assert kinoform(*words, "--seconds", 0.6, "--frames", 3).code == 2


def test_folders_of_the_user_may_be_named_with_a_tilde(
    kinoform: Run, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", "/home/somebody")
    (here / "kinoform.toml").write_text("model = '~/Wan2.1'\n")
    assert told(kinoform("generate", "--show-settings", "--json"))["model"]["value"] == "/home/somebody/Wan2.1"


def test_commands_that_follow_a_file_do_not_follow_settings(
    kinoform: Run, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KINOFORM_MODEL", "t2v-14b")
    (here / "kinoform.toml").write_text("model = 't2v-14b'\nupscale = 3\ndevice = 'cpu'\n")
    shown = told(kinoform("decode", "x.latents.safetensors", "--show-settings", "--json"))
    assert shown.keys() == {"device", "contact_sheet", "no_metadata"} and shown["device"]["from"] == "kinoform.toml"


REFUSED = [
    ("stpes = 4", "settings_unknown_key", "'steps'"),
    ("prompt = 'a cat'", "settings_unknown_key", "'prompt'"),
    ("force = true", "settings_unknown_key", "'force'"),
    ("steps = '4'", "wrong_type", "'4'"),
    ("steps = 4.0", "wrong_type", "'4.0'"),
    ("steps = true", "wrong_type", "'True'"),
    ("guidance_scale = [1]", "wrong_type", "guidance_scale"),
    ("guidance_scale = true", "wrong_type", "guidance_scale"),
    ("solver = 3", "wrong_type", "solver"),
    ("contact_sheet = 1", "wrong_type", "contact_sheet"),
    ("[generat]\nsteps = 4", "settings_unknown_table", "'generate'"),
    ("[generate]\nstpes = 4", "settings_unknown_key", "[generate] 'stpes'"),
    ("[evaluate]\nsteps = 'x'", "wrong_type", "[evaluate] steps"),
    ("steps = ", "settings_damaged", "TOML"),
    ("a = " + "[" * 5000, "settings_damaged", "TOML"),
    ("#" * 1_000_001, "file_too_large", "settings"),
    *((f"{name} = 'x'", "setting_not_in_file", name) for name in UNFILED),
]


@pytest.mark.usefixtures("unread")
@pytest.mark.parametrize(("text", "code", "named"), REFUSED, ids=lambda value: value[:30].replace("\n", " "))
def test_what_cannot_be_meant_is_refused_with_file_and_key(
    kinoform: Run, here: Path, text: str, code: str, named: str
) -> None:
    (here / "kinoform.toml").write_text(text)
    ran = kinoform("generate", PROMPT)
    assert ran.refusal == code and ran.out == ""
    assert "kinoform.toml" in ran.sentence and named in ran.sentence
    assert kinoform("generate", "--help").code == 0


def test_a_file_that_is_not_there_or_not_text_is_refused(kinoform: Run, here: Path) -> None:
    (here / "latin.toml").write_bytes(b"solver = 'caf\xe9'")
    for name, code in [("none.toml", "file_missing"), ("latin.toml", "settings_damaged")]:
        ran = kinoform("generate", PROMPT, "--config", name)
        assert ran.refusal == code and name in ran.sentence


def test_a_refusal_says_what_was_set_elsewhere(
    kinoform: Run, here: Path, model: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (here / "kinoform.toml").write_text("solver = 'eulr'\n")
    ran = kinoform("generate", PROMPT, *model)
    assert ran.refusal == "unknown_solver" and "kinoform.toml" in ran.err
    monkeypatch.setenv("KINOFORM_STEPS", "many")
    ran = kinoform("generate", PROMPT, *model)
    assert ran.code == 2 and "set elsewhere: steps by KINOFORM_STEPS" in ran.err and "--steps" in ran.err
