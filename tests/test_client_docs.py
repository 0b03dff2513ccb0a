"""What docs/client.md says about the page is what there is."""

import gzip
import re

from sockjs_aio.protocol import ends
from sockjs_aio.server.pages import INTEGRITY
from sockjs_aio.settings import Settings
from tests.test_docs import PAGES, ROOT

CLIENT = (ROOT / "docs/client.md").read_text()
MODULE = ROOT / "sockjs_aio/page/reconnecting-sockjs.mjs"
TYPES = MODULE.with_suffix(".d.mts")


def code_rows() -> list[list[str]]:
    (table,) = re.findall(r"\| code, reason .*?\n\n", CLIENT, re.DOTALL)
    return [line.strip("| ").split(" | ") for line in table.strip().splitlines()[2:]]


def test_every_end_that_a_client_is_told_of_is_documented() -> None:
    firsts = "\n".join(row[0] for row in code_rows())
    frames = [ends.SERVICE_RESTART, ends.HOOK_FAILED, ends.SLOW_CONSUMER, *ends.REFUSALS]
    frames += [ends.TOO_OLD, ends.AUTHORIZATION_EXPIRED]
    for code, reason, *_ in frames:
        assert f"`{code} {reason}`" in firsts
    assert "`3000 Go away!` is its default" in CLIENT
    violations = {end.code for end in ends.ENDS if end.initiator == "error"} - {1011}
    assert violations == {1002, 1003, 1007, 1009}
    assert "`1009`, no reason\n`1011" in firsts
    assert "`1002`, `1003` or `1007`, no reason" in firsts


def test_reasons_of_the_script_are_documented() -> None:
    reasons = re.findall(r'reason: "([^"]+)"', MODULE.read_text())
    assert len(reasons) == 2
    for reason in reasons:
        assert f"`1006 {reason}`" in CLIENT


def test_options_are_documented_and_typed_with_their_defaults() -> None:
    (defaults,) = re.findall(r"const DEFAULTS = \{(.*?)\}", MODULE.read_text(), re.DOTALL)
    options = re.findall(r"(\w+): ([\d_]+)", defaults)
    assert len(options) == 5
    for name, value in options:
        default = value.replace("_", "")
        assert f"| `{name}` | {default} |" in CLIENT
        assert re.search(rf"Default {default}\. \*/\n  {name}\?: number;", TYPES.read_text())


def test_script_is_as_small_as_it_is_said_to_be() -> None:
    code = MODULE.read_bytes()
    assert "8 KB long, and 3 KB if" in CLIENT
    assert (round(len(code), -3), round(len(gzip.compress(code)), -3)) == (8000, 3000)


def test_hash_of_the_default_script_is_the_same_everywhere() -> None:
    hashes = {
        path.relative_to(ROOT).as_posix(): set(re.findall(r"sha384-[\w/+=]{64}", path.read_text()))
        for path in [*PAGES, ROOT / "examples/chat/__init__.py"]
        if Settings.sockjs_url in path.read_text()
    }
    assert set(hashes) == {"README.md", "docs/client.md", "examples/chat/__init__.py"}
    assert all(found == {INTEGRITY} for found in hashes.values())


def test_every_member_of_the_class_has_a_type() -> None:
    (body,) = re.findall(r"\nclass ReconnectingSockJS .*?\n}\n", MODULE.read_text(), re.DOTALL)
    members = re.findall(r"^  (?:static |get )?(\w+)(?: = |\()", body, re.MULTILINE)
    assert {"CLOSED", "retry", "onopen", "url", "transport", "send", "reconnect"} <= set(members)
    (declared,) = re.findall(r"\nexport class .*?\n}\n", TYPES.read_text(), re.DOTALL)
    for name in members:
        assert re.search(rf"^  (?:static )?(?:readonly )?{name}[:(]", declared, re.MULTILINE), name
