# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""The command line's help, its manual and its completion agree: with the description that the program gives of itself."""
import html.parser
import json
import os
import pathlib
import re
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
BUILD = pathlib.Path(os.environ.get("SHUNT_BUILD", ROOT / "build"))
sys.path.insert(0, str(ROOT / "tests/lib"))
from script import Script  # noqa: E402

NAMES = {"vip": ["chat4", "chat6"], "backend": ["gpu1", "gpu2"], "pool": ["gpus"]}  # that the daemon knows


def run(*argv, **kw):
    done = subprocess.run([str(a) for a in argv], capture_output=True, text=True, timeout=60, **kw)
    return done.stdout + done.stderr


DESCRIPTION = json.loads(run(BUILD / "shunt", "-j", "help"))
OBJECTS = {o["name"]: o for o in DESCRIPTION["objects"]}
COMMANDS = [(o["name"], c) for o in DESCRIPTION["objects"] for c in o["commands"]]
PAGES = {path.name[len("shunt-"):-len(".8")]: path for path in sorted((ROOT / "user/man").glob("shunt-*.8"))}
del PAGES["agent"]  # another program


def each_command(names="name, command", commands=COMMANDS):
    return pytest.mark.parametrize(names, commands, ids=[f"{name} {command['name']}".strip() for name, command in commands])


def whole(name, command):
    return [name, command["name"]] if command["name"] else [name]  # an object may be its own command


def said(key):
    """A word that a command takes, and what it announces."""
    return key["word"] + (f" {key['title']}" if key["title"] else "")


class Items(html.parser.HTMLParser):
    """What the lists of a page tell about, by section; those in an item of another one stand apart."""

    def __init__(self, path):
        super().__init__()
        self.items, self.inner, self.depth, self.into, self.section = {}, {}, 0, None, None
        self.feed(run("mandoc", "-Thtml", path))

    def handle_starttag(self, tag, attrs):
        self.depth += tag == "dl"
        if tag == "h1":
            self.section = dict(attrs)["id"]
        if tag == "dt":
            self.into = []

    def handle_endtag(self, tag):
        self.depth -= tag == "dl"
        if tag == "dt" and self.into is not None:
            lists = self.items if self.depth == 1 else self.inner
            lists.setdefault(self.section, []).append(" ".join("".join(self.into).split()))
            self.into = None

    def handle_data(self, data):
        if self.into is not None:
            self.into.append(data)


def shown(text):
    """The help shouts what is to be filled in, the page underlines it."""
    return text.lower()


# ---- the description itself ----

def test_a_word_is_of_one_kind_wherever_it_is_taken():
    """Else nobody could say whether the option of that name has a value."""
    kinds = {}
    for _, command in COMMANDS:
        for key in command["keys"]:
            assert kinds.setdefault(key["word"], (key["value"], key["title"] is None)) == (key["value"], key["title"] is None), key


@pytest.mark.parametrize("words", [[], ["backend"], ["flow", "show"]], ids=" ".join)
def test_description_of_a_part_is_that_part_of_the_whole(words):
    part = json.loads(run(BUILD / "shunt", "-j", "help", *words))
    assert part.pop("text") == run(BUILD / "shunt", "help", *words)
    of = {**DESCRIPTION, "name": None}
    for word in words:
        of = next(x for x in of.get("objects") or of["commands"] if x["name"] == word)
    assert part == {k: v for k, v in of.items() if k not in ("text", "name") or words}


# ---- the help ----

def test_help_tells_of_all_objects_and_their_commands():
    lines = re.findall(r"^  ([a-z]+) +(.*)$", run(BUILD / "shunt", "help"), re.M)
    commands = {name: " | ".join(c["name"] for c in o["commands"] if c["name"]) for name, o in OBJECTS.items()}
    assert lines == [(name, o["help"] + (": " + commands[name] if commands[name] else "")) for name, o in OBJECTS.items()]


@pytest.mark.parametrize("name", OBJECTS)
def test_help_of_an_object_tells_of_its_commands(name):
    text = run(BUILD / "shunt", name, "help")
    assert text.startswith(f"{name}: {OBJECTS[name]['help']}\n")
    told = [(f"shunt {c['usage']}", c["help"]) for c in OBJECTS[name]["commands"]]
    assert re.findall(rf"^  (shunt {name}.*)\n        (.*)$", text, re.M) == told
    assert text == run(BUILD / "shunt", "help", name) == run(BUILD / "shunt", name, "-h")


@each_command()
def test_help_of_a_command_tells_what_it_takes(name, command):
    text = run(BUILD / "shunt", *whole(name, command), "-h")
    assert f"  shunt {command['usage']}\n        {command['help']}\n" in text
    for key in command["keys"]:
        assert key["group"] in command["usage"] if key["group"] else said(key) in command["usage"]
        assert said(key) in text
    assert text == run(BUILD / "shunt", "help", *whole(name, command))


def test_help_fits_into_100_columns():
    pages = [[], *([name] for name in OBJECTS)]
    assert [line for words in pages for line in run(BUILD / "shunt", "help", *words).splitlines() if len(line) > 100] == []


# ---- the manual ----

def test_overview_lists_every_object_and_each_has_its_page():
    listed = re.findall(r"^\.It Xr shunt-([a-z]+) 8\n(.*)$", (ROOT / "user/man/shunt.8").read_text(), re.M)
    assert listed == [(name, o["help"]) for name, o in OBJECTS.items()]
    assert sorted(OBJECTS) == list(PAGES)


