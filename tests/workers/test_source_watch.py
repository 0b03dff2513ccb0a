"""What the watch over source files sees of a directory."""

from pathlib import Path

from sockjs_aio.cluster.workers.source_watch import _stamps


def test_broken_link_of_an_editor_hides_no_other_file(tmp_path: Path) -> None:
    for number in range(8):
        (tmp_path / f"module{number}.py").touch()
    (tmp_path / ".#module3.py").symlink_to("somebody@host.1234")
    assert len(_stamps(str(tmp_path))) == 8
