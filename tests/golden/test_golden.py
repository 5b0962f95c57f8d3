# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""The configuration readers on whole files: NAME.in and what comes of it.

NAME.in with NAME.ok: the file is good, and NAME.ok is the whole model printed, which is a good file itself.
NAME.in with NAME.err: the file is wrong, and NAME.err is LINE:COLUMN: MESSAGE.
A name that begins with "agent-" is an agent.yaml, every other a shunt.yaml. The programs are those built with ASan
(leaks included) and UBSan, so each file is also a test of memory.
"""
import os
import pathlib
import random
import subprocess

import pytest

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
BUILD = pathlib.Path(os.environ.get("SHUNT_BUILD", ROOT / "build"))
SANITIZED = 99  # exit status when a sanitizer finds something

INPUTS = sorted(HERE.glob("*.in"))
GOOD = [f for f in INPUTS if f.with_suffix(".ok").exists()]
BAD = [f for f in INPUTS if f.with_suffix(".err").exists()]


def name_of(path):
    return path.stem


def tool(option, path, agent=False):
    """(exit status, stdout, stderr) of a program that reads a file; what a sanitizer finds fails the test."""
    options = f"exitcode={SANITIZED}"
    run = subprocess.run([BUILD / "san" / ("shunt-agent" if agent else "shuntd"), option, path],
                         capture_output=True, text=True, timeout=60,
                         env={**os.environ, "ASAN_OPTIONS": options, "UBSAN_OPTIONS": options})
    assert run.returncode in (0, 1), run.stderr
    return run.returncode, run.stdout, run.stderr


def is_agent(path):
    return path.stem.startswith("agent")


def shown(path, agent=False):
    status, out, err = tool("--show-config", path, agent)
    assert (status, err) == (0, "")
    return out


def show_text(tmp_path, text, agent=False):
    path = tmp_path / "text.yaml"
    path.write_text(text)
    return shown(path, agent)


def error_of(tmp_path, text):
    path = tmp_path / "text.yaml"
    path.write_text(text)
    status, out, err = tool("--check", path)
    assert (status, out) == (1, "")
    return err.removeprefix(f"{path}:")


def test_each_input_says_what_is_expected_of_it():
    assert INPUTS
    for f in INPUTS:
        assert f.with_suffix(".ok").exists() != f.with_suffix(".err").exists(), f
    known = {f.stem for f in INPUTS} | {"example-shunt", "example-agent"}
    assert {f.stem for f in [*HERE.glob("*.ok"), *HERE.glob("*.err")]} == known


@pytest.mark.parametrize("path", GOOD, ids=name_of)
def test_good_file_prints_its_whole_model(path):
    assert tool("--check", path, is_agent(path)) == (0, "", "")
    assert shown(path, is_agent(path)) == path.with_suffix(".ok").read_text()


@pytest.mark.parametrize("path", GOOD, ids=name_of)
def test_printed_model_is_a_file_of_the_same_model(path):
    printed = path.with_suffix(".ok")
    assert shown(printed, is_agent(path)) == printed.read_text()


@pytest.mark.parametrize("path", BAD, ids=name_of)
def test_wrong_file_is_answered_with_place_and_reason(path):
    expected = f"{path}:{path.with_suffix('.err').read_text()}"
    assert tool("--check", path, is_agent(path)) == (1, "", expected)
    assert tool("--show-config", path, is_agent(path)) == (1, "", expected)


def test_example_of_the_balancer_is_a_good_file():
    assert shown(ROOT / "tools/examples/shunt.yaml") == (HERE / "example-shunt.ok").read_text()


def test_example_of_the_agent_is_a_good_file():
    assert shown(ROOT / "tools/examples/agent.yaml", agent=True) == (HERE / "example-agent.ok").read_text()


def test_example_says_the_defaults_that_are_then_used(tmp_path):
    """What the example calls a default: without those lines the model is the same."""
    lines = (ROOT / "tools/examples/shunt.yaml").read_text().splitlines()
    optional = ("probe:", "interval:", "multiplier:", "doubt:", "hold:", "hold_max:", "cpu:", "detector:", "flows:", "max:", "closed:", "idle:", "control:",
                "socket:", "group:", "policy:", "check:", "max_soft_eject:", "slots: 65537", "hash: 5tuple", "on_failure:")
    kept = [line for line in lines if not line.strip().startswith(optional)]
    assert len(lines) - len(kept) == len(optional)
    assert show_text(tmp_path, "\n".join(kept)) == (HERE / "example-shunt.ok").read_text()


def shuffled_text(rng):
    """One model in some order of its lines: sections, VIPs, pools, backends, and the keys of each."""
    def mapping(**keys):
        items = list(keys.items())
        rng.shuffle(items)
        return "{" + ", ".join(f"{k}: {v}" for k, v in items) + "}"

    def sequence(items):
        rng.shuffle(items)
        return "[" + ",\n  ".join(items) + "]"

    pools = [
        mapping(name=p, forward=forward, backends=sequence([
            mapping(name=f"{p}-{i}", address=f"10.0.{n}.{i}", weight=i, domain=f"rack-{i % 3}") for i in range(1, 9)]))
        for n, (p, forward) in enumerate({"red": "l2", "green": "ipip", "blue": "l2"}.items())]
    vips = [mapping(name=f"v{i}", address=f"203.0.113.{i}", protocol="tcp", port=80 + i, pool=pool)
            for i, pool in enumerate(["red", "green", "blue", "red"], 1)]
    sections = [f"interfaces: {sequence(['eth0', 'eth1', 'eth2'])}", "seed: 7",
                f"probe: {mapping(interval='200us', multiplier=4)}",
                f"vips: {sequence(vips)}", f"pools: {sequence(pools)}"]
    rng.shuffle(sections)
    return "\n".join(sections) + "\n"


def test_order_of_lines_never_matters(tmp_path):
    rng = random.Random(7)
    texts = {shuffled_text(rng) for _ in range(20)}
    assert len(texts) == 20
    assert len({show_text(tmp_path, text) for text in texts}) == 1


def full_text(n_vips=1, n_pools=1, n_backends=1, n_interfaces=1, n_agents=0):
    """A file of so many items; the backends are spread over the pools."""
    lines = ["interfaces: [" + ", ".join(f"eth{i}" for i in range(n_interfaces)) + "]", "seed: 1", "vips:"]
    lines += [f"  - {{name: v{i}, address: 203.0.113.1, protocol: tcp, port: {i + 1}, pool: p{i % n_pools}}}"
              for i in range(n_vips)]
    lines += ["pools:"]
    for p in range(n_pools):
        lines += [f"  - name: p{p}", "    forward: l2", "    backends:"]
        lines += [f"    - {{name: b{b}, address: 10.0.{b // 256}.{b % 256}, domain: a-domain-with-a-long-name}}"
                  for b in range(p, n_backends, n_pools)]
    return "\n".join(lines) + "\n"


def test_file_at_every_capacity_is_read_and_printed(tmp_path):
    text = show_text(tmp_path, full_text(1024, 256, 4095, 64))
    assert text.count("weight:") == 4095 and text.count("protocol:") == 1024 and text.count("slots:") == 256
    assert show_text(tmp_path, text) == text


@pytest.mark.parametrize("text,expected", [
    (full_text(n_vips=1025), "1028:5: vips has 1025 items, expected at most 1024\n"),
    (full_text(n_pools=257, n_backends=257), "1030:5: pools has 257 items, expected at most 256\n"),
    (full_text(n_backends=4096), "4104:7: backends has 4096 items, expected at most 4095\n"),
    (full_text(n_pools=2, n_backends=4096), "4107:7: too many backends, expected at most 4095 in the file\n"),
    (full_text(n_interfaces=65), "1:452: interfaces has 65 items, expected at most 64\n"),
], ids=["vips", "pools", "backends-of-a-pool", "backends-of-the-file", "interfaces"])
def test_one_more_than_the_capacity_is_refused(tmp_path, text, expected):
    assert error_of(tmp_path, text) == expected


def test_more_backends_than_slots_are_refused(tmp_path):
    text = full_text(n_backends=252).replace("    backends:", "    slots: 251\n    backends:")
    assert error_of(tmp_path, text) == "8:12: slots is '251', expected no fewer than the 252 backends of the pool\n"


def test_unknown_pool_among_many_names_the_nearest(tmp_path):
    text = full_text(n_pools=40, n_backends=40).replace("pool: p0", "pool: p0x")
    assert error_of(tmp_path, text) == "4:68: unknown pool 'p0x', expected one of 40 (did you mean 'p0'?)\n"


@pytest.mark.parametrize("text", [
    "x" * (5 << 20), "[" * 100000, "{" * 100000, "- " * 100000, "? " * 100000, "a: " * 100000, "&a " * 100000,
    "\n".join(" " * i + "a:" for i in range(2000)), "interfaces: [" + "a," * 1000000 + "]",
    "vips: [" + "{}," * 200000 + "]", "x" * (3 << 20) + ": 1", 'seed: "' + "\\x41" * 900000 + '"', "#" * (3 << 20),
    "a: &a [x]\nb: &b [*a, *a]\nc: &c [*b, *b]\n", "%" * 100000, "'" + "\n" * 1000000, "|\n" + " x\n" * 1000000,
], ids=range(17))
def test_huge_or_nested_file_is_refused_within_bounds(tmp_path, text):
    assert "expected" in error_of(tmp_path, text)