def test_overview_has_every_option():
    items = Items(ROOT / "user/man/shunt.8").items["DESCRIPTION"]
    assert items == [shown(f"-{o['letter']}, --{o['word']}{' ' + o['title'] if o['title'] else ''}") for o in DESCRIPTION["options"]]


@pytest.mark.parametrize("name", PAGES)
def test_page_of_an_object_has_its_commands_with_their_arguments_and_no_other(name):
    assert re.search(r"^\.Nd (.*)$", PAGES[name].read_text(), re.M)[1] == OBJECTS[name]["help"]
    usages = [c["usage"][len(name) + 1:] if c["name"] else c["usage"] for c in OBJECTS[name]["commands"]]
    assert Items(PAGES[name]).items["COMMANDS"] == [shown(u) for u in usages]


@pytest.mark.parametrize("name", PAGES)
def test_page_of_an_object_tells_what_its_groups_of_words_are(name):
    groups = {shown(said(k)): None for c in OBJECTS[name]["commands"] for k in c["keys"] if k["group"]}
    told = [item.replace(" | ", "|") for item in Items(PAGES[name]).inner.get("COMMANDS", [])]
    assert [item for item in told if item in groups] == list(groups)


# ---- the completion ----

@pytest.fixture(scope="module")
def daemon(tmp_path_factory):
    """Stands in for the daemon: knows names. Its socket."""
    lists = {kind: [{"name": name} for name in names] for kind, names in NAMES.items()}
    with Script(tmp_path_factory.mktemp("daemon") / "shuntd.sock", lambda r: {"result": lists[r["object"]]}) as script:
        yield script.path


def completions(path, *words, cwd=None):
    """What bash offers for the last of these words, asking that daemon."""
    script = """
        source "$1"
        COMP_LINE=$2 COMP_POINT=${#2} COMPREPLY=()
        compopt() { :; }
        _shunt
        printf '%s\\n' "${COMPREPLY[@]}"
    """
    line = " ".join([str(BUILD / "shunt"), *words])
    done = subprocess.run(["bash", "-c", script, "bash", ROOT / "user/completion/shunt", line], capture_output=True, text=True,
                          timeout=9, cwd=cwd, env={**os.environ, "SHUNT_SOCKET": str(path), "COMP_WORDBREAKS": " :="})
    assert not done.stderr, done.stderr
    return [line for line in done.stdout.split("\n") if line]


def offers(value, title):
    """What there is of a kind of value."""
    return [word for word in title.split("|") if word.islower()] + NAMES.get(value, [])


def test_completion_offers_objects_commands_and_options(daemon):
    options = [f"--{o['word']}" for o in DESCRIPTION["options"]]
    assert completions(daemon, "") == completions(daemon, "-j", "") == [*OBJECTS, "help"]
    assert completions(daemon, "help", "") == [*OBJECTS, "help"]
    assert completions(daemon, "-") == completions(daemon, "vip", "show", "--") == options
    for name, o in OBJECTS.items():
        commands = [c["name"] for c in o["commands"]]
        if commands != [""]:
            assert completions(daemon, name, "") == completions(daemon, "help", name, "") == [*commands, "help"]


@each_command()
def test_completion_offers_what_the_command_takes(daemon, tmp_path, name, command):
    (tmp_path / "here.yaml").touch()
    words, keys = whole(name, command), [k["word"] for k in command["keys"]]
    for argument in command["arguments"]:
        expected = offers(argument["value"], argument["title"]) + (["here.yaml"] if argument["value"] == "file" else [])
        assert completions(daemon, *words, "", cwd=tmp_path)[:len(expected)] == expected
        words.append("x")
    assert completions(daemon, *words, "") == keys
    assert completions(daemon, *words, "--") == [f"--{o['word']}" for o in DESCRIPTION["options"]] + [f"--{k}" for k in keys]
    for key in command["keys"]:
        if key["title"]:
            assert completions(daemon, *words, key["word"], "") == offers(key["value"], key["title"])
            assert completions(daemon, *words, f"--{key['word']}", "") == offers(key["value"], key["title"])
        given = [*words, key["word"], *(["x"] if key["title"] else [])]
        assert completions(daemon, *given, "") == [k for k in keys if k != key["word"]]


@pytest.mark.parametrize("words, offered", [
    (["ba"], ["backend"]), (["b", "s"], ["show", "set"]), (["b", "sh"], ["show"]), (["b", "dr", "gpu"], ["gpu1", "gpu2"]),
    (["fl", "sh", "st"], ["state"]),
    (["flow", "show", "state", "clos"], ["closing", "closed"]), (["flow", "where", "192.0.2.1:40", "ch"], ["chat4", "chat6"]),
    (["flow", "show", "--state", "o"], ["open"]), (["flow", "show", "--st"], ["--state"]), (["cow", ""], []),
    (["backend", "milk", ""], []), (["flow", "show", "limit", ""], []), (["--socket", "/dev/nul"], ["/dev/null"])])
def test_completion_goes_on_with_what_is_begun(daemon, words, offered):
    assert completions(daemon, *words) == offered


def test_completion_asks_the_daemon_of_the_socket_that_is_given(daemon):
    assert completions("/nonexistent", "-s", str(daemon), "vip", "show", "") == NAMES["vip"]


def test_completion_is_quiet_without_a_daemon_and_waits_for_none(tmp_path):
    """One that hangs is waited for 10 seconds elsewhere: the shell is given less than that here."""
    assert completions("/nonexistent", "backend", "drain", "") == []
    with Script(tmp_path / "hangs.sock", lambda request: None) as hanging:
        assert completions(hanging.path, "backend", "drain", "") == []
        assert completions(hanging.path, "backend", "dr") == ["drain"]
