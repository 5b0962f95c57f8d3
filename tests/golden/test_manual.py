# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""The manual, the help and the completion say what the programs do, all of it and nothing else."""
import html.parser
import os
import pathlib
import re
import subprocess

import pytest

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
BUILD = pathlib.Path(os.environ.get("SHUNT_BUILD", ROOT / "build"))
PAGES = sorted((ROOT / "user/man").iterdir())
OBJECTS = [path.name[len("shunt-"):-len(".8")] for path in PAGES if path.match("shunt-*.8") and path.name != "shunt-agent.8"]


def run(*argv):
    done = subprocess.run([str(a) for a in argv], capture_output=True, text=True, timeout=60)
    return done.stdout + done.stderr


def plain(name):
    """A page as text on one line, without bold and underline, which are overstruck."""
    return re.sub(r"\s+", " ", re.sub(".\x08", "", run("mandoc", "-Tascii", ROOT / "user/man" / name)))


def objects():
    """{object: one line about it} as the help has them."""
    return dict(re.findall(r"^  ([a-z]+) +(.*):", run(BUILD / "shunt", "help"), re.M))


def commands():
    """{(object, command): arguments} as the help has them."""
    found = {}
    for name in objects():
        for command, arguments in re.findall(rf"^  shunt {name} ([a-z]+) ?(.*)$", run(BUILD / "shunt", "help", name), re.M):
            found[name, command] = arguments
    return found


class Items(html.parser.HTMLParser):
    """items: {section: what its outermost lists tell about}, from a page as HTML."""

    def __init__(self, text):
        super().__init__()
        self.items, self.depth, self.into, self.section = {}, 0, None, None
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.depth += tag == "dl"
        if tag == "h1":
            self.section = dict(attrs)["id"]
        if tag == "dt" and self.depth == 1:
            self.into = []

    def handle_endtag(self, tag):
        self.depth -= tag == "dl"
        if tag == "dt" and self.into is not None:
            self.items.setdefault(self.section, []).append(" ".join("".join(self.into).split()))
            self.into = None

    def handle_data(self, data):
        if self.into is not None:
            self.into.append(data)


def keys_of(tmp_path, program, text):
    """The keys that a mapping may have: the program tells them to whoever uses another."""
    path = tmp_path / "keys.yaml"
    path.write_text(text)
    said = run(BUILD / program, "--check", path)
    listed = re.search(r"unknown key 'zzz' .*, expected (?:one of: )?([a-z_, ]+)$", said, re.M)
    assert listed, said
    return listed[1].split(", ")


def completions(*words):
    """What bash offers after these words, with a daemon that knows one VIP and one backend."""
    script = """
        source "$1"; shift
        names() { printf 'NAME\\nname-of-%s\\n' "$1"; }
        wrapper() { if [[ $2 == show && $# == 2 ]]; then names "$1"; else "$PROGRAM" "$@"; fi; }
        COMP_WORDS=(wrapper "$@") COMP_CWORD=$# COMPREPLY=()
        _shunt
        printf '%s\\n' "${COMPREPLY[@]}"
    """
    done = subprocess.run(["bash", "-c", script, "bash", ROOT / "user/completion/shunt", *words], capture_output=True, text=True,
                          timeout=60, env={**os.environ, "PROGRAM": str(BUILD / "shunt")})
    assert not done.stderr, done.stderr
    return set(done.stdout.split())


def keys_said(*words):
    """The words that a command takes, as it tells whoever uses another."""
    return set(re.search(r"but: (.*)$", run(BUILD / "shunt", *words, "zzz"), re.M)[1].split(", "))


@pytest.mark.parametrize("path", PAGES, ids=lambda p: p.name)
def test_page_is_good_mdoc(path):
    assert run("mandoc", "-Tlint", "-W", "warning", path) == ""


def test_every_object_of_the_help_is_in_the_overview_and_no_other():
    assert dict(re.findall(r"^\.It Xr shunt-([a-z]+) 8\n(.*)$", (ROOT / "user/man/shunt.8").read_text(), re.M)) == objects()
    assert sorted(objects()) == OBJECTS


