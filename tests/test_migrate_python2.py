"""Python 2 is called so, and nothing of it is rewritten."""

import subprocess
import sys
from pathlib import Path

import pytest

from sockjs_aio.migrate import Kind, examine, main
from tests.test_migrate_tornado import advice

PROGRAMS = Path(__file__).parent / "migrate_programs"

PYTHON2 = {
    "print": "print 'x'",
    "print of a name": "print x, y",
    "print to a file": "print >>sys.stderr, 'x' % y, 'z'; print 'x'",
    "except": "try:\n    f()\nexcept ValueError, e:\n    pass",
    "except of several": "try:\n    f()\nexcept (A, b.C), e:\n    pass",
    "except into two": "try:\n    f()\nexcept socket.error, (errno, text):\n    pass",
    "except into a name that is bound": "e = 1\ntry:\n    f()\nexcept b.C, e:\n    pass",
    "raise": "raise ValueError, 'x'",
    "exec": "exec 'x' in {}",
    "unequal": "x = 1 <> 2",
    "backticks": "x = `y`",
    "octal": "os.chmod(p, 0755)",
    "long": "x = 10L",
    "raw unicode": "x = ur'\\d'",
    "lambda": "f = lambda (a, b): a",
    "parameters": "def f(a, (b, c)):\n    pass",
    "tabs": "if x:\n        y\n\tz",
}


@pytest.mark.parametrize("code", PYTHON2.values(), ids=PYTHON2)
def test_python_2_is_called_so_and_its_imports_are_listed(code: str) -> None:
    source = (
        f"import sys\n  \nimport sockjs.tornado\nfrom sockjs.tornado import proto  # x\n{code}\n"
    )
    examination = examine(source.encode())
    assert examination.rewritten is None and examination.is_user
    *imports, broken = examination.findings
    assert [(f.line, f.kind) for f in imports] == [(3, Kind.UNDECIDABLE), (4, Kind.UNDECIDABLE)]
    assert imports[0].found == "import sockjs.tornado"
    assert imports[0].advice == "in Python 3, change it to import sockjs_aio.tornado"
    assert broken.line > 4 and broken.kind is Kind.BROKEN
    assert broken.render(Path("a.py")).startswith(f"a.py:{broken.line}: broken: Python 2: convert ")


def test_import_of_what_is_missing_is_told_as_in_python_3() -> None:
    source = (
        "from sockjs.tornado.periodic import Callback\nfrom sockjs.tornado import (\n  proto)\n"
    )
    missing, opened, _ = examine(f"{source}print 1\n".encode()).findings
    assert missing.advice.startswith("sockjs_aio.tornado.periodic does not exist: use ")
    assert opened.advice == "in Python 3, change it to from sockjs_aio.tornado import ("


TWO_CLASSES = {
    "capitals": "except ValueError, KeyError:",
    "attributes": "except socket.error, select.error:",
    "an import": "except OSError, timeout:",
    "a class of the file": "except OSError, error:",
    "three": "except ValueError, KeyError, error:",
    "a group": "except* ValueError, KeyError:",
}


@pytest.mark.parametrize("handler", TWO_CLASSES.values(), ids=TWO_CLASSES)
def test_two_classes_without_parentheses_are_not_python_2_where_python_3_reads_them(
    handler: str,
) -> None:
    source = (
        "import sockjs.tornado\nfrom socket import timeout\nclass error(Exception): pass\n"
        f"try:\n    f()\n{handler}\n    pass\n"
    )
    reads_them = sys.version_info >= (3, 14)  # parentheses are needed before
    assert bool(examine(source.encode()).rewritten) is reads_them


def test_two_classes_in_parentheses_are_not_python_2() -> None:
    source = "import sockjs.tornado\ntry:\n    f()\nexcept (A, e):\n    pass\n"
    assert examine(source.encode()).rewritten


@pytest.mark.parametrize("code", ["def f(:\n", "x = (\n", "print('x'", "x = 1 +", "class", "for x"])
def test_other_mistakes_are_not_python_2(code: str) -> None:
    (finding,) = examine(code.encode()).findings
    assert finding.found == "cannot be read"


def test_names_of_python_2_are_told_in_one_line() -> None:
    code = "import urllib2\nx = [unicode(y) for y in xrange(3)]\nz.iteritems()\nunicode\n"
    code += "print >>f, z\n"
    (found,) = advice(code)
    assert found == (
        "Python 3 has no urllib2 (line 4), unicode (line 5), xrange (line 5), iteritems (line 6), "
        "print >> (line 8): run 2to3 to replace them"
    )


@pytest.mark.parametrize(
    "code",
    [
        "try:\n    import urlparse\nexcept ImportError:\n    import urllib.parse as urlparse",
        "from .Queue import Queue",
        "unicode = str\nunicode('x')",
        "from six import unichr\nunichr(1)",
        "from six.moves import xrange\nxrange(1)",
    ],
)
def test_what_is_written_for_both_pythons_is_left_alone(code: str) -> None:
    assert not advice(code)


def converted(path: Path) -> None:
    """Make a file Python 3, as the tool advises."""
    if sys.version_info >= (3, 13):
        pytest.skip("2to3 comes with Python up to 3.12")
    command = [sys.executable, "-W", "ignore", "-c", "from lib2to3.main import main"]
    command[-1] += "; main('lib2to3.fixes')"
    subprocess.run([*command, "-w", "-n", path], check=True, capture_output=True, timeout=50)


@pytest.mark.programs
def test_program_of_python_2_moves_in_two_steps(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    program = tmp_path / "chat.py"
    program.write_text((PROGRAMS / "chat.py2").read_text())
    before = program.read_text()
    assert main([str(program), "--write"]) == 1
    assert "broken: Python 2: " in capsys.readouterr().out
    assert program.read_text() == before
    converted(program)
    assert main([str(program), "--write"]) == 0
    assert "2 places rewritten, 3 by hand, 0 undecidable, 0 broken" in capsys.readouterr().out
    assert "from sockjs_aio.tornado import SockJSConnection, SockJSRouter" in program.read_text()
