# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""The manual says what the programs take, all of it and nothing else. (Of the command line: test_agreement.py)"""
import os
import pathlib
import re
import subprocess

import pytest

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
BUILD = pathlib.Path(os.environ.get("SHUNT_BUILD", ROOT / "build"))
PAGES = sorted((ROOT / "user/man").iterdir())


def run(*argv):
    done = subprocess.run([str(a) for a in argv], capture_output=True, text=True, timeout=60)
    return done.stdout + done.stderr


def plain(name):
    """A page as text on one line, without bold and underline, which are overstruck."""
    return re.sub(r"\s+", " ", re.sub(".\x08", "", run("mandoc", "-Tascii", ROOT / "user/man" / name)))


def keys_of(tmp_path, program, text):
    """The keys that a mapping may have: the program tells them to whoever uses another."""
    path = tmp_path / "keys.yaml"
    path.write_text(text)
    said = run(BUILD / program, "--check", path)
    listed = re.search(r"unknown key 'zzz' .*, expected (?:one of: )?([a-z_, ]+)$", said, re.M)
    assert listed, said
    return listed[1].split(", ")


@pytest.mark.parametrize("path", PAGES, ids=lambda p: p.name)
def test_page_is_good_mdoc(path):
    said = run("mandoc", "-Tlint", path)
    assert [line for line in said.splitlines() if not re.search(r"referenced manual not found|lacks .* entry", line)] == []


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


def test_every_object_that_an_event_is_about_is_in_the_manual():
    sources = "".join(path.read_text() for path in (ROOT / "user").glob("*/*.c"))
    arguments = re.findall(r'\b(?:ledger_add|change)\(\s*[^,;]+,\s*[^,;]+,\s*([^,;]*"[^,;]*),', sources)
    objects = {word for argument in arguments for word in re.findall(r'"([^"]+)"', argument)}
    listed = re.search(r"about this object \(([^)]*)\)", plain("shunt-event.8"))[1]
    assert len(objects) >= 10 and set(re.split(r", | or ", re.sub(r"[‘'`’]", "", listed))) == objects


def test_every_command_that_is_for_root_is_in_the_manual():
    commands = re.findall(r'\{ "(\w+)",\s+"(\w+)",\s+true,', (ROOT / "user/shuntd/answer.c").read_text())
    said = re.search(r"What changes anything is for root, (.*?) Nothing else", plain("shunt.8"))[1]
    assert len(commands) >= 8 and [f"{o} {c}" for o, c in commands if f"{o} {c}" not in said] == []


@pytest.mark.parametrize("name", ["shunt.yaml.5", "agent.yaml.5"])
def test_example_of_the_manual_is_a_good_file(tmp_path, name):
    text = (ROOT / "user/man" / name).read_text()
    path = tmp_path / "example.yaml"
    path.write_text(re.search(r"\.Bd -literal -offset indent\n(.*?)\.Ed", text, re.S)[1])
    assert run(BUILD / ("shuntd" if name == "shunt.yaml.5" else "shunt-agent"), "--check", path) == ""