@pytest.mark.parametrize("name", OBJECTS)
def test_page_of_an_object_has_its_commands_with_their_arguments_and_no_other(name):
    assert re.search(r"^\.Nd (.*)$", (ROOT / f"user/man/shunt-{name}.8").read_text(), re.M)[1] == objects()[name]
    page = Items(run("mandoc", "-Thtml", ROOT / f"user/man/shunt-{name}.8"))
    # The help shouts what is to be filled in, the page underlines it.
    assert page.items["COMMANDS"] == [f"{c} {a.lower()}".strip() for (o, c), a in commands().items() if o == name]


def test_options_of_the_help_are_in_the_manual():
    manual = plain("shunt.8")
    for option in re.findall(r"--([a-z]+)", run(BUILD / "shunt", "help")):
        assert f"--{option}" in manual


@pytest.mark.parametrize("program, name", [("shuntd", "shuntd.8"), ("shunt-agent", "shunt-agent.8")])
def test_usage_of_the_daemons_is_in_their_manuals(program, name):
    usage, manual = run(BUILD / program, "--help"), plain(name)
    words = set(re.findall(r"(?<![\w-])--?[a-z][a-z-]*", usage)) | set(re.findall(r"\] ([a-z]+)", usage))
    assert len(words) >= 3
    for word in words:
        assert word in manual, word


@pytest.mark.parametrize("text", [
    "zzz: 1", "probe: {zzz: 1}", "flows: {zzz: 1}", "control: {zzz: 1}", "vips: [{zzz: 1}]", "vips: [{syn_limit: {zzz: 1}}]",
    "pools: [{zzz: 1}]", "pools: [{backends: [{zzz: 1}]}]", "pools: [{check: {type: http, zzz: 1}}]",
    "pools: [{check: {type: bfd, zzz: 1}}]"])
def test_every_key_of_the_balancers_file_is_in_its_manual(tmp_path, text):
    manual = plain("shunt.yaml.5")
    for key in keys_of(tmp_path, "shuntd", text):
        assert re.search(rf"\b{key}\b", manual), key


@pytest.mark.parametrize("text", ["zzz: 1", "control: {zzz: 1}"])
def test_every_key_of_the_agents_file_is_in_its_manual(tmp_path, text):
    manual = plain("agent.yaml.5")
    for key in keys_of(tmp_path, "shunt-agent", text):
        assert re.search(rf"\b{key}\b", manual), key


@pytest.mark.parametrize("name", ["shunt.yaml.5", "agent.yaml.5"])
def test_example_of_the_manual_is_a_good_file(tmp_path, name):
    text = (ROOT / "user/man" / name).read_text()
    path = tmp_path / "example.yaml"
    path.write_text(re.search(r"\.Bd -literal -offset indent\n(.*?)\.Ed", text, re.S)[1])
    assert run(BUILD / ("shuntd" if name == "shunt.yaml.5" else "shunt-agent"), "--check", path) == ""


def test_completion_offers_objects_and_commands():
    known = commands()
    assert completions("") == {"help", *(o for o, _ in known)}
    for name in {o for o, _ in known}:
        assert completions(name, "") == completions("help", name, "") == {"help", *(c for o, c in known if o == name)}


@pytest.mark.parametrize("words", [["backend", "drain", "gpu1"], ["flow", "show"], ["flow", "count"], ["flow", "reset"],
                                   ["event", "show"], ["event", "monitor"], ["config", "reload"]], ids=" ".join)
def test_completion_offers_the_words_that_a_command_takes(words):
    assert completions(*words, "") == keys_said(*words)
    manual = plain(f"shunt-{words[0]}.8")
    for word in keys_said(*words):
        assert re.search(rf"\b{word}\b", manual), word


@pytest.mark.parametrize("words, offered", [
    (["backend", "drain"], "name-of-backend"), (["backend", "undrain"], "name-of-backend"), (["probe", "show"], "name-of-backend"),
    (["vip", "show"], "name-of-vip"), (["flow", "show", "vip"], "name-of-vip"), (["flow", "where", "192.0.2.1"], "name-of-vip"),
    (["flow", "reset", "state", "open", "backend"], "name-of-backend"), (["slot", "show"], "name-of-slot"),
    (["flow", "count", "state"], "open closing closed"), (["flow", "show", "limit"], ""), (["flow", "show", "client"], ""),
    (["backend", "drain", "gpu1", "deadline"], ""), (["flow", "where"], "")])
def test_completion_offers_values(words, offered):
    assert completions(*words, "") == set(offered.split())
